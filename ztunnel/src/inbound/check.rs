//! Is what a tunnel asks for ours to give (pure)?
//!
//! In: one world, the local workload, the address the peer dialled, the CONNECT's authority. Out: the application's
//! address, or why not, with the status to answer. Absent on purpose: policy (see `admit`), sockets.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use lateen_state::{
    service::Service,
    workload::{ApplicationProtocol, Workload},
    world::World,
};
use lateen_types::{
    addr::NetworkAddress,
    name::{Hostname, NetworkId},
};

/// One CONNECT to be checked.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'w> {
    /// Everything known.
    pub world: &'w World,
    /// The network this process is in.
    pub own_network: &'w NetworkId,
    /// The workload whose listener took the tunnel.
    pub local: &'w Workload,
    /// The address of ours that the peer dialled.
    pub dialled: IpAddr,
    /// Ports that lead to ourselves.
    pub illegal_ports: &'w [u16],
}

/// What a CONNECT asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// An address.
    Addr(SocketAddr),
    /// A service's port, by name.
    Host(Hostname, u16),
}

/// The connection to make.
#[derive(Debug, Clone)]
pub struct Target {
    /// The application's address.
    pub to: SocketAddr,
    /// The destination a PROXY v2 header must name, where the application wants one.
    pub proxy_header: Option<SocketAddr>,
    /// The service the authority named.
    pub service: Option<Arc<Service>>,
}

/// Why there is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CheckError {
    /// The authority's address is neither ours nor of something we are the waypoint of.
    #[error("ip mismatch: {dialled} != {wanted}")]
    NotOurs {
        /// The address of ours that was dialled.
        dialled: IpAddr,
        /// The address asked for.
        wanted: IpAddr,
    },
    /// The authority's name is no service we see.
    #[error("no service for target: {0}")]
    UnknownHost(Hostname),
    /// The service does not lead to a port of this workload.
    #[error("service {host} has no port {port} that leads to this workload")]
    NoPort {
        /// The name asked for.
        host: Hostname,
        /// The port asked for.
        port: u16,
    },
    /// The service has no virtual address to name in a PROXY header.
    #[error("service {0} has no virtual address for the PROXY header")]
    NoVip(Hostname),
    /// The port is one of our own.
    #[error("port {0} is ztunnel's own")]
    IllegalPort(u16),
}

impl CheckError {
    /// The HTTP status that tells the peer.
    pub fn status(&self) -> u16 {
        match self {
            Self::NotOurs { .. } => 400,
            Self::UnknownHost(_) | Self::NoPort { .. } | Self::NoVip(_) | Self::IllegalPort(_) => 503,
        }
    }
}

/// Checks one CONNECT. The next hop is always the address the peer dialled, never the one it asks for.
pub fn check(ask: &Ask<'_>, wanted: &Wanted) -> Result<Target, CheckError> {
    let tunnel = ask.local.application_tunnel;
    let (port, named, service) = match wanted {
        Wanted::Addr(addr) => {
            if addr.ip() != ask.dialled && tunnel.is_none() && !ask.is_waypoint_of(addr.ip()) {
                return Err(CheckError::NotOurs { dialled: ask.dialled, wanted: addr.ip() });
            }
            (addr.port(), Some(*addr), None)
        }
        Wanted::Host(host, port) => {
            let service = ask.world.service_by_hostname(host, &ask.local.namespace, None);
            let service = service.ok_or_else(|| CheckError::UnknownHost(host.clone()))?;
            let target = ask.port_of(service, *port);
            let target = target.ok_or_else(|| CheckError::NoPort { host: host.clone(), port: *port })?;
            (target, ask.vip_of(service).map(|ip| SocketAddr::new(ip, *port)), Some(service.clone()))
        }
    };
    // Before the application's tunnel port replaces it: a peer must not reach our own listeners by either way.
    if ask.illegal_ports.contains(&port) {
        return Err(CheckError::IllegalPort(port));
    }
    let to = SocketAddr::new(ask.dialled, tunnel.and_then(|tunnel| tunnel.port).unwrap_or(port));
    let proxy_header = match tunnel.map(|tunnel| tunnel.protocol) {
        Some(ApplicationProtocol::Proxy) => Some(named.ok_or_else(|| ask.no_vip(wanted))?),
        Some(ApplicationProtocol::None) | None => None,
    };
    Ok(Target { to, proxy_header, service })
}

impl Ask<'_> {
    /// Whether this workload is the waypoint of what `ip` stands for. Services are asked whoever may see them: a
    /// waypoint in another namespace serves private ones too.
    fn is_waypoint_of(&self, ip: IpAddr) -> bool {
        let address = NetworkAddress { network: self.own_network.clone(), ip };
        let is_me = |gateway: &_| self.world.leads_to(gateway, &self.local.uid, &self.local.namespace);
        if let Some(workload) = self.world.workload_by_ip(&address) {
            return workload.waypoint.iter().any(is_me);
        }
        self.world.services_at(&address).any(|service| service.waypoints().any(is_me))
    }

    /// This workload's port for the service's port: its own mapping, else the service's target.
    fn port_of(&self, service: &Service, port: u16) -> Option<u16> {
        let own = self.world.endpoint(&service.key, &self.local.uid).and_then(|endpoint| endpoint.ports.target(port));
        own.filter(|port| *port != 0).or_else(|| service.ports.target(port)).filter(|port| *port != 0)
    }

    /// An address of the service to put into a header: own network first, IPv4 first.
    fn vip_of(&self, service: &Service) -> Option<IpAddr> {
        let rank = |vip: &&NetworkAddress| (vip.network != *self.own_network, vip.ip.is_ipv6());
        service.vips.iter().min_by_key(rank).map(|vip| vip.ip)
    }

    fn no_vip(&self, wanted: &Wanted) -> CheckError {
        match wanted {
            Wanted::Host(host, _) => CheckError::NoVip(host.clone()),
            Wanted::Addr(addr) => CheckError::NotOurs { dialled: self.dialled, wanted: addr.ip() },
        }
    }
}

#[cfg(test)]
#[path = "check_tests.rs"]
mod tests;
