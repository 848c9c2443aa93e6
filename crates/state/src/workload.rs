//! A workload: something that runs at an address and may have an identity.
//!
//! In: checked values from `decode` or a local file. Out: the value that plans, checks and records are made from.
//! Absent on purpose: protocol buffers, serialization.

use std::{collections::BTreeMap, net::IpAddr, ops::Deref, sync::Arc};

use lateen_types::{
    id::{Namespace, SpiffeId},
    name::{ClusterId, Hostname, NamespacedHostname, NetworkId, NodeName, PolicyKey, WorkloadUid},
};

use smallvec::SmallVec;

use crate::gateway::GatewayAddress;

/// One workload as the control plane describes it. It reads as its [`Template`]: `workload.identity`.
///
/// What thousands have in common is kept once, so that a workload is little more than its names and its address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workload {
    /// The primary key.
    pub uid: WorkloadUid,
    /// The pod's name.
    pub name: Arc<str>,
    /// Where it listens; may be empty when `hostname` or `network_gateway` says how to get there.
    pub addresses: Addresses,
    /// Where it runs, shared with its neighbours.
    pub place: Arc<Place>,
    /// Everything else, shared with its siblings.
    pub template: Arc<Template>,
}

/// The addresses of a workload: nearly always one, which then needs no memory of its own.
pub type Addresses = SmallVec<[IpAddr; 1]>;

/// Where workloads run.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Place {
    /// The node.
    pub node: NodeName,
    /// Where it is, for preferring near endpoints.
    pub locality: Locality,
}

/// What the pods of one Deployment (or other owner) have in common.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Template {
    /// The namespace they live in.
    pub namespace: Namespace,
    /// The network their addresses mean something in.
    pub network: NetworkId,
    /// Whether they are reached by tunnel.
    pub tunnel: Tunnel,
    /// Who they are.
    pub identity: SpiffeId,
    /// What they must be reached through.
    pub waypoint: Option<GatewayAddress>,
    /// The door of their network, for callers in another one.
    pub network_gateway: Option<GatewayAddress>,
    /// The canonical service of telemetry.
    pub canonical_name: Arc<str>,
    /// The canonical revision of telemetry.
    pub canonical_revision: Arc<str>,
    /// What kind of object owns them.
    pub workload_type: WorkloadType,
    /// The name of the object that owns them.
    pub workload_name: Arc<str>,
    /// Whether they speak HBONE themselves, without a ztunnel.
    pub native_tunnel: bool,
    /// The policies that select them by name.
    pub policies: Vec<PolicyKey>,
    /// Whether they may be chosen for a service that asks for healthy endpoints.
    pub health: Health,
    /// The cluster they belong to.
    pub cluster: ClusterId,
    /// To be resolved by DNS when there is no address.
    pub hostname: Option<Hostname>,
    /// The services they are endpoints of.
    pub services: Services,
    /// How their application wants tunnelled connections.
    pub application_tunnel: Option<ApplicationTunnel>,
    /// Whether they share their node's addresses.
    pub network_mode: NetworkMode,
    /// Their weight among endpoints; 0 is never chosen.
    pub capacity: u32,
    /// Those of their labels by which endpoints are chosen; none where nobody does.
    pub labels: Labels,
    /// Whether what their waypoint says of its clients' identities is asked for, and believed.
    pub believes_waypoint: bool,
}

impl Deref for Workload {
    type Target = Template;

    fn deref(&self) -> &Template {
        &self.template
    }
}

impl Workload {
    /// The addresses that lead to it. Host-network workloads have none: the address is the node's.
    pub fn own_addresses(&self) -> &[IpAddr] {
        match self.network_mode {
            NetworkMode::Standard => &self.addresses,
            NetworkMode::HostNetwork => &[],
        }
    }

    /// How strongly it claims an address it shares with others: pods before other objects, tunnelled before plain.
    pub fn address_claim(&self) -> u8 {
        let pod = self.uid.as_str().contains("//Pod/");
        match (pod, self.tunnel) {
            (true, Tunnel::Hbone) => 3,
            (true, Tunnel::None) => 2,
            (false, Tunnel::Hbone) => 1,
            (false, Tunnel::None) => 0,
        }
    }

    /// Whether `name` in `namespace` under service account `account` is this workload.
    pub fn is_pod(&self, key: &PodKey) -> bool {
        *self.name == *key.name
            && self.namespace == key.namespace
            && *self.identity.service_account().as_str() == *key.service_account
    }
}

/// How the agent names a pod: what the pod says of itself before the control plane has spoken.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PodKey {
    /// The pod's name.
    pub name: Arc<str>,
    /// Its namespace.
    pub namespace: Namespace,
    /// Its service account.
    pub service_account: Arc<str>,
}

impl std::fmt::Display for PodKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{} (service account {})", self.namespace, self.name, self.service_account)
    }
}

/// How a workload is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Tunnel {
    /// Plain TCP.
    None,
    /// HBONE on port 15008.
    Hbone,
}

/// Whether a workload passed its probes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Health {
    /// It did.
    Healthy,
    /// It did not, or is leaving.
    Unhealthy,
}

/// What kind of object owns a workload; a word of telemetry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WorkloadType {
    /// A Deployment.
    Deployment,
    /// A CronJob.
    CronJob,
    /// A bare pod.
    Pod,
    /// A Job.
    Job,
}

impl WorkloadType {
    /// The word in baggage and dumps.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Deployment => "deployment",
            Self::CronJob => "cronjob",
            Self::Pod => "pod",
            Self::Job => "job",
        }
    }
}

/// Whether a workload has addresses of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NetworkMode {
    /// It has.
    Standard,
    /// It shares its node's.
    HostNetwork,
}

/// How an application (a gateway, usually) wants tunnelled connections handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ApplicationTunnel {
    /// What precedes the bytes.
    pub protocol: ApplicationProtocol,
    /// The port to use instead of the one asked for.
    pub port: Option<u16>,
}

/// What an application tunnel puts before the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ApplicationProtocol {
    /// Nothing.
    None,
    /// A PROXY v2 header.
    Proxy,
}

/// Region, zone and subzone; empty where unknown.
#[derive(Debug, Clone, PartialEq, Eq, Default, Hash)]
pub struct Locality {
    /// The widest.
    pub region: Box<str>,
    /// Within the region.
    pub zone: Box<str>,
    /// Within the zone.
    pub subzone: Box<str>,
}

/// A few labels, by key.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Labels(Box<[Label]>);

/// One label.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Label {
    key: Box<str>,
    value: Box<str>,
}

impl Labels {
    /// The value of `key`.
    pub fn value(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|label| *label.key == *key).map(|label| &*label.value)
    }

    /// All pairs.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|label| (&*label.key, &*label.value))
    }
}

impl FromIterator<(String, String)> for Labels {
    /// Of two entries for one key the later wins.
    fn from_iter<I: IntoIterator<Item = (String, String)>>(pairs: I) -> Self {
        let sorted: BTreeMap<String, String> = pairs.into_iter().collect();
        Self(sorted.into_iter().map(|(key, value)| Label { key: key.into(), value: value.into() }).collect())
    }
}

/// The services of a workload, by key, with its own port mapping for each.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Services(Box<[Membership]>);

/// One service and the ports it has at the workload.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Membership {
    service: NamespacedHostname,
    ports: Arc<PortMap>,
}

impl Services {
    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (&NamespacedHostname, &Arc<PortMap>)> {
        self.0.iter().map(|one| (&one.service, &one.ports))
    }
}

impl FromIterator<(NamespacedHostname, Arc<PortMap>)> for Services {
    /// Of two entries for one service the later wins.
    fn from_iter<I: IntoIterator<Item = (NamespacedHostname, Arc<PortMap>)>>(all: I) -> Self {
        let sorted: BTreeMap<_, _> = all.into_iter().collect();
        Self(sorted.into_iter().map(|(service, ports)| Membership { service, ports }).collect())
    }
}

/// Service port to target port, by service port. A target of 0 stands for a named port, which each endpoint maps itself.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct PortMap(Box<[Mapping]>);

/// One port of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Mapping {
    service: u16,
    target: u16,
}

impl PortMap {
    /// The target of `service_port`, 0 for a named one, `None` when the port is not defined.
    pub fn target(&self, service_port: u16) -> Option<u16> {
        let at = self.0.binary_search_by_key(&service_port, |port| port.service).ok()?;
        Some(self.0[at].target)
    }

    /// Whether some service port leads to `target`.
    pub fn leads_to(&self, target: u16) -> bool {
        self.0.iter().any(|port| port.target == target)
    }

    /// All pairs.
    pub fn iter(&self) -> impl Iterator<Item = (u16, u16)> {
        self.0.iter().map(|port| (port.service, port.target))
    }
}

impl FromIterator<(u16, u16)> for PortMap {
    /// Of two entries for one service port the later wins.
    fn from_iter<I: IntoIterator<Item = (u16, u16)>>(pairs: I) -> Self {
        let sorted: BTreeMap<u16, u16> = pairs.into_iter().collect();
        Self(sorted.into_iter().map(|(service, target)| Mapping { service, target }).collect())
    }
}
