//! `RequestAuthentication`: R1 to R10.

use serde_json::Value;

use super::{
    at::{At, Report},
    common, duration,
    duration::Least,
    field, words,
};

pub(super) fn check(root: &At<'_>, report: &mut Report) {
    let Some(spec) = root.get("spec") else { return };
    common::scope(&spec, report);
    for rule in field::entries(&spec, "jwtRules", "rule", report) {
        jwt(&rule, report);
    }
}

fn jwt(rule: &At<'_>, report: &mut Report) {
    let uri = ["jwksUri", "jwks_uri"].into_iter().find(|name| rule.has(name));
    if rule.text("issuer").is_empty() && uri.is_none() {
        let mend = "name the issuer, or the jwksUri of its keys";
        report.error(rule.field("issuer"), "nothing says whose tokens are valid", mend);
    }
    if let Some(name) = uri
        && let Some(reason) = wrong_uri(rule.text(name))
    {
        let mend = "write for example https://example.com/jwks.json";
        report.error(rule.field(name), format!("{:?}: {reason}", rule.text(name)), mend);
    }
    if let Some(keys) = rule.get("jwks").filter(|keys| keys.value.is_string()) {
        key_set(&keys, report);
    }
    for (name, word) in [("audiences", "audience"), ("fromParams", "parameter"), ("fromCookies", "cookie")] {
        for value in rule.list(name).iter().filter(|value| value.word().is_empty()) {
            report.error(&value.path, format!("the {word} is empty"), "write a name, or remove it");
        }
    }
    for header in field::entries(rule, "fromHeaders", "header", report) {
        field::required(&header, "name", "the header has no name", "name it", report);
    }
    for claim in field::entries(rule, "outputClaimToHeaders", "claim", report) {
        field::required(&claim, "claim", "it names no claim", "name one", report);
        let header = claim.text("header");
        if !header.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c)) || header.is_empty() {
            let reason = format!("{header:?} is not the name of a header");
            report.error(claim.field("header"), reason, "use letters, digits, - and _");
        }
    }
    duration::check(rule, "timeout", Least::Millisecond, report);
}

fn wrong_uri(uri: &str) -> Option<&'static str> {
    let Some(rest) = uri.strip_prefix("https://").or_else(|| uri.strip_prefix("http://")) else {
        return Some("it begins neither with http:// nor with https://");
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let (host, port) = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, port)) => (host, port.strip_prefix(':')),
        None => authority.split_once(':').map_or((authority, None), |(host, port)| (host, Some(port))),
    };
    if !field::is_plain_host(host) {
        return Some("its host is none");
    }
    let fine = |port: &str| words::is_port(port) && port != "0";
    port.is_some_and(|port| !fine(port)).then_some("its port is none")
}

/// Keys, or a single one.
fn key_set(at: &At<'_>, report: &mut Report) {
    let read: Option<Value> = serde_json::from_str(at.word()).ok();
    let keys = match read.as_ref().and_then(|set| set.get("keys")) {
        Some(keys) => keys.as_array().cloned(),
        None => read.filter(|one| one.get("kty").is_some()).map(|one| vec![one]),
    };
    let Some(keys) = keys.filter(|keys| keys.iter().all(|key| key.get("kty").is_some_and(Value::is_string))) else {
        let reason = "it is not a JSON Web Key Set";
        return report.error(&at.path, reason, "write {\"keys\": [...]} with a kty in each key");
    };
    // `d` is the private part of RSA and of curves, `k` a secret both sides have.
    if keys.iter().any(|key| key.get("d").is_some() || key.get("k").is_some()) {
        let reason = "it holds a private key, which everybody who may read the policy can sign tokens with";
        report.warn(&at.path, reason, "remove its private parts, and do not use it any more");
    }
}
