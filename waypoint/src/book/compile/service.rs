//! `lateen.proxy.Service`.

use ipnet::IpNet;
use lateen_types::name::NamespacedHostname;
use lateen_wire::proxy as wire;

use super::{
    error::{DecodeError, Within as _, Wrong, bad_text, each, known, port, required},
    route,
};
use crate::{
    book::{
        cluster::Upstream,
        route::{Action, Forward, HttpRoute, Target, Weighted},
        service::{ClientRoutes, PortBook, Protocol, ServiceBook},
        tcp::{TcpRoute, TcpRoutes},
    },
    route::{HostMap, HostPattern, HttpMatch, RouteTable},
};

pub(super) fn service(from: wire::Service) -> Result<ServiceBook, DecodeError> {
    let key = key(from.namespace, from.hostname)?;
    let ports = each("ports", from.ports, |one| port_book(one, &key))?;
    let accepted = each("accepted_hosts", from.accepted_hosts, |host| host_pattern("", &host))?;
    let accepted = (!accepted.is_empty()).then(|| HostMap::new(accepted.into_iter().map(|host| (host, ()))));
    let policies = from.policies.into_iter().map(Into::into).collect();
    Ok(ServiceBook::new(key, ports, policies, accepted))
}

/// A service's key.
pub(super) fn key(namespace: String, hostname: String) -> Result<NamespacedHostname, DecodeError> {
    for (field, text) in [("namespace", &namespace), ("hostname", &hostname)] {
        if text.is_empty() || text.contains('/') {
            return Err(bad_text(field, text, "part of a service's key"));
        }
    }
    Ok(NamespacedHostname { namespace: namespace.into(), hostname: hostname.into() })
}

fn port_book(from: wire::Port, service: &NamespacedHostname) -> Result<PortBook, DecodeError> {
    let number = port("port", from.port)?;
    let protocol = protocol("protocol", from.protocol)?;
    let routes = each("http", from.http, route::http_route)?;
    let itself = Upstream { service: service.clone(), port: number, subset: "".into() };
    let routes = if routes.is_empty() { vec![(HttpMatch::default(), default_route(&itself).into())] } else { routes };
    let of_clients = each("http_of_clients", from.http_of_clients, client_routes)?;
    let tls = each("tls", from.tls, tcp_route)?;
    let tcp = each("tcp", from.tcp, tcp_route)?;
    // Without any route, connections go to the service itself.
    let tcp = if tcp.is_empty() { vec![default_tcp_route(&itself)] } else { tcp };
    Ok(PortBook {
        number,
        protocol,
        http: RouteTable::new(routes).map_err(|error| DecodeError::new("http", error))?,
        of_clients: of_clients.into(),
        tls: TcpRoutes::new(tls),
        tcp: TcpRoutes::new(tcp),
    })
}

/// Who wrote these need not be who owns the service: what cannot be used closes the way for these clients, and harms no others.
fn client_routes(from: wire::ClientRoutes) -> Result<ClientRoutes, DecodeError> {
    if from.client_namespace.is_empty() {
        return Err(bad_text("client_namespace", "", "a namespace"));
    }
    let table = |from| {
        let routes = each("http", from, route::http_route)?;
        RouteTable::new(routes).map_err(|error| DecodeError::new("http", error))
    };
    let (http, error) = match table(from.http) {
        Ok(http) => (http, None),
        Err(error) => (RouteTable::default(), Some(error.to_string())),
    };
    if let Some(error) = &error {
        let namespace = &from.client_namespace;
        tracing::warn!(%namespace, %error, "routes for the clients of a namespace cannot be used; these clients get 404");
    }
    Ok(ClientRoutes { namespace: from.client_namespace.into(), http })
}

/// What a port without routes does: everything goes to the service itself.
fn default_route(itself: &Upstream) -> HttpRoute {
    let to = Weighted::new(Target::Upstream(itself.clone().into()));
    let mut forward = Forward::new(vec![(1, to)], route::NO_CLUSTER);
    forward.retry = Some(Box::new(route::default_retry()));
    HttpRoute {
        name: "default".into(),
        action: Action::Forward(Box::new(forward)),
        request_headers: None,
        response_headers: None,
        cors: None,
        fault: None,
    }
}

fn default_tcp_route(itself: &Upstream) -> TcpRoute {
    let to = Weighted::new(Target::Upstream(itself.clone().into()));
    TcpRoute::new("".into(), Vec::new(), Vec::new(), vec![(1, to)])
}

/// What is spoken.
pub(super) fn protocol(field: &str, from: i32) -> Result<Protocol, DecodeError> {
    Ok(match known(field, from)? {
        wire::Protocol::Auto => Protocol::Auto,
        wire::Protocol::Http => Protocol::Http,
        wire::Protocol::Http2 => Protocol::Http2,
        wire::Protocol::Grpc => Protocol::Grpc,
        wire::Protocol::Tcp => Protocol::Tcp,
        wire::Protocol::Tls => Protocol::Tls,
        wire::Protocol::GrpcWeb => Protocol::GrpcWeb,
    })
}

/// Routes of connections.
pub(super) fn tcp_routes(from: wire::TcpRoutes) -> Result<TcpRoutes, DecodeError> {
    each("routes", from.routes, tcp_route).map(TcpRoutes::new)
}

fn tcp_route(from: wire::TcpRoute) -> Result<TcpRoute, DecodeError> {
    let names = each("server_names", from.server_names, |name| host_pattern("", &name))?;
    let subnet = |text: String| text.parse::<IpNet>().map_err(|_| bad_text("", &text, "an address block (10.0.0.0/8)"));
    let subnets = each("destination_subnets", from.destination_subnets, subnet)?;
    let destinations = each("destinations", from.destinations, |one| route::weighted(one, None))?;
    Ok(TcpRoute::new(from.name.into(), names, subnets, destinations))
}

/// "a.example.com", "*.example.com" or "*".
pub(super) fn host_pattern(field: &str, text: &str) -> Result<HostPattern, DecodeError> {
    HostPattern::read(text).ok_or_else(|| bad_text(field, text, "a host, \"*.suffix\" or \"*\""))
}

/// One place to send to.
pub(super) fn upstream(from: wire::Upstream) -> Result<Upstream, DecodeError> {
    let service = key(from.namespace, from.hostname)?;
    Ok(Upstream { service, port: port("port", from.port)?, subset: from.subset.into() })
}

/// One place to send to, which must be named.
pub(super) fn required_upstream(field: &str, from: Option<wire::Upstream>) -> Result<Upstream, DecodeError> {
    required(field, from).and_then(|from| upstream(from).within(field))
}

/// A status that HTTP knows.
pub(super) fn status(field: &str, given: u32) -> Result<http::StatusCode, DecodeError> {
    let status = u16::try_from(given).ok().and_then(|code| http::StatusCode::from_u16(code).ok());
    status.ok_or_else(|| DecodeError::new(field, Wrong::Number { given: given.into(), expected: "a status of HTTP" }))
}
