//! `Sidecar`: X0 to X4. There are none in this mesh, but users bring along what was written for others.

use super::{
    at::{At, Report},
    common, destination_rule, field,
    words::{self, Host},
};

/// Where a default endpoint may be.
const OWN: [&str; 4] = ["127.0.0.1", "0.0.0.0", "[::1]", "[::]"];
const DYNAMIC: &str = "ALLOW_ANY_DYNAMIC_DNS";

pub(super) fn check(root: &At<'_>, report: &mut Report) {
    let parts = ["ingress", "egress", "inboundConnectionPool", "outboundTrafficPolicy"];
    let spec = root.get("spec").filter(|spec| parts.into_iter().any(|part| spec.has(part)));
    let Some(spec) = spec else {
        return report.error("spec", "it says nothing", format!("write {}", parts.join(", ")));
    };
    if let Some(labels) = spec.get("workloadSelector").and_then(|selector| selector.get("labels")) {
        common::pairs(&labels, report);
    }
    ingress(&spec, report);
    egress(&spec, report);
    if let Some(pool) = spec.get("inboundConnectionPool") {
        destination_rule::connection_pool(&pool, report);
    }
    let Some(outbound) = spec.get("outboundTrafficPolicy") else { return };
    if outbound.has("egressProxy") && outbound.text("mode") == "REGISTRY_ONLY" {
        let reason = "with REGISTRY_ONLY nothing unknown leaves, so there is nothing to send there";
        report.error(outbound.field("egressProxy"), reason, "remove it, or use mode: ALLOW_ANY");
    }
    if outbound.text("mode") == DYNAMIC && spec.has("workloadSelector") {
        let reason = format!("{DYNAMIC} is for the whole mesh");
        report.error(outbound.field("mode"), reason, "write it in the root namespace, without workloadSelector");
    }
}

/// X1, X2.
fn ingress(spec: &At<'_>, report: &mut Report) {
    let mut seen: Vec<i64> = Vec::new();
    for one in field::entries(spec, "ingress", "listener", report) {
        let Some(port) = one.get("port") else {
            report.error(one.field("port"), "there is no port", "write number, protocol and name");
            continue;
        };
        let number = port.number("number").unwrap_or_default();
        if seen.contains(&number) {
            report.error(port.field("number"), format!("the port {number} is there twice"), "remove one");
        } else if !(1..=65535).contains(&number) {
            report.error(port.field("number"), format!("{number} is not a port"), "write a number from 1 to 65535");
        }
        seen.push(number);
        if port.number("targetPort").is_some_and(|number| number != 0) {
            report.error(port.field("targetPort"), "listeners have no target port", "remove it; use defaultEndpoint");
        }
        if let Some(endpoint) = one.get("defaultEndpoint").filter(|endpoint| !is_own(endpoint.word())) {
            let reason = format!("{:?} is no place in the pod", endpoint.word());
            report.error(&endpoint.path, reason, "write for example 127.0.0.1:8080 or unix:///run/socket");
        }
        if let Some(pool) = one.get("connectionPool") {
            destination_rule::connection_pool(&pool, report);
        }
        if let Some(tls) = one.get("tls") {
            server(&port, &tls, report);
        }
    }
}

fn is_own(endpoint: &str) -> bool {
    if let Some(path) = endpoint.strip_prefix("unix:") {
        return path.trim_start_matches("//").starts_with(['/', '@']);
    }
    let place = endpoint.rsplit_once(':');
    place.is_some_and(|(host, port)| {
        (OWN.contains(&host) || host.is_empty()) && port != "0" && words::is_port(port) && !port.is_empty()
    })
}

fn server(port: &At<'_>, tls: &At<'_>, report: &mut Report) {
    let protocol = port.text("protocol").to_ascii_uppercase();
    if !matches!(protocol.as_str(), "HTTPS" | "TLS") {
        report.error(
            &tls.path,
            format!("{protocol} is spoken without TLS"),
            "remove it, or use protocol: HTTPS or TLS",
        );
    }
    let mode = tls.text("mode");
    if !matches!(mode, "SIMPLE" | "MUTUAL") {
        report.error(tls.field("mode"), format!("a sidecar cannot do {mode:?}"), "write SIMPLE or MUTUAL");
    }
    let foreign = ["subjectAltNames", "httpsRedirect", "credentialName", "credentialNames", "tlsCertificates"];
    for part in foreign.into_iter().filter(|part| tls.has(part)) {
        report.error(tls.field(part), format!("a sidecar has no {part}"), "remove it; certificates are files");
    }
}

/// X3.
fn egress(spec: &At<'_>, report: &mut Report) {
    let listeners = field::entries(spec, "egress", "listener", report);
    let mut seen: Vec<(i64, &str)> = Vec::new();
    for (at, one) in listeners.iter().enumerate() {
        let bind = one.text("bind");
        let is_unix = bind.starts_with("unix:");
        match one.get("port") {
            None if at + 1 < listeners.len() => {
                let reason = "a listener without a port is for all that is left";
                report.error(&one.path, reason, "write it once, as the last one");
            }
            None => {}
            Some(port) => {
                let number = port.number("number").unwrap_or_default();
                if seen.contains(&(number, bind)) {
                    let reason = format!("the port {number} is there twice");
                    report.error(port.field("number"), reason, "remove one, or bind it elsewhere");
                } else if number == 0 && !is_unix || !(0..=65535).contains(&number) {
                    let mend = "write a number from 1 to 65535";
                    report.error(port.field("number"), format!("{number} is not a port"), mend);
                }
                seen.push((number, bind));
            }
        }
        if is_unix && one.text("captureMode") == "IPTABLES" {
            let reason = "nothing that is captured comes to a unix socket";
            report.error(one.field("captureMode"), reason, "write NONE, or remove bind");
        }
        reach(one, report);
    }
}

fn reach(one: &At<'_>, report: &mut Report) {
    let hosts = one.list("hosts");
    if hosts.is_empty() {
        report.error(one.field("hosts"), "there is no host", "write for example ./* or */*");
    }
    let mut seen: Vec<&str> = Vec::new();
    for host in &hosts {
        let text = host.word();
        let (namespace, name) = text.split_once('/').unwrap_or_default();
        let fine = matches!(namespace, "*" | "." | "~") || words::is_dns_label(namespace);
        if !fine || words::host(name) == Host::Malformed {
            let reason = format!("{text:?} is not <namespace>/<host>");
            report.error(&host.path, reason, "write for example ./*, */* or shop/web.shop.svc.cluster.local");
        } else if seen.contains(&text) {
            report.warn(&host.path, format!("{text:?} is there twice"), "remove one");
        } else if text == "*/*" && hosts.len() > 1 {
            report.warn(&host.path, "it is all hosts, so the others say nothing", "keep it alone, or remove it");
        }
        seen.push(text);
    }
}
