//! Gateways of the mesh's own API: which proxies they select, what these listen on by them, what their authors are told.

use std::collections::BTreeSet;

use lateen_cluster::store::Key;

use super::{
    Graph, Made, Thing,
    authors::{ACCEPTED, problem_word, unsupported},
    eyes::Eyes,
    proxies::{Looked, taken},
    told::{Kind, Object, Reporter, Told},
};
use crate::{
    derive::{
        gate::{
            hosts, judge,
            servers::{self, Listening, Selecting},
            taken::Taken,
        },
        route::{self, At},
        word::{Truth, Word},
    },
    facts::{self, Servers, VirtualService},
};

impl Graph {
    /// What the Gateways that select a proxy make it listen on.
    pub(super) fn selecting_doors(&self, gateway: &Key, eyes: &Eyes<'_>) -> servers::Made {
        eyes.looked.borrow_mut().insert(Thing::AllServers);
        let selecting = self.world.servers.all().filter(|(key, one)| self.selects_gate((key, one), gateway));
        let mut all: Vec<(&Key, &Servers)> = selecting.map(|(key, one)| (key, &**one)).collect();
        all.sort_by(|(one, first), (other, second)| (&first.age, *one).cmp(&(&second.age, *other)));
        let selecting = |(key, servers)| {
            eyes.looked.borrow_mut().insert(Thing::Servers(Key::clone(key)));
            Selecting { key, servers, bound: self.bound_to(key, gateway) }
        };
        let selecting: Vec<Selecting<'_>> = all.into_iter().map(selecting).collect();
        if let Some(Err(why)) = self.world.gateways.find(gateway).map(|own| &own.proxy) {
            // With less than was asked for it might believe whom it must not.
            let why = format!("the gateway {gateway} listens on nothing: {why}");
            let problems = selecting.iter().map(|one| (one.key.clone(), vec![why.clone()])).collect();
            return servers::Made { problems, ..servers::Made::default() };
        }
        let mut taken = Taken::default();
        if let Some(own) = self.world.gateways.find(gateway) {
            for (listener, judged) in own.listeners.iter().zip(judge::judge(&own.listeners, false)) {
                // A listener that is not listened on keeps its host.
                if let Some(spoken) = judged.spoken {
                    taken.own(listener.port, hosts::written(&listener.hostname), spoken);
                }
            }
        }
        servers::doors(Listening { gateway, asker: eyes.asker(0), secrets: eyes }, &selecting, taken)
    }

    /// The virtual services that name a Gateway and that the proxies of `gateway` see, the oldest first.
    fn bound_to(&self, servers: &Key, gateway: &Key) -> Vec<(&Key, &VirtualService)> {
        let place = servers.to_string();
        let keys = self.world.services_at.of(servers);
        let found = keys.filter_map(|key| self.world.virtual_services.pair(key)).map(|(key, one)| (key, &**one));
        let counts = |(key, one): &(&Key, &VirtualService)| {
            route::is_for(At::Gateway(&place), key, &one.spec) && self.mesh.shown.route(key, one).by(&gateway.namespace)
        };
        let mut all: Vec<(&Key, &VirtualService)> = found.filter(counts).collect();
        all.sort_by(|(one, first), (other, second)| (&first.age, *one).cmp(&(&second.age, *other)));
        all
    }

    /// Whether a selector chooses any of a gateway's pods: while pods with other labels take the places of old ones, all of
    /// them listen on what either had.
    fn selects_gate(&self, (key, servers): (&Key, &Servers), gateway: &Key) -> bool {
        let is_in_reach = !self.mesh.confines_servers || key.namespace == gateway.namespace;
        is_in_reach && self.pod_labels(gateway).any(|labels| facts::selects(&servers.spec.selector, labels))
    }

    /// The gateways whose pods a selector chooses.
    fn selected_gates(&self, (named, servers): (&Key, &Servers), looked: &Looked) -> Vec<&Key> {
        looked.borrow_mut().insert(Thing::Gates);
        let gates = self.world.gateways.all().filter_map(|(key, _)| {
            let found = self.found(key)?;
            (self.is_gate(found) && self.selects_gate((named, servers), key)).then_some(key)
        });
        let mut all: Vec<&Key> = gates.collect();
        all.sort_unstable();
        all
    }

    /// What the author of a Gateway is told.
    pub(super) fn author_of_servers(&self, key: &Key) -> Made {
        let object = Object { kind: Kind::Servers, key: key.clone() };
        let Some(servers) = self.world.servers.find(key) else {
            return Made {
                told: vec![Told { is_gone: true, ..Told::new(object, Reporter::Routes) }],
                ..Made::default()
            };
        };
        let looked = Looked::default();
        let gates = self.selected_gates((key, servers), &looked);
        // Found when the gateways themselves were derived, which comes before.
        let at_gates = gates.iter().filter_map(|gate| self.found_wrong.get(*gate)?.get(key));
        let problems: BTreeSet<String> = at_gates.flatten().cloned().collect();
        let mut words = vec![accepted(&gates, self.mesh.confines_servers)];
        if !gates.is_empty() {
            let reason = if problems.is_empty() { "ResolvedRefs" } else { "InvalidServer" };
            words.push(Word { reason, ..problem_word(&problems) });
        }
        words.extend(unsupported(&servers.unused));
        let told = Told {
            generation: servers.generation,
            words,
            was_said: servers.has_condition,
            ..Told::new(object, Reporter::Routes)
        };
        Made { told: vec![told], looked_at: taken(looked), ..Made::default() }
    }

    /// The gateways at which a virtual service acts, and what of it cannot work there.
    pub(super) fn acting_at(
        &self,
        key: &Key,
        service: &VirtualService,
        looked: &Looked,
    ) -> (BTreeSet<Key>, BTreeSet<String>) {
        let (mut acting, mut problems) = (BTreeSet::new(), BTreeSet::new());
        for name in service.spec.gateways.iter().filter(|name| *name != "mesh") {
            let place = gateway_named(name, &key.namespace);
            looked.borrow_mut().insert(Thing::Servers(place.clone()));
            looked.borrow_mut().insert(Thing::AllServers);
            let Some(servers) = self.world.servers.find(&place) else { continue };
            for gate in self.selected_gates((&place, servers), looked) {
                if !self.mesh.shown.route(key, service).by(&gate.namespace) {
                    continue;
                }
                acting.insert(gate.clone());
                let eyes = self.eyes(gate, looked);
                let text = place.to_string();
                let ports = servers.spec.servers.iter().map(|server| server.port.number);
                for port in ports {
                    let asker = route::Asker { at: At::Gateway(&text), ..eyes.asker(port) };
                    problems.extend(route::http(asker, key, service).problems);
                    problems.extend(route::tls(asker, key, service, None).problems);
                    problems.extend(route::tcp(asker, key, service).problems);
                }
            }
        }
        (acting, problems)
    }
}

/// The Gateway that a virtual service of `namespace` names.
pub(super) fn gateway_named(name: &str, namespace: &str) -> Key {
    match name.split_once('/') {
        Some((".", name)) => Key::new(namespace, name),
        Some((space, name)) => Key::new(space, name),
        None => Key::new(namespace, name),
    }
}

fn accepted(gates: &[&Key], is_confined: bool) -> Word {
    let word = |truth, reason, message| Word { kind: ACCEPTED, truth, reason, message };
    if gates.is_empty() {
        let place = if is_confined { " of its namespace (PILOT_SCOPE_GATEWAY_TO_NAMESPACE)" } else { "" };
        let message = format!(
            "its selector chooses the pods of no gateway{place}, so nothing acts on it; make a Gateway of class istio whose \
             pods carry these labels (spec.infrastructure.labels)"
        );
        return word(Truth::False, "NoGateway", message);
    }
    let names: Vec<String> = gates.iter().map(ToString::to_string).collect();
    word(Truth::True, "Accepted", format!("the gateways {} listen by it", names.join(", ")))
}
