//! A service: a name and virtual addresses in front of workloads.
//!
//! In: checked values from `decode` or a local file. Out: the value that plans are made from.
//! Absent on purpose: the endpoints, which the world derives from the workloads that name the service.

use std::{net::IpAddr, sync::Arc};

use ipnet::IpNet;
use lateen_types::{
    addr::NetworkAddress,
    id::{Namespace, SpiffeId},
    name::{NamespacedHostname, NetworkId, WorkloadUid},
};

use crate::{
    gateway::GatewayAddress,
    workload::{Health, PortMap, Workload},
};

/// One service as the control plane describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// The primary key.
    pub key: NamespacedHostname,
    /// Its Kubernetes name.
    pub name: Arc<str>,
    /// Virtual addresses of one host each; none for a headless service.
    pub vips: Vec<NetworkAddress>,
    /// Virtual address ranges.
    pub cidrs: Vec<NetworkCidr>,
    /// The ports it defines.
    pub ports: PortMap,
    /// Identities accepted beside those of the endpoints.
    pub subject_alt_names: Vec<SpiffeId>,
    /// What it must be reached through.
    pub waypoint: Option<GatewayAddress>,
    /// Several waypoints to share its traffic; when all weights are 0 the single `waypoint` counts.
    pub weighted_waypoints: Vec<WeightedWaypoint>,
    /// How to choose among endpoints; `None` takes any healthy one.
    pub balancing: Option<LoadBalancing>,
    /// Which address families may be used towards endpoints.
    pub families: IpFamilies,
    /// Wins over other services of the same name or address.
    pub canonical: bool,
    /// Who may see it.
    pub visibility: Visibility,
}

impl Service {
    /// Whether a caller in `namespace` may see it.
    pub fn is_visible_from(&self, namespace: &Namespace) -> bool {
        match self.visibility {
            Visibility::Public => true,
            Visibility::Namespace => self.key.namespace == *namespace,
        }
    }

    /// Every waypoint its traffic may pass, whatever its share.
    pub fn waypoints(&self) -> impl Iterator<Item = &GatewayAddress> {
        self.waypoint.iter().chain(self.weighted_waypoints.iter().map(|one| &one.destination))
    }

    /// The way it chooses among endpoints.
    pub fn mode(&self) -> Mode {
        self.balancing.as_ref().map_or(Mode::Any, |balancing| balancing.mode)
    }

    /// Which endpoints it may use.
    pub fn health_policy(&self) -> HealthPolicy {
        self.balancing.as_ref().map_or(HealthPolicy::OnlyHealthy, |balancing| balancing.health)
    }
}

/// An address range in its network.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct NetworkCidr {
    /// The network the range means something in.
    pub network: NetworkId,
    /// The range.
    pub cidr: IpNet,
}

/// One of several waypoints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WeightedWaypoint {
    /// Where it is.
    pub destination: GatewayAddress,
    /// Its share; 0 is never chosen.
    pub weight: u32,
}

/// How endpoints are chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadBalancing {
    /// What to compare between caller and endpoint, most significant first.
    pub preferences: Vec<Scope>,
    /// What to do with the comparison.
    pub mode: Mode,
    /// Which endpoints count.
    pub health: HealthPolicy,
}

/// One thing caller and endpoint may have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// The locality's region.
    Region,
    /// The locality's zone.
    Zone,
    /// The locality's subzone.
    Subzone,
    /// The node.
    Node,
    /// The cluster.
    Cluster,
    /// The network.
    Network,
}

/// What to do with preferences.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// All endpoints are equal.
    Any,
    /// Only endpoints that match every preference.
    Strict,
    /// The endpoints that match best.
    Failover,
    /// No choice: plain TCP to the address the caller dialled.
    Passthrough,
}

/// Which endpoints may be chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HealthPolicy {
    /// Healthy ones.
    OnlyHealthy,
    /// All.
    AllowAll,
}

/// Address families a service allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IpFamilies {
    /// Both.
    Automatic,
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
    /// Both, said explicitly.
    Dual,
}

impl IpFamilies {
    /// Whether `ip` is of an allowed family.
    pub fn allows(self, ip: IpAddr) -> bool {
        match self {
            Self::Automatic | Self::Dual => true,
            Self::Ipv4 => ip.is_ipv4(),
            Self::Ipv6 => ip.is_ipv6(),
        }
    }
}

/// Who may see a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Visibility {
    /// Everyone.
    Public,
    /// Workloads of its own namespace.
    Namespace,
}

/// A workload as part of one service. Unhealthy ones are kept, so that a loosened health policy finds them.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// The workload.
    pub workload: Arc<Workload>,
    /// Its own port mapping for the service.
    pub ports: Arc<PortMap>,
}

impl Endpoint {
    /// Whether a service with this policy may choose it.
    pub fn is_allowed_by(&self, policy: HealthPolicy) -> bool {
        match policy {
            HealthPolicy::AllowAll => true,
            HealthPolicy::OnlyHealthy => self.workload.health == Health::Healthy,
        }
    }

    /// The key of the workload.
    pub fn uid(&self) -> &WorkloadUid {
        &self.workload.uid
    }
}
