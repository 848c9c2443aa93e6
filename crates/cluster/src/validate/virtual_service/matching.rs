//! What requests a route is for: V18 to V21.

use super::{Service, gateways};
use crate::validate::{
    at::{At, Report},
    common, field, words,
};

/// A name of this kind speaks of a token's claims.
const CLAIM: &str = "@request.auth.claims";

pub(super) fn http(at: &At<'_>, service: &Service<'_>, report: &mut Report) {
    for name in ["uri", "scheme", "method", "authority"] {
        if let Some(text) = at.get(name) {
            field::text_match(&text, false, report);
        }
    }
    for name in ["headers", "withoutHeaders", "queryParams"] {
        let Some(map) = at.get(name) else { continue };
        for (key, value) in map.all_members() {
            if key.is_empty() {
                report.error(&map.path, "one of its names is empty", "name it");
            } else if name != "queryParams" && !key.starts_with(CLAIM) && !is_name(key) {
                let reason = format!("{key:?} is not the name of a header");
                report.error(&value.path, reason, "use letters, digits and -");
            }
            if value.value.is_null() {
                report.error(&value.path, "it is null", "write {} for any value, or exact, prefix or regex");
                continue;
            }
            field::text_match(&value, true, report);
            if key.starts_with(CLAIM) && service.is_of_mesh(at) {
                let mend = "name gateways other than mesh, or use an AuthorizationPolicy";
                report.error(&value.path, "claims of tokens choose routes at gateways only", mend);
            }
        }
    }
    field::port(at, "port", report);
    source(at, report);
}

/// A header, or one of the request's own values as HTTP/2 names it.
fn is_name(key: &str) -> bool {
    field::is_header_name(key.strip_prefix(':').unwrap_or(key))
}

/// V20, and what a layer 4 match has of it.
pub(super) fn source(at: &At<'_>, report: &mut Report) {
    gateways(at, report);
    let namespace = at.text("sourceNamespace");
    if !namespace.is_empty() && !words::is_dns_label(namespace) {
        let reason = format!("{namespace:?} is not a namespace");
        report.error(at.field("sourceNamespace"), reason, "write the name of one");
    }
    if let Some(labels) = at.get("sourceLabels") {
        common::pairs(&labels, report);
    }
}
