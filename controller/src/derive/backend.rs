//! What layer 7 knows of a service, whichever kind of object it is: its name, its ports, how its endpoints are found.
//!
//! In: a Service, or a host of a ServiceEntry. Out: a [`Backend`]. Absent on purpose: routes, policies, endpoints.

use std::{fmt, sync::Arc};

use lateen_cluster::store::Key;
use lateen_wire::proxy;

use super::Mesh;
use crate::facts::{Distribution, Namespace, Resolution, Service, ServiceEntry};

/// A service by its name in the mesh.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceName {
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Its full name.
    pub hostname: Arc<str>,
}

impl ServiceName {
    /// The service `hostname` of `namespace`.
    pub fn new(namespace: &str, hostname: &str) -> Self {
        Self { namespace: namespace.into(), hostname: hostname.into() }
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.hostname)
    }
}

/// One TCP port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// The number callers use.
    pub number: u16,
    /// Its name.
    pub name: String,
    /// What is spoken there.
    pub protocol: proxy::Protocol,
}

/// A service as layer 7 sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backend {
    /// Its name.
    pub name: ServiceName,
    /// Its TCP ports.
    pub ports: Vec<Port>,
    /// How a connection finds its endpoint.
    pub resolution: proxy::Resolution,
    /// Which endpoints it prefers, where that is said of it or of its namespace.
    pub preference: Option<Distribution>,
    /// Names its endpoints' certificates may carry.
    pub identities: Vec<String>,
    /// Whether it is outside of the mesh.
    pub is_external: bool,
}

impl Backend {
    /// A Kubernetes service.
    pub fn of_service(mesh: &Mesh, key: &Key, service: &Service, space: Option<&Namespace>) -> Self {
        let ports = service.ports.iter().filter_map(|port| {
            let protocol = port.spoken?;
            Some(Port { number: port.number, name: port.name.clone(), protocol })
        });
        Self {
            name: ServiceName::new(&key.namespace, &mesh.hostname(key)),
            ports: ports.collect(),
            resolution: proxy::Resolution::Endpoints,
            preference: service.distribution.or_else(|| space.and_then(|space| space.distribution)),
            identities: Vec::new(),
            is_external: false,
        }
    }

    /// A host of a service entry.
    pub fn of_entry(key: &Key, entry: &ServiceEntry, host: &str, space: Option<&Namespace>) -> Self {
        let ports = entry.ports.iter().filter_map(|port| {
            let protocol = port.spoken?;
            Some(Port { number: port.number, name: port.name.clone(), protocol })
        });
        let resolution = match entry.resolution {
            Resolution::None => proxy::Resolution::Original,
            Resolution::DynamicDns => proxy::Resolution::RequestHost,
            Resolution::Static | Resolution::Dns | Resolution::DnsRoundRobin => proxy::Resolution::Endpoints,
        };
        Self {
            name: ServiceName::new(&key.namespace, host),
            ports: ports.collect(),
            resolution,
            preference: entry.distribution.or_else(|| space.and_then(|space| space.distribution)),
            identities: entry.identities.clone(),
            is_external: entry.is_external,
        }
    }

    /// Its port of this number.
    pub fn port(&self, number: u16) -> Option<&Port> {
        self.ports.iter().find(|port| port.number == number)
    }

    /// The hosts that requests may name: those of its wildcard, where endpoints are found by them.
    pub fn accepted_hosts(&self) -> Vec<String> {
        let asks = self.resolution == proxy::Resolution::RequestHost;
        if asks { vec![self.name.hostname.to_string()] } else { Vec::new() }
    }
}
