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

/// A call to a service, with what is the same for all its endpoints.
struct Call<'c> {
    service: &'c Service,
    dialled: SocketAddr,
    purpose: Purpose,
    /// The service's own target of the port dialled.
    defined: Option<u16>,
}

/// One endpoint of many, each with the chance its weight has among all of one rank, in one pass.
struct Draw<'w> {
    rank: u32,
    held: &'w Endpoint,
    /// Of all that were offered.
    weight: u64,
    /// The one held stays until the weight is beyond this.
    until: f64,
}

impl<'w> Draw<'w> {
    fn begin(rank: u32, first: &'w Endpoint, rng: &mut impl Rng) -> Self {
        let weight = u64::from(first.workload.capacity);
        Self { rank, held: first, weight, until: Self::until(weight, rng) }
    }

    fn offer(&mut self, endpoint: &'w Endpoint, rng: &mut impl Rng) {
        self.weight += u64::from(endpoint.workload.capacity);
        if as_f64(self.weight) > self.until {
            self.held = endpoint;
            self.until = Self::until(self.weight, rng);
        }
    }

    /// Whoever is taken at weight w is still held at a weight v with chance w/v: a newcomer of weight n is taken with
    /// chance n/(w+n). Drawn for each one that is taken, not for each that is offered: of 200 about six.
    fn until(weight: u64, rng: &mut impl Rng) -> f64 {
        as_f64(weight) / (1.0 - rng.random::<f64>())
    }
}

#[allow(clippy::cast_precision_loss, reason = "a share of a connection in 2^53 is nobody's loss")]
fn as_f64(weight: u64) -> f64 {
    weight as f64
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
        let call = Call { service, dialled, purpose, defined: service.ports.target(dialled.port()) };
        let mut best: Option<Draw<'_>> = None;
        for endpoint in self.world.endpoints(service) {
            let Some(rank) = self.candidate(&call, endpoint) else { continue };
            match &mut best {
                Some(draw) if rank < draw.rank => {}
                Some(draw) if rank == draw.rank => draw.offer(endpoint, rng),
                Some(_) | None => best = Some(Draw::begin(rank, endpoint, rng)),
            }
        }
        let taken = best?.held;
        let workload = taken.workload.clone();
        let at = place(&workload, Some(service), dialled).unwrap_or(At::Gateway);
        Some(Upstream { workload, service: Some(service.clone()), at, port: call.port_at(taken)? })
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

    /// The rank of an endpoint that can be taken: it has a weight, suits the service's preferences and can be reached.
    fn candidate(&self, call: &Call<'_>, endpoint: &Endpoint) -> Option<u32> {
        let workload = &endpoint.workload;
        let rank = self.rank(call.service, workload).filter(|_| workload.capacity > 0)?;
        call.port_at(endpoint)?;
        let can_be_reached = match workload.network == self.source.network {
            true => has_place(workload, call.service, call.dialled),
            // An address of another network means nothing here: without a gateway there is no way.
            false => workload.network_gateway.is_some(),
        };
        can_be_reached.then_some(rank)
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

impl Call<'_> {
    /// The endpoint's own mapping, the service's target, and for waypoints that hand over themselves the port itself.
    fn port_at(&self, endpoint: &Endpoint) -> Option<u16> {
        let (service_port, tunnel) = (self.dialled.port(), endpoint.workload.application_tunnel);
        match (self.purpose, self.defined) {
            (Purpose::Standard, None) => return None,
            (Purpose::Waypoint, None) if tunnel.is_none() => return None,
            (Purpose::Standard | Purpose::Waypoint, _) => {}
        }
        let own = endpoint.ports.target(service_port).filter(|port| *port != 0);
        let handed_over = || tunnel.and_then(|tunnel| tunnel.port).map(|_| service_port);
        own.or(self.defined.filter(|port| *port != 0)).or_else(handed_over).filter(|port| *port != 0)
    }
}

/// Whether [`place`] finds any.
fn has_place(workload: &Workload, service: &Service, dialled: SocketAddr) -> bool {
    workload.addresses.iter().any(|ip| service.families.allows(*ip))
        || workload.addresses.contains(&dialled.ip())
        || workload.hostname.is_some()
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
