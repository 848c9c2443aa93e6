//! How a waypoint serves one service.
//!
//! In: what `compile` made of a resource. Out: the routes of each port. Absent on purpose: endpoints.

use std::sync::Arc;

use lateen_types::name::NamespacedHostname;

use super::tcp::TcpRoutes;
use crate::route::{HostMap, RouteTable};

/// One service as this proxy serves it.
#[derive(Debug)]
pub struct ServiceBook {
    /// Its key.
    pub key: NamespacedHostname,
    /// By number.
    ports: Box<[PortBook]>,
    /// Names of the policies that hold for requests to it, beside those of the proxy.
    pub policies: Box<[Arc<str>]>,
    /// The hosts requests may name; `None`: any (they were addressed to the service, whatever they say).
    accepted_hosts: Option<HostMap<()>>,
}

/// One port of a service.
#[derive(Debug)]
pub struct PortBook {
    /// The service's port.
    pub number: u16,
    /// What clients speak here.
    pub protocol: Protocol,
    /// Where requests go. An empty table of an HTTP port was compiled to one route to the service itself.
    pub http: RouteTable,
    /// Where requests of clients of some namespaces go instead, by the namespaces' names.
    pub of_clients: Box<[ClientRoutes]>,
    /// Connections by server name, looked at before `tcp`.
    pub tls: TcpRoutes,
    /// Connections.
    pub tcp: TcpRoutes,
}

/// Where requests of clients of one namespace go.
#[derive(Debug)]
pub struct ClientRoutes {
    /// The namespace of their identities.
    pub namespace: Box<str>,
    /// Their routes; there are no others for them.
    pub http: RouteTable,
}

impl PortBook {
    /// The routes for requests of a client in `namespace`; `None`: a client without identity.
    pub fn routes_of(&self, namespace: Option<&str>) -> &RouteTable {
        // Most ports have none, and ask nobody who they are.
        if self.of_clients.is_empty() {
            return &self.http;
        }
        let own = namespace.and_then(|name| self.of_clients.iter().find(|one| *one.namespace == *name));
        own.map_or(&self.http, |own| &own.http)
    }
}

/// What is spoken on a port or by an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// To be looked at: HTTP/1, HTTP/2 or neither.
    Auto,
    /// HTTP/1.1.
    Http,
    /// HTTP/2.
    Http2,
    /// gRPC, on HTTP/2.
    Grpc,
    /// gRPC for browsers.
    GrpcWeb,
    /// Bytes.
    Tcp,
    /// TLS that is not terminated here.
    Tls,
}

impl ServiceBook {
    /// A service; of two ports with one number the first counts.
    pub fn new(
        key: NamespacedHostname,
        mut ports: Vec<PortBook>,
        policies: Vec<Arc<str>>,
        accepted_hosts: Option<HostMap<()>>,
    ) -> Self {
        ports.sort_by_key(|port| port.number);
        ports.dedup_by_key(|port| port.number);
        Self { key, ports: ports.into(), policies: policies.into(), accepted_hosts }
    }

    /// The port `number`; `None`: the service has no such port, refuse.
    pub fn port(&self, number: u16) -> Option<&PortBook> {
        let at = self.ports.binary_search_by_key(&number, |port| port.number).ok()?;
        Some(&self.ports[at])
    }

    /// All ports, by number.
    pub fn ports(&self) -> &[PortBook] {
        &self.ports
    }

    /// Whether a request may name `host` (with or without a port). Else it is answered with 404.
    pub fn accepts_host(&self, host: &str) -> bool {
        self.accepted_hosts.as_ref().is_none_or(|hosts| hosts.find(host).is_some())
    }
}
