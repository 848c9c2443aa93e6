//! What the mesh uses of each cluster object, and nothing else: with 50,000 pods the rest would be gigabytes.
//!
//! In: Kubernetes objects. Out: small values that compare, so that a change nobody uses is no change.
//! Absent on purpose: meaning across objects (see `derive`), and the network.

mod attached;
mod backing;
mod common;
mod credential;
mod entry;
mod gateway;
mod pod;
mod policy;
mod protocol;
mod proxy_config;
mod servers;
mod service;
mod slice;
mod traffic;
mod wish;

use std::net::IpAddr;

use k8s_openapi::api::core::v1 as core;
use lateen_cluster::{labels, store::Reading};
use lateen_types::label::Labels;

pub use attached::{CONTROLLER, ReferenceGrant, Route, RouteKind, is_controller};
pub use backing::BackendTls;
pub use common::Common;
pub use credential::{Credential, Lookup, Pair, SessionSecret, Source};
pub use entry::{EndpointPlace, EntryPort, Export, External, Resolution, ServiceEntry, WorkloadEntry};
pub use gateway::{
    AllowedFrom, Gateway, GatewayClass, GatewayListener, GatewayPlace, InboundBinding, LISTENERS_MANAGER, REMOTE_CLASS,
    Traffic,
};
pub use pod::{NamedPort, Owner, Phase, Pod};
pub use policy::{AuthorizationPolicy, PeerAuthentication};
pub use proxy_config::{Connections, ProxyConfig, Server as ServerHeader};
pub use servers::Servers;
pub use service::{Distribution, Service, ServicePort, TargetPort};
pub use slice::{Endpoint, EndpointSlice, PodRef, SlicePort};
pub use traffic::{DestinationRule, Seen, VirtualService};
pub use wish::{Asked, Canary, Wish};

/// Which object a policy is older than; the name breaks ties so that the answer never depends on arrival.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Age {
    created: Option<jiff::Timestamp>,
    name: String,
}

impl Age {
    pub(crate) fn of(meta: &kube::core::ObjectMeta) -> Self {
        let created = meta.creation_timestamp.as_ref().map(|time| time.0);
        Self { created, name: meta.name.clone().unwrap_or_default() }
    }
}

/// What is used of a Node: where it stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Node {
    /// `topology.kubernetes.io/region`.
    pub region: String,
    /// `topology.kubernetes.io/zone`.
    pub zone: String,
    /// `topology.istio.io/subzone`.
    pub subzone: String,
}

impl Node {
    /// Reads a Kubernetes node.
    pub fn read(node: core::Node) -> Reading<Self> {
        let mut all = node.metadata.labels.unwrap_or_default();
        let mut take = |key: &str| all.remove(key).unwrap_or_default();
        Reading::Value(Self { region: take(labels::REGION), zone: take(labels::ZONE), subzone: take(labels::SUBZONE) })
    }
}

/// What is used of a Namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Namespace {
    /// `topology.istio.io/network`; it counts on the root namespace.
    pub network: String,
    /// The default traffic distribution of its services.
    pub distribution: Option<Distribution>,
    /// Whether it is being deleted.
    pub terminating: bool,
    /// All labels: selectors of the mesh and of waypoints choose by any of them.
    pub labels: Labels,
    /// The waypoint of what says nothing of its own.
    pub wish: Wish,
}

impl Namespace {
    /// Reads a Kubernetes namespace.
    pub fn read(namespace: core::Namespace) -> Reading<Self> {
        let meta = namespace.metadata;
        let annotation = meta.annotations.as_ref().and_then(|all| all.get(labels::TRAFFIC_DISTRIBUTION));
        let phase = namespace.status.and_then(|status| status.phase);
        let own = meta.labels.clone().unwrap_or_default();
        Reading::Value(Self {
            network: own.get(labels::NETWORK).cloned().unwrap_or_default(),
            wish: Wish::of(&meta, meta.name.as_deref().unwrap_or_default()),
            labels: own,
            distribution: annotation.map(|text| Distribution::annotated(text)),
            terminating: meta.deletion_timestamp.is_some() || phase.as_deref() == Some("Terminating"),
        })
    }
}

/// The selector of `matchLabels`, `None` when it asks nothing (an empty selector is no selector).
fn labels_asked(selector: Option<&lateen_cluster::api::WorkloadSelector>) -> Option<Labels> {
    selector.and_then(|selector| selector.match_labels.clone()).filter(|asked| !asked.is_empty())
}

/// The words Go reads as booleans, which users of labels and annotations know.
fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

/// Whether the status of an object holds a condition of ours about waypoints or visibility.
fn has_condition(data: &serde_json::Value) -> bool {
    let conditions = data.pointer("/status/conditions").and_then(serde_json::Value::as_array);
    let begins = ["istio.io/Waypoint", "istio.io/Visibility"];
    let ours = |one: &serde_json::Value| {
        one["type"].as_str().is_some_and(|text| begins.iter().any(|begin| text.starts_with(begin)))
    };
    conditions.is_some_and(|all| all.iter().any(ours))
}

/// Whether `labels` carry everything `asked`.
pub fn selects(asked: &Labels, labels: &Labels) -> bool {
    asked.iter().all(|(key, value)| labels.get(key) == Some(value))
}

/// An address as the wire carries it.
pub fn ip_bytes(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}
