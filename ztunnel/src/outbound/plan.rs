//! Where an outbound connection goes (pure).
//!
//! In: one world, who calls, what was dialled, a random source. Out: a [`Plan`], or why there is none.
//! Absent on purpose: sockets, waiting, clocks.
//!
//! A destination that must be reached by tunnel is never planned in plain, and a waypoint that must be passed is never
//! gone around: what cannot be reached the right way is refused.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use lateen_state::{
    gateway::GatewayAddress,
    lookup::Known,
    service::{Mode, Service},
    unusable::Unusable,
    workload::{NetworkMode, PodKey, Tunnel, Workload},
    world::World,
};
use lateen_types::{
    addr::NetworkAddress,
    id::SpiffeId,
    name::{Hostname, NetworkId},
};
use rand::{Rng, RngExt as _};

use super::upstream::{At, Chooser, Purpose, Upstream, key};
use crate::near::neighbours::Neighbourhood;

/// The port every HBONE workload listens on.
pub const HBONE_PORT: u16 = 15008;

/// One outbound connection to be decided.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'w> {
    /// Everything known.
    pub world: &'w World,
    /// The network this process is in.
    pub own_network: &'w NetworkId,
    /// The workload that calls.
    pub source: &'w Workload,
    /// The address its socket has.
    pub client: IpAddr,
    /// What it dialled.
    pub dialled: SocketAddr,
    /// Ports that lead to ourselves.
    pub illegal_ports: &'w [u16],
    /// The pods this process serves itself.
    pub neighbours: &'w dyn Neighbourhood,
}

/// What to do.
#[derive(Debug, Clone)]
pub struct Plan {
    /// How to get there.
    pub route: Route,
    /// The workload at the far end of the first hop, where known (with a waypoint: the waypoint).
    pub destination: Option<Arc<Workload>>,
    /// The service that was dialled.
    pub service: Option<Arc<Service>>,
}

/// How to get there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// Plain TCP: the destination is not in the mesh.
    Plain(To),
    /// One tunnel.
    Tunnel(Hop),
    /// Without a tunnel: this process serves both pods.
    Near(Near),
    /// A tunnel to another network's gateway, and through it a second one that the gateway cannot open.
    Double {
        /// The tunnel to the gateway.
        outer: Hop,
        /// Who may answer at the inner tunnel's end; never empty.
        inner_accepted: Vec<SpiffeId>,
    },
}

/// Where to connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum To {
    /// Here.
    Addr(SocketAddr),
    /// Where DNS says, preferring the family of `near`.
    Host {
        /// The name to resolve.
        hostname: Hostname,
        /// The port there.
        port: u16,
        /// What the caller dialled.
        near: SocketAddr,
    },
}

/// One tunnel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hop {
    /// Where its far end listens.
    pub to: To,
    /// Who may answer there.
    pub accepted: Vec<SpiffeId>,
    /// What to ask for in the CONNECT.
    pub authority: Authority,
}

/// A call between two pods of this process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Near {
    /// The application's address, in its own pod.
    pub to: SocketAddr,
    /// The tunnel to take if the pod cannot be entered after all.
    pub hop: Hop,
}

/// What a CONNECT asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Authority {
    /// An address.
    Addr(SocketAddr),
    /// A service's port, by name.
    Host(Hostname, u16),
    /// The first hop's resolved address with this port: the workload is known by name only.
    Resolved(u16),
}

/// Why there is no plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// The pod dialled one of our own ports.
    #[error("attempted recursive call to ourselves")]
    Recursive,
    /// The service has nobody who could answer on this port.
    #[error("no healthy upstream: {0}")]
    NoUpstream(String),
    /// The waypoint the destination must be reached through is not known or has no usable endpoint.
    #[error("waypoint {waypoint} of {destination} cannot be reached, and it must not be bypassed")]
    NoWaypoint {
        /// As it is referred to.
        waypoint: String,
        /// What was called.
        destination: String,
    },
    /// The endpoint is on another network whose gateway is unknown or not usable.
    #[error("no usable gateway to network {network:?}, where {destination} is")]
    NoGateway {
        /// The other network.
        network: NetworkId,
        /// What was called.
        destination: String,
    },
    /// The other network can only be entered for services, and this call is for an address.
    #[error("{destination} is on another network and was not called through a service")]
    CrossNetworkAddress {
        /// What was called.
        destination: String,
    },
    /// The destination is there, but what the control plane says of it cannot be read.
    #[error("{destination} belongs to {key}, which cannot be used: {reason}")]
    Unusable {
        /// What was called.
        destination: String,
        /// The workload or service.
        key: Arc<str>,
        /// What is wrong with it.
        reason: Arc<str>,
    },
    /// Nothing says who may answer at the far end of a second tunnel.
    #[error("service {0} has no subject alternative names, so nobody on another network could prove to be it")]
    NoInnerIdentity(String),
}

impl PlanError {
    /// The metrics' word.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Recursive => "recursive",
            Self::NoUpstream(_) => "no_upstream",
            Self::NoWaypoint { .. } => "no_waypoint",
            Self::NoGateway { .. } => "no_gateway",
            Self::CrossNetworkAddress { .. } => "cross_network_address",
            Self::Unusable { .. } => "unusable",
            Self::NoInnerIdentity(_) => "no_inner_identity",
        }
    }
}

/// Decides one connection.
pub fn plan(ask: &Ask<'_>, rng: &mut impl Rng) -> Result<Plan, PlanError> {
    if ask.dialled.ip().is_loopback() && ask.illegal_ports.contains(&ask.dialled.port()) {
        return Err(PlanError::Recursive);
    }
    let address = key(ask.own_network, ask.dialled.ip());
    match ask.world.known_at(&address, &ask.source.namespace) {
        Some(Known::Service(service)) => ask.service_call(&service, rng),
        Some(Known::Workload(workload)) => ask.address_call(&address, workload, rng),
        Some(Known::Unusable(one)) => Err(ask.unusable(&one)),
        None => Ok(Plan { route: Route::Plain(To::Addr(ask.dialled)), destination: None, service: None }),
    }
}

impl Ask<'_> {
    fn chooser(&self) -> Chooser<'_> {
        Chooser { world: self.world, source: self.source }
    }

    /// The caller dialled a service's address: its waypoint, its endpoints, or where it was dialled to.
    fn service_call(&self, service: &Arc<Service>, rng: &mut impl Rng) -> Result<Plan, PlanError> {
        if let Some(waypoint) = sample_waypoint(service, rng) {
            return self.through_service_waypoint(service, waypoint, rng);
        }
        if service.mode() == Mode::Passthrough {
            let route = Route::Plain(To::Addr(self.dialled));
            return Ok(Plan { route, destination: None, service: Some(service.clone()) });
        }
        let upstream = self.chooser().endpoint(service, self.dialled, Purpose::Standard, rng);
        let upstream = upstream.ok_or_else(|| PlanError::NoUpstream(service.key.hostname.to_string()))?;
        if upstream.workload.network != self.source.network {
            let inner = service.clone();
            return self.double(service, &upstream, &inner, rng);
        }
        let route = self.direct(&upstream)?;
        Ok(Plan { route, destination: Some(upstream.workload), service: Some(service.clone()) })
    }

    fn through_service_waypoint(
        &self,
        service: &Arc<Service>,
        waypoint: &GatewayAddress,
        rng: &mut impl Rng,
    ) -> Result<Plan, PlanError> {
        let found = self.chooser().waypoint(waypoint, self.dialled, rng);
        let found = found.ok_or_else(|| self.no_waypoint(waypoint, service.key.hostname.as_str()))?;
        if found.workload.network == self.source.network {
            return self.waypoint_plan(&found, waypoint, Some(service.clone()));
        }
        // The far end of the inner tunnel is the remote waypoint: its service's names say who may answer.
        let Some(remote) = found.service.clone() else {
            return Err(PlanError::NoInnerIdentity(service.key.to_string()));
        };
        self.double(service, &found, &remote, rng)
    }

    /// The caller dialled the address of `workload`. A service that claims the same address chooses the endpoint.
    fn address_call(
        &self,
        address: &NetworkAddress,
        workload: Arc<Workload>,
        rng: &mut impl Rng,
    ) -> Result<Plan, PlanError> {
        let chooser = self.chooser();
        let claiming = self.world.service_by_vip(address, &self.source.namespace);
        let claiming = claiming.filter(|service| service.mode() != Mode::Passthrough);
        let upstream = match claiming {
            Some(service) => chooser.endpoint(service, self.dialled, Purpose::Standard, rng),
            None => Some(Upstream { workload, service: None, at: At::Ip(address.ip), port: self.dialled.port() }),
        };
        let upstream = upstream.ok_or_else(|| PlanError::NoUpstream(self.dialled.to_string()))?;
        if upstream.workload.network != self.source.network {
            return Err(PlanError::CrossNetworkAddress { destination: self.dialled.to_string() });
        }
        let waypoint = upstream.workload.waypoint.as_ref();
        match waypoint.filter(|waypoint| !self.is_waypoint(waypoint)) {
            Some(waypoint) => {
                let found = chooser.waypoint(waypoint, self.dialled, rng);
                let found = found.ok_or_else(|| self.no_waypoint(waypoint, &self.dialled.to_string()))?;
                if found.workload.network != self.source.network {
                    return Err(PlanError::CrossNetworkAddress { destination: self.dialled.to_string() });
                }
                self.waypoint_plan(&found, waypoint, None)
            }
            None => {
                let (route, service) = (self.direct(&upstream)?, upstream.service.clone());
                Ok(Plan { route, destination: Some(upstream.workload), service })
            }
        }
    }

    /// Whether the caller itself is what `reference` leads to: a waypoint's own last hop must not go back to it. Told
    /// by uid, not by identity, so that a neighbour under the same account gains nothing.
    fn is_waypoint(&self, reference: &GatewayAddress) -> bool {
        match self.world.known_as(&reference.destination, &self.source.namespace) {
            Some(Known::Service(service)) => self.world.endpoint(&service.key, &self.source.uid).is_some(),
            Some(Known::Workload(workload)) => workload.uid == self.source.uid,
            Some(Known::Unusable(_)) | None => false,
        }
    }

    fn waypoint_plan(
        &self,
        found: &Upstream,
        reference: &GatewayAddress,
        service: Option<Arc<Service>>,
    ) -> Result<Plan, PlanError> {
        let destination = service.as_ref().map_or_else(|| self.dialled.to_string(), |service| service.key.to_string());
        let to = self.place(found, found.port).ok_or_else(|| self.no_waypoint(reference, &destination))?;
        let hop = Hop { to, accepted: found.accepted(), authority: Authority::Addr(self.dialled) };
        Ok(Plan { route: Route::Tunnel(hop), destination: Some(found.workload.clone()), service })
    }

    /// Straight to a workload of our own network, as it wants to be reached.
    fn direct(&self, upstream: &Upstream) -> Result<Route, PlanError> {
        let no_way = || PlanError::NoUpstream(self.dialled.to_string());
        match upstream.workload.tunnel {
            Tunnel::None => Ok(Route::Plain(self.place(upstream, upstream.port).ok_or_else(no_way)?)),
            Tunnel::Hbone => {
                let to = self.place(upstream, HBONE_PORT).ok_or_else(no_way)?;
                let authority = match upstream.at {
                    At::Ip(ip) => Authority::Addr(SocketAddr::new(ip, upstream.port)),
                    At::Host(_) | At::Gateway => Authority::Resolved(upstream.port),
                };
                let hop = Hop { to, accepted: upstream.accepted(), authority };
                Ok(match upstream.at {
                    At::Ip(ip) if self.is_near(&upstream.workload, ip) => {
                        Route::Near(Near { to: SocketAddr::new(ip, upstream.port), hop })
                    }
                    At::Ip(_) | At::Host(_) | At::Gateway => Route::Tunnel(hop),
                })
            }
        }
    }

    /// Whether `workload` at `ip` can be called without a tunnel, and everything a tunnel would prove is known without
    /// one: this process serves it as exactly the workload that was chosen, and the caller's socket has an address of the
    /// caller's own, which is what the far end of a tunnel would see.
    fn is_near(&self, workload: &Workload, ip: IpAddr) -> bool {
        let has_own_address = |one: &Workload, ip: IpAddr| {
            one.network_mode == NetworkMode::Standard && one.network == *self.own_network && one.addresses.contains(&ip)
        };
        let served_as = |key: &PodKey| self.world.local_workload(key).is_some_and(|local| local.uid == workload.uid);
        has_own_address(workload, ip)
            && has_own_address(self.source, self.client)
            && ip.is_ipv4() == self.client.is_ipv4()
            && workload.application_tunnel.is_none()
            && !workload.native_tunnel
            && workload.identity.trust_domain() == self.source.identity.trust_domain()
            && self.neighbours.pod_of(workload).is_some_and(served_as)
    }

    /// Through the gateway of `upstream`'s network. `inner` is the service that answers at the inner tunnel's end.
    fn double(
        &self,
        service: &Arc<Service>,
        upstream: &Upstream,
        inner: &Service,
        rng: &mut impl Rng,
    ) -> Result<Plan, PlanError> {
        if inner.subject_alt_names.is_empty() {
            return Err(PlanError::NoInnerIdentity(inner.key.to_string()));
        }
        let no_gateway = || PlanError::NoGateway {
            network: upstream.workload.network.clone(),
            destination: service.key.hostname.to_string(),
        };
        let gateway = self.chooser().network_gateway(&upstream.workload, self.dialled, rng).ok_or_else(no_gateway)?;
        let to = self.place(&gateway, gateway.port).ok_or_else(no_gateway)?;
        let authority = Authority::Host(service.key.hostname.clone(), self.dialled.port());
        let outer = Hop { to, accepted: gateway.accepted(), authority };
        Ok(Plan {
            route: Route::Double { outer, inner_accepted: inner.subject_alt_names.clone() },
            destination: Some(upstream.workload.clone()),
            service: Some(service.clone()),
        })
    }

    fn place(&self, upstream: &Upstream, port: u16) -> Option<To> {
        match &upstream.at {
            At::Ip(ip) => Some(To::Addr(SocketAddr::new(*ip, port))),
            At::Host(hostname) => Some(To::Host { hostname: hostname.clone(), port, near: self.dialled }),
            At::Gateway => None,
        }
    }

    fn unusable(&self, one: &Unusable) -> PlanError {
        let (key, reason) = (one.key.clone(), one.reason.clone());
        PlanError::Unusable { destination: self.dialled.to_string(), key, reason }
    }

    fn no_waypoint(&self, waypoint: &GatewayAddress, destination: &str) -> PlanError {
        PlanError::NoWaypoint { waypoint: describe(waypoint), destination: destination.to_owned() }
    }
}

/// One of the weighted waypoints by weight, else the single one.
fn sample_waypoint<'s>(service: &'s Service, rng: &mut impl Rng) -> Option<&'s GatewayAddress> {
    let total: u64 = service.weighted_waypoints.iter().map(|entry| u64::from(entry.weight)).sum();
    if total == 0 {
        return service.waypoint.as_ref();
    }
    let mut ticket = rng.random_range(0..total);
    for entry in &service.weighted_waypoints {
        let weight = u64::from(entry.weight);
        if ticket < weight {
            return Some(&entry.destination);
        }
        ticket -= weight;
    }
    service.waypoint.as_ref()
}

fn describe(gateway: &GatewayAddress) -> String {
    use lateen_state::gateway::GatewayDestination;
    match &gateway.destination {
        GatewayDestination::Address(address) => address.to_string(),
        GatewayDestination::Hostname(name) => name.to_string(),
    }
}

#[cfg(test)]
mod near_tests;
#[cfg(test)]
mod tests;
