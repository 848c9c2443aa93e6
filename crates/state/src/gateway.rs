//! Where a waypoint or a network's gateway is said to be.

use lateen_types::{addr::NetworkAddress, name::NamespacedHostname};

/// A waypoint or a gateway, by address or by name, with the port its tunnel listens on.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct GatewayAddress {
    /// What to look up.
    pub destination: GatewayDestination,
    /// The HBONE port there; on a service it is the service's port, to be mapped to the endpoint's.
    pub port: u16,
}

/// The two ways to name a gateway.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum GatewayDestination {
    /// By address: a workload's or a service's.
    Address(NetworkAddress),
    /// By `namespace/hostname`: a service's or a workload's.
    Hostname(NamespacedHostname),
}
