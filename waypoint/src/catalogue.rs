//! Every metric of this program, in one table: what a scrape may show.
//!
//! In: nothing. Out: names, kinds, units, words. Absent on purpose: the traffic families (see `report::catalogue`).

use lateen_telemetry::metrics::{Description, Kind};

/// CONNECTs and connections refused at a door, by reason.
pub const REFUSED: &str = "lateen_waypoint_refused";
/// Ports a gateway listens on.
pub const PORTS: &str = "lateen_gateway_ports";
/// Ports a gateway is told to listen on and cannot.
pub const PORTS_FAILED: &str = "lateen_gateway_ports_failed";
/// Requests and connections under way; collected at a scrape (see `upkeep::active`).
pub const ACTIVE: &str = "lateen_waypoint_requests_active";

const fn counter(name: &'static str, help: &'static str) -> Description {
    Description { name, kind: Kind::Counter, unit: None, help, buckets: &[] }
}

const fn gauge(name: &'static str, help: &'static str) -> Description {
    Description { name, kind: Kind::Gauge, unit: None, help, buckets: &[] }
}

/// The table.
pub const TABLE: &[Description] = &[
    gauge("istio_build", "Istio component build info"),
    counter(REFUSED, "Tunnels and connections refused at a door, by reason"),
    gauge(PORTS, "Ports of a gateway that are listened on"),
    gauge(PORTS_FAILED, "Ports of a gateway that cannot be listened on; the log says why"),
    counter("istio_xds_connection_terminations", "The total number of completed connections to xds server (unstable)"),
    counter("istio_xds_message", "Total number of messages received (unstable)"),
    counter("istio_xds_message_bytes", "Total number of bytes received (unstable)"),
    counter("istio_xds_rejected", "Total number of resources that were rejected (unstable)"),
    gauge("istio_xds_unusable", "Workloads and services that cannot be read, whose addresses are refused (unstable)"),
];
