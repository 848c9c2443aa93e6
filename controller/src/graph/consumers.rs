//! Routes that clients of another namespace than the service's wrote for themselves.
//!
//! In: such a route, the waypoint of the service. Out: what it becomes there, or why nothing. A waypoint knows its clients by
//! their certificates, so it can hold a route for those of one namespace alone; its owner says by `allowedRoutes` whether.

use std::{collections::BTreeSet, sync::Arc};

use lateen_cluster::store::Key;
use lateen_types::label::Labels;

use super::{
    Graph, Thing,
    attached::{Parent, RouteName},
    eyes::Eyes,
    proxies::Looked,
};
use crate::{
    derive::{
        attached::{self, Look, Problem},
        backend::{Backend, ServiceName},
        waypoint,
    },
    facts::{Route, RouteKind},
};

/// As a route of another namespace sees what it names: the service it is for is sent to anyway, and needs no grant. What
/// the waypoint may reach besides is not for strangers: they name what is theirs, or what grants let them.
struct FromOutside<'a> {
    eyes: &'a Eyes<'a>,
    own: &'a str,
    service: &'a ServiceName,
}

impl Look for FromOutside<'_> {
    fn service(&self, key: &Key) -> Option<Backend> {
        Look::service(self.eyes, key)
    }

    fn host(&self, hostname: &str) -> Option<Backend> {
        self.eyes.host(hostname).filter(|found| found.name == *self.service || *found.name.namespace == *self.own)
    }

    fn session_key(&self) -> (String, Option<Problem>) {
        Look::session_key(self.eyes)
    }

    fn lets(&self, from: (RouteKind, &str), to: (&str, &str, &Key)) -> bool {
        let (group, kind, key) = to;
        let named = ServiceName::new(&key.namespace, &self.eyes.graph.mesh.hostname(key));
        (group, kind) == ("", "Service") && named == *self.service || self.eyes.lets(from, to)
    }
}

impl Eyes<'_> {
    /// What becomes of a route at a service.
    pub(super) fn derived(
        &self,
        (name, route): (&RouteName, &Route),
        service: &ServiceName,
    ) -> Result<attached::Made, Problem> {
        if name.1.namespace == service.namespace {
            return attached::derive(self, &name.1, route);
        }
        attached::derive(&FromOutside { eyes: self, own: &name.1.namespace, service }, &name.1, route)
    }

    /// Whether the waypoint carries out what another namespace asks for its own clients: its `allowedRoutes` say so.
    pub(super) fn takes_routes_of(&self, namespace: &Arc<str>) -> bool {
        self.looked.borrow_mut().extend([Thing::Gateway(self.gateway.clone()), Thing::Namespace(namespace.clone())]);
        let nothing = Labels::new();
        let labels = self.graph.space(namespace).map_or(&nothing, |space| &space.labels);
        let found = self.graph.found(self.gateway);
        found.is_some_and(|found| waypoint::allows(found, self.gateway, (namespace, labels)))
    }
}

impl Graph {
    /// Why a route of another namespace than its parent's is not for clients there.
    pub(super) fn outside(
        &self,
        (name, parent): (&RouteName, &Parent),
        waypoints: &BTreeSet<&Key>,
        looked: &Looked,
    ) -> Option<Problem> {
        let (Parent::Service(key) | Parent::Entry(key) | Parent::Gateway(key)) = parent;
        let namespace = &name.1.namespace;
        let problem = |message: String| Some(Problem { reason: "NotAllowedByListeners", message });
        if namespace == &key.namespace {
            return None;
        }
        if !name.0.is_of_requests() {
            let kind = name.0.as_str();
            return problem(format!(
                "{kind}s hold for all clients of a service, so they must be of its namespace; write it in {}",
                key.namespace
            ));
        }
        if waypoints.iter().any(|waypoint| self.eyes(waypoint, looked).takes_routes_of(namespace)) {
            return None;
        }
        problem(format!("the waypoint of {key} takes no routes of the namespace {namespace}; {OWN_ONLY}"))
    }
}

/// Why a route of a client's namespace is not carried out, if it is one.
const OWN_ONLY: &str = "write the route in the service's namespace, or let the waypoint's listener take routes of this one \
                        (allowedRoutes.namespaces); it then holds for clients of this namespace";
