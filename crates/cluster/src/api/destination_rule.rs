//! `DestinationRule`: how a service's endpoints are used once it has been chosen. All versions are the same.
//!
//! The definition that clusters get is in [`crate::crds`]; these types read what is used of it.

use std::collections::BTreeMap;

use lateen_types::label::Labels;
use serde::Deserialize;

use super::{Duration, Port, WorkloadSelector};

/// The spec.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DestinationRuleSpec {
    /// Whose endpoints.
    pub host: String,
    /// For all ports and subsets.
    pub traffic_policy: Option<TrafficPolicy>,
    /// Parts of the endpoints.
    pub subsets: Vec<Subset>,
    /// The namespaces that see it.
    pub export_to: Vec<String>,
    /// The clients it is for, of its own namespace.
    pub workload_selector: Option<WorkloadSelector>,
}

/// Endpoints by label.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Subset {
    /// Its name.
    pub name: String,
    /// What its endpoints carry.
    pub labels: Labels,
    /// What differs for it.
    pub traffic_policy: Option<TrafficPolicy>,
}

/// How endpoints are used.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TrafficPolicy {
    /// Which endpoint.
    pub load_balancer: Option<LoadBalancer>,
    /// How many connections and requests.
    pub connection_pool: Option<ConnectionPool>,
    /// Which endpoints are left out for a while.
    pub outlier_detection: Option<OutlierDetection>,
    /// TLS towards them.
    pub tls: Option<ClientTls>,
    /// What differs for single ports.
    pub port_level_settings: Vec<PortPolicy>,
    /// A proxy on the way.
    pub tunnel: Option<Tunnel>,
    /// A header before the first byte.
    pub proxy_protocol: Option<ProxyProtocol>,
    /// How many retries.
    pub retry_budget: Option<RetryBudget>,
}

/// What differs for one port.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PortPolicy {
    /// The port.
    pub port: Port,
    /// As in [`TrafficPolicy`].
    pub load_balancer: Option<LoadBalancer>,
    /// As in [`TrafficPolicy`].
    pub connection_pool: Option<ConnectionPool>,
    /// As in [`TrafficPolicy`].
    pub outlier_detection: Option<OutlierDetection>,
    /// As in [`TrafficPolicy`].
    pub tls: Option<ClientTls>,
}

/// Which endpoint.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LoadBalancer {
    /// By a simple rule.
    pub simple: Option<String>,
    /// By what a request carries.
    pub consistent_hash: Option<ConsistentHash>,
    /// By where endpoints are.
    pub locality_lb_setting: Option<LocalitySetting>,
    /// By zone.
    pub zone_aware_lb_setting: Option<ZoneAware>,
    /// New endpoints begin with less.
    pub warmup: Option<Warmup>,
    /// The older word for it.
    pub warmup_duration_secs: Option<Duration>,
}

/// By what a request carries.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ConsistentHash {
    /// A header.
    pub http_header_name: Option<String>,
    /// A cookie.
    pub http_cookie: Option<HashCookie>,
    /// The client's address.
    pub use_source_ip: Option<bool>,
    /// A parameter of the query.
    pub http_query_parameter_name: Option<String>,
    /// A ring.
    pub ring_hash: Option<RingHash>,
    /// A table.
    pub maglev: Option<Maglev>,
    /// The older word for the ring's.
    pub minimum_ring_size: Option<u64>,
}

/// A cookie to hash by.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HashCookie {
    /// Its name.
    pub name: String,
    /// Where it holds.
    pub path: String,
    /// How long one that is made here lives.
    pub ttl: Option<Duration>,
    /// Further attributes of one that is made here.
    pub attributes: Vec<CookieAttribute>,
}

/// `name=value`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CookieAttribute {
    /// Its name.
    pub name: String,
    /// Its value; empty for none.
    pub value: String,
}

/// A ring.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RingHash {
    /// Its least size.
    pub minimum_ring_size: Option<u64>,
}

/// A table.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Maglev {
    /// Its size, a prime.
    pub table_size: Option<u64>,
}

/// By where endpoints are.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LocalitySetting {
    /// Whether at all.
    pub enabled: Option<bool>,
    /// Fixed shares.
    pub distribute: Vec<Distribute>,
    /// Where to go from a region that fails.
    pub failover: Vec<Failover>,
    /// By labels.
    pub failover_priority: Vec<String>,
}

/// By zone.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ZoneAware {
    /// Whether at all.
    pub enabled: Option<bool>,
    /// As in [`LocalitySetting`].
    pub failover: Vec<Failover>,
    /// As in [`LocalitySetting`].
    pub failover_priority: Vec<String>,
}

/// Fixed shares of a locality's requests.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Distribute {
    /// Of clients here.
    pub from: String,
    /// Percent by locality.
    pub to: BTreeMap<String, u32>,
}

/// From one region to another.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Failover {
    /// The region that fails.
    pub from: String,
    /// The one after it.
    pub to: String,
}

/// New endpoints begin with less.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Warmup {
    /// For so long.
    pub duration: Option<Duration>,
    /// From this share of theirs.
    pub minimum_percent: Option<f64>,
    /// The curve.
    pub aggression: Option<f64>,
}

/// How many connections and requests.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ConnectionPool {
    /// Of connections.
    pub tcp: Option<TcpPool>,
    /// Of requests.
    pub http: Option<HttpPool>,
}

/// Of connections.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TcpPool {
    /// At a time.
    pub max_connections: i64,
    /// Until one is there.
    pub connect_timeout: Option<Duration>,
    /// Whether the other end is still there.
    pub tcp_keepalive: Option<TcpKeepalive>,
    /// At most so long.
    pub max_connection_duration: Option<Duration>,
    /// Without a byte.
    pub idle_timeout: Option<Duration>,
}

/// Probes of a silent connection.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TcpKeepalive {
    /// So many without answer.
    pub probes: u32,
    /// Silent for so long.
    pub time: Option<Duration>,
    /// Between them.
    pub interval: Option<Duration>,
}

/// Of requests.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HttpPool {
    /// That wait for a connection.
    #[serde(rename = "http1MaxPendingRequests")]
    pub max_pending_requests: i64,
    /// At a time.
    #[serde(rename = "http2MaxRequests")]
    pub max_requests: i64,
    /// On one connection in all.
    pub max_requests_per_connection: i64,
    /// Retries at a time.
    pub max_retries: i64,
    /// Without a request.
    pub idle_timeout: Option<Duration>,
    /// Whether HTTP/1 becomes HTTP/2.
    #[serde(rename = "h2UpgradePolicy")]
    pub upgrade_policy: Option<String>,
    /// Whether endpoints are spoken to as the client speaks.
    pub use_client_protocol: Option<bool>,
    /// On one HTTP/2 connection at a time.
    pub max_concurrent_streams: i64,
    /// PINGs.
    #[serde(rename = "http2KeepAlive")]
    pub http2_keepalive: Option<Pings>,
}

/// PINGs.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Pings {
    /// Between them.
    pub interval: Option<Duration>,
    /// Until the answer.
    pub timeout: Option<Duration>,
}

/// Which endpoints are left out for a while.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct OutlierDetection {
    /// The older word for 5xx.
    pub consecutive_errors: Option<i64>,
    /// Whether failures of connections are counted apart.
    pub split_external_local_origin_errors: Option<bool>,
    /// So many of them.
    pub consecutive_local_origin_failures: Option<u32>,
    /// 502, 503 and 504 in a row.
    pub consecutive_gateway_errors: Option<u32>,
    /// 5xx in a row.
    #[serde(rename = "consecutive5xxErrors")]
    pub consecutive_5xx_errors: Option<u32>,
    /// Between sweeps.
    pub interval: Option<Duration>,
    /// For so long at first.
    pub base_ejection_time: Option<Duration>,
    /// At most this part.
    pub max_ejection_percent: i64,
    /// With less than this healthy, all serve.
    pub min_health_percent: i64,
    /// Only these count.
    pub outlier_detection_http_error_codes: Vec<u32>,
}

/// TLS towards endpoints.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClientTls {
    /// Whether, and who shows what.
    pub mode: Option<String>,
    /// A file of the proxy's.
    pub client_certificate: Option<String>,
    /// A file of the proxy's.
    pub private_key: Option<String>,
    /// A file of the proxy's.
    pub ca_certificates: Option<String>,
    /// A file of the proxy's.
    pub ca_crl: Option<String>,
    /// A Secret of the proxy's namespace.
    pub credential_name: Option<String>,
    /// Names the certificate may carry.
    pub subject_alt_names: Vec<String>,
    /// The name that is asked for.
    pub sni: Option<String>,
    /// Whether any certificate will do.
    pub insecure_skip_verify: Option<bool>,
}

/// A proxy on the way.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Tunnel {
    /// CONNECT or POST.
    pub protocol: Option<String>,
    /// Where it should lead.
    pub target_host: String,
    /// At which port.
    pub target_port: u32,
}

/// A header before the first byte.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ProxyProtocol {
    /// V1 or V2.
    pub version: Option<String>,
}

/// How many retries.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RetryBudget {
    /// Of what is under way.
    pub percent: Option<f64>,
    /// At least.
    pub min_retry_concurrency: Option<u32>,
    /// Over so long.
    pub budget_interval: Option<Duration>,
}
