//! The conditions of a rule: A5, A23 to A28.

use super::{
    at::{At, Report},
    authorization::{address, port},
};

const PLAIN: [&str; 12] = [
    "source.ip",
    "remote.ip",
    "source.namespace",
    "source.serviceAccount",
    "source.principal",
    "source.trustDomain",
    "request.auth.principal",
    "request.auth.audiences",
    "request.auth.presenter",
    "destination.ip",
    "destination.port",
    "connection.sni",
];
const MAPS: [&str; 2] = ["request.headers", "request.auth.claims"];
const FILTERS: &str = "experimental.envoy.filters.";
const REMOVED: [&str; 4] = ["destination.namespace", "destination.labels", "destination.name", "destination.user"];
/// What an external decision does not get.
const IDENTITY: [&str; 4] = ["source.namespace", "source.serviceAccount", "source.trustDomain", "source.principal"];

pub(super) fn check(rule: &At<'_>, action: &str, report: &mut Report) {
    for condition in rule.list("when") {
        let key = condition.text("key");
        if key.is_empty() {
            report.error(condition.field("key"), "it is empty", "name an attribute such as source.namespace");
            continue;
        }
        attribute(&condition, key, report);
        if action == "CUSTOM" && (IDENTITY.contains(&key) || key.starts_with("request.auth.")) {
            let mend = "remove it; the provider learns who calls by itself";
            report.error(condition.field("key"), "a CUSTOM policy cannot match identities", mend);
        }
        let values: Vec<_> = ["values", "notValues"].into_iter().flat_map(|field| condition.list(field)).collect();
        if values.is_empty() {
            report.error(condition.field("values"), "there is nothing to compare with", "add values or notValues");
        }
        for value in &values {
            match key {
                _ if value.value.as_str() == Some("") => {
                    report.error(&value.path, "the value is empty", "write a value; * is any");
                }
                "source.ip" | "remote.ip" | "destination.ip" => address(value, report),
                "destination.port" => port(value, report),
                _ => {}
            }
        }
    }
}

fn attribute(condition: &At<'_>, key: &str, report: &mut Report) {
    let field = condition.field("key");
    let name = key.split('[').next().unwrap_or_default();
    if PLAIN.contains(&key) {
        return;
    }
    if REMOVED.contains(&name) {
        let mend = "remove it; the policy's namespace and selector say whom it is for";
        return report.error(field, format!("the attribute {name} does not exist any more"), mend);
    }
    if MAPS.contains(&name) || name.starts_with(FILTERS) {
        if !bracketed(&key[name.len()..]) {
            report.error(field, format!("{name} needs a key"), format!("write {name}[<key>]"));
        }
        return;
    }
    let known = "use source.ip, source.namespace, source.principal, source.serviceAccount, destination.ip, \
                 destination.port, connection.sni, remote.ip, request.headers[..] or request.auth.*";
    report.error(field, format!("there is no attribute {key:?}"), known);
}

/// One or more keys in brackets, none empty.
fn bracketed(keys: &str) -> bool {
    let Some(inner) = keys.strip_prefix('[').and_then(|keys| keys.strip_suffix(']')) else { return false };
    inner.split("][").all(|key| !key.is_empty() && !key.contains(['[', ']']))
}
