//! `ServiceEntry`: S1 to S15.

use super::{
    at::{At, Report},
    common,
    endpoint::{self, Of},
    words::{self, Host},
};
use crate::labels::{AUTO_ALLOCATE, USE_WAYPOINT};

const HTTP: [&str; 5] = ["HTTP", "HTTP2", "GRPC", "GRPC-WEB", "HTTP_PROXY"];
const TLS: [&str; 2] = ["HTTPS", "TLS"];
const OTHER: [&str; 6] = ["TCP", "UDP", "MONGO", "REDIS", "MYSQL", "HBONE"];

/// What the rules ask again and again.
struct Entry<'a> {
    spec: At<'a>,
    hosts: Vec<At<'a>>,
    ports: Vec<At<'a>>,
    endpoints: Vec<At<'a>>,
    resolution: &'a str,
}

pub(super) fn check(root: &At<'_>, report: &mut Report) {
    let Some(spec) = root.get("spec") else {
        return report.error("spec.hosts", "there is no host", "name one");
    };
    let resolution = Some(spec.text("resolution")).filter(|resolution| !resolution.is_empty()).unwrap_or("NONE");
    let entry = Entry {
        hosts: spec.list("hosts"),
        ports: spec.list("ports"),
        endpoints: spec.list("endpoints"),
        resolution,
        spec,
    };
    hosts(&entry, report);
    addresses(root, &entry, report);
    ports(&entry, report);
    who(&entry, report);
    endpoints(&entry, report);
    match resolution {
        "DNS" | "DNS_ROUND_ROBIN" => dns(&entry, report),
        "DYNAMIC_DNS" => dynamic(root, &entry, report),
        _ => {}
    }
    for name in entry.spec.list("subjectAltNames") {
        let text = name.word();
        if text.is_empty() || text.contains(char::is_whitespace) || text == "spiffe://" {
            report.error(
                &name.path,
                format!("{text:?} is not an identity"),
                "write for example spiffe://cluster.local/ns/db/sa/db",
            );
        }
    }
    common::export_to(root, &entry.spec, true, report);
}

fn hosts(entry: &Entry<'_>, report: &mut Report) {
    if entry.hosts.is_empty() {
        report.error(entry.spec.field("hosts"), "there is no host", "name one");
    }
    for host in &entry.hosts {
        let text = host.word();
        match words::host(text) {
            Host::All => report.error(&host.path, "* alone is every host there is", "write for example *.example.com"),
            Host::Malformed => {
                let mend = "write a host name, or one with *. at the front";
                report.error(&host.path, format!("{text:?} is not a host name"), mend);
            }
            Host::Partial if entry.resolution != "DYNAMIC_DNS" => report.warn(
                &host.path,
                format!("{text:?} has a wildcard inside of a label, which matches nothing"),
                "write *. at the front, or use resolution: DYNAMIC_DNS",
            ),
            Host::Partial | Host::Wildcard | Host::Plain => {}
        }
    }
    let differs = |port: &At<'_>| !is_one(port, &HTTP) && !is_one(port, &TLS);
    if entry.hosts.len() > 1 && entry.resolution != "NONE" && entry.ports.iter().any(differs) {
        report.error(
            entry.spec.field("hosts"),
            "several hosts cannot be told apart on a port that is neither HTTP nor TLS",
            "write one ServiceEntry for each host",
        );
    }
}

fn is_one(port: &At<'_>, protocols: &[&str]) -> bool {
    protocols.contains(&port.text("protocol").to_ascii_uppercase().as_str())
}

fn is_tcp(port: &At<'_>) -> bool {
    port.text("protocol").is_empty() || is_one(port, &["TCP"])
}

fn addresses(root: &At<'_>, entry: &Entry<'_>, report: &mut Report) {
    let addresses = entry.spec.list("addresses");
    for address in &addresses {
        let text = address.word();
        if words::is_cidr(text) {
            if !matches!(entry.resolution, "NONE" | "STATIC") {
                let reason = format!("a CIDR cannot be resolved by {}", entry.resolution);
                report.error(&address.path, reason, "write single addresses, or use resolution: STATIC or NONE");
            }
        } else if !words::is_ip(text) {
            let mend = "write for example 240.1.1.1 or 10.1.0.0/16";
            report.error(&address.path, format!("{text:?} is not an address or CIDR"), mend);
        }
    }
    let labels = root.get("metadata").and_then(|metadata| metadata.get("labels"));
    let allocated = entry.resolution != "NONE" && labels.is_none_or(|labels| labels.text(AUTO_ALLOCATE) != "false");
    if addresses.is_empty() && !allocated && entry.ports.iter().any(is_tcp) {
        report.warn(
            entry.spec.field("addresses"),
            "without an address a TCP port matches traffic to everywhere",
            "write addresses, or let one be given out (resolution other than NONE)",
        );
    }
}

fn ports(entry: &Entry<'_>, report: &mut Report) {
    let (mut names, mut numbers): (Vec<&str>, Vec<i64>) = Default::default();
    for port in &entry.ports {
        if port.value.is_null() {
            report.error(&port.path, "the port is null", "remove it");
            continue;
        }
        let (name, protocol) = (port.text("name"), port.text("protocol"));
        if names.contains(&name) {
            report.error(port.field("name"), format!("the name {name:?} is there twice"), "give each port its own");
        } else if !words::is_port_name(name) {
            report.error(
                port.field("name"),
                format!("{name:?} is not the name of a port"),
                "use letters, digits and -",
            );
        }
        let all = [&HTTP[..], &TLS[..], &OTHER[..]].concat();
        if !protocol.is_empty() && !is_one(port, &all) {
            report.error(
                port.field("protocol"),
                format!("there is no protocol {protocol:?}"),
                format!("write {}", all.join(", ")),
            );
        }
        let number = port.number("number").unwrap_or_default();
        if numbers.contains(&number) {
            report.error(port.field("number"), format!("the port {number} is there twice"), "remove one");
        }
        for field in ["number", "targetPort"] {
            let given = port.number(field).or_else(|| (field == "number").then_some(0));
            if let Some(number) = given.filter(|number| !(1..=65535).contains(number)) {
                report.error(port.field(field), format!("{number} is not a port"), "write a number from 1 to 65535");
            }
        }
        names.push(name);
        numbers.push(number);
    }
}

/// S1, S7, S15: how endpoints are named.
fn who(entry: &Entry<'_>, report: &mut Report) {
    let spec = &entry.spec;
    let selector = spec.get("workloadSelector");
    if selector.is_some() && spec.has("endpoints") {
        report.error(
            spec.field("endpoints"),
            "workloadSelector and endpoints cannot stand together",
            "keep one of them",
        );
    }
    if entry.resolution == "NONE" && !entry.endpoints.is_empty() {
        let reason = "with resolution NONE the address that was called is the endpoint";
        report.error(spec.field("endpoints"), reason, "remove them, or use resolution: STATIC or DNS");
    }
    let Some(selector) = selector else { return };
    if entry.resolution == "NONE" {
        let reason = "with resolution NONE the address that was called is the endpoint";
        report.warn(&selector.path, reason, "use resolution: STATIC");
    }
    match selector.get("labels").filter(|labels| !labels.members().is_empty()) {
        Some(labels) => common::pairs(&labels, report),
        None => {
            report.warn(selector.field("labels"), "the selector names no label, so it selects nothing", "name labels")
        }
    }
}

/// S2 of W2, S8, S10.
fn endpoints(entry: &Entry<'_>, report: &mut Report) {
    let of = if entry.resolution == "STATIC" { Of::Static } else { Of::Named };
    let known: Vec<&str> = entry.ports.iter().map(|port| port.text("name")).collect();
    for one in &entry.endpoints {
        if one.value.is_null() {
            report.error(&one.path, "the endpoint is null", "remove it");
            continue;
        }
        endpoint::check(one, of, report);
        if one.text("address").starts_with("unix://") && entry.ports.len() != 1 {
            let reason = "a unix socket cannot serve several ports";
            report.error(one.field("address"), reason, "give the ServiceEntry exactly one port");
        }
        for (name, port) in one.get("ports").map(|ports| ports.members()).unwrap_or_default() {
            if !known.contains(&name) {
                report.error(&port.path, format!("the service has no port {name:?}"), "use a name of spec.ports");
            }
        }
    }
}

/// S8b, S8d, S9.
fn dns(entry: &Entry<'_>, report: &mut Report) {
    if entry.endpoints.is_empty() && !entry.spec.has("workloadSelector") {
        for host in entry.hosts.iter().filter(|host| matches!(words::host(host.word()), Host::Wildcard | Host::Partial))
        {
            let reason = format!("{:?} cannot be looked up", host.word());
            report.error(&host.path, reason, "write a host without wildcard, add endpoints, or use resolution: NONE");
        }
    }
    if entry.spec.has("addresses") && entry.hosts.len() > 1 && entry.ports.iter().any(is_tcp) {
        let reason = "all hosts share the addresses, so on a TCP port one of them answers for all";
        report.warn(entry.spec.field("addresses"), reason, "write one ServiceEntry for each host");
    }
    if entry.resolution == "DNS_ROUND_ROBIN" && entry.endpoints.len() > 1 {
        let mend = "keep one, or use resolution: DNS";
        report.error(entry.spec.field("endpoints"), "DNS_ROUND_ROBIN has one endpoint only", mend);
    }
}

/// S11, S12.
fn dynamic(root: &At<'_>, entry: &Entry<'_>, report: &mut Report) {
    for host in entry.hosts.iter().filter(|host| words::host(host.word()) == Host::Plain) {
        let reason = "DYNAMIC_DNS looks up the name that is called, so the host must be a wildcard";
        report.error(&host.path, reason, "write for example *.example.com, or use resolution: DNS");
    }
    for field in ["addresses", "endpoints"].into_iter().filter(|field| entry.spec.has(field)) {
        let reason = format!("DYNAMIC_DNS has no {field}");
        report.error(entry.spec.field(field), reason, "remove them");
    }
    let named = ["HTTP", "HTTP2", "GRPC", "TLS", "HTTPS"];
    for port in entry.ports.iter().filter(|port| !is_one(port, &named)) {
        let reason = "DYNAMIC_DNS needs a protocol that carries the name";
        report.error(port.field("protocol"), reason, format!("write {}", named.join(", ")));
    }
    let labels = root.get("metadata").and_then(|metadata| metadata.get("labels"));
    if entry.spec.text("location") == "MESH_INTERNAL" && labels.is_some_and(|labels| labels.has(USE_WAYPOINT)) {
        let reason = "a waypoint cannot serve DYNAMIC_DNS inside of the mesh";
        report.error(
            entry.spec.field("location"),
            reason,
            "write MESH_EXTERNAL, or remove the label istio.io/use-waypoint",
        );
    }
}
