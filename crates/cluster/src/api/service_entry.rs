//! `ServiceEntry`: a service that Kubernetes does not know, or knows under another name.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{StatusCondition, WorkloadEntrySpec, condition::written_as_number_or_text};

/// Hosts, where they are and how they are reached.
#[derive(Debug, Clone, Default, PartialEq, Eq, CustomResource, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "networking.istio.io",
    version = "v1",
    kind = "ServiceEntry",
    plural = "serviceentries",
    namespaced,
    shortname = "se",
    category = "istio-io",
    category = "networking-istio-io",
    status = "ServiceEntryStatus",
    printcolumn = r#"{"name":"Hosts","type":"string","description":"The names it is called by.","jsonPath":".spec.hosts"}"#,
    printcolumn = r#"{"name":"Location","type":"string","description":"Whether it is part of the mesh.","jsonPath":".spec.location"}"#,
    printcolumn = r#"{"name":"Resolution","type":"string","description":"How its endpoints are found.","jsonPath":".spec.resolution"}"#,
    printcolumn = r#"{"name":"Age","type":"date","description":"When it was made.","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceEntrySpec {
    /// The names it is called by; `*.` may stand at the front.
    pub hosts: Vec<String>,
    /// Virtual addresses, single or CIDR.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub addresses: Option<Vec<String>>,
    /// The service's ports.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ports: Option<Vec<ServicePort>>,
    /// Whether it is part of the mesh; MESH_EXTERNAL when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub location: Option<Location>,
    /// How its endpoints are found; NONE when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resolution: Option<Resolution>,
    /// Its endpoints, written out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoints: Option<Vec<WorkloadEntrySpec>>,
    /// Its endpoints, by the labels of pods and `WorkloadEntry` objects.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workload_selector: Option<LabelsSelector>,
    /// The namespaces that see it; `.` is its own, `*` all, `~` none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub export_to: Option<Vec<String>>,
    /// Identities its endpoints may have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject_alt_names: Option<Vec<String>>,
}

/// A port of the service.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServicePort {
    /// As clients call it.
    pub number: u32,
    /// Of its kind in this service.
    pub name: String,
    /// TCP when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    /// At the endpoints; `number` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_port: Option<u32>,
}

/// Whether the service is part of the mesh.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Location {
    /// Its endpoints have no identity of the mesh.
    #[default]
    MeshExternal,
    /// Its endpoints are of the mesh.
    MeshInternal,
}

/// How endpoints are found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Resolution {
    /// They are not: the address that was called is the endpoint.
    #[default]
    None,
    /// As written out or selected.
    Static,
    /// By DNS, all answers.
    Dns,
    /// By DNS, the first answer of each time.
    DnsRoundRobin,
    /// By DNS, of the name that was called.
    DynamicDns,
}

impl Resolution {
    /// Whether a host without endpoints is its own endpoint.
    pub fn is_by_name(self) -> bool {
        match self {
            Self::Dns | Self::DnsRoundRobin | Self::DynamicDns => true,
            Self::None | Self::Static => false,
        }
    }
}

/// Labels a workload must carry, all of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LabelsSelector {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<lateen_types::label::Labels>,
}

/// What the mesh says about the service.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceEntryStatus {
    /// One per reporter and question.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<StatusCondition>,
    /// Addresses given out for hosts without any.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<AllocatedAddress>,
    /// The generation the conditions speak of.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "written_as_number_or_text")]
    #[schemars(extend("x-kubernetes-int-or-string" = true))]
    pub observed_generation: Option<i64>,
}

/// An address given out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct AllocatedAddress {
    /// The address.
    pub value: String,
    /// For this host.
    pub host: String,
}
