//! Gateways of the Gateway API that are waypoints.

use super::at::{At, Report};

const CLASS: &str = "istio-waypoint";
const HBONE: &str = "HBONE";
const PORT: i64 = 15008;

pub(super) fn check(root: &At<'_>, report: &mut Report) {
    let Some(spec) = root.get("spec").filter(|spec| spec.text("gatewayClassName") == CLASS) else { return };
    if root.get("metadata").is_some_and(|metadata| metadata.text("name") == "none") {
        let reason = "in istio.io/use-waypoint the word none means no waypoint";
        report.error("metadata.name", reason, "choose another name");
    }
    let mut seen: Vec<(i64, &str)> = Vec::new();
    for listener in spec.list("listeners") {
        let (port, protocol) = (listener.number("port").unwrap_or_default(), listener.text("protocol"));
        if protocol == HBONE && port != PORT {
            let reason = format!("ztunnels reach a waypoint on port {PORT}");
            report.warn(listener.field("port"), reason, format!("write {PORT}"));
        }
        if seen.contains(&(port, listener.text("hostname"))) {
            let reason = format!("another listener has port {port} and the same host name");
            report.error(listener.field("port"), reason, "remove one of them");
        }
        seen.push((port, listener.text("hostname")));
    }
}
