//! Whether an object says something that can work.
//!
//! In: an object as JSON. Out: findings, each with the field, the reason and the mend, in the words the webhook and the
//! command line both print. Pure. Absent on purpose: what needs other objects to judge (the controller's conditions).

mod at;
mod authorization;
mod cel;
mod common;
mod destination_rule;
pub(crate) mod duration;
mod endpoint;
mod extension;
mod field;
mod gateway;
mod gateway_routes;
mod labels;
mod peer;
mod request_authentication;
mod server_tls;
mod service_entry;
mod shape;
mod sidecar;
mod telemetry;
#[cfg(test)]
mod tests;
mod virtual_service;
mod waypoint;
mod when;
mod words;
mod workload_group;

use std::fmt;

use serde_json::Value;

use self::at::{At, Report};
use crate::{
    crds,
    fields::{self, Standing, Unused},
};

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// It is refused.
    Error,
    /// It is taken, but does not do what it seems to say.
    Warning,
}

impl Level {
    /// One word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub level: Level,
    /// Where, as `spec.rules[0].from`.
    pub field: String,
    /// What is wrong there.
    pub reason: String,
    /// What would be right.
    pub mend: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; {}", self.field, self.reason, self.mend)
    }
}

/// Everything wrong with `object`, errors first. Kinds that are not the mesh's are looked at for its labels only.
pub fn review(object: &Value) -> Vec<Finding> {
    let root = At::root(object);
    let version = root.text("apiVersion");
    let (group, _) = version.split_once('/').unwrap_or(("", version));
    let kind = root.text("kind");
    let mut report = Report::default();
    if let Some(schema) = crds::schema_of(group, kind) {
        shape::check(schema, &root, &mut report);
        common::annotations(&root, kind, &mut report);
    }
    by_kind(&root, (group, kind), &mut report);
    labels::check(&root, (group, kind), &mut report);
    without_effect(kind, object, &mut report);
    if crds::is_later(group, kind) {
        report.warn("kind", format!("nothing acts on {kind} yet"), "it is kept, and has no effect in this release");
    }
    report.into_findings()
}

/// Warns of fields that do nothing, where nothing worse was said of them.
fn without_effect(kind: &str, object: &Value, report: &mut Report) {
    for Unused { path, standing } in fields::unused(kind, object) {
        match standing {
            Standing::Supported => {}
            _ if report.is_about(&path) => {}
            Standing::Ignored(why) => report.warn(path, "it does nothing", why),
            Standing::Refused(instead) => report.warn(path, "it is not supported", instead),
        }
    }
}

fn by_kind(root: &At<'_>, (group, kind): (&str, &str), report: &mut Report) {
    match (group, kind) {
        ("security.istio.io", "AuthorizationPolicy") => authorization::check(root, report),
        ("security.istio.io", "PeerAuthentication") => peer::check(root, report),
        ("security.istio.io", "RequestAuthentication") => request_authentication::check(root, report),
        ("networking.istio.io", "ServiceEntry") => service_entry::check(root, report),
        ("networking.istio.io", "WorkloadEntry") => {
            if let Some(spec) = root.get("spec") {
                endpoint::check(&spec, endpoint::Of::Entry, report);
            }
        }
        ("networking.istio.io", "WorkloadGroup") => workload_group::check(root, report),
        ("networking.istio.io", "VirtualService") => virtual_service::check(root, report),
        ("networking.istio.io", "DestinationRule") => destination_rule::check(root, report),
        ("networking.istio.io", "Gateway") => gateway::check(root, report),
        ("networking.istio.io", "Sidecar") => sidecar::check(root, report),
        ("networking.istio.io", "ProxyConfig") => extension::proxy_config(root, report),
        ("networking.istio.io", "EnvoyFilter") => extension::envoy_filter(root, report),
        ("telemetry.istio.io", "Telemetry") => telemetry::check(root, report),
        ("extensions.istio.io", "WasmPlugin") => extension::wasm_plugin(root, report),
        ("extensions.istio.io", "TrafficExtension") => extension::traffic_extension(root, report),
        ("gateway.networking.k8s.io", "Gateway") => waypoint::check(root, report),
        ("gateway.networking.k8s.io", kind) if gateway_routes::is_route(kind) => {
            gateway_routes::check(root, kind, report);
        }
        _ => {}
    }
}
