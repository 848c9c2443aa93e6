//! Routes of TLS that is not terminated, and of TCP: V31 to V33.

use super::{Service, matching, route};
use crate::validate::{
    at::{At, Report},
    field,
    words::{self, Host},
};

pub(super) fn tls(one: &At<'_>, service: &Service<'_>, report: &mut Report) {
    let matches = field::entries(one, "match", "match", report);
    if one.list("match").is_empty() {
        report.error(
            one.field("match"),
            "a TLS route is chosen by the name in the handshake",
            "write match and sniHosts",
        );
    }
    let hosts = service.spec.list("hosts");
    for at in &matches {
        if at.list("sniHosts").is_empty() {
            report.error(at.field("sniHosts"), "there is no name", "write one of spec.hosts");
        }
        for name in at.list("sniHosts") {
            sni(&name, &hosts, report);
        }
        layer4(at, report);
    }
    targets(one, report);
}

fn sni(name: &At<'_>, hosts: &[At<'_>], report: &mut Report) {
    let text = name.word();
    if words::is_ip(text) {
        let reason = "no handshake names an address";
        return report.warn(&name.path, reason, "write a host name, or use a tcp route with destinationSubnets");
    }
    if words::host(text) == Host::Malformed {
        let mend = "write a host name, or one with *. at the front";
        return report.error(&name.path, format!("{text:?} is not a host name"), mend);
    }
    let within = |host: &str| match host.strip_prefix('*') {
        Some(end) => text == host || text.ends_with(end) && text.len() > end.len(),
        None => text.eq_ignore_ascii_case(host),
    };
    if !hosts.is_empty() && !hosts.iter().any(|host| within(host.word())) {
        report.error(&name.path, format!("{text:?} is none of spec.hosts"), "write one of them, or add it there");
    }
}

pub(super) fn tcp(one: &At<'_>, report: &mut Report) {
    for at in field::entries(one, "match", "match", report) {
        layer4(&at, report);
    }
    targets(one, report);
}

/// V32.
fn targets(one: &At<'_>, report: &mut Report) {
    if one.list("route").is_empty() {
        report.error(one.field("route"), "there is no destination", "write route: [{destination: {host: <service>}}]");
    }
    let targets = field::entries(one, "route", "destination", report);
    for target in &targets {
        route::destination(target, "destination", report);
    }
    route::weights(one, &targets, report);
}

/// V33.
fn layer4(at: &At<'_>, report: &mut Report) {
    let subnet = at.get("sourceSubnet");
    for one in at.list("destinationSubnets").iter().chain(&subnet) {
        let text = one.word();
        if !words::is_ip(text) && !words::is_cidr(text) {
            let reason = format!("{text:?} is not an address or CIDR");
            report.error(&one.path, reason, "write for example 10.0.0.1 or 10.0.0.0/8");
        }
    }
    field::port(at, "port", report);
    matching::source(at, report);
}
