//! Limits of connections and requests, who is left out, what precedes the first byte. Zero is "unset" everywhere.

use std::time::Duration;

use lateen_cluster::api::{ConnectionPool, OutlierDetection, ProxyProtocol, RetryBudget, Tunnel};
use lateen_wire::proxy::{self as wire, traffic_policy};

use super::on_wire;

const IDLE_TIMEOUT: Duration = Duration::from_secs(3600);
const KEEPALIVE_PROBES: u32 = 9;
const KEEPALIVE_TIME: Duration = Duration::from_secs(7200);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(75);
const ERRORS: u32 = 5;
const SWEEP: Duration = Duration::from_secs(10);
const EJECTION: Duration = Duration::from_secs(30);
const EJECTED_PERCENT: u32 = 10;
const BUDGET_PERCENT: f64 = 20.0;
const BUDGET_MIN: u32 = 3;
const PING_TIMEOUT: Duration = Duration::from_secs(10);

pub(super) fn derive(asked: Option<&ConnectionPool>, connect_timeout: Duration) -> wire::ConnectionPool {
    let tcp = asked.and_then(|pool| pool.tcp.clone()).unwrap_or_default();
    let http = asked.and_then(|pool| pool.http.clone()).unwrap_or_default();
    let tcp_idle = tcp.idle_timeout.map(|length| length.0);
    let http_idle = http.idle_timeout.map(|length| length.0).or(tcp_idle).unwrap_or(IDLE_TIMEOUT);
    let pings = http.http2_keepalive.as_ref();
    let interval = pings.and_then(|pings| pings.interval).filter(|length| !length.0.is_zero());
    wire::ConnectionPool {
        max_connections: limit(tcp.max_connections),
        connect_timeout: Some(on_wire(tcp.connect_timeout.map_or(connect_timeout, |length| length.0))),
        keepalive: tcp.tcp_keepalive.map(|probes| wire::Keepalive {
            probes: if probes.probes == 0 { KEEPALIVE_PROBES } else { probes.probes },
            time: Some(on_wire(probes.time.map_or(KEEPALIVE_TIME, |length| length.0))),
            interval: Some(on_wire(probes.interval.map_or(KEEPALIVE_INTERVAL, |length| length.0))),
        }),
        max_connection_duration: tcp.max_connection_duration.map(|length| on_wire(length.0)),
        tcp_idle_timeout: Some(on_wire(tcp_idle.unwrap_or(IDLE_TIMEOUT))),
        max_pending_requests: limit(http.max_pending_requests),
        max_requests: limit(http.max_requests),
        max_requests_per_connection: limit(http.max_requests_per_connection),
        max_retries: limit(http.max_retries),
        http_idle_timeout: Some(on_wire(http_idle)),
        upgrade_to_http2: http.upgrade_policy.as_deref() == Some("UPGRADE"),
        use_client_protocol: http.use_client_protocol.unwrap_or_default(),
        max_concurrent_streams: limit(http.max_concurrent_streams),
        http2_keepalive_interval: interval.map(|length| on_wire(length.0)),
        http2_keepalive_timeout: interval.map(|_| {
            let timeout = pings.and_then(|pings| pings.timeout).filter(|length| !length.0.is_zero());
            on_wire(timeout.map_or(PING_TIMEOUT, |length| length.0))
        }),
    }
}

fn limit(written: i64) -> Option<u32> {
    u32::try_from(written).ok().filter(|limit| *limit > 0)
}

pub(super) fn outlier(asked: &OutlierDetection) -> wire::OutlierDetection {
    let percent = |written: i64| u32::try_from(written).ok().filter(|part| (1..=100).contains(part));
    wire::OutlierDetection {
        consecutive_5xx: asked.consecutive_5xx_errors.unwrap_or(ERRORS),
        consecutive_gateway_errors: asked.consecutive_gateway_errors.unwrap_or_default(),
        split_local_errors: asked.split_external_local_origin_errors.unwrap_or_default(),
        consecutive_local_errors: asked.consecutive_local_origin_failures.unwrap_or(ERRORS),
        interval: Some(on_wire(asked.interval.map_or(SWEEP, |length| length.0))),
        base_ejection_time: Some(on_wire(asked.base_ejection_time.map_or(EJECTION, |length| length.0))),
        max_ejection_percent: percent(asked.max_ejection_percent).unwrap_or(EJECTED_PERCENT),
        min_health_percent: percent(asked.min_health_percent).unwrap_or_default(),
        status_codes: asked.outlier_detection_http_error_codes.clone(),
    }
}

pub(super) fn proxy_protocol(asked: &ProxyProtocol) -> traffic_policy::ProxyProtocol {
    match asked.version.as_deref() {
        Some("V2") => traffic_policy::ProxyProtocol::V2,
        Some(_) | None => traffic_policy::ProxyProtocol::V1,
    }
}

pub(super) fn tunnel(asked: &Tunnel) -> wire::ConnectTunnel {
    wire::ConnectTunnel {
        post: asked.protocol.as_deref() == Some("POST"),
        host: asked.target_host.clone(),
        port: asked.target_port,
    }
}

pub(super) fn retry_budget(asked: &RetryBudget) -> wire::RetryBudget {
    wire::RetryBudget {
        percent: asked.percent.unwrap_or(BUDGET_PERCENT),
        min_concurrency: asked.min_retry_concurrency.unwrap_or(BUDGET_MIN),
    }
}
