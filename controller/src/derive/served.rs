//! How a waypoint serves a service: by port, with the routes that hold there.
//!
//! In: the service, its routes by port, the policies that hold for it. Out: `lateen.proxy.Service`.

use std::{collections::BTreeMap, sync::Arc};

use lateen_wire::proxy::{self as wire, http_route, weighted};

use super::backend::{Backend, Port, ServiceName};

/// The routes of one port.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Routes {
    /// Of requests.
    pub http: Vec<wire::HttpRoute>,
    /// Of requests of clients of one namespace, by its name; they count for these in place of `http`.
    pub of_clients: BTreeMap<Arc<str>, Vec<wire::HttpRoute>>,
    /// Of TLS that is not terminated.
    pub tls: Vec<wire::TcpRoute>,
    /// Of other connections.
    pub tcp: Vec<wire::TcpRoute>,
}

/// Where a service's requests and connections go, copies of them too.
pub fn destinations(service: &wire::Service) -> impl Iterator<Item = ServiceName> {
    let http = service.ports.iter().flat_map(|port| {
        let of_clients = port.http_of_clients.iter().flat_map(|own| &own.http);
        port.http.iter().chain(of_clients).flat_map(of_http)
    });
    let tcp = service.ports.iter().flat_map(|port| port.tls.iter().chain(&port.tcp));
    let tcp = tcp.flat_map(|route| &route.destinations).filter_map(of_share);
    http.chain(tcp).map(name_of)
}

/// Whether any of these routes keeps clients with their endpoints.
pub fn keep_sessions<'a>(mut routes: impl Iterator<Item = &'a wire::HttpRoute>) -> bool {
    routes.any(|route| match &route.action {
        Some(http_route::Action::Forward(forward)) => forward.session.is_some(),
        Some(http_route::Action::Redirect(_) | http_route::Action::Direct(_)) | None => false,
    })
}

/// The service that is sent to.
pub fn name_of(to: &wire::Upstream) -> ServiceName {
    ServiceName::new(&to.namespace, &to.hostname)
}

/// Where the requests of a route go.
pub fn of_http(route: &wire::HttpRoute) -> impl Iterator<Item = &wire::Upstream> {
    let forward = match &route.action {
        Some(http_route::Action::Forward(forward)) => Some(forward),
        Some(http_route::Action::Redirect(_) | http_route::Action::Direct(_)) | None => None,
    };
    forward.into_iter().flat_map(|forward| {
        let mirrors = forward.mirrors.iter().filter_map(|mirror| mirror.to.as_ref());
        forward.destinations.iter().filter_map(of_share).chain(mirrors)
    })
}

/// Where a share goes.
pub fn of_share(share: &wire::Weighted) -> Option<&wire::Upstream> {
    match &share.to {
        Some(weighted::To::Upstream(upstream)) => Some(upstream),
        Some(weighted::To::InvalidStatus(_) | weighted::To::Redirect(_)) | None => None,
    }
}

/// The service as it is served.
pub fn derive(backend: &Backend, policies: Vec<String>, routes: &mut dyn FnMut(&Port) -> Routes) -> wire::Service {
    let ports = backend.ports.iter().map(|port| {
        let Routes { http, of_clients, tls, tcp } = routes(port);
        let of_clients = of_clients.into_iter();
        let own =
            of_clients.map(|(namespace, http)| wire::ClientRoutes { client_namespace: namespace.to_string(), http });
        let (number, protocol) = (port.number.into(), port.protocol.into());
        wire::Port { port: number, protocol, http, http_of_clients: own.collect(), tls, tcp }
    });
    wire::Service {
        namespace: backend.name.namespace.to_string(),
        hostname: backend.name.hostname.to_string(),
        ports: ports.collect(),
        policies,
        accepted_hosts: backend.accepted_hosts(),
    }
}
