//! `PeerAuthentication`: P1 to P4.

use super::{
    at::{At, Report},
    common,
};

pub(super) fn check(root: &At<'_>, report: &mut Report) {
    let Some(spec) = root.get("spec") else { return };
    common::selector(&spec, report);
    let Some(ports) = spec.get("portLevelMtls") else { return };
    let labels = spec.get("selector").and_then(|selector| selector.get("matchLabels"));
    if labels.is_none_or(|labels| labels.members().is_empty()) {
        let reason = "single ports can be set for selected workloads only";
        report.error(&ports.path, reason, "add selector.matchLabels, or use mtls for all ports");
    }
    if ports.members().is_empty() {
        report.error(&ports.path, "it names no port", "name a port of the pod, or remove it");
    }
    for (port, mode) in ports.members() {
        if port.parse::<u16>().is_ok_and(|port| port > 0) {
            continue;
        }
        report.error(
            &mode.path,
            format!("{port:?} is not a port"),
            "write a number from 1 to 65535, the port of the pod",
        );
    }
}
