//! `lateen.proxy.Destination`: how a service is sent to.

use std::{sync::Arc, time::Duration};

use lateen_wire::proxy as wire;

use super::{
    error::{DecodeError, Within as _, Wrong, bad_text, each, known, port, required, some_text, time},
    matches::header_name,
    service::{key, protocol},
};
use crate::{
    balance::policy::{
        Balancing, ConsistentHash, HashCookie, HashKey, HashTable, Label, Locality, LocalityPattern, MadeCookie, Share,
        Warmup,
    },
    book::{
        cluster::{
            Cluster, ConnectTunnel, ConnectionPool, Keepalive, Ping, ProxyProtocol, Resolution, Tls, TrafficPolicy,
            Upstream,
        },
        names::Change,
    },
    upstream::health::{OutlierDetection, RetryBudget},
};

pub(super) fn destination(from: wire::Destination) -> Result<Change, DecodeError> {
    let service = key(from.namespace, from.hostname)?;
    let one = |given: wire::Cluster| {
        let port = port("port", given.port)?;
        let upstream = Upstream { service: service.clone(), port, subset: given.subset.as_str().into() };
        cluster(given, upstream).map(Arc::new)
    };
    let clusters = each("clusters", from.clusters, one)?;
    Ok(Change::Destination { service, clusters })
}

fn cluster(from: wire::Cluster, upstream: Upstream) -> Result<Cluster, DecodeError> {
    Ok(Cluster {
        upstream,
        labels: from.labels.into_iter().map(|(key, value)| (key.into(), value.into())).collect(),
        protocol: protocol("protocol", from.protocol)?,
        policy: policy(from.policy.unwrap_or_default()).within("policy")?,
        resolution: match known("resolution", from.resolution)? {
            wire::Resolution::Endpoints => Resolution::Endpoints,
            wire::Resolution::Original => Resolution::Original,
            wire::Resolution::RequestHost => Resolution::RequestHost,
            wire::Resolution::OfWaypoint => Resolution::Waypoint,
        },
        unusable: some_text(&from.unusable),
    })
}

fn policy(from: wire::TrafficPolicy) -> Result<TrafficPolicy, DecodeError> {
    let balancer = from.load_balancer.unwrap_or_default();
    let budget =
        |given: wire::RetryBudget| RetryBudget { percent: given.percent, concurrency_min: given.min_concurrency };
    Ok(TrafficPolicy {
        balancing: balancing(balancer.kind).within("load_balancer")?,
        locality: balancer.locality.map(locality).transpose().within("load_balancer.locality")?.unwrap_or_default(),
        warmup: balancer.warmup.map(warmup).transpose().within("load_balancer.warmup")?,
        pool: pool(from.pool.unwrap_or_default()).within("pool")?,
        outlier: from.outlier.map(outlier).transpose().within("outlier")?,
        tls: from.tls.map(|given| Arc::new(tls(given))),
        proxy_protocol: match known("proxy_protocol", from.proxy_protocol)? {
            wire::traffic_policy::ProxyProtocol::Off => None,
            wire::traffic_policy::ProxyProtocol::V1 => Some(ProxyProtocol::V1),
            wire::traffic_policy::ProxyProtocol::V2 => Some(ProxyProtocol::V2),
        },
        tunnel: from.tunnel.map(tunnel).transpose().within("tunnel")?.map(Arc::new),
        retry_budget: from.retry_budget.map(budget),
    })
}

fn balancing(from: Option<wire::load_balancer::Kind>) -> Result<Balancing, DecodeError> {
    use wire::load_balancer::{Kind, Simple};
    Ok(match from {
        None => Balancing::default(),
        Some(Kind::Simple(simple)) => match known("simple", simple)? {
            Simple::LeastRequest => Balancing::LeastRequest,
            Simple::RoundRobin => Balancing::RoundRobin,
            Simple::Random => Balancing::Random,
            Simple::Passthrough => Balancing::Passthrough,
        },
        Some(Kind::Hash(hash)) => Balancing::Hash(Box::new(consistent_hash(hash).within("hash")?)),
    })
}

/// Envoy's: more points would be more memory than an endpoint is worth.
const RING_MAX: u64 = 8 << 20;
/// The reference's bound, the largest prime it allows.
const MAGLEV_MAX: u64 = 5_000_011;
/// The reference's defaults.
const RING: u64 = 1024;

fn consistent_hash(from: wire::ConsistentHash) -> Result<ConsistentHash, DecodeError> {
    use wire::consistent_hash::{Algorithm, Key};
    let key = match required("key", from.key)? {
        Key::Header(name) => HashKey::Header(header_name("header", &name)?),
        Key::Cookie(cookie) => HashKey::Cookie(hash_cookie(cookie).within("cookie")?),
        Key::SourceIp(_) => HashKey::SourceIp,
        Key::Query(name) => HashKey::Query(name.into()),
    };
    let table = match from.algorithm.unwrap_or(Algorithm::Ring(RING)) {
        Algorithm::Ring(points) => HashTable::Ring { points_min: size("ring", points.max(1), RING_MAX)? },
        Algorithm::Maglev(size) if !is_prime(size) => {
            return Err(DecodeError::new("maglev", Wrong::Number { given: size, expected: "a prime up to 5000011" }));
        }
        Algorithm::Maglev(entries) => HashTable::Maglev { size: size("maglev", entries, MAGLEV_MAX)? },
    };
    Ok(ConsistentHash { key, table })
}

fn size(field: &str, given: u64, max: u64) -> Result<usize, DecodeError> {
    let size = usize::try_from(given).ok().filter(|_| given <= max);
    size.ok_or_else(|| DecodeError::new(field, Wrong::Number { given, expected: "a size this proxy can hold" }))
}

/// By trial, which for the largest takes some two thousand divisions.
fn is_prime(number: u64) -> bool {
    let mut divisors = (2..).take_while(|divisor| divisor * divisor <= number);
    (2..=MAGLEV_MAX).contains(&number) && divisors.all(|divisor| !number.is_multiple_of(divisor))
}

fn hash_cookie(from: wire::consistent_hash::Cookie) -> Result<HashCookie, DecodeError> {
    if from.name.is_empty() {
        return Err(bad_text("name", "", "the name of a cookie"));
    }
    let made = match time("ttl", from.ttl)? {
        None => MadeCookie::Never,
        Some(Duration::ZERO) => MadeCookie::ForSession,
        Some(ttl) => MadeCookie::For(ttl),
    };
    let attributes: String = from.attributes.iter().map(attribute).collect();
    super::edits::header_value("attributes", &attributes)?;
    Ok(HashCookie { name: from.name.into(), path: from.path.into(), made, attributes: attributes.into() })
}

fn attribute(from: &wire::Header) -> String {
    match from.value.is_empty() {
        true => format!("; {}", from.name),
        false => format!("; {}={}", from.name, from.value),
    }
}

fn locality(from: wire::Locality) -> Result<Locality, DecodeError> {
    use wire::locality::Mode;
    Ok(match required("mode", from.mode)? {
        Mode::Distribute(distribute) => Locality::Distribute(distribute.shares.into_iter().map(distribution).collect()),
        Mode::Failover(failover) => {
            Locality::Failover(failover.regions.into_iter().map(|(from, to)| (from.into(), to.into())).collect())
        }
        Mode::Priorities(priorities) => {
            Locality::Priorities(priorities.labels.iter().map(|text| label(text)).collect())
        }
    })
}

fn distribution(from: wire::locality::Share) -> Share {
    let to = from.to.iter().map(|(locality, percent)| (LocalityPattern::read(locality), *percent));
    Share { from: LocalityPattern::read(&from.from), to: to.collect() }
}

fn label(text: &str) -> Label {
    match text.split_once('=') {
        Some((key, value)) => Label { key: key.into(), value: Some(value.into()) },
        None => Label { key: text.into(), value: None },
    }
}

fn warmup(from: wire::Warmup) -> Result<Warmup, DecodeError> {
    let duration = required("duration", time("duration", from.duration)?)?;
    // 0 is what a field says that was not set.
    let or = |given: f64, default: f64| if given > 0.0 { given } else { default };
    let minimum = or(from.minimum_percent, 10.0).min(100.0) / 100.0;
    Ok(Warmup { duration, minimum, aggression: or(from.aggression, 1.0) })
}

fn pool(from: wire::ConnectionPool) -> Result<ConnectionPool, DecodeError> {
    let default = ConnectionPool::default();
    let limit = |given: Option<u32>| given.unwrap_or(u32::MAX);
    // Unset is the default, zero is never.
    let idle = |field: &str, given, default: Option<Duration>| {
        Ok::<_, DecodeError>(match time(field, given)? {
            None => default,
            Some(Duration::ZERO) => None,
            some => some,
        })
    };
    let tcp_idle_timeout = idle("tcp_idle_timeout", from.tcp_idle_timeout, default.tcp_idle_timeout)?;
    let ping_timeout = time("http2_keepalive_timeout", from.http2_keepalive_timeout)?.unwrap_or(PING_TIMEOUT);
    let ping = time("http2_keepalive_interval", from.http2_keepalive_interval)?.filter(|every| !every.is_zero());
    let per_connection = limit(from.max_requests_per_connection);
    Ok(ConnectionPool {
        connections_max: limit(from.max_connections),
        connect_timeout: time("connect_timeout", from.connect_timeout)?.unwrap_or(default.connect_timeout),
        keepalive: from.keepalive.map(keepalive).transpose().within("keepalive")?,
        connection_duration_max: time("max_connection_duration", from.max_connection_duration)?,
        tcp_idle_timeout,
        pending_max: limit(from.max_pending_requests),
        requests_max: limit(from.max_requests),
        requests_per_connection_max: if per_connection == 0 { u32::MAX } else { per_connection },
        retries_max: limit(from.max_retries),
        // Where only TCP's is set, it holds for HTTP too.
        http_idle_timeout: idle("http_idle_timeout", from.http_idle_timeout, tcp_idle_timeout)?,
        upgrade_to_http2: from.upgrade_to_http2,
        use_client_protocol: from.use_client_protocol,
        streams_max: limit(from.max_concurrent_streams),
        ping: ping.map(|interval| Ping { interval, timeout: ping_timeout }),
    })
}

/// Of pings for which no timeout is set; as of the mesh's own tunnels.
const PING_TIMEOUT: Duration = Duration::from_secs(20);

fn keepalive(from: wire::Keepalive) -> Result<Keepalive, DecodeError> {
    let probes = (from.probes > 0).then_some(from.probes);
    Ok(Keepalive { probes, time: time("time", from.time)?, interval: time("interval", from.interval)? })
}

fn outlier(from: wire::OutlierDetection) -> Result<OutlierDetection, DecodeError> {
    let code = |code: u32| super::service::status("", code).map(|status| status.as_u16());
    let at_least = |field: &str, given, default| {
        let given = time(field, given)?.unwrap_or(default);
        Ok::<_, DecodeError>(given.max(Duration::from_millis(1)))
    };
    Ok(OutlierDetection {
        consecutive_5xx: from.consecutive_5xx,
        consecutive_gateway_errors: from.consecutive_gateway_errors,
        split_local_errors: from.split_local_errors,
        consecutive_local_errors: from.consecutive_local_errors,
        interval: at_least("interval", from.interval, Duration::from_secs(10))?,
        base_ejection_time: at_least("base_ejection_time", from.base_ejection_time, Duration::from_secs(30))?,
        max_ejection_percent: from.max_ejection_percent,
        min_health_percent: from.min_health_percent,
        status_codes: each("status_codes", from.status_codes, code)?.into(),
    })
}

fn tls(from: wire::Tls) -> Tls {
    Tls {
        credential: some_text(&from.credential),
        ca: some_text(&from.ca),
        server_name: some_text(&from.server_name),
        subject_alt_names: from.subject_alt_names.into_iter().map(Into::into).collect(),
        insecure_skip_verify: from.insecure_skip_verify,
        mesh_identity: from.mesh_identity,
        alpn: from.alpn.into_iter().map(Into::into).collect(),
    }
}

fn tunnel(from: wire::ConnectTunnel) -> Result<ConnectTunnel, DecodeError> {
    if from.host.is_empty() {
        return Err(bad_text("host", "", "a host"));
    }
    Ok(ConnectTunnel { post: from.post, host: from.host.into(), port: port("port", from.port)? })
}
