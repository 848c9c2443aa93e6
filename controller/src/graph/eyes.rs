//! What a proxy sees of the routes of a service, and of what they name.

use lateen_cluster::store::Key;
use lateen_types::label::Labels;
use lateen_wire::proxy::Protocol;

use super::{Graph, Thing, attached::Attached, proxies::Looked};
use crate::{
    derive::{
        backend::{Backend, Port, ServiceName},
        host_matches,
        route::{self, Asker, At, Look},
        served::Routes,
    },
    facts::VirtualService,
};

/// The eyes of one Gateway's proxies; what they look for is noted.
pub(super) struct Eyes<'a> {
    pub(super) graph: &'a Graph,
    pub(super) gateway: &'a Key,
    /// The labels of its pods.
    labels: Labels,
    pub(super) looked: &'a Looked,
}

impl Graph {
    pub(super) fn eyes<'a>(&'a self, gateway: &'a Key, looked: &'a Looked) -> Eyes<'a> {
        Eyes { graph: self, gateway, labels: self.labels_of(gateway), looked }
    }

    /// The virtual services with a host that names `hostname`.
    fn routes_of(&self, hostname: &str) -> impl Iterator<Item = (&Key, &VirtualService)> {
        let named = self.world.services_of_host.of(hostname);
        let wild = self.world.wild_services.iter().filter(move |key| {
            let found = self.world.virtual_services.find(key);
            found.is_some_and(|service| {
                let mut hosts = service.spec.hosts.iter().map(|host| self.mesh.fqdn(host, &key.namespace));
                hosts.any(|host| host.starts_with('*') && host != *hostname && host_matches(&host, hostname))
            })
        });
        let mut keys: Vec<&Key> = named.chain(wild).collect();
        keys.sort_unstable();
        keys.dedup();
        keys.into_iter().filter_map(|key| self.world.virtual_services.pair(key)).map(|(key, one)| (key, &**one))
    }
}

impl Look for Eyes<'_> {
    fn service(&self, hostname: &str) -> Option<Backend> {
        self.looked.borrow_mut().insert(Thing::Host(hostname.to_owned()));
        let name = self.graph.service_seen(hostname, &self.gateway.namespace)?;
        self.graph.backend(&name, self.looked)
    }

    fn has_subset(&self, service: &ServiceName, subset: &str) -> bool {
        self.looked.borrow_mut().insert(Thing::Host(service.hostname.to_string()));
        self.graph.merged((self.gateway, &self.labels), service).is_some_and(|merged| merged.has(subset))
    }

    fn delegate(&self, key: &Key) -> Option<&VirtualService> {
        self.looked.borrow_mut().insert(Thing::VirtualService(key.clone()));
        self.graph.world.virtual_services.find(key).map(|found| &**found)
    }
}

impl<'a> Eyes<'a> {
    /// The virtual services that count for a service at this waypoint: of the service's namespace or its own.
    pub(super) fn chosen(&self, service: &ServiceName) -> Vec<(&'a Key, &'a VirtualService)> {
        self.looked.borrow_mut().insert(Thing::Routes(service.hostname.to_string()));
        let graph = self.graph;
        let own = &self.gateway.namespace;
        let counts = |(key, found): &(&Key, &VirtualService)| {
            let near = key.namespace == service.namespace || key.namespace == *own;
            near && route::is_for(At::Mesh, key, &found.spec) && graph.mesh.shown.route(key, found).by(own)
        };
        route::choose(&graph.mesh, &service.hostname, graph.routes_of(&service.hostname).filter(counts))
    }

    pub(super) fn asker(&self, port: u16) -> Asker<'_> {
        Asker { mesh: &self.graph.mesh, namespace: &self.gateway.namespace, at: At::Mesh, port, look: self }
    }

    /// The routes of one port of a service that this waypoint serves.
    pub(super) fn routes(&self, backend: &Backend, port: &Port) -> Routes {
        let Attached { routes: mut made, of_requests, of_connections } = self.attached(backend, port);
        let asker = self.asker(port.number);
        for (key, service) in self.chosen(&backend.name) {
            if !of_requests && port.protocol != Protocol::Tcp && port.protocol != Protocol::Tls {
                made.http.extend(route::http(asker, key, service).routes);
            }
            if !of_connections && matches!(port.protocol, Protocol::Tls) {
                made.tls.extend(route::tls(asker, key, service, Some(&backend.name.hostname)).routes);
            }
            if !of_connections && matches!(port.protocol, Protocol::Tcp | Protocol::Tls | Protocol::Auto) {
                made.tcp.extend(route::tcp(asker, key, service).routes);
            }
        }
        made
    }
}
