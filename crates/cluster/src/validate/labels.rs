//! The mesh's labels and annotations on any object.
//!
//! On the mesh's own kinds and on gateways a wrong one is an error. Elsewhere it is a warning: the object is of use
//! without the mesh.

use super::{
    Level,
    at::{At, Report},
    words,
};
use crate::labels;

pub(super) fn check(root: &At<'_>, (group, kind): (&str, &str), report: &mut Report) {
    let Some(metadata) = root.get("metadata") else { return };
    let level =
        if group.ends_with("istio.io") || group == "gateway.networking.k8s.io" { Level::Error } else { Level::Warning };
    let mut say = |field: &str, reason: String, mend: &str| match level {
        Level::Error => report.error(field, reason, mend),
        Level::Warning => report.warn(field, reason, mend),
    };
    for (key, value) in metadata.get("labels").map(|labels| labels.members()).unwrap_or_default() {
        let text = value.word();
        let no = || format!("there is no {text:?}");
        match key {
            labels::DATAPLANE_MODE if !matches!(text, "ambient" | "none") => {
                say(&value.path, format!("{}, so nothing is captured", no()), "write ambient or none");
            }
            labels::WAYPOINT_FOR if !matches!(text, "service" | "workload" | "all" | "none") => {
                say(&value.path, no(), "write service, workload, all or none");
            }
            labels::USE_WAYPOINT if text.is_empty() => {
                say(&value.path, "it names no waypoint, so traffic is refused".to_owned(), "name one, or write none");
            }
            labels::INGRESS_USE_WAYPOINT if !words::is_bool(text) => {
                say(&value.path, format!("{text:?} is neither true nor false"), "write \"true\" or \"false\"");
            }
            _ => {}
        }
    }
    for (key, value) in metadata.get("annotations").map(|all| all.members()).unwrap_or_default() {
        let text = value.word();
        match key {
            labels::USE_WAYPOINT_CANARY_WEIGHT if text.parse::<u8>().is_ok_and(|weight| weight <= 100) => {}
            labels::USE_WAYPOINT_CANARY_WEIGHT => {
                say(&value.path, format!("{text:?} is not a share"), "write a whole number from 0 to 100");
            }
            labels::WAYPOINT_MISSING if text != labels::BYPASS => {
                say(&value.path, format!("there is no {text:?}, so traffic is refused"), "write bypass, or remove it");
            }
            labels::CLIENT_IDENTITY if !matches!(kind, "Namespace" | "Pod" | "WorkloadEntry") => {
                say(
                    &value.path,
                    format!("on a {kind} it is not read, so no client behind a waypoint is seen"),
                    "set it on the namespace, or on the pods (in the workload's template)",
                );
            }
            labels::CLIENT_IDENTITY
                if !matches!(text, labels::CLIENT_IDENTITY_BELIEVED | labels::CLIENT_IDENTITY_NONE) =>
            {
                say(
                    &value.path,
                    format!("there is no {text:?}, so no client behind a waypoint is seen"),
                    "write believe-waypoint or none",
                );
            }
            labels::EXPORT_TO if kind == "Service" && text != "*" => {
                say(
                    &value.path,
                    "at layer 4 it hides nothing".to_owned(),
                    "use an AuthorizationPolicy to keep callers away",
                );
            }
            labels::BYPASS_INBOUND_CAPTURE | labels::DNS_CAPTURE if kind == "Pod" && !words::is_bool(text) => {
                say(&value.path, format!("{text:?} is neither true nor false"), "write \"true\" or \"false\"");
            }
            _ => {}
        }
    }
}
