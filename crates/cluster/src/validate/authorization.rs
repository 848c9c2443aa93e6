//! `AuthorizationPolicy`: A1 to A22, A29. (`when` has a module of its own.)

use super::{
    at::{At, Report},
    common, when, words,
};

/// Fields of a source that need the caller's identity or token, which an external decision does not get.
const IDENTITY: [&str; 10] = [
    "principals",
    "notPrincipals",
    "requestPrincipals",
    "notRequestPrincipals",
    "namespaces",
    "notNamespaces",
    "serviceAccounts",
    "notServiceAccounts",
    "trustDomains",
    "notTrustDomains",
];
const ADDRESSES: [&str; 4] = ["ipBlocks", "notIpBlocks", "remoteIpBlocks", "notRemoteIpBlocks"];
const HTTP: [&str; 6] = ["hosts", "notHosts", "methods", "notMethods", "paths", "notPaths"];
const ACCOUNTS_MAX: usize = 16;
const ACCOUNT_LENGTH_MAX: usize = 320;

pub(super) fn check(root: &At<'_>, report: &mut Report) {
    let Some(spec) = root.get("spec") else { return };
    common::scope(&spec, report);
    let action = spec.text("action");
    provider(&spec, action, report);
    let rules = spec.list("rules");
    if rules.is_empty() && action == "CUSTOM" {
        report.error(
            spec.field("rules"),
            "a CUSTOM policy without rules asks nobody",
            "add a rule; {} is every request",
        );
    }
    if rules.is_empty() && action == "DENY" {
        report.error(
            spec.field("rules"),
            "a DENY policy without rules refuses nothing",
            "add a rule; {} is everything",
        );
    }
    for one in &rules {
        rule(one, action, report);
    }
}

fn provider(spec: &At<'_>, action: &str, report: &mut Report) {
    let given = spec.get("provider");
    if action == "CUSTOM" {
        if given.is_none_or(|provider| provider.text("name").is_empty()) {
            let mend = "name one of the mesh config's extensionProviders";
            report.error(spec.field("provider.name"), "a CUSTOM policy does not say who decides", mend);
        }
    } else if given.is_some() {
        let mend = "remove it, or set action: CUSTOM";
        report.error(spec.field("provider"), "only a CUSTOM policy has a provider", mend);
    }
}

fn rule(rule: &At<'_>, action: &str, report: &mut Report) {
    if rule.value.is_null() {
        return report.error(&rule.path, "the rule is null", "write {} to match everything, or remove it");
    }
    for (field, inner) in [("from", "source"), ("to", "operation")] {
        let Some(list) = rule.get(field) else { continue };
        if list.items().is_empty() {
            report.error(&list.path, "the list is empty", "add an entry, or remove the field to match everything");
        }
        for entry in list.items() {
            let Some(inside) = entry.get(inner) else {
                report.error(&entry.path, format!("it has no {inner}"), format!("add {inner}, or remove the entry"));
                continue;
            };
            if inside.members().is_empty() {
                report.error(&inside.path, "no field of it is set", "set one, or remove the entry");
            }
            values(&inside, report);
            match inner {
                "source" => source(&inside, action, report),
                _ => operation(&inside, report),
            }
        }
    }
    when::check(rule, action, report);
    tcp(rule, action, report);
}

/// A12.
fn values(inside: &At<'_>, report: &mut Report) {
    for (key, list) in inside.members() {
        let list = At { value: list.value, path: inside.field(key) };
        for value in list.items().iter().filter(|value| value.value.as_str() == Some("")) {
            report.error(&value.path, "the value is empty", "write a value; * is any");
        }
    }
}

fn source(source: &At<'_>, action: &str, report: &mut Report) {
    if action == "CUSTOM" {
        for field in IDENTITY.into_iter().filter(|field| source.has(field)) {
            let mend = "remove it; the provider learns who calls by itself";
            report.error(source.field(field), "a CUSTOM policy cannot match identities", mend);
        }
    }
    for (accounts, others) in
        [("serviceAccounts", ["namespaces", "principals"]), ("notServiceAccounts", ["notNamespaces", "notPrincipals"])]
    {
        for other in others.into_iter().filter(|other| source.has(accounts) && source.has(other)) {
            let reason = format!("{accounts} and {other} cannot stand together");
            report.error(source.field(accounts), reason, "write <namespace>/<account>, and remove the other");
        }
        service_accounts(source, accounts, report);
    }
    for value in ["trustDomains", "notTrustDomains"].into_iter().flat_map(|field| source.list(field)) {
        trust_domain(&value, report);
    }
    for value in ADDRESSES.into_iter().flat_map(|field| source.list(field)) {
        address(&value, report);
    }
}

fn service_accounts(source: &At<'_>, field: &str, report: &mut Report) {
    let accounts = source.list(field);
    if accounts.len() > ACCOUNTS_MAX {
        let reason = format!("there are {} accounts, more than {ACCOUNTS_MAX}", accounts.len());
        report.error(source.field(field), reason, "spread them over several sources");
    }
    for account in &accounts {
        let text = account.word();
        if text.len() > ACCOUNT_LENGTH_MAX {
            let reason = format!("it is longer than {ACCOUNT_LENGTH_MAX} characters");
            report.error(&account.path, reason, "write <account> or <namespace>/<account>");
        } else if text.contains('*') {
            let mend = "write accounts out, or use namespaces or principals";
            report.error(&account.path, "accounts are compared as they are written, without wildcards", mend);
        } else if text.matches('/').count() > 1 || text.starts_with('/') || text.ends_with('/') {
            let reason = format!("{text:?} is not an account");
            report.error(&account.path, reason, "write <account> or <namespace>/<account>");
        }
    }
}

fn trust_domain(value: &At<'_>, report: &mut Report) {
    let text = value.word();
    let inner = text.strip_prefix('*').or_else(|| text.strip_suffix('*')).unwrap_or(text);
    if inner.contains('*') {
        report.error(&value.path, "* may stand once, at the front or the end", "write for example *.example.com");
    } else if text.contains('/') {
        let mend = "write the domain only, or use principals";
        report.error(&value.path, format!("{text:?} is not a trust domain"), mend);
    }
}

/// A18, A28.
pub(super) fn address(value: &At<'_>, report: &mut Report) {
    let text = value.word();
    if value.value.is_string() && !text.is_empty() && !words::is_ip(text) && !words::is_cidr(text) {
        let mend = "write for example 10.0.0.1, 10.0.0.0/8 or 2001:db8::/32";
        report.error(&value.path, format!("{text:?} is not an address or CIDR"), mend);
    }
}

/// A19, A28.
pub(super) fn port(value: &At<'_>, report: &mut Report) {
    let text = value.word();
    if value.value.is_string() && !text.is_empty() && !words::is_port(text) {
        report.error(&value.path, format!("{text:?} is not a port"), "write a number from 0 to 65535, in quotes");
    }
}

fn operation(operation: &At<'_>, report: &mut Report) {
    for value in ["ports", "notPorts"].into_iter().flat_map(|field| operation.list(field)) {
        port(&value, report);
    }
    for value in ["paths", "notPaths"].into_iter().flat_map(|field| operation.list(field)) {
        if let Some((reason, mend)) = template(value.word()) {
            report.error(&value.path, format!("{:?}: {reason}", value.word()), mend);
        }
    }
}

/// What is wrong with a path that is a template: A20 to A22.
fn template(path: &str) -> Option<(&'static str, &'static str)> {
    if !path.contains(['{', '}']) {
        return None;
    }
    let whole = "use {*} for one segment and {**} for the rest, each between slashes";
    let literal = |c: char| c.is_ascii_alphanumeric() || "-._~%!$&'()+,;:@=".contains(c);
    let mut rest_seen = false;
    for segment in path.split('/') {
        match segment {
            "{*}" | "{**}" if rest_seen => {
                return Some(("{**} must be the last of its templates", "move {**} to the end"));
            }
            "{**}" => rest_seen = true,
            "{*}" => {}
            _ if segment.matches('{').count() != segment.matches('}').count() => {
                return Some(("its braces are not balanced", whole));
            }
            _ if segment.contains('{') => return Some(("there is no such template", whole)),
            _ if segment.contains('*') => return Some(("* cannot stand beside a template", "write {*} or {**}")),
            _ if !segment.chars().all(literal) => {
                return Some(("it holds a character that no path has", "encode it with %"));
            }
            _ => {}
        }
    }
    None
}

/// A29.
fn tcp(rule: &At<'_>, action: &str, report: &mut Report) {
    if action != "DENY" {
        return;
    }
    let operations: Vec<_> = rule.list("to").iter().filter_map(|to| to.get("operation")).collect();
    let http_only = |operation: &At<'_>| {
        HTTP.iter().any(|field| operation.has(field)) && !operation.has("ports") && !operation.has("notPorts")
    };
    if !rule.has("from") && !operations.is_empty() && operations.iter().all(http_only) {
        let reason = "it refuses by HTTP only, which on a TCP port refuses all connections";
        report.warn(rule.field("to"), reason, "add the HTTP ports to each operation");
    }
}
