//! A workload: something that runs at an address and may have an identity.
//!
//! In: checked values from `decode` or a local file. Out: the value that plans, checks and records are made from.
//! Absent on purpose: protocol buffers, serialization.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use lateen_types::{
    addr::NetworkAddress,
    id::{Namespace, SpiffeId},
    name::{ClusterId, Hostname, NamespacedHostname, NetworkId, NodeName, PolicyKey, WorkloadUid},
};

use crate::gateway::GatewayAddress;

/// One workload as the control plane describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workload {
    /// The primary key.
    pub uid: WorkloadUid,
    /// The pod's name.
    pub name: Arc<str>,
    /// The namespace it lives in.
    pub namespace: Namespace,
    /// Where it listens; may be empty when `hostname` or `network_gateway` says how to get there.
    pub addresses: Vec<IpAddr>,
    /// The network its addresses mean something in.
    pub network: NetworkId,
    /// Whether it is reached by tunnel.
    pub tunnel: Tunnel,
    /// Who it is.
    pub identity: SpiffeId,
    /// What it must be reached through.
    pub waypoint: Option<GatewayAddress>,
    /// The door of its network, for callers in another one.
    pub network_gateway: Option<GatewayAddress>,
    /// The node it runs on.
    pub node: NodeName,
    /// The canonical service of telemetry.
    pub canonical_name: Arc<str>,
    /// The canonical revision of telemetry.
    pub canonical_revision: Arc<str>,
    /// What kind of object owns it.
    pub workload_type: WorkloadType,
    /// The name of the object that owns it.
    pub workload_name: Arc<str>,
    /// Whether it speaks HBONE itself, without a ztunnel.
    pub native_tunnel: bool,
    /// The policies that select it by name.
    pub policies: Vec<PolicyKey>,
    /// Whether it may be chosen for a service that asks for healthy endpoints.
    pub health: Health,
    /// The cluster it belongs to.
    pub cluster: ClusterId,
    /// To be resolved by DNS when there is no address.
    pub hostname: Option<Hostname>,
    /// The services it is an endpoint of, with its own port mapping for each.
    pub services: BTreeMap<NamespacedHostname, Arc<PortMap>>,
    /// How its application wants tunnelled connections.
    pub application_tunnel: Option<ApplicationTunnel>,
    /// Where it is, for preferring near endpoints.
    pub locality: Locality,
    /// Whether it shares its node's addresses.
    pub network_mode: NetworkMode,
    /// Its weight among endpoints; 0 is never chosen.
    pub capacity: u32,
}

impl Workload {
    /// Its addresses as keys. Host-network workloads have none: the address is the node's.
    pub fn address_keys(&self) -> impl Iterator<Item = NetworkAddress> {
        let indexed = match self.network_mode {
            NetworkMode::Standard => self.addresses.as_slice(),
            NetworkMode::HostNetwork => &[],
        };
        indexed.iter().map(|ip| NetworkAddress { network: self.network.clone(), ip: *ip })
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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tunnel {
    /// Plain TCP.
    None,
    /// HBONE on port 15008.
    Hbone,
}

/// Whether a workload passed its probes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// It did.
    Healthy,
    /// It did not, or is leaving.
    Unhealthy,
}

/// What kind of object owns a workload; a word of telemetry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NetworkMode {
    /// It has.
    Standard,
    /// It shares its node's.
    HostNetwork,
}

/// How an application (a gateway, usually) wants tunnelled connections handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ApplicationTunnel {
    /// What precedes the bytes.
    pub protocol: ApplicationProtocol,
    /// The port to use instead of the one asked for.
    pub port: Option<u16>,
}

/// What an application tunnel puts before the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ApplicationProtocol {
    /// Nothing.
    None,
    /// A PROXY v2 header.
    Proxy,
}

/// Region, zone and subzone; empty where unknown.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Locality {
    /// The widest.
    pub region: Box<str>,
    /// Within the region.
    pub zone: Box<str>,
    /// Within the zone.
    pub subzone: Box<str>,
}

/// Service port to target port. A target of 0 stands for a named port, which each endpoint maps itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PortMap(BTreeMap<u16, u16>);

impl PortMap {
    /// The target of `service_port`, 0 for a named one, `None` when the port is not defined.
    pub fn target(&self, service_port: u16) -> Option<u16> {
        self.0.get(&service_port).copied()
    }

    /// Whether some service port leads to `target`.
    pub fn leads_to(&self, target: u16) -> bool {
        self.0.values().any(|port| *port == target)
    }

    /// All pairs, by service port.
    pub fn iter(&self) -> impl Iterator<Item = (u16, u16)> {
        self.0.iter().map(|(service, target)| (*service, *target))
    }
}

impl FromIterator<(u16, u16)> for PortMap {
    /// Of two entries for one service port the later wins.
    fn from_iter<I: IntoIterator<Item = (u16, u16)>>(pairs: I) -> Self {
        Self(pairs.into_iter().collect())
    }
}
