//! Routes of the Gateway API, as far as one alone can be judged.
//!
//! Absent on purpose: whether what a route names is there, and whether it may name it; the controller says so in the
//! route's status.

use super::{
    at::{At, Report},
    field,
};

pub(super) fn is_route(kind: &str) -> bool {
    matches!(kind, "HTTPRoute" | "GRPCRoute" | "TCPRoute" | "TLSRoute")
}

pub(super) fn check(root: &At<'_>, kind: &str, report: &mut Report) {
    let Some(spec) = root.get("spec") else { return };
    let own = root.get("metadata").map(|metadata| metadata.text("namespace")).unwrap_or_default();
    for parent in field::entries(&spec, "parentRefs", "parent", report) {
        let namespace = parent.text("namespace");
        if parent.text("kind") == "Service" && !namespace.is_empty() && namespace != own {
            let reason = "a waypoint takes routes of its services' own namespaces only";
            report.warn(parent.field("namespace"), reason, format!("write the route in {namespace}"));
        }
    }
    if kind == "TLSRoute" && spec.list("hostnames").is_empty() {
        let reason = "a TLS route is chosen by the name in the handshake";
        report.error(spec.field("hostnames"), reason, "write one or more");
    }
    for rule in field::entries(&spec, "rules", "rule", report) {
        let backends = field::entries(&rule, "backendRefs", "backend", report);
        let none = backends.iter().all(|one| one.number("weight") == Some(0));
        if none && !backends.is_empty() {
            let reason = "no backend has a weight, so every request is answered with an error";
            report.warn(rule.field("backendRefs"), reason, "give one of them a weight above 0");
        }
    }
}
