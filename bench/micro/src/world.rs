//! The world that look-ups and plans are counted in, made of wire resources as a control plane sends them.
//!
//! In: nothing. Out: one world of 10,000 pods on 100 nodes, behind 1,000 services of 10 pods, one of 200 and one behind a
//! waypoint, with policies of all three scopes.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{Arc, OnceLock},
};

use lateen_policy::model::{Action, Policy, Scope};
use lateen_state::{
    decode,
    index::Change,
    workload::PodKey,
    world::{World, WorldStore},
};
use lateen_wire::workload as wire;
use prost::Message as _;

use crate::scenario::from;

const PODS: u16 = 10_000;
const SERVICES: u16 = 1_000;
const NODES: u16 = 100;
/// Endpoints of the big service.
const BIG: u16 = 200;
/// The port of every service; its pods listen on another.
pub(crate) const SERVICE_PORT: u16 = 80;
const TARGET_PORT: u16 = 8080;

/// The world.
pub(crate) fn the() -> Arc<World> {
    static WORLD: OnceLock<Arc<World>> = OnceLock::new();
    WORLD.get_or_init(build).clone()
}

/// Address of pod number `at`.
pub(crate) fn pod(at: u16) -> IpAddr {
    let [high, low] = at.to_be_bytes();
    Ipv4Addr::new(10, 1, high, low).into()
}

/// Address of service number `at`.
pub(crate) fn vip(at: u16) -> IpAddr {
    let [high, low] = at.to_be_bytes();
    Ipv4Addr::new(10, 96, high, low).into()
}

/// Address of the service with the many endpoints.
pub(crate) fn big() -> IpAddr {
    vip(SERVICES)
}

/// Address of the service behind a waypoint.
pub(crate) fn behind_a_waypoint() -> IpAddr {
    vip(SERVICES + 1)
}

/// The pod of our node that calls and is called: number 0.
pub(crate) fn local() -> PodKey {
    PodKey { name: "pod-0".into(), namespace: "shop".into(), service_account: "web".into() }
}

/// Where that pod's application listens.
pub(crate) fn server() -> SocketAddr {
    SocketAddr::new(pod(0), TARGET_PORT)
}

fn build() -> Arc<World> {
    let store = WorldStore::new(Some("node-0".into()));
    let workloads = (0..PODS).map(|at| wire::address::Type::Workload(workload(at)));
    let services = (0..SERVICES + 2).map(|at| wire::address::Type::Service(service(at)));
    let change = |one| decode::address(&wire::Address { r#type: Some(one) }.encode_to_vec()).expect("decodable");
    store.apply(workloads.chain(services).map(change).chain(policies()));
    store.load()
}

fn workload(at: u16) -> wire::Workload {
    let of = |service: u16| (format!("shop/{}", host(service)), wire::PortList { ports: vec![port()] });
    let big = (at < BIG).then(|| of(SERVICES));
    wire::Workload {
        uid: format!("Kubernetes//Pod/shop/pod-{at}"),
        name: format!("pod-{at}"),
        namespace: "shop".into(),
        service_account: "web".into(),
        node: format!("node-{}", at % NODES),
        canonical_name: "web".into(),
        canonical_revision: "v1".into(),
        workload_name: format!("web-{}", at % SERVICES),
        tunnel_protocol: wire::TunnelProtocol::Hbone.into(),
        addresses: vec![bytes(pod(at))],
        services: [of(at % SERVICES)].into_iter().chain(big).collect(),
        authorization_policies: if at == 0 { vec!["shop/selected".into()] } else { Vec::new() },
        ..Default::default()
    }
}

/// The last one goes through pod number 1.
fn service(at: u16) -> wire::Service {
    let waypoint = (at == SERVICES + 1).then(|| wire::GatewayAddress {
        destination: Some(wire::gateway_address::Destination::Address(address(pod(1)))),
        hbone_mtls_port: 15008,
    });
    wire::Service {
        name: format!("service-{at}"),
        namespace: "shop".into(),
        hostname: host(at),
        addresses: vec![address(vip(at))],
        ports: vec![port()],
        waypoint,
        ..Default::default()
    }
}

fn policies() -> impl Iterator<Item = Change> {
    let of = |name: &str, scope, action, callers: &[&str]| Policy {
        key: name.parse().expect("a key"),
        scope,
        action,
        dry_run: false,
        rules: callers.iter().map(|caller| from(caller, None)).collect(),
    };
    let all = [
        of("istio-system/nobody-evil", Scope::Global, Action::Deny, &["evil"]),
        of("shop/callers", Scope::Namespace, Action::Allow, &["front", "back"]),
        of("shop/selected", Scope::WorkloadSelector, Action::Allow, &["web"]),
    ];
    all.into_iter().map(|policy| Change::Policy(Box::new(policy)))
}

fn host(at: u16) -> String {
    format!("service-{at}.shop.svc.cluster.local")
}

fn port() -> wire::Port {
    wire::Port { service_port: SERVICE_PORT.into(), target_port: TARGET_PORT.into(), app_protocol: 0 }
}

fn address(ip: IpAddr) -> wire::NetworkAddress {
    wire::NetworkAddress { network: String::new(), address: bytes(ip), length: None }
}

fn bytes(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}
