//! `Gateway` of the mesh's own API: G1 to G8; its TLS is in [`super::server_tls`].

use super::{
    at::{At, Report},
    common, field, server_tls,
    words::{self, Host},
};

/// Ports where TLS is spoken.
const TLS: [&str; 2] = ["HTTPS", "TLS"];
const PLAIN: [&str; 8] = ["HTTP", "HTTP2", "GRPC", "GRPC-WEB", "TCP", "MONGO", "MYSQL", "REDIS"];

pub(super) fn check(root: &At<'_>, report: &mut Report) {
    let name = root.get("metadata").map(|metadata| metadata.text("name")).unwrap_or_default();
    if !words::is_dns_label(name) {
        let mend = "use up to 63 lower-case letters, digits and -";
        report.error("metadata.name", format!("{name:?} is not the name of a gateway"), mend);
    }
    let spec = root.get("spec");
    if spec.as_ref().is_none_or(|spec| spec.list("servers").is_empty()) {
        report.error("spec.servers", "there is no server", "write one for each port");
    }
    let Some(spec) = spec else { return };
    if let Some(labels) = spec.get("selector") {
        common::pairs(&labels, report);
    }
    let mut names: Vec<&str> = Vec::new();
    for server in field::entries(&spec, "servers", "server", report) {
        let port = server.get("port").map(|port| port.text("name")).unwrap_or_default();
        if !port.is_empty() && names.contains(&port) {
            let reason = format!("the name {port:?} is there twice");
            report.error(server.field("port.name"), reason, "give each port its own");
        }
        names.push(port);
        one(&server, report);
    }
}

fn one(server: &At<'_>, report: &mut Report) {
    hosts(server, report);
    let is_unix = bind(server, report);
    let Some(port) = server.get("port") else {
        return report.error(server.field("port"), "there is no port", "write number, protocol and name");
    };
    let protocol = port.text("protocol").to_ascii_uppercase();
    numbered(&port, is_unix, report);
    field::required(&port, "name", "the port has no name", "name it, for example https", report);
    let is_tls = TLS.contains(&protocol.as_str());
    if !is_tls && !PLAIN.contains(&protocol.as_str()) {
        let reason = format!("there is no protocol {:?}", port.text("protocol"));
        report.error(port.field("protocol"), reason, format!("write {}", [&PLAIN[..], &TLS[..]].concat().join(", ")));
    }
    match server.get("tls") {
        None if is_tls => {
            report.error(server.field("tls"), format!("{protocol} is spoken with a certificate"), "add tls");
        }
        None => {}
        Some(tls) if is_tls => server_tls::check(&tls, report),
        Some(tls) => {
            for (name, _) in tls.members().iter().filter(|(name, _)| *name != "httpsRedirect") {
                let reason = format!("{protocol} is spoken without TLS");
                report.error(tls.field(name), reason, "remove it, or use protocol: HTTPS or TLS");
            }
        }
    }
}

/// G5.
fn numbered(port: &At<'_>, is_unix: bool, report: &mut Report) {
    let number = port.number("number").unwrap_or_default();
    if is_unix && number != 0 {
        report.error(port.field("number"), "a unix socket has no port", "write 0");
    } else if !is_unix && !(1..=65535).contains(&number) {
        report.error(port.field("number"), format!("{number} is not a port"), "write a number from 1 to 65535");
    }
    if port.number("targetPort").is_some_and(|number| number != 0) {
        report.error(port.field("targetPort"), "gateways have no target port", "remove it; the Service has one");
    }
}

/// G6; whether it is a unix socket.
fn bind(server: &At<'_>, report: &mut Report) -> bool {
    let bind = server.text("bind");
    let Some(path) = bind.strip_prefix("unix://") else {
        if !bind.is_empty() && !words::is_ip(bind) {
            let mend = "write for example 0.0.0.0 or unix:///run/socket";
            report.error(server.field("bind"), format!("{bind:?} is neither an address nor a unix socket"), mend);
        }
        return false;
    };
    if !path.starts_with(['/', '@']) || path.len() < 2 {
        let mend = "write unix:// and an absolute path of a socket";
        report.error(server.field("bind"), format!("{path:?} is not the path of a socket"), mend);
    }
    true
}

/// G4.
fn hosts(server: &At<'_>, report: &mut Report) {
    if server.list("hosts").is_empty() {
        report.error(server.field("hosts"), "there is no host", "name one; * is all");
    }
    for host in server.list("hosts") {
        let text = host.word();
        let (namespace, name) = text.split_once('/').unwrap_or(("*", text));
        if !matches!(namespace, "*" | ".") && !words::is_dns_label(namespace) {
            let reason = format!("{namespace:?} is not a namespace");
            report.error(&host.path, reason, "write <namespace>/<host>, ./<host> or */<host>");
        } else if matches!(words::host(name), Host::Malformed | Host::Partial) {
            let mend = "write a host name, one with *. at the front, or *";
            report.error(&host.path, format!("{name:?} is not a host name"), mend);
        }
    }
}
