//! How this proxy sends to one service, port and subset.
//!
//! In: what `compile` made of a resource. Out: plain values, every default filled in. Absent on purpose: endpoints,
//! counters, connections: they outlive a configuration and are kept elsewhere, by [`Upstream`].

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use lateen_state::workload::Labels;
use lateen_types::name::NamespacedHostname;

use super::service::Protocol;
use crate::{
    balance::policy::{Balancing, Locality, Warmup},
    upstream::health::{OutlierDetection, RetryBudget},
};

/// The name of one place to send to.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Upstream {
    /// The service.
    pub service: NamespacedHostname,
    /// Its port.
    pub port: u16,
    /// Empty: all endpoints.
    pub subset: Arc<str>,
}

impl fmt::Display for Upstream {
    /// As access logs have it: `outbound|80|v1|reviews.default.svc.cluster.local`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "outbound|{}|{}|{}", self.port, self.subset, self.service.hostname)
    }
}

/// One place to send to.
#[derive(Debug)]
pub struct Cluster {
    /// Its name.
    pub upstream: Upstream,
    /// What an endpoint of the subset carries.
    pub labels: BTreeMap<Box<str>, Box<str>>,
    /// What endpoints speak.
    pub protocol: Protocol,
    /// How they are sent to.
    pub policy: TrafficPolicy,
    /// Where endpoints come from.
    pub resolution: Resolution,
    /// Why it must not be used (503); requests are refused then.
    pub unusable: Option<Arc<str>>,
}

impl Cluster {
    /// Whether an endpoint with these labels belongs to the subset.
    pub fn takes(&self, labels: &Labels) -> bool {
        self.labels.iter().all(|(key, value)| labels.value(key) == Some(&**value))
    }
}

/// Where endpoints come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resolution {
    /// The service's own waypoint.
    Waypoint,
    /// Workloads of the service.
    Endpoints,
    /// The connection's own destination address.
    Original,
    /// The request's host or server name, by DNS.
    RequestHost,
}

/// How endpoints are sent to.
#[derive(Debug, Clone, Default)]
pub struct TrafficPolicy {
    /// Which endpoint.
    pub balancing: Balancing,
    /// Which are near.
    pub locality: Locality,
    /// How new ones begin.
    pub warmup: Option<Warmup>,
    /// What limits there are.
    pub pool: ConnectionPool,
    /// When endpoints are ejected; `None`: never.
    pub outlier: Option<OutlierDetection>,
    /// TLS inside the tunnel or connection.
    pub tls: Option<Arc<Tls>>,
    /// What precedes the bytes of a connection.
    pub proxy_protocol: Option<ProxyProtocol>,
    /// The CONNECT that precedes them.
    pub tunnel: Option<Arc<ConnectTunnel>>,
    /// In the place of `pool.retries_max`.
    pub retry_budget: Option<RetryBudget>,
}

/// Which version of the PROXY protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ProxyProtocol {
    /// Text.
    V1,
    /// Binary.
    V2,
}

/// An HTTP proxy on the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectTunnel {
    /// POST in the place of CONNECT.
    pub post: bool,
    /// What is asked for.
    pub host: Box<str>,
    /// Its port.
    pub port: u16,
}

/// The limits and times of connections and requests. `u32::MAX` is no limit.
#[derive(Debug, Clone, PartialEq)]
pub struct ConnectionPool {
    /// Connections; each endpoint may have one all the same.
    pub connections_max: u32,
    /// TCP and TLS together.
    pub connect_timeout: Duration,
    /// TCP keepalive; `None`: off.
    pub keepalive: Option<Keepalive>,
    /// How old a connection may become.
    pub connection_duration_max: Option<Duration>,
    /// How long no byte may pass; `None`: for ever.
    pub tcp_idle_timeout: Option<Duration>,
    /// Requests that wait for a connection.
    pub pending_max: u32,
    /// Requests under way.
    pub requests_max: u32,
    /// Requests over one connection.
    pub requests_per_connection_max: u32,
    /// Retries under way.
    pub retries_max: u32,
    /// How long a connection may have no request; `None`: for ever.
    pub http_idle_timeout: Option<Duration>,
    /// HTTP/1.1 requests are sent as HTTP/2.
    pub upgrade_to_http2: bool,
    /// What the client speaks is spoken to the endpoint.
    pub use_client_protocol: bool,
    /// Streams of one HTTP/2 connection.
    pub streams_max: u32,
    /// How often HTTP/2 connections are pinged; `None`: never.
    pub ping: Option<Ping>,
}

/// TCP keepalive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keepalive {
    /// Unanswered probes that end the connection; `None`: as the kernel has it.
    pub probes: Option<u32>,
    /// Idle time before the first.
    pub time: Option<Duration>,
    /// Time between them.
    pub interval: Option<Duration>,
}

/// HTTP/2 PINGs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ping {
    /// How often.
    pub interval: Duration,
    /// How long one may take.
    pub timeout: Duration,
}

/// The mesh's default.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// As long as connections may be idle where nobody says otherwise.
const IDLE_TIMEOUT: Duration = Duration::from_secs(3600);

impl Default for ConnectionPool {
    fn default() -> Self {
        Self {
            connections_max: u32::MAX,
            connect_timeout: CONNECT_TIMEOUT,
            keepalive: None,
            connection_duration_max: None,
            tcp_idle_timeout: Some(IDLE_TIMEOUT),
            pending_max: u32::MAX,
            requests_max: u32::MAX,
            requests_per_connection_max: u32::MAX,
            retries_max: u32::MAX,
            http_idle_timeout: Some(IDLE_TIMEOUT),
            upgrade_to_http2: false,
            use_client_protocol: false,
            streams_max: u32::MAX,
            ping: None,
        }
    }
}

/// TLS towards endpoints.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Tls {
    /// The credential of our own certificate; `None`: none is shown.
    pub credential: Option<Arc<str>>,
    /// The credential whose CA verifies the server; `None`: the system's roots.
    pub ca: Option<Arc<str>>,
    /// `None`: the request's host.
    pub server_name: Option<Arc<str>>,
    /// One of these must be in the server's certificate; none: the server name.
    pub subject_alt_names: Box<[Box<str>]>,
    /// Whether the server's certificate is not verified.
    pub insecure_skip_verify: bool,
    /// The mesh's own certificates.
    pub mesh_identity: bool,
    /// What to offer; empty: by the protocol.
    pub alpn: Box<[Box<str>]>,
}
