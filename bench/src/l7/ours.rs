//! Our proxy's configuration of a scene, as the controller would compile it.
//!
//! In: a scene, ports. Out: resources. Absent on purpose: serving them (see `control`).

use std::net::{IpAddr, SocketAddr};

use lateen_wire::{
    proxy::{
        self, Action, Attribute, Clause, Cluster, ConnectionPool, Destination, Field, Forward, HttpMatch, HttpRoute,
        Listener, Match, PathMatch, Proxy, Retry, RetryOn, Role, Rule, Service, TrafficPolicy, Upstream, VirtualHost,
        VirtualHosts, Weighted, http_route, listener, path_match, weighted,
    },
    type_url,
    workload::{self, NetworkAddress, PortList, TunnelProtocol, Workload, address},
};
use lateen_xds::{resource::Entry, server::Publish};

use super::scene::{HOST, Policy, SOURCES, Scene, Way};

/// The namespace of everything.
pub(crate) const NAMESPACE: &str = "shop";
/// The Gateway our proxy carries out.
pub(crate) const GATEWAY: &str = "front";
/// The account of endpoints, and of clients in the mesh.
pub(crate) const ACCOUNT: &str = "echo";
/// The service's address and port.
pub(crate) const SERVICE: SocketAddr = SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::new(10, 96, 0, 1)), 80);
/// The service's name.
const SERVICE_HOST: &str = "echo.shop.svc.cluster.local";

/// Everything the proxy is told.
pub(crate) fn resources(scene: &Scene, listen: u16, endpoints: &[SocketAddr]) -> Vec<Publish> {
    let all_policies: Vec<(String, proxy::Policy)> =
        scene.policies().map(|one| (format!("{NAMESPACE}/{GATEWAY}/{NAMESPACE}/{}", one.name), policy(one))).collect();
    let names: Vec<String> = all_policies.iter().map(|(name, _)| name.clone()).collect();
    let routes: Vec<HttpRoute> = scene.prefixes().map(route).collect();
    let service = format!("{NAMESPACE}/{GATEWAY}/{NAMESPACE}/{SERVICE_HOST}");
    let mut all: Vec<Publish> = all_policies.into_iter().map(|(name, one)| put(type_url::POLICY, name, &one)).collect();
    all.push(put(type_url::DESTINATION, service.clone(), &destination()));
    let mut gateway = Proxy {
        namespace: NAMESPACE.into(),
        name: GATEWAY.into(),
        options: Some(proxy::Options::default()),
        ..Proxy::default()
    };
    match scene.way {
        Way::Plain => {
            let host = VirtualHost { host: HOST.into(), routes, ..VirtualHost::default() };
            let hosts = VirtualHosts { hosts: vec![host] };
            (gateway.role, gateway.policies) = (Role::Gateway.into(), names);
            gateway.listeners = vec![Listener {
                bind_port: listen.into(),
                port: listen.into(),
                kind: Some(listener::Kind::Http(hosts)),
            }];
        }
        Way::Tunnels => {
            let port = proxy::Port {
                port: SERVICE.port().into(),
                protocol: proxy::Protocol::Http.into(),
                http: routes,
                ..proxy::Port::default()
            };
            let one = Service {
                namespace: NAMESPACE.into(),
                hostname: SERVICE_HOST.into(),
                ports: vec![port],
                policies: names,
                ..Service::default()
            };
            all.push(put(type_url::SERVICE, service.clone(), &one));
            (gateway.role, gateway.services, gateway.serves_services) = (Role::Waypoint.into(), vec![service], true);
        }
    }
    all.push(put(type_url::PROXY, format!("{NAMESPACE}/{GATEWAY}"), &gateway));
    all.extend(addresses(scene.way, endpoints));
    all
}

fn put(kind: &'static str, name: String, message: &impl prost::Message) -> Publish {
    // Only pods of the Gateway are told.
    Publish::Put(kind, Entry::new(kind, name, message).with_groups(vec![group().into()]))
}

/// The group of what our proxy alone is told.
pub(crate) fn group() -> String {
    format!("gateway/{NAMESPACE}/{GATEWAY}")
}

fn upstream() -> Upstream {
    Upstream {
        namespace: NAMESPACE.into(),
        hostname: SERVICE_HOST.into(),
        port: SERVICE.port().into(),
        subset: String::new(),
    }
}

/// With the mesh's default retries, as Envoy has them.
fn route(prefix: String) -> HttpRoute {
    let retry = Retry {
        attempts: 2,
        on: Some(RetryOn {
            connect_failure: true,
            refused_stream: true,
            status_codes: true,
            grpc: vec![1, 14],
            ..RetryOn::default()
        }),
        status_codes: vec![503],
        ..Retry::default()
    };
    let to = Weighted { weight: 1, to: Some(weighted::To::Upstream(upstream())), ..Weighted::default() };
    let path = PathMatch { kind: Some(path_match::Kind::Prefix(prefix)), ignore_case: false };
    let forward = Forward { destinations: vec![to], retry: Some(retry), ..Forward::default() };
    HttpRoute {
        r#match: Some(HttpMatch { path: Some(path), ..HttpMatch::default() }),
        action: Some(http_route::Action::Forward(forward)),
        ..HttpRoute::default()
    }
}

fn destination() -> Destination {
    let policy = TrafficPolicy { pool: Some(ConnectionPool::default()), ..TrafficPolicy::default() };
    let cluster = Cluster {
        port: SERVICE.port().into(),
        protocol: proxy::Protocol::Http.into(),
        policy: Some(policy),
        ..Cluster::default()
    };
    Destination { namespace: NAMESPACE.into(), hostname: SERVICE_HOST.into(), clusters: vec![cluster] }
}

fn policy(of: Policy) -> proxy::Policy {
    let field = |attribute: Attribute, any: Vec<String>| Field { attribute: attribute.into(), any, ..Field::default() };
    let clause = |fields: Vec<Field>| Clause { matches: vec![Match { fields }] };
    let sources = SOURCES.map(|(from, length)| format!("{from}/{length}"));
    let methods = of.methods.map(str::to_owned);
    let paths = of.prefixes.map(|prefix| format!("{prefix}*"));
    let from = clause(vec![field(Attribute::SourceIp, sources.into())]);
    let to = clause(vec![field(Attribute::Method, methods.into()), field(Attribute::Path, paths.into())]);
    let action = if of.denies { Action::Deny } else { Action::Allow };
    proxy::Policy {
        namespace: NAMESPACE.into(),
        name: of.name,
        action: action.into(),
        rules: vec![Rule { index: 0, clauses: vec![from, to] }],
        ..proxy::Policy::default()
    }
}

/// The service, and the workloads behind it, which whoever asks for the service is told of.
fn addresses(way: Way, endpoints: &[SocketAddr]) -> Vec<Publish> {
    let octets = |ip: IpAddr| match ip {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    };
    let key = format!("{NAMESPACE}/{SERVICE_HOST}");
    let port = |target: u16| workload::Port {
        service_port: SERVICE.port().into(),
        target_port: target.into(),
        ..workload::Port::default()
    };
    let service = workload::Service {
        name: "echo".into(),
        namespace: NAMESPACE.into(),
        hostname: SERVICE_HOST.into(),
        addresses: vec![NetworkAddress { address: octets(SERVICE.ip()), ..NetworkAddress::default() }],
        ports: vec![port(endpoints[0].port())],
        ..workload::Service::default()
    };
    let tunnel = if way == Way::Tunnels { TunnelProtocol::Hbone } else { TunnelProtocol::None };
    let one = |at: &SocketAddr| Workload {
        uid: format!("Kubernetes//Pod/{NAMESPACE}/echo-{}", at.ip()),
        name: format!("echo-{}", at.ip()),
        namespace: NAMESPACE.into(),
        service_account: ACCOUNT.into(),
        workload_name: "echo".into(),
        canonical_name: "echo".into(),
        addresses: vec![octets(at.ip())],
        tunnel_protocol: tunnel.into(),
        services: [(key.clone(), PortList { ports: vec![port(at.port())] })].into(),
        ..Workload::default()
    };
    let told = |name: String, kind: address::Type, aliases: Vec<String>| {
        let message = workload::Address { r#type: Some(kind) };
        let entry = Entry::new(type_url::ADDRESS, name, &message).with_aliases(aliases);
        Publish::Put(type_url::ADDRESS, entry.with_groups(vec![key.as_str().into()]))
    };
    let workloads = endpoints.iter().map(one).map(|one| {
        let alias = format!("/{}", one.name.trim_start_matches("echo-"));
        told(one.uid.clone(), address::Type::Workload(one), vec![alias])
    });
    let service = told(key.clone(), address::Type::Service(service), vec![format!("/{}", SERVICE.ip())]);
    workloads.chain([service]).collect()
}
