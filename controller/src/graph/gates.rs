//! Gathers what a gateway needs, and derives it: what it listens on, and what the authors of its listeners are told.

use std::collections::BTreeSet;

use lateen_cluster::{api::ParentRef, store::Key};
use lateen_types::label::Labels;
use lateen_wire::type_url;

use super::{
    Graph, Made, Place, Thing,
    attached::{Parent, RouteName},
    credentials::Need,
    eyes::Eyes,
    guards::Guard,
    listeners,
    proxies::{Looked, taken},
    resource,
};
use crate::{
    derive::{
        attached,
        credential::Wanted,
        gate::{
            self, Door, Secrets,
            attach::{self, Asking, Gate},
            judge::{self, Judged},
            sections::{self, Attached, Section},
            tls,
        },
        proxy,
        waypoint::Found,
    },
    facts::{Gateway, GatewayListener, Lookup, Route, Source},
    provision::{Class, Role},
};

impl Secrets for Eyes<'_> {
    fn look(&self, source: &Source) -> Lookup {
        self.looked.borrow_mut().insert(Thing::Credential(source.clone()));
        self.graph.world.credentials.get(source).cloned().unwrap_or(Lookup::Pending)
    }

    fn lets(&self, namespace: &str, to: &Source) -> bool {
        let (kind, key) = match to {
            Source::Secret(key) => ("Secret", key),
            Source::ConfigMap(key) => ("ConfigMap", key),
        };
        self.looked.borrow_mut().insert(Thing::Grants(key.namespace.clone()));
        let mut grants = self.graph.world.grants.within(&key.namespace);
        grants.any(|(_, grant)| grant.lets(("Gateway", namespace), ("", kind, &key.name)))
    }
}

/// A listener with what was found of it.
pub(super) struct Listened {
    pub(super) judged: Judged,
    pub(super) ended: tls::Ended,
    pub(super) attached: usize,
}

/// What a gateway's own listeners give.
struct Gathered {
    doors: Vec<Door>,
    /// What is not listened on, whose hosts are its own all the same.
    closed: Vec<Door>,
    wanted: Vec<Wanted>,
    listened: Vec<Listened>,
}

impl Graph {
    /// The class of a Gateway, where it is one of ours.
    pub(super) fn class_of(&self, found: Found<'_>) -> Option<Class> {
        Class::of(&found.gateway.class, found.class.map(|class| class.controller.as_str()))
    }

    pub(super) fn is_gate(&self, found: Found<'_>) -> bool {
        self.class_of(found).is_some_and(|class| class.role == Role::Gateway)
    }

    /// A gateway itself.
    pub(super) fn gate(&self, key: &Key, found: Found<'_>) -> Made {
        let looked = Looked::default();
        let eyes = self.eyes(key, &looked);
        let own = self.gathered(key, found.gateway, &eyes);
        let selecting = self.selecting_doors(key, &eyes);
        let closed = own.closed.into_iter().chain(selecting.closed).collect();
        let listeners = gate::merge(own.doors.into_iter().chain(selecting.doors).collect(), closed);
        let guards = self.guards_of(key, found, &looked);
        let mut labels = self.labels_of(key);
        labels.retain(|label, _| self.world.label_keys.contains(label));
        let to = |service| Place { gateway: key.clone(), service };
        let uses = gate::destinations(&listeners).map(to).collect();
        let mut wanted: BTreeSet<Wanted> = own.wanted.into_iter().chain(selecting.wanted).collect();
        wanted.extend(gate::keep_sessions(&listeners).then(|| self.sessions()));
        let facing = proxy::Facing {
            listeners,
            policies: guards.iter().map(Guard::name).collect(),
            labels,
            config: found.gateway.proxy.clone().unwrap_or_default(),
        };
        let made = proxy::gateway(&self.mesh.proxies, key, facing);
        let told = listeners::told(key, found.gateway, (&own.listened, &eyes));
        let proxy = resource::own(type_url::PROXY, &key.to_string(), &made, key);
        Made {
            resources: guards.iter().map(Guard::resource).chain([proxy]).collect(),
            told: vec![told],
            found_wrong: selecting.problems,
            looked_at: taken(looked),
            uses,
            needs: wanted.into_iter().map(|wanted| Need { gateway: key.clone(), wanted }).collect(),
            ..Made::default()
        }
    }

    fn gathered(&self, key: &Key, gateway: &Gateway, eyes: &Eyes<'_>) -> Gathered {
        let judged = judge::judge(&gateway.listeners, false);
        let gate = Gate { key, listeners: &gateway.listeners, judged: &judged };
        let mut routes: Vec<Vec<Attached>> = gateway.listeners.iter().map(|_| Vec::new()).collect();
        for (name, route) in self.routes_at(key) {
            let Ok(made) = attached::derive(eyes, &name.1, route) else { continue };
            for (at, hosts) in self.taken(gate, (name, route), eyes.looked) {
                routes[at].push(Attached { hosts: hosts.into_iter().collect(), made: made.clone() });
            }
        }
        let (mut sections, mut wanted, mut listened) = (Vec::new(), Vec::new(), Vec::new());
        for ((listener, judged), routes) in gateway.listeners.iter().zip(judged).zip(routes) {
            let ended = ended_at((key, gateway), (listener, &judged), eyes);
            let attached = routes.len();
            let is_open = judged.is_accepted() && ended.refused.is_none();
            if is_open {
                wanted.extend(ended.wanted.iter().cloned());
            }
            if let Some(spoken) = judged.spoken {
                sections.push(Section { listener, spoken, is_open, ended: ended.terms.clone(), routes });
            }
            listened.push(Listened { judged, ended, attached });
        }
        let (doors, closed) = (sections::doors(&sections), sections::closed(&sections));
        Gathered { doors, closed, wanted, listened }
    }

    /// Why none of these listeners is listened on; nothing where one is, or nobody can say yet.
    pub(super) fn not_listened_on(
        &self,
        (key, gateway): (&Key, &Gateway),
        (judged, numbers): (&[Judged], impl Iterator<Item = usize>),
        looked: &Looked,
    ) -> Option<String> {
        let eyes = self.eyes(key, looked);
        let mut why = None;
        for at in numbers {
            let (listener, judged) = (&gateway.listeners[at], &judged[at]);
            let ended = ended_at((key, gateway), (listener, judged), &eyes);
            let missing = ended.unresolved.as_ref().filter(|_| ended.terms.is_none());
            let problem = judged.why_not().or(ended.refused.as_ref()).or(missing)?;
            why.get_or_insert(format!("the listener {} is not listened on: {}", listener.name, problem.message));
        }
        why
    }

    /// The routes that name a Gateway, the oldest first.
    fn routes_at(&self, key: &Key) -> Vec<(&RouteName, &Route)> {
        let named = self.world.routes_of.of(&Parent::Gateway(key.clone()));
        let mut all: Vec<_> = named.filter_map(|name| self.world.route(name).map(|route| (name, route))).collect();
        all.sort_by(|(one, first), (other, second)| (&first.age, one).cmp(&(&second.age, other)));
        all
    }

    /// The listeners that take a route, whichever of its references say so, with the hosts.
    fn taken(
        &self,
        gate: Gate<'_>,
        (name, route): (&RouteName, &Route),
        looked: &Looked,
    ) -> std::collections::BTreeMap<usize, BTreeSet<String>> {
        let mut found: std::collections::BTreeMap<usize, BTreeSet<String>> = std::collections::BTreeMap::new();
        let here = Parent::Gateway(gate.key.clone());
        let namespace = &name.1.namespace;
        let named = route.spec.parent_refs.iter().filter(|one| Parent::of(one, namespace).as_ref() == Some(&here));
        for reference in named {
            for taken in self.attach(gate, reference, (name, route), looked).unwrap_or_default() {
                found.entry(taken.listener).or_default().extend(taken.hosts);
            }
        }
        found
    }

    /// Attaches a route by one of its references.
    pub(super) fn attach(
        &self,
        gate: Gate<'_>,
        reference: &ParentRef,
        (name, route): (&RouteName, &Route),
        looked: &Looked,
    ) -> Result<Vec<attach::Taken>, attached::Problem> {
        looked.borrow_mut().insert(Thing::Namespace(name.1.namespace.clone()));
        let nothing = Labels::new();
        let labels = self.space(&name.1.namespace).map_or(&nothing, |space| &space.labels);
        attach::attach(gate, reference, Asking { namespace: &name.1.namespace, labels, route })
    }
}

/// How TLS ends at a listener, and what keeps it from being listened on.
fn ended_at(
    (key, gateway): (&Key, &Gateway),
    (listener, judged): (&GatewayListener, &Judged),
    eyes: &Eyes<'_>,
) -> tls::Ended {
    let mut ended = match judged.spoken {
        Some(judge::Spoken::Https | judge::Spoken::Terminated) => {
            tls::derive(key, listener, tls::validation(&gateway.tls, listener.port), eyes)
        }
        Some(judge::Spoken::Http | judge::Spoken::Passed | judge::Spoken::Tcp | judge::Spoken::Tunnels) | None => {
            tls::Ended::default()
        }
    };
    if let Err(why) = &gateway.proxy {
        // With less than was asked for it might believe whom it must not.
        ended.refused = Some(gate::problem("InvalidParameters", why.clone()));
    }
    ended
}
