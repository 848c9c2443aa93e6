//! Choosing one endpoint of a service, or the workload behind an address (pure).
//!
//! In: one world, who calls, what was dialled, a random source. Out: an [`Upstream`] or none.
//! Absent on purpose: waypoints and tunnels (see `plan`), health (the world filters by the service's policy).

use std::{net::SocketAddr, sync::Arc};

use lateen_state::{
    gateway::GatewayAddress,
    lookup::Known,
    service::{Endpoint, Mode, Scope, Service},
    workload::Workload,
    world::World,
};
use lateen_types::{
    addr::NetworkAddress,
    id::{Namespace, SpiffeId},
    name::{Hostname, NetworkId},
};
use rand::{Rng, RngExt as _};

/// One workload and how to get to it.
#[derive(Debug, Clone)]
pub struct Upstream {
    /// The workload.
    pub workload: Arc<Workload>,
    /// The service it was chosen for.
    pub service: Option<Arc<Service>>,
    /// Where it listens.
    pub at: At,
    /// The port there, already mapped from the service's.
    pub port: u16,
}

/// Where a workload listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum At {
    /// At this address.
    Ip(std::net::IpAddr),
    /// Where DNS says.
    Host(Hostname),
    /// Behind its network's gateway only.
    Gateway,
}

impl Upstream {
    /// Who may answer there: the service's extra names, and the workload itself.
    pub fn accepted(&self) -> Vec<SpiffeId> {
        let extra = self.service.iter().flat_map(|service| service.subject_alt_names.iter().cloned());
        extra.chain([self.workload.identity.clone()]).collect()
    }
}

/// What endpoints are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To carry a caller's connection.
    Standard,
    /// To be a waypoint, whose tunnel port the service need not define when the workload hands connections over itself.
    Waypoint,
}

/// Chooses in one world for one caller.
#[derive(Debug, Clone, Copy)]
pub struct Chooser<'w> {
    /// Everything known.
    pub world: &'w World,
    /// Who calls.
    pub source: &'w Workload,
}

impl Chooser<'_> {
    /// An endpoint of `service` for a call to `dialled`, at random by capacity among those that rank best.
    pub fn endpoint(
        &self,
        service: &Arc<Service>,
        dialled: SocketAddr,
        purpose: Purpose,
        rng: &mut impl Rng,
    ) -> Option<Upstream> {
        let mut best: Option<(u32, u64, Upstream)> = None;
        for endpoint in self.world.endpoints(service) {
            let Some(rank) = self.rank(service, &endpoint.workload) else { continue };
            if endpoint.workload.capacity == 0 || best.as_ref().is_some_and(|(ranked, ..)| rank < *ranked) {
                continue;
            }
            let Some(upstream) = self.usable(service, endpoint, dialled, purpose) else { continue };
            let weight = u64::from(endpoint.workload.capacity);
            // One pass: the newcomer replaces the one held with the chance its weight has among all seen of this rank.
            best = match best {
                Some((ranked, total, held)) if ranked == rank => {
                    let total = total + weight;
                    let take = rng.random_range(0..total) < weight;
                    Some((rank, total, if take { upstream } else { held }))
                }
                Some(_) | None => Some((rank, weight, upstream)),
            };
        }
        best.map(|(.., upstream)| upstream)
    }

    /// The workload that `address` belongs to, at the port dialled.
    pub fn workload_at(&self, address: &NetworkAddress, port: u16) -> Option<Upstream> {
        let workload = self.world.workload_by_ip(address)?.clone();
        Some(Upstream { workload, service: None, at: At::Ip(address.ip), port })
    }

    /// What a waypoint's reference leads to.
    pub fn waypoint(&self, reference: &GatewayAddress, near: SocketAddr, rng: &mut impl Rng) -> Option<Upstream> {
        let namespace = &self.source.namespace;
        self.gateway_known(reference, namespace, near, (Purpose::Waypoint, rng))
    }

    /// What the gateway of another network leads to. Gateways serve every namespace.
    pub fn network_gateway(&self, of: &Workload, near: SocketAddr, rng: &mut impl Rng) -> Option<Upstream> {
        let reference = of.network_gateway.as_ref()?;
        self.gateway_known(reference, &of.namespace, near, (Purpose::Standard, rng))
    }

    fn gateway_known(
        &self,
        reference: &GatewayAddress,
        namespace: &Namespace,
        near: SocketAddr,
        (purpose, rng): (Purpose, &mut impl Rng),
    ) -> Option<Upstream> {
        match self.world.known_as(&reference.destination, namespace)? {
            Known::Service(service) => {
                let dialled = SocketAddr::new(near.ip(), reference.port);
                self.endpoint(&service, dialled, purpose, rng)
            }
            Known::Workload(workload) => {
                let at = match &reference.destination {
                    lateen_state::gateway::GatewayDestination::Address(address) => At::Ip(address.ip),
                    lateen_state::gateway::GatewayDestination::Hostname(_) => place(&workload, None, near)?,
                };
                (reference.port != 0).then_some(Upstream { workload, service: None, at, port: reference.port })
            }
            Known::Unusable(_) => None,
        }
    }

    fn usable(
        &self,
        service: &Arc<Service>,
        endpoint: &Endpoint,
        dialled: SocketAddr,
        purpose: Purpose,
    ) -> Option<Upstream> {
        let workload = &endpoint.workload;
        let port = target_port(service, endpoint, dialled.port(), purpose)?;
        let at = match place(workload, Some(service), dialled) {
            Some(at) => at,
            None if workload.network != self.source.network && workload.network_gateway.is_some() => At::Gateway,
            None => return None,
        };
        // An address of another network means nothing here: without a gateway there is no way.
        if workload.network != self.source.network && workload.network_gateway.is_none() {
            return None;
        }
        Some(Upstream { workload: workload.clone(), service: Some(service.clone()), at, port })
    }

    /// How well the workload fits the service's preferences for this caller; `None`: not at all.
    fn rank(&self, service: &Service, workload: &Workload) -> Option<u32> {
        let Some(balancing) = &service.balancing else { return Some(0) };
        match balancing.mode {
            Mode::Any => Some(0),
            Mode::Passthrough => None,
            Mode::Strict => balancing.preferences.iter().all(|scope| self.shares(*scope, workload)).then_some(0),
            Mode::Failover => Some(self.failover_rank(&balancing.preferences, workload)),
        }
    }

    /// One for each scope in common until the first that differs. A leading NETWORK scope weighs more than all others
    /// together and, where it differs, is passed over: locality still orders the endpoints of other networks.
    #[allow(clippy::cast_possible_truncation, reason = "preferences are a handful")]
    fn failover_rank(&self, preferences: &[Scope], workload: &Workload) -> u32 {
        let (bonus, rest) = match preferences {
            [Scope::Network, rest @ ..] if self.shares(Scope::Network, workload) => (preferences.len() as u32, rest),
            [Scope::Network, rest @ ..] => (0, rest),
            all => (0, all),
        };
        bonus + rest.iter().take_while(|scope| self.shares(**scope, workload)).count() as u32
    }

    fn shares(&self, scope: Scope, workload: &Workload) -> bool {
        let source = self.source;
        match scope {
            Scope::Region => source.place.locality.region == workload.place.locality.region,
            Scope::Zone => source.place.locality.zone == workload.place.locality.zone,
            Scope::Subzone => source.place.locality.subzone == workload.place.locality.subzone,
            Scope::Node => source.place.node == workload.place.node,
            Scope::Cluster => source.cluster == workload.cluster,
            Scope::Network => source.network == workload.network,
        }
    }
}

/// The endpoint's own mapping, the service's target, and for waypoints that hand over themselves the port itself.
fn target_port(service: &Service, endpoint: &Endpoint, service_port: u16, purpose: Purpose) -> Option<u16> {
    let defined = service.ports.target(service_port);
    let tunnel = endpoint.workload.application_tunnel;
    match (purpose, defined) {
        (Purpose::Standard, None) => return None,
        (Purpose::Waypoint, None) if tunnel.is_none() => return None,
        (Purpose::Standard | Purpose::Waypoint, _) => {}
    }
    let own = endpoint.ports.target(service_port).filter(|port| *port != 0);
    let handed_over = || tunnel.and_then(|tunnel| tunnel.port).map(|_| service_port);
    own.or(defined.filter(|port| *port != 0)).or_else(handed_over).filter(|port| *port != 0)
}

/// The workload's address for this call: the one dialled, else the dialled family's, else any the service allows.
fn place(workload: &Workload, service: Option<&Service>, dialled: SocketAddr) -> Option<At> {
    if workload.addresses.contains(&dialled.ip()) {
        return Some(At::Ip(dialled.ip()));
    }
    let allowed = || workload.addresses.iter().filter(|ip| service.is_none_or(|service| service.families.allows(**ip)));
    let same_family = allowed().find(|ip| ip.is_ipv4() == dialled.is_ipv4());
    if let Some(ip) = same_family.or_else(|| allowed().next()) {
        return Some(At::Ip(*ip));
    }
    workload.hostname.clone().map(At::Host)
}

/// `ip` as a key in `network`.
pub fn key(network: &NetworkId, ip: std::net::IpAddr) -> NetworkAddress {
    NetworkAddress { network: network.clone(), ip }
}
