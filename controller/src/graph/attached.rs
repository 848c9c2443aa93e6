//! Routes of the Gateway API that are attached to services: which count where, and what their authors are told.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use lateen_cluster::{api::ParentRef, store::Key};
use lateen_wire::proxy::Protocol;

use super::{
    Graph, Made, Thing,
    eyes::Eyes,
    proxies::{Looked, taken},
    told::{Kind, Object, ParentTold, Reporter, Told},
};
use crate::{
    derive::{
        attached::{self, Look, Problem, Ranked},
        backend::{Backend, Port, ServiceName},
        credential::{self, Trouble},
        gate::{Secrets, attach::Gate, judge},
        served::Routes,
        word::{Truth, Word},
    },
    facts::{self, CONTROLLER, Route, RouteKind},
};

/// A route by its place.
pub(super) type RouteName = (RouteKind, Key);

/// What a route is attached to.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Parent {
    Service(Key),
    Entry(Key),
    Gateway(Key),
}

impl Parent {
    /// The parent that a route in `namespace` names; none for kinds that are nothing to us.
    pub(super) fn of(reference: &ParentRef, namespace: &str) -> Option<Self> {
        let key = Key::new(reference.namespace.as_deref().unwrap_or(namespace), &reference.name);
        let group = reference.group.as_deref().unwrap_or("gateway.networking.k8s.io");
        match (group, reference.kind.as_deref().unwrap_or("Gateway")) {
            ("" | "core", "Service") => Some(Self::Service(key)),
            ("networking.istio.io", "ServiceEntry") => Some(Self::Entry(key)),
            ("gateway.networking.k8s.io", "Gateway") => Some(Self::Gateway(key)),
            _ => None,
        }
    }
}

impl Look for Eyes<'_> {
    fn service(&self, key: &Key) -> Option<Backend> {
        let hostname = self.graph.mesh.hostname(key);
        self.graph.backend(&ServiceName::new(&key.namespace, &hostname), self.looked)
    }

    fn host(&self, hostname: &str) -> Option<Backend> {
        crate::derive::route::Look::service(self, hostname)
    }

    fn session_key(&self) -> (String, Option<Problem>) {
        let wanted = self.graph.sessions();
        let [source] = wanted.sources() else { return (String::new(), None) };
        let found = credential::sessions_in(source, &|source| Secrets::look(self, source));
        let problem = found.err().and_then(|trouble| match trouble {
            Trouble::Pending => None,
            Trouble::Kept(why) | Trouble::Unusable(why) => Some(Problem {
                reason: "NoSessionKey",
                message: format!("requests are refused while sessions cannot be sealed: {why}"),
            }),
        });
        (wanted.name_at(self.gateway), problem)
    }

    fn lets(&self, (kind, namespace): (RouteKind, &str), (group, to_kind, to): (&str, &str, &Key)) -> bool {
        self.looked.borrow_mut().insert(Thing::Grants(to.namespace.clone()));
        let mut grants = self.graph.world.grants.within(&to.namespace);
        grants.any(|(_, grant)| grant.lets((kind.as_str(), namespace), (group, to_kind, &to.name)))
    }
}

/// What is attached to a port.
#[derive(Debug, Default)]
pub(super) struct Attached {
    pub(super) routes: Routes,
    /// Whether any is for requests.
    pub(super) of_requests: bool,
    /// Whether any is for connections.
    pub(super) of_connections: bool,
}

impl Eyes<'_> {
    /// What routes of the Gateway API say of one port. Where one is attached, of requests or of connections, what virtual
    /// services say of those does not count.
    pub(super) fn attached(&self, backend: &Backend, port: &Port) -> Attached {
        let mut found = Attached::default();
        let mut ranked: Vec<Ranked> = Vec::new();
        let mut of_clients: BTreeMap<Arc<str>, Vec<Ranked>> = BTreeMap::new();
        for (name, route) in self.graph.attached_to(backend, port.number) {
            let Ok(made) = self.derived((name, route), &backend.name) else { continue };
            match (name.0, port.protocol) {
                (RouteKind::Http | RouteKind::Grpc, Protocol::Tcp | Protocol::Tls) => {}
                // Of clients: what holds for all others is not theirs to say.
                _ if name.1.namespace != backend.name.namespace => {
                    if name.0.is_of_requests() && self.takes_routes_of(&name.1.namespace) && !made.http.is_empty() {
                        of_clients.entry(name.1.namespace.clone()).or_default().extend(made.http);
                    }
                }
                (RouteKind::Http | RouteKind::Grpc, _) => {
                    found.of_requests = true;
                    ranked.extend(made.http);
                }
                (RouteKind::Tls, Protocol::Tls) => {
                    found.of_connections = true;
                    found.routes.tls.extend(made.tcp);
                }
                (RouteKind::Tcp, Protocol::Tcp | Protocol::Tls | Protocol::Auto) => {
                    found.of_connections = true;
                    found.routes.tcp.extend(made.tcp);
                }
                (RouteKind::Tls | RouteKind::Tcp, _) => {}
            }
        }
        found.routes.http = attached::sorted(ranked);
        let of_clients = of_clients.into_iter().map(|(namespace, ranked)| (namespace, attached::sorted(ranked)));
        found.routes.of_clients = of_clients.collect();
        found
    }
}

impl Graph {
    /// The routes attached to a port of a service, the oldest first; those of other namespaces are for clients there.
    fn attached_to(&self, backend: &Backend, port: u16) -> Vec<(&RouteName, &Route)> {
        let Some(parent) = self.parent_of(backend) else { return Vec::new() };
        let named = self.world.routes_of.of(&parent);
        let found = named.filter_map(|name| self.world.route(name).map(|route| (name, route)));
        let is_here = |reference: &ParentRef, namespace: &str| {
            Parent::of(reference, namespace).as_ref() == Some(&parent) && reference.port.is_none_or(|one| one == port)
        };
        let mut all: Vec<(&RouteName, &Route)> = found
            .filter(|(name, route)| route.spec.parent_refs.iter().any(|one| is_here(one, &name.1.namespace)))
            .collect();
        all.sort_by(|(one, first), (other, second)| (&first.age, one).cmp(&(&second.age, other)));
        all
    }

    /// The object that routes and policies name for a service.
    pub(super) fn parent_of(&self, backend: &Backend) -> Option<Parent> {
        let name = &backend.name;
        if let Some((key, _)) = self.service_named(&name.hostname).filter(|(key, _)| key.namespace == name.namespace) {
            return Some(Parent::Service(key.clone()));
        }
        let holders = self.holders(&name.hostname).each;
        holders.into_iter().find(|(key, _)| key.namespace == name.namespace).map(|(key, _)| Parent::Entry(key.clone()))
    }

    /// The services that a parent is.
    pub(super) fn services_at(&self, parent: &Parent) -> Vec<ServiceName> {
        match parent {
            Parent::Service(key) => vec![ServiceName::new(&key.namespace, &self.mesh.hostname(key))],
            Parent::Entry(key) => {
                let hosts = self.world.entries.find(key).into_iter().flat_map(|entry| entry.hosts.iter());
                hosts.map(|host| ServiceName::new(&key.namespace, host)).collect()
            }
            Parent::Gateway(_) => Vec::new(),
        }
    }

    /// What the author of a route is told, for each parent of ours.
    pub(super) fn author_of_route(&self, name: &RouteName) -> Made {
        let object = Object { kind: Kind::Route(name.0), key: name.1.clone() };
        let said = |generation, parents, was_said, is_gone| Told {
            object: object.clone(),
            reporter: Reporter::Parents,
            generation,
            words: Vec::new(),
            parents,
            listeners: Vec::new(),
            was_said,
            is_gone,
        };
        let Some(route) = self.world.route(name) else {
            return Made { told: vec![said(0, Vec::new(), false, true)], ..Made::default() };
        };
        let looked = Looked::default();
        let mut parents: Vec<ParentTold> = Vec::new();
        for reference in &route.spec.parent_refs {
            let Some(parent) = Parent::of(reference, &name.1.namespace) else { continue };
            if parents.iter().any(|one| one.reference == *reference) {
                continue;
            }
            let (words, controller) = match &parent {
                // Whoever runs a Gateway speaks of what is attached to it.
                Parent::Gateway(key) => match self.words_at_gate((name, route), (reference, key), &looked) {
                    Some(words) => (words, self.controller_at(key)),
                    None => continue,
                },
                Parent::Service(_) | Parent::Entry(_) => {
                    (self.words_at((name, route), (reference, &parent), &looked), CONTROLLER)
                }
            };
            parents.push(ParentTold { reference: reference.clone(), controller, words });
        }
        let told = said(route.generation, parents, !route.told.is_empty(), false);
        Made { told: vec![told], looked_at: taken(looked), ..Made::default() }
    }

    /// What is said of a route at a Gateway of ours.
    fn words_at_gate(
        &self,
        (name, route): (&RouteName, &Route),
        (reference, key): (&ParentRef, &Key),
        looked: &Looked,
    ) -> Option<Vec<Word>> {
        looked.borrow_mut().insert(Thing::Gateway(key.clone()));
        let found = self.found(key).filter(|found| self.is_gate(*found))?;
        let judged = judge::judge(&found.gateway.listeners, false);
        let gate = Gate { key, listeners: &found.gateway.listeners, judged: &judged };
        let taken = self.attach(gate, reference, (name, route), looked);
        let made = attached::derive(&self.eyes(key, looked), &name.1, route);
        let refused = made.as_ref().err().or(taken.as_ref().err());
        let unresolved = made.as_ref().ok().and_then(|made| made.unresolved.first());
        let numbers = taken.iter().flatten().map(|one| one.listener);
        let closed = self.not_listened_on((key, found.gateway), (&judged, numbers), looked);
        let in_use = closed.map_or_else(|| "it is in use".to_owned(), |why| format!("it is attached, but {why}"));
        Some(vec![
            answer("Accepted", refused, "Accepted", &in_use),
            answer("ResolvedRefs", unresolved, "ResolvedRefs", "all it names is there"),
        ])
    }

    /// The name under which statuses speak of a Gateway.
    pub(super) fn controller_at(&self, gateway: &Key) -> &'static str {
        let class = self.found(gateway).and_then(|found| self.class_of(found));
        let own = class.map(|class| class.controller).filter(|controller| facts::is_controller(controller));
        own.unwrap_or(CONTROLLER)
    }

    fn words_at(
        &self,
        (name, route): (&RouteName, &Route),
        (reference, parent): (&ParentRef, &Parent),
        looked: &Looked,
    ) -> Vec<Word> {
        if let Parent::Entry(key) = parent {
            looked.borrow_mut().insert(Thing::Entry(key.clone()));
        }
        let services = self.services_at(parent);
        let backends: Vec<Backend> = services.iter().filter_map(|service| self.backend(service, looked)).collect();
        let mut waypoints = BTreeSet::new();
        for service in &services {
            looked.borrow_mut().insert(Thing::Bound(service.hostname.to_string()));
            waypoints.extend(self.bindings.waypoints_of(service));
        }
        // Whether what it names is there is seen with the eyes of its waypoint, else of its own namespace.
        let own = Key::new(&name.1.namespace, "");
        let eyes = self.eyes(waypoints.first().copied().unwrap_or(&own), looked);
        let made = match services.first() {
            Some(service) => eyes.derived((name, route), service),
            None => attached::derive(&eyes, &name.1, route),
        };
        let unresolved = made.as_ref().ok().and_then(|made| made.unresolved.first());
        let outside = || self.outside((name, parent), &waypoints, looked);
        let refused = refusal((reference, parent), &backends).or_else(outside);
        let refused = refused.or_else(|| made.as_ref().err().cloned());
        vec![
            answer("Accepted", refused.as_ref(), "Accepted", "it is in use"),
            answer("ResolvedRefs", unresolved, "ResolvedRefs", "all it names is there"),
            waypoint_word(&waypoints),
        ]
    }
}

/// Why a route cannot be attached to a parent.
fn refusal((reference, parent): (&ParentRef, &Parent), backends: &[Backend]) -> Option<Problem> {
    let problem = |reason, message: String| Some(Problem { reason, message });
    let (Parent::Service(key) | Parent::Entry(key) | Parent::Gateway(key)) = parent;
    if backends.is_empty() {
        let kind = reference.kind.as_deref().unwrap_or_default();
        return problem("NoMatchingParent", format!("there is no {kind} {key}"));
    }
    if let Some(port) = reference.port.filter(|port| !backends.iter().any(|one| one.port(*port).is_some())) {
        return problem("NoMatchingParent", format!("{key} has no TCP port {port}"));
    }
    None
}

pub(super) fn answer(kind: &'static str, problem: Option<&Problem>, reason: &'static str, message: &str) -> Word {
    match problem {
        None => Word { kind, truth: Truth::True, reason, message: message.to_owned() },
        Some(problem) => Word { kind, truth: Truth::False, reason: problem.reason, message: problem.message.clone() },
    }
}

fn waypoint_word(waypoints: &BTreeSet<&Key>) -> Word {
    let kind = "ResolvedWaypoints";
    let Some(first) = waypoints.first() else {
        let message =
            "no waypoint serves the parent, so nothing acts on the route; label it with istio.io/use-waypoint";
        return Word { kind, truth: Truth::False, reason: "MissingUseWaypointLabel", message: message.to_owned() };
    };
    Word { kind, truth: Truth::True, reason: kind, message: format!("the waypoint {first} acts on it") }
}
