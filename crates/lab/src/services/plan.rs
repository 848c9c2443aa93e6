//! From Services and EndpointSlices to one nft table. Pure.
//!
//! In: objects. Out: the table's text, which replaces an earlier one in the same transaction.
//!
//! ```text
//!  prerouting (pods, other nodes) ┐
//!  output (the node itself)       ┴─► find: address . protocol . port ─► to-… : destination changed, at random
//!  forward, output: a service's address that was not changed is refused at once, not left to time out
//!  postrouting: a pod that reached itself is masqueraded, or it would answer itself directly
//! ```

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
};

use k8s_openapi::api::{
    core::v1::{Service, ServicePort, ServiceSpec},
    discovery::v1::{Endpoint, EndpointSlice},
};
use kube::ResourceExt as _;

/// The table's name; no other program writes it.
pub const TABLE: &str = "lateen_services";

/// A transport protocol nft can redirect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Protocol {
    fn of(name: Option<&str>) -> Option<Self> {
        match name.unwrap_or("TCP") {
            "TCP" => Some(Self::Tcp),
            "UDP" => Some(Self::Udp),
            _ => None,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

/// One port at one ClusterIP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VirtualPort {
    /// Where it is called.
    pub address: SocketAddr,
    /// By which protocol.
    pub protocol: Protocol,
    /// Who answers. Nobody: calls are refused.
    pub endpoints: BTreeSet<SocketAddr>,
    /// `namespace/name`, for the reader of the table.
    pub service: String,
}

/// Every port of every ClusterIP, as `node` should treat it.
pub fn ports<'o>(
    services: impl Iterator<Item = &'o Service>,
    slices: impl Iterator<Item = &'o EndpointSlice>,
    node: &str,
) -> Vec<VirtualPort> {
    let mut by_service: BTreeMap<(String, String), Vec<&EndpointSlice>> = BTreeMap::new();
    for slice in slices {
        let Some(service) = slice.labels().get("kubernetes.io/service-name") else { continue };
        by_service.entry((slice.namespace().unwrap_or_default(), service.clone())).or_default().push(slice);
    }
    let mut ports = Vec::new();
    for service in services {
        let key = (service.namespace().unwrap_or_default(), service.name_any());
        if let (Some(spec), Some(slices)) = (&service.spec, by_service.get(&key)) {
            ports.extend(ports_of(&format!("{}/{}", key.0, key.1), spec, slices, node));
        }
        // A service without any slice is somebody else's (its address may be real); it is left alone.
    }
    ports.sort_by_key(|port| (port.address, port.protocol));
    ports
}

fn ports_of(service: &str, spec: &ServiceSpec, slices: &[&EndpointSlice], node: &str) -> Vec<VirtualPort> {
    let local_only = spec.internal_traffic_policy.as_deref() == Some("Local");
    let mut ports = Vec::new();
    for ip in cluster_ips(spec) {
        for port in spec.ports.iter().flatten() {
            let (Some(protocol), Ok(number)) = (Protocol::of(port.protocol.as_deref()), u16::try_from(port.port))
            else {
                continue;
            };
            let of_family = slices.iter().filter(|slice| (slice.address_type == "IPv6") == ip.is_ipv6());
            let candidates: Vec<Candidate> = of_family.flat_map(|slice| candidates(slice, port)).collect();
            let here = |candidate: &&Candidate| !local_only || candidate.node.as_deref() == Some(node);
            let chosen = |usable: fn(&Candidate) -> bool| -> BTreeSet<SocketAddr> {
                candidates.iter().filter(here).filter(|one| usable(one)).map(|one| one.address).collect()
            };
            let ready = chosen(|one| one.ready);
            // As Kubernetes does: when all are on their way out, those that still serve are better than nobody.
            let endpoints = if ready.is_empty() { chosen(|one| one.last_resort) } else { ready };
            let service = service.to_owned();
            ports.push(VirtualPort { address: SocketAddr::new(ip, number), protocol, endpoints, service });
        }
    }
    ports
}

fn cluster_ips(spec: &ServiceSpec) -> BTreeSet<IpAddr> {
    if spec.type_.as_deref() == Some("ExternalName") {
        return BTreeSet::new();
    }
    let all = spec.cluster_ips.iter().flatten().chain(&spec.cluster_ip);
    all.filter_map(|ip| ip.parse().ok()).collect()
}

/// An endpoint that may be chosen.
struct Candidate {
    address: SocketAddr,
    node: Option<String>,
    ready: bool,
    last_resort: bool,
}

fn candidates(slice: &EndpointSlice, wanted: &ServicePort) -> Vec<Candidate> {
    let name = wanted.name.as_deref().unwrap_or_default();
    let same = |port: &&k8s_openapi::api::discovery::v1::EndpointPort| {
        port.name.as_deref().unwrap_or_default() == name
            && Protocol::of(port.protocol.as_deref()) == Protocol::of(wanted.protocol.as_deref())
    };
    let number = slice.ports.iter().flatten().find(same).and_then(|port| u16::try_from(port.port?).ok());
    let Some(number) = number else { return Vec::new() };
    slice.endpoints.iter().filter_map(|endpoint| candidate(endpoint, number)).collect()
}

fn candidate(endpoint: &Endpoint, port: u16) -> Option<Candidate> {
    let ip: IpAddr = endpoint.addresses.first()?.parse().ok()?;
    let conditions = endpoint.conditions.clone().unwrap_or_default();
    // Absent means true for both (discovery/v1).
    let ready = conditions.ready != Some(false);
    let serving = conditions.serving.unwrap_or(ready);
    Some(Candidate {
        address: SocketAddr::new(ip, port),
        node: endpoint.node_name.clone(),
        ready,
        last_resort: serving && conditions.terminating == Some(true),
    })
}

/// The table for these ports.
pub fn table(ports: &[VirtualPort]) -> String {
    // The first line makes the second one succeed when there is no table yet.
    let mut text = format!("table inet {TABLE}\ndelete table inet {TABLE}\ntable inet {TABLE} {{\n");
    let answered: Vec<(String, &VirtualPort)> =
        ports.iter().filter(|port| !port.endpoints.is_empty()).map(|port| (chain_name(port), port)).collect();
    for (family, v6, ip) in [(4, false, "ipv4"), (6, true, "ipv6")] {
        let entries = answered.iter().filter(|(_, port)| port.address.is_ipv6() == v6).map(|(chain, port)| {
            format!("{} . {} . {} : goto {chain}", port.address.ip(), port.protocol.word(), port.address.port())
        });
        list(
            &mut text,
            &format!("map ports{family}"),
            &format!("{ip}_addr . inet_proto . inet_service : verdict"),
            entries,
        );
        let mine: Vec<&VirtualPort> = ports.iter().filter(|port| port.address.is_ipv6() == v6).collect();
        let addresses: BTreeSet<IpAddr> = mine.iter().map(|port| port.address.ip()).collect();
        list(
            &mut text,
            &format!("set services{family}"),
            &format!("{ip}_addr"),
            addresses.iter().map(IpAddr::to_string),
        );
        let backs: BTreeSet<IpAddr> = mine.iter().flat_map(|port| &port.endpoints).map(SocketAddr::ip).collect();
        let loops = backs.iter().map(|ip| format!("{ip} . {ip}"));
        list(&mut text, &format!("set loops{family}"), &format!("{ip}_addr . {ip}_addr"), loops);
    }
    for (chain, port) in &answered {
        text.push_str(&format!("  chain {chain} {{\n    {}\n  }}\n", redirect(port)));
    }
    text.push_str(CHAINS);
    text
}

/// A named set or map; without elements it is declared empty.
fn list(text: &mut String, what: &str, type_: &str, elements: impl Iterator<Item = String>) {
    let elements: Vec<String> = elements.collect();
    text.push_str(&format!("  {what} {{\n    type {type_}\n"));
    if !elements.is_empty() {
        text.push_str(&format!("    elements = {{ {} }}\n", elements.join(", ")));
    }
    text.push_str("  }\n");
}

fn chain_name(port: &VirtualPort) -> String {
    let address = port.address.ip().to_string().replace(['.', ':'], "_");
    format!("to_{address}_{}_{}", port.protocol.word(), port.address.port())
}

/// The rule that sends a connection to one endpoint, each as likely as the others.
fn redirect(port: &VirtualPort) -> String {
    let count = port.endpoints.len();
    let targets: Vec<String> = port
        .endpoints
        .iter()
        .enumerate()
        .map(|(at, endpoint)| format!("{at} : {} . {}", endpoint.ip(), endpoint.port()))
        .collect();
    let ip = if port.address.is_ipv6() { "ip6" } else { "ip" };
    format!(
        "meta l4proto {} dnat {ip} to numgen random mod {count} map {{ {} }} comment \"{}\"",
        port.protocol.word(),
        targets.join(", "),
        port.service
    )
}

const CHAINS: &str = "  chain find {
    ip daddr . meta l4proto . th dport vmap @ports4
    ip6 daddr . meta l4proto . th dport vmap @ports6
  }
  chain prerouting {
    type nat hook prerouting priority dstnat; policy accept;
    jump find
  }
  chain nat_output {
    type nat hook output priority -100; policy accept;
    jump find
  }
  chain postrouting {
    type nat hook postrouting priority srcnat; policy accept;
    ct status dnat ip saddr . ip daddr @loops4 masquerade
    ct status dnat ip6 saddr . ip6 daddr @loops6 masquerade
  }
  chain refuse {
    ip daddr @services4 meta l4proto tcp reject with tcp reset
    ip6 daddr @services6 meta l4proto tcp reject with tcp reset
    ip daddr @services4 reject with icmpx port-unreachable
    ip6 daddr @services6 reject with icmpx port-unreachable
  }
  chain forward {
    type filter hook forward priority filter; policy accept;
    ct state new jump refuse
  }
  chain output {
    type filter hook output priority filter; policy accept;
    ct state new jump refuse
  }
}
";
