//! Wire resources in a few words.

use std::net::IpAddr;

use lateen_wire::{security, workload as wire};

/// The bytes of an address.
pub fn bytes(ip: &str) -> Vec<u8> {
    match ip.parse().expect("an address") {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

/// An HBONE pod `name` of namespace `default`, under the service account `name`.
pub fn pod(name: &str, node: &str, ips: &[&str]) -> wire::Workload {
    wire::Workload {
        uid: format!("Kubernetes//Pod/default/{name}"),
        name: name.into(),
        namespace: "default".into(),
        service_account: name.into(),
        node: node.into(),
        workload_name: name.into(),
        workload_type: wire::WorkloadType::Pod.into(),
        canonical_name: name.into(),
        canonical_revision: "v1".into(),
        tunnel_protocol: wire::TunnelProtocol::Hbone.into(),
        addresses: ips.iter().map(|ip| bytes(ip)).collect(),
        ..Default::default()
    }
}

/// The same outside the mesh.
pub fn plain(workload: wire::Workload) -> wire::Workload {
    wire::Workload { tunnel_protocol: wire::TunnelProtocol::None.into(), ..workload }
}

/// The same as an endpoint of `host`.
pub fn behind(mut workload: wire::Workload, host: &str) -> wire::Workload {
    workload.services.insert(format!("default/{host}"), wire::PortList::default());
    workload
}

/// A service of namespace `default`.
pub fn service(host: &str, vips: &[&str], ports: &[(u32, u32)]) -> wire::Service {
    let address = |vip: &&str| wire::NetworkAddress { network: String::new(), address: bytes(vip), length: None };
    let port = |(service_port, target_port): &(u32, u32)| wire::Port {
        service_port: *service_port,
        target_port: *target_port,
        app_protocol: 0,
    };
    wire::Service {
        name: host.split('.').next().unwrap_or(host).into(),
        namespace: "default".into(),
        hostname: host.into(),
        addresses: vips.iter().map(address).collect(),
        ports: ports.iter().map(port).collect(),
        ..Default::default()
    }
}

/// What a policy does, and for which port (all when 0).
pub fn policy(name: &str, action: security::Action, one: security::Match) -> security::Authorization {
    let clause = security::Clause { matches: vec![one] };
    security::Authorization {
        name: name.into(),
        namespace: "default".into(),
        scope: security::Scope::Namespace.into(),
        action: action.into(),
        rules: vec![security::Rule { clauses: vec![clause] }],
        ..Default::default()
    }
}

/// Matches callers under this principal (`cluster.local/ns/…/sa/…`).
pub fn from_principal(principal: &str) -> security::Match {
    let one = security::StringMatch { match_type: Some(security::string_match::MatchType::Exact(principal.into())) };
    security::Match { principals: vec![one], ..Default::default() }
}

/// Matches calls to this port.
pub fn to_port(port: u32) -> security::Match {
    security::Match { destination_ports: vec![port], ..Default::default() }
}

/// The key of a policy.
pub fn policy_name(policy: &security::Authorization) -> String {
    format!("{}/{}", policy.namespace, policy.name)
}
