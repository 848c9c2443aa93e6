//! Every metric of this program, in one table: what a scrape may show.
//!
//! Labels: the traffic families carry those of `report::labels` (the product of workload pairs that talk to each
//! other); the others at most a closed set. `connection_security_policy` is `mutual_tls` for a tunnel, `same_node` between two
//! pods of this process (no TLS: nobody is between them, and both are known from the node's own state), else `unknown`.

use lateen_telemetry::metrics::{Description, Kind};
use metrics::Unit;

const fn counter(name: &'static str, help: &'static str) -> Description {
    Description { name, kind: Kind::Counter, unit: None, help, buckets: &[] }
}

const fn gauge(name: &'static str, help: &'static str) -> Description {
    Description { name, kind: Kind::Gauge, unit: None, help, buckets: &[] }
}

const fn bytes(name: &'static str, help: &'static str) -> Description {
    Description { name, kind: Kind::Counter, unit: Some(Unit::Bytes), help, buckets: &[] }
}

/// The table.
pub const TABLE: &[Description] = &[
    gauge("istio_build", "Istio component build info"),
    counter("istio_tcp_connections_opened", "The total number of TCP connections opened"),
    counter("istio_tcp_connections_closed", "The total number of TCP connections closed"),
    bytes("istio_tcp_received_bytes", "The size of total bytes received during request in case of a TCP connection"),
    bytes("istio_tcp_sent_bytes", "The size of total bytes sent during response in case of a TCP connection"),
    counter("istio_tcp_connections_failed", "The total number of TCP connections that failed (unstable)"),
    counter(
        "istio_outbound_refused",
        "Connections refused because there is no right way to their destination (unstable)",
    ),
    gauge("istio_tcp_sockets_open", "The current number of open TCP sockets (unstable)"),
    counter("istio_on_demand_dns", "The total number of names resolved for a connection (unstable)"),
    counter("istio_dns_requests", "Total number of DNS requests (unstable)"),
    counter("istio_dns_upstream_requests", "Total number of DNS requests forwarded to upstream (unstable)"),
    counter("istio_dns_upstream_failures", "Total number of DNS upstream failures (unstable)"),
    Description {
        name: "istio_dns_upstream_request_duration_seconds",
        kind: Kind::Histogram,
        unit: Some(Unit::Seconds),
        help: "Total time in seconds Istio takes to get DNS response from upstream (unstable)",
        buckets: &[0.0005, 0.001, 0.01, 0.1, 1.0, 5.0],
    },
    counter("istio_xds_connection_terminations", "The total number of completed connections to xds server (unstable)"),
    counter("istio_xds_message", "Total number of messages received (unstable)"),
    bytes("istio_xds_message_bytes", "Total number of bytes received (unstable)"),
    counter("istio_xds_rejected", "Resources of the control plane that cannot be used (unstable)"),
    gauge("istio_xds_unusable", "Workloads and services now refused because they cannot be read (unstable)"),
    gauge("workload_manager_active_proxy_count", "The total number current workloads with active proxies (unstable)"),
    gauge("workload_manager_pending_proxy_count", "The total number current workloads with pending proxies (unstable)"),
    counter("workload_manager_proxies_started", "The total number of proxies that were started (unstable)"),
    counter("workload_manager_proxies_stopped", "The total number of proxies that were stopped (unstable)"),
    counter("workload_manager_protocol_errors", "Packets of the node agent that broke the protocol (unstable)"),
];
