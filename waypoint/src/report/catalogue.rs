//! The traffic families: what a scrape may show of requests and connections.

use lateen_telemetry::metrics::{Description, Kind};
use metrics::Unit;

use super::writer;

pub(super) const REQUESTS: &str = "istio_requests";
pub(super) const DURATION: &str = "istio_request_duration_milliseconds";
pub(super) const REQUEST_BYTES: &str = "istio_request_bytes";
pub(super) const RESPONSE_BYTES: &str = "istio_response_bytes";
pub(super) const OPENED: &str = "istio_tcp_connections_opened";
pub(super) const CLOSED: &str = "istio_tcp_connections_closed";
pub(super) const RECEIVED: &str = "istio_tcp_received_bytes";
pub(super) const SENT: &str = "istio_tcp_sent_bytes";
/// Requests that policies refused, by reason and policy.
pub(super) const DENIED: &str = "lateen_requests_denied";
/// What dry-run policies would have done.
pub(super) const DRY_RUN: &str = "istio_authz_dry_run";

/// The reference's, of milliseconds and of bytes alike.
const BUCKETS: &[f64] = &[
    0.5,
    1.0,
    5.0,
    10.0,
    25.0,
    50.0,
    100.0,
    250.0,
    500.0,
    1000.0,
    2500.0,
    5000.0,
    10_000.0,
    30_000.0,
    60_000.0,
    300_000.0,
    600_000.0,
    1_800_000.0,
    3_600_000.0,
];

const fn counter(name: &'static str, help: &'static str) -> Description {
    Description { name, kind: Kind::Counter, unit: None, help, buckets: &[] }
}

const fn bytes(name: &'static str, help: &'static str) -> Description {
    Description { name, kind: Kind::Counter, unit: Some(Unit::Bytes), help, buckets: &[] }
}

const fn histogram(name: &'static str, unit: Unit, help: &'static str) -> Description {
    Description { name, kind: Kind::Histogram, unit: Some(unit), help, buckets: BUCKETS }
}

/// The table.
pub const TABLE: &[Description] = &[
    counter(REQUESTS, "Requests, by who asked whom and how it ended"),
    histogram(DURATION, Unit::Milliseconds, "From a request's first byte to its answer's last"),
    histogram(REQUEST_BYTES, Unit::Bytes, "Size of requests' bodies"),
    histogram(RESPONSE_BYTES, Unit::Bytes, "Size of answers' bodies"),
    counter(OPENED, "The total number of TCP connections opened"),
    counter(CLOSED, "The total number of TCP connections closed"),
    bytes(RECEIVED, "The size of total bytes received during request in case of a TCP connection"),
    bytes(SENT, "The size of total bytes sent during response in case of a TCP connection"),
    counter(DENIED, "Requests and connections that policies refused, by reason and policy"),
    counter(DRY_RUN, "What dry-run policies would have done, by action, result and policy"),
    counter(writer::DROPPED, "Access records that were not written because the log is read too slowly"),
];
