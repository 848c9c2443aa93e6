//! `DestinationRule`: D1 to D5, D13, D15, D16 here; the larger parts of a policy in modules of their own.

mod balance;
mod hash;
mod pool;
mod tls;

pub(super) use pool::check as connection_pool;

use super::{
    at::{At, Report},
    common,
    duration::{self, Least},
    field,
    words::{self, Host},
};

/// The parts of a policy, at all ports and at one.
const PARTS: [&str; 4] = ["loadBalancer", "connectionPool", "outlierDetection", "tls"];

pub(super) fn check(root: &At<'_>, report: &mut Report) {
    let Some(spec) = root.get("spec") else {
        return report.error("spec.host", "there is no host", "name a service");
    };
    let host = spec.text("host");
    if host.is_empty() {
        report.error(spec.field("host"), "there is no host", "name a service");
    } else if words::host(host) == Host::Malformed {
        let mend = "write the name of a service, or one with *. at the front";
        report.error(spec.field("host"), format!("{host:?} is not a host name"), mend);
    }
    if let Some(policy) = spec.get("trafficPolicy") {
        traffic(&policy, report);
    }
    subsets(&spec, report);
    common::export_to(root, &spec, false, report);
    selector(root, &spec, report);
}

/// D16: a rule for some callers only is for callers of its namespace.
fn selector(root: &At<'_>, spec: &At<'_>, report: &mut Report) {
    if !spec.has("workloadSelector") {
        return;
    }
    common::selector_in(spec, "workloadSelector", report);
    let own = root.get("metadata").map(|metadata| metadata.text("namespace")).unwrap_or_default();
    let exports = spec.list("exportTo");
    let elsewhere = |export: &At<'_>| export.word() != "." && (export.word() != own || own.is_empty());
    if exports.len() > 1 || exports.iter().any(elsewhere) {
        let reason = "a rule with a workloadSelector is for callers of its own namespace";
        report.error(spec.field("exportTo"), reason, "write [\".\"], or remove it");
    }
}

/// D2, D3.
fn subsets(spec: &At<'_>, report: &mut Report) {
    let mut seen: Vec<&str> = Vec::new();
    for subset in field::entries(spec, "subsets", "subset", report) {
        let name = subset.text("name");
        if name.is_empty() {
            report.error(subset.field("name"), "the subset has no name", "name it");
        } else if !words::is_dns_label(name) {
            let reason = format!("{name:?} is not the name of a subset");
            report.error(subset.field("name"), reason, "use lower-case letters, digits and -");
        } else if seen.contains(&name) {
            report.error(subset.field("name"), format!("the subset {name:?} is there twice"), "give each its own name");
        }
        seen.push(name);
        if let Some(labels) = subset.get("labels") {
            common::pairs(&labels, report);
        }
        if !subset.has("labels") && !subset.has("trafficPolicy") {
            let reason = "without labels it is all endpoints, and without a policy nothing differs";
            report.warn(&subset.path, reason, "write labels or trafficPolicy");
        }
        if let Some(policy) = subset.get("trafficPolicy") {
            traffic(&policy, report);
        }
    }
}

/// D4, D5, D15.
fn traffic(policy: &At<'_>, report: &mut Report) {
    if policy.members().is_empty() {
        report.error(&policy.path, "the policy says nothing", "write one of its fields, or remove it");
    }
    parts(policy, report);
    field::alternatives(policy, &["tunnel", "proxyProtocol"], report);
    if let Some(tunnel) = policy.get("tunnel") {
        through(&tunnel, report);
    }
    if let Some(budget) = policy.get("retryBudget") {
        field::share(&budget, "percent", report);
        duration::check(&budget, "budgetInterval", Least::Zero, report);
    }
    let mut seen: Vec<i64> = Vec::new();
    for one in field::entries(policy, "portLevelSettings", "setting", report) {
        match one.get("port").and_then(|port| port.number("number")) {
            None => {
                report.error(one.field("port"), "it does not say of which port it is", "write port: {number: <port>}")
            }
            Some(number) if seen.contains(&number) => {
                let reason = format!("the port {number} is there twice");
                report.error(one.field("port.number"), reason, "write all settings of a port in one entry");
            }
            Some(number) => seen.push(number),
        }
        if let Some(port) = one.get("port") {
            field::port(&port, "number", report);
        }
        if !PARTS.into_iter().any(|part| one.has(part)) {
            report.error(&one.path, "the policy says nothing", "write one of its fields, or remove it");
        }
        parts(&one, report);
    }
}

fn parts(policy: &At<'_>, report: &mut Report) {
    let checks: [fn(&At<'_>, &mut Report); 4] = [balance::check, pool::check, outliers, tls::check];
    for (name, check) in PARTS.into_iter().zip(checks) {
        if let Some(part) = policy.get(name) {
            check(&part, report);
        }
    }
}

fn through(tunnel: &At<'_>, report: &mut Report) {
    let protocol = tunnel.text("protocol");
    if !matches!(protocol, "" | "CONNECT" | "POST") {
        report.error(tunnel.field("protocol"), format!("there is no protocol {protocol:?}"), "write CONNECT or POST");
    }
    let host = tunnel.text("targetHost");
    if !field::is_plain_host(host) {
        let reason = format!("{host:?} is neither an IP address nor a host name");
        report.error(tunnel.field("targetHost"), reason, "write for example db.example.com");
    }
    if tunnel.number("targetPort").is_none() {
        report.error(tunnel.field("targetPort"), "there is no port", "write the number of one");
    }
    field::port(tunnel, "targetPort", report);
}

/// D13.
fn outliers(outliers: &At<'_>, report: &mut Report) {
    for name in ["maxEjectionPercent", "minHealthPercent"] {
        field::share(outliers, name, report);
    }
    for name in ["interval", "baseEjectionTime"] {
        duration::check(outliers, name, Least::Millisecond, report);
    }
    let splits = outliers.get("splitExternalLocalOriginErrors").is_some_and(|it| it.value.as_bool() == Some(true));
    let local = "consecutiveLocalOriginFailures";
    if outliers.number(local).is_some_and(|number| number > 0) && !splits {
        let reason = "failures of our own side are not counted apart";
        report.error(outliers.field(local), reason, "add splitExternalLocalOriginErrors: true");
    }
}
