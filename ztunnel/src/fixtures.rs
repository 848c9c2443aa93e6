//! Small worlds for tests, made of wire resources as a control plane would send them.

use std::net::IpAddr;

use lateen_state::{decode, world::WorldStore};
use lateen_wire::workload as wire;
use prost::Message as _;

pub const HOST: &str = "web.shop.svc.cluster.local";

pub fn bytes(ip: &str) -> Vec<u8> {
    match ip.parse().expect("an address") {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

/// An HBONE pod of namespace `shop` on `node-1` under its own service account.
pub fn pod(name: &str, ips: &[&str]) -> wire::Workload {
    wire::Workload {
        uid: format!("Kubernetes//Pod/shop/{name}"),
        name: name.into(),
        namespace: "shop".into(),
        service_account: name.into(),
        node: "node-1".into(),
        tunnel_protocol: wire::TunnelProtocol::Hbone.into(),
        addresses: ips.iter().map(|ip| bytes(ip)).collect(),
        ..Default::default()
    }
}

pub fn plain(workload: wire::Workload) -> wire::Workload {
    wire::Workload { tunnel_protocol: wire::TunnelProtocol::None.into(), ..workload }
}

/// Adds the workload to a service, with its own port mapping.
pub fn behind(mut workload: wire::Workload, service: &str, ports: &[(u32, u32)]) -> wire::Workload {
    workload.services.insert(format!("shop/{service}"), wire::PortList { ports: port_list(ports) });
    workload
}

pub fn service(host: &str, vips: &[&str], ports: &[(u32, u32)]) -> wire::Service {
    wire::Service {
        name: host.into(),
        namespace: "shop".into(),
        hostname: host.into(),
        addresses: vips.iter().map(|vip| network_address("", vip)).collect(),
        ports: port_list(ports),
        ..Default::default()
    }
}

fn port_list(ports: &[(u32, u32)]) -> Vec<wire::Port> {
    let port = |(service_port, target_port): &(u32, u32)| wire::Port {
        service_port: *service_port,
        target_port: *target_port,
        app_protocol: 0,
    };
    ports.iter().map(port).collect()
}

fn network_address(network: &str, ip: &str) -> wire::NetworkAddress {
    wire::NetworkAddress { network: network.into(), address: bytes(ip), length: None }
}

/// A gateway by address: `10.0.0.1:15008`, in a network: `n2|10.0.0.1:15008`.
pub fn gateway(text: &str) -> Option<wire::GatewayAddress> {
    let (network, socket) = text.split_once('|').unwrap_or(("", text));
    let socket: std::net::SocketAddr = socket.parse().expect("an address");
    let address = network_address(network, &socket.ip().to_string());
    let destination = Some(wire::gateway_address::Destination::Address(address));
    Some(wire::GatewayAddress { destination, hbone_mtls_port: socket.port().into() })
}

/// A gateway by name in namespace `shop`.
pub fn named_gateway(hostname: &str, port: u32) -> Option<wire::GatewayAddress> {
    let name = wire::NamespacedHostname { namespace: "shop".into(), hostname: hostname.into() };
    let destination = Some(wire::gateway_address::Destination::Hostname(name));
    Some(wire::GatewayAddress { destination, hbone_mtls_port: port })
}

pub fn world(workloads: &[wire::Workload], services: &[wire::Service]) -> WorldStore {
    use wire::address::Type;
    let store = WorldStore::new(Some("node-1".into()));
    let workloads = workloads.iter().cloned().map(Type::Workload);
    let all = workloads.chain(services.iter().cloned().map(Type::Service));
    let change = |one| decode::address(&wire::Address { r#type: Some(one) }.encode_to_vec()).expect("good");
    store.apply(all.map(change));
    store
}
