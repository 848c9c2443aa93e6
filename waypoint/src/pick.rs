//! The endpoint of one attempt.
//!
//! In: a cluster, the world, a request's keys, what was tried before. Out: an endpoint, and the ear its outcome is told to.
//! Absent on purpose: how endpoints are compared (see `balance`).

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::{Duration, SystemTime},
};

use http::{
    HeaderMap, HeaderValue, StatusCode,
    header::{CONTENT_TYPE, HOST},
    request::Parts,
    uri::Authority,
};
use lateen_state::{
    lookup::Known,
    service::{self as state, Service},
    world::World,
};
use lateen_types::{
    addr::NetworkAddress,
    name::{Hostname, NamespacedHostname},
};
use smallvec::SmallVec;

use crate::{
    arrival::{Arrival, Target},
    balance::{
        Ask, Chooser, Made, Snapshot,
        hash::{self, Hashed},
        policy::{Balancing, HashKey},
    },
    book::{self, Book, Cluster, Forward, Protocol, TrafficPolicy, Upstream, cluster::Resolution},
    filter::session::{Sealer, Session},
    lane::Lane,
    request::Context,
    retry::grpc_status,
    upstream::{
        endpoint::{At, Endpoint},
        failure::Failure,
        health::{Event, code_of_grpc},
        pool::ClusterPool,
    },
};

/// An endpoint that was chosen; as long as it is held it counts as busy with one request more.
#[derive(Debug)]
pub struct Picked {
    /// Where to.
    pub endpoint: Arc<Endpoint>,
    /// Whom its outcome is told to; nobody, where nothing was chosen from.
    ear: Option<Ear>,
    /// What the client is told, so that it comes back here.
    pub told: Option<Told>,
    /// As [`Ask::without_tiers`] has it.
    pub tier: u64,
    /// It answered in gRPC's way, and only trailers will say how.
    awaits_trailers: bool,
}

/// What the client is told, so that it comes back to the same endpoint.
#[derive(Debug, Clone)]
pub enum Told {
    /// This cookie.
    Cookie(HeaderValue),
    /// This token of its session.
    Token(String),
}

#[derive(Debug)]
struct Ear {
    pool: Arc<ClusterPool>,
    cluster: Arc<Cluster>,
    chooser: Arc<Chooser<Arc<Endpoint>>>,
    /// The endpoint's place in the chooser.
    member: usize,
    now: Duration,
}

impl Drop for Ear {
    fn drop(&mut self) {
        self.chooser.members()[self.member].health.ended();
    }
}

impl Picked {
    fn only(endpoint: Endpoint) -> Self {
        Self { endpoint: Arc::new(endpoint), ear: None, told: None, tier: 0, awaits_trailers: false }
    }

    /// By which it is known among those tried.
    pub fn address(&self) -> SocketAddr {
        known_by(&self.endpoint)
    }

    /// It answered so.
    pub fn answered(&mut self, status: StatusCode, headers: &HeaderMap) {
        self.tell(Event::Connected);
        let kind = headers.get(CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
        let grpc = grpc_status(headers);
        // Its headers alone would begin every count anew.
        self.awaits_trailers = status == StatusCode::OK && grpc.is_none() && kind.starts_with(b"application/grpc");
        if !self.awaits_trailers {
            let code = grpc.filter(|_| status == StatusCode::OK).map_or(status.as_u16(), code_of_grpc);
            self.tell(Event::Answer(code));
        }
    }

    /// A connection to it came about whose bytes nobody looks into: more will not be known of it.
    pub fn connected(&self) {
        self.tell(Event::Connected);
        self.tell(Event::Answer(200));
    }

    /// Its answer has passed whole, and this is what its trailers say.
    pub fn ended(&self, grpc: Option<u32>) {
        if self.awaits_trailers {
            self.tell(Event::Answer(grpc.map_or(200, code_of_grpc)));
        }
    }

    /// It did not answer.
    pub fn failed(&self, why: &Failure) {
        let event = match why {
            Failure::Connect(_) => Event::ConnectFailure,
            Failure::ConnectTimeout | Failure::PerTryTimeout | Failure::Timeout | Failure::Idle { received: true } => {
                Event::Timeout
            }
            Failure::Termination { .. } | Failure::Reset { .. } => Event::Reset,
            Failure::Protocol(_) => Event::Answer(502),
            Failure::Denied(_)
            | Failure::Unready(_)
            | Failure::Idle { received: false }
            | Failure::Late
            | Failure::Overflow
            | Failure::NoHealthyUpstream
            | Failure::NoCluster(_)
            | Failure::Dns(_)
            | Failure::Downstream => return,
        };
        self.tell(event);
    }

    fn tell(&self, event: Event) {
        let Some(ear) = &self.ear else { return };
        let cluster = &ear.cluster;
        let member = &ear.chooser.members()[ear.member];
        if ear.pool.keeper.observe(cluster, member, event, ear.now).is_err() {
            tracing::debug!(upstream = %cluster.upstream, "an endpoint stays: too many others are ejected");
        }
    }
}

/// What was tried before.
#[derive(Debug, Default)]
pub struct Tried {
    /// The endpoints.
    pub addresses: SmallVec<[SocketAddr; 2]>,
    /// Their tiers, where others are to be tried.
    pub tiers: u64,
}

/// One choice.
struct Choice<'c> {
    lane: &'c Lane,
    cluster: &'c Arc<Cluster>,
    /// Its state.
    pool: &'c Arc<ClusterPool>,
    world: &'c Arc<World>,
    arrival: &'c Arrival,
    hash: Option<u64>,
    session: Option<SocketAddr>,
    /// What the request, or the ClientHello, names.
    host: Option<&'c str>,
    tried: &'c Tried,
}

/// Chooses for one attempt.
pub fn pick(
    context: &Context,
    (cluster, pool): (&Arc<Cluster>, &Arc<ClusterPool>),
    (parts, session): (&Parts, Option<&Session>),
    tried: &Tried,
) -> Result<Picked, Failure> {
    let (hash, cookie) = key(context, cluster, parts);
    let sealer = session.map(|session| sealer(&context.book, session)).transpose()?;
    let token = session
        .zip(sealer)
        .and_then(|(session, sealer)| sealer.open(session.token(&parts.headers)?, &cluster.upstream, since_1970()));
    let choice = Choice {
        lane: &context.on.lane,
        cluster,
        pool,
        world: &context.world,
        arrival: &context.on.arrival,
        hash,
        session: token,
        host: parts.headers.get(HOST).and_then(|host| host.to_str().ok()),
        tried,
    };
    let (mut picked, by_session) = choice.make()?;
    picked.told = match session.zip(sealer) {
        Some((session, sealer)) if !by_session => {
            let ends = session.lifetime.map(|lifetime| since_1970().saturating_add(lifetime));
            let token = sealer.seal(rand::random(), &cluster.upstream, picked.address(), ends);
            Some(Told::Token(token))
        }
        Some(_) | None => cookie.map(Told::Cookie),
    };
    Ok(picked)
}

/// Chooses for one connection; `host` is whom the client wants to speak to, if that is known.
pub fn for_connection(
    lane: &Lane,
    cluster: &Arc<Cluster>,
    arrival: &Arrival,
    host: Option<&str>,
) -> Result<Picked, Failure> {
    let world = &lane.shared.world.load();
    let by_source = matches!(&cluster.policy.balancing, Balancing::Hash(hash) if hash.key == HashKey::SourceIp);
    let hash = by_source.then(|| hash::of_address(arrival.caller.client.ip()));
    let (pool, tried) = (&lane.shared.clusters.of(&cluster.upstream), &Tried::default());
    Choice { lane, cluster, pool, world, arrival, hash, session: None, host, tried }.make().map(|(picked, _)| picked)
}

/// What of the request is hashed, and the cookie for a client that has none.
fn key(context: &Context, cluster: &Cluster, parts: &Parts) -> (Option<u64>, Option<HeaderValue>) {
    let Balancing::Hash(by) = &cluster.policy.balancing else { return (None, None) };
    let client = context.caller().client;
    let hashed = Hashed { headers: &parts.headers, query: parts.uri.query(), client: Some(client.ip()) };
    match (hash::of_request(&by.key, &hashed), &by.key) {
        (None, HashKey::Cookie(cookie)) => match hash::new_cookie(cookie, client, context.caller().local) {
            Some(new) => (Some(new.hash), Some(new.set_cookie)),
            None => (None, None),
        },
        (hash, _) => (hash, None),
    }
}

/// The dice that choose the destination at which the client's session is, where there are several: a share is of new
/// sessions.
pub fn remembered(context: &Context, forward: &Forward, headers: &HeaderMap) -> Option<u64> {
    let session = forward.session.as_deref().filter(|_| forward.destinations().len() > 1)?;
    let token = session.token(headers)?;
    let sealer = context.book.credential(&session.key).ok()?.sealer.as_ref()?;
    let now = since_1970();
    forward.dice_of(|one| match &one.to {
        book::Target::Upstream(upstream) => sealer.open(token, upstream, now).is_some(),
        book::Target::Invalid(_) | book::Target::Redirect(_) => false,
    })
}

/// What seals the route's tokens. Without it clients would silently lose their endpoints: the request is refused.
fn sealer<'b>(book: &'b Book, session: &Session) -> Result<&'b Sealer, Failure> {
    let credential = book.credential(&session.key).map(|credential| credential.sealer.as_ref());
    match credential {
        Ok(Some(sealer)) => Ok(sealer),
        Ok(None) | Err(_) => {
            tracing::warn!(key = &*session.key, "a route that keeps sessions is refused: its secret has not arrived");
            Err(Failure::NoCluster(StatusCode::SERVICE_UNAVAILABLE))
        }
    }
}

fn since_1970() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

impl Choice<'_> {
    /// The endpoint, and whether the client's session chose it.
    fn make(&self) -> Result<(Picked, bool), Failure> {
        if let Target::Workload { uid, addr } = &self.arrival.target {
            let workload = self.world.workload(uid).ok_or(Failure::NoHealthyUpstream)?;
            return Ok((Picked::only(Endpoint::workload(workload, *addr)), false));
        }
        match self.cluster.resolution {
            // What a gateway's client dialled is the gateway.
            Resolution::Original if self.is_at_gateway() => Err(Failure::NoHealthyUpstream),
            Resolution::Endpoints if self.passes() && !self.is_at_gateway() => match self.dialled_workload() {
                Some(endpoint) => Ok((Picked::only(endpoint), false)),
                // The address is the service's own. Whoever is behind it is as good, and is reached as it wants to be.
                None => self.balanced(),
            },
            Resolution::Endpoints => self.balanced(),
            Resolution::Original => {
                let endpoint = self.dialled_workload().unwrap_or_else(|| Endpoint::bare(self.arrival.destination()));
                Ok((Picked::only(endpoint), false))
            }
            Resolution::Waypoint => self.waypoint().map(|endpoint| (Picked::only(endpoint), false)),
            Resolution::RequestHost => self.named().map(|endpoint| (Picked::only(endpoint), false)),
        }
    }

    /// A pod of the waypoint the service must be reached through, which chooses the endpoint: any, as for node proxies.
    fn waypoint(&self) -> Result<Endpoint, Failure> {
        let own = &self.lane.shared.own;
        let upstream = &self.cluster.upstream;
        let find = || {
            let service = self.world.service(&upstream.service)?;
            let vip = service.vips.iter().find(|vip| vip.network == own.network)?.ip;
            let to = (service, SocketAddr::new(vip, upstream.port));
            match self.world.known_as(&service.waypoint.as_ref()?.destination, &own.namespace)? {
                Known::Workload(workload) => Some(Endpoint::waypoint(&workload, *workload.addresses.first()?, to)),
                Known::Service(waypoint) => {
                    let near = |one: &&state::Endpoint| one.workload.network == own.network;
                    let all: SmallVec<[&state::Endpoint; 4]> = self.world.endpoints(&waypoint).filter(near).collect();
                    let one = all.get(rand::random_range(0..all.len().max(1)))?;
                    Some(Endpoint::waypoint(&one.workload, *one.workload.addresses.first()?, to))
                }
                Known::Unusable(_) => None,
            }
        };
        find().ok_or(Failure::NoHealthyUpstream)
    }

    /// Whom the client names, on the service's port.
    fn named(&self) -> Result<Endpoint, Failure> {
        let name = self.host.and_then(name_in).ok_or(Failure::NoHealthyUpstream)?;
        let upstream = &self.cluster.upstream;
        let service = self.world.service(&upstream.service).cloned();
        let target = service.as_ref().and_then(|service| service.ports.target(upstream.port));
        let port = target.filter(|target| *target != 0).unwrap_or(upstream.port);
        Ok(Endpoint::named(name, port, service))
    }

    fn is_at_gateway(&self) -> bool {
        matches!(self.arrival.target, Target::Port { .. })
    }

    fn passes(&self) -> bool {
        matches!(self.cluster.policy.balancing, Balancing::Passthrough)
    }

    /// The workload whose own address was dialled: one that is in the mesh is never called in plain.
    fn dialled_workload(&self) -> Option<Endpoint> {
        let addr = self.arrival.destination();
        let network = self.lane.shared.own.network.clone();
        let workload = self.world.workload_by_ip(&NetworkAddress { network, ip: addr.ip() })?;
        Some(Endpoint::workload(workload, addr))
    }

    fn balanced(&self) -> Result<(Picked, bool), Failure> {
        let (shared, pool) = (&self.lane.shared, self.pool.clone());
        let now = shared.now();
        let here = shared.here.load();
        let snapshot = Snapshot { cluster: self.cluster, world: self.world, here: &here, now, seed: self.seed() };
        let port = self.cluster.upstream.port;
        let chooser = pool.keeper.current(snapshot, |one, service| {
            // Its address means somebody else here, if anybody; the way through its gateway is not built yet.
            let is_near = one.workload.network == shared.own.network;
            is_near.then(|| made(one, service, (self.world, port))).flatten()
        });
        let ask = Ask {
            hash: self.hash,
            session: self.session,
            tried: &self.tried.addresses,
            without_tiers: self.tried.tiers,
            now,
        };
        let chosen = chooser.choose(&ask, &mut rand::rng()).ok_or(Failure::NoHealthyUpstream)?;
        let (member, tier, by_session) = (chosen.at, chosen.tier, chosen.by_session);
        let endpoint = chosen.member.endpoint.clone();
        chosen.member.health.began();
        let ear = Ear { pool, cluster: self.cluster.clone(), chooser, member, now };
        Ok((Picked { endpoint, ear: Some(ear), told: None, tier, awaits_trailers: false }, by_session))
    }

    fn seed(&self) -> u64 {
        rand::random()
    }
}

/// The name in an authority; an address is none, and nothing says whose it would be.
fn name_in(authority: &str) -> Option<Hostname> {
    let authority: Authority = authority.parse().ok()?;
    let host = authority.host();
    let host = host.strip_suffix('.').unwrap_or(host);
    let is_name = !host.is_empty() && !host.starts_with('[') && host.parse::<IpAddr>().is_err();
    is_name.then(|| host.to_ascii_lowercase().as_str().into())
}

fn made(one: &state::Endpoint, service: &Service, (world, port): (&World, u16)) -> Option<Made<Arc<Endpoint>>> {
    let endpoint = Arc::new(Endpoint::of(one, world.service(&service.key)?, port)?);
    let address = known_by(&endpoint);
    Some(Made { endpoint, address })
}

/// The address an endpoint is known by; one that has only a name gets one that nobody has (RFC 6666).
fn known_by(endpoint: &Endpoint) -> SocketAddr {
    match &endpoint.key.at {
        At::Ip(ip) => SocketAddr::new(*ip, endpoint.key.port),
        At::Host(name) => {
            let bits = 0x0100_u128 << 112 | u128::from(hash::hash(name.as_str().as_bytes()));
            SocketAddr::new(IpAddr::V6(Ipv6Addr::from_bits(bits)), endpoint.key.port)
        }
    }
}

/// The cluster of workloads that are called themselves: every default, and what is spoken is what the client speaks.
pub fn direct(target: &Target) -> Option<(Arc<Upstream>, Arc<Cluster>)> {
    let Target::Workload { uid, addr } = target else { return None };
    let service = NamespacedHostname { namespace: "".into(), hostname: uid.as_str().into() };
    let upstream = Upstream { service, port: addr.port(), subset: "".into() };
    let cluster = Cluster {
        upstream: upstream.clone(),
        labels: BTreeMap::new(),
        protocol: Protocol::Auto,
        policy: TrafficPolicy::default(),
        resolution: Resolution::Endpoints,
        unusable: None,
    };
    Some((Arc::new(upstream), Arc::new(cluster)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_from_authorities() {
        for (authority, name) in [
            ("a.example.com", Some("a.example.com")),
            ("A.Example.com.:8443", Some("a.example.com")),
            ("10.0.0.1", None),
            ("10.0.0.1:80", None),
            ("[::1]:80", None),
            ("a b", None),
            ("", None),
            (".", None),
        ] {
            assert_eq!(name_in(authority).as_ref().map(Hostname::as_str), name, "{authority}");
        }
    }
}
