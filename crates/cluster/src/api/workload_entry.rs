//! `WorkloadEntry`: something that runs outside of Kubernetes, or an endpoint of a `ServiceEntry`.

use std::collections::BTreeMap;

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::PolicyStatus;

/// One address behind which something runs, as whom, and where.
#[derive(Debug, Clone, Default, PartialEq, Eq, CustomResource, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "networking.istio.io",
    version = "v1",
    kind = "WorkloadEntry",
    plural = "workloadentries",
    namespaced,
    shortname = "we",
    category = "istio-io",
    category = "networking-istio-io",
    status = "PolicyStatus",
    printcolumn = r#"{"name":"Age","type":"date","description":"When it was made.","jsonPath":".metadata.creationTimestamp"}"#,
    printcolumn = r#"{"name":"Address","type":"string","description":"Where it is reached.","jsonPath":".spec.address"}"#
)]
#[serde(rename_all = "camelCase", default)]
pub struct WorkloadEntrySpec {
    /// An IP address, a host name (in a `ServiceEntry` resolved by DNS) or `unix://` and a path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// The workload's port for a named port of the service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ports: Option<BTreeMap<String, u32>>,
    /// What selectors of services and policies match.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels: Option<BTreeMap<String, String>>,
    /// The network in which the address means something.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
    /// `<region>/<zone>/<subzone>`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub locality: Option<String>,
    /// Its share of the traffic beside its peers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight: Option<u32>,
    /// Who it runs as.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_account: Option<String>,
}
