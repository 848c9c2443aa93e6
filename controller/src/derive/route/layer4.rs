//! Routes of connections: TLS that is not terminated, and whatever else is no HTTP.

use std::net::IpAddr;

use ipnet::IpNet;
use lateen_cluster::{
    api::{Target, TcpMatch, TlsMatch},
    store::Key,
};
use lateen_wire::proxy as wire;

use super::{Asker, At, Context, Made, names, place};
use crate::facts::VirtualService;

/// The routes of TLS by the name in the handshake. A waypoint knows which service was called: there only the route that
/// names that service alone counts.
pub fn tls(asker: Asker<'_>, key: &Key, service: &VirtualService, hostname: Option<&str>) -> Made<wire::TcpRoute> {
    let mut made = Made { routes: Vec::new(), problems: Vec::new() };
    for (at, route) in service.spec.tls.iter().enumerate() {
        let field = format!("spec.tls[{at}]");
        for one in &route.matches {
            let names_it = match (asker.at, hostname, one.sni_hosts.as_slice()) {
                (At::Mesh, Some(hostname), [only]) => only.eq_ignore_ascii_case(hostname),
                (At::Mesh, ..) => false,
                (At::Gateway(_), ..) => !one.sni_hosts.is_empty(),
            };
            if !names_it || !applies_tls(asker, key, one) {
                continue;
            }
            let context = Context { asker, owner: key, field: &field };
            made.routes.push(wire::TcpRoute {
                name: String::new(),
                server_names: one.sni_hosts.iter().map(|name| name.to_ascii_lowercase()).collect(),
                destination_subnets: subnets(&one.destination_subnets),
                destinations: destinations(&context, &route.route, &mut made.problems),
            });
        }
    }
    made
}

/// The routes of other connections.
pub fn tcp(asker: Asker<'_>, key: &Key, service: &VirtualService) -> Made<wire::TcpRoute> {
    let mut made = Made { routes: Vec::new(), problems: Vec::new() };
    for (at, route) in service.spec.tcp.iter().enumerate() {
        let field = format!("spec.tcp[{at}]");
        let context = Context { asker, owner: key, field: &field };
        let everything = TcpMatch::default();
        let matches = if route.matches.is_empty() { std::slice::from_ref(&everything) } else { &route.matches };
        for one in matches.iter().filter(|one| applies_tcp(asker, key, one)) {
            made.routes.push(wire::TcpRoute {
                name: String::new(),
                server_names: Vec::new(),
                destination_subnets: subnets(&one.destination_subnets),
                destinations: destinations(&context, &route.route, &mut made.problems),
            });
        }
    }
    made
}

/// An address alone is a block of one.
fn subnets(written: &[String]) -> Vec<String> {
    let block = |text: &String| match text.parse::<IpAddr>() {
        Ok(ip) => IpNet::from(ip).to_string(),
        Err(_) => text.clone(),
    };
    written.iter().map(block).collect()
}

fn destinations(context: &Context<'_>, targets: &[Target], problems: &mut Vec<String>) -> Vec<wire::Weighted> {
    let shares = place::shares(targets, |target| target.weight);
    shares
        .into_iter()
        .map(|(target, weight)| place::weighted(context, (&target.destination, weight), problems))
        .collect()
}

fn applies_tls(asker: Asker<'_>, key: &Key, one: &TlsMatch) -> bool {
    let of_client =
        !one.source_labels.is_empty() || !one.source_namespace.is_empty() && one.source_namespace != asker.namespace;
    applies(asker, key, (&one.gateways, one.port, of_client))
}

fn applies_tcp(asker: Asker<'_>, key: &Key, one: &TcpMatch) -> bool {
    let of_client = !one.source_labels.is_empty()
        || !one.source_subnet.is_empty()
        || !one.source_namespace.is_empty() && one.source_namespace != asker.namespace;
    applies(asker, key, (&one.gateways, one.port, of_client))
}

fn applies(asker: Asker<'_>, key: &Key, (gateways, port, of_client): (&[String], Option<u32>, bool)) -> bool {
    let named = names(asker.at, key, gateways);
    named != Some(false) && port.is_none_or(|port| port == u32::from(asker.port)) && (named.is_some() || !of_client)
}
