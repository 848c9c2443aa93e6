//! Gathers what the derivations for waypoints and gateways need, and derives.

use std::{cell::RefCell, collections::BTreeSet};

use lateen_cluster::store::Key;
use lateen_types::label::Labels;
use lateen_wire::type_url;

use super::{
    Graph, Made, Place, Thing, bindings::Bound, credentials::Need, eyes::Eyes, guards::Guard, listeners, resource,
};
use crate::{
    derive::{
        attached::Problem,
        backend::{Backend, ServiceName},
        credential::Wanted,
        destination::{self, Asker, Merged},
        gate::{Secrets as _, client},
        host_matches, proxy, served, waypoint,
    },
    facts::{DestinationRule, Phase},
};

/// What a derivation looked for, as it goes.
pub(super) type Looked = RefCell<BTreeSet<Thing>>;

impl Graph {
    /// How a waypoint serves a service.
    pub(super) fn served(&self, place: &Place) -> Made {
        if !self.bindings.is_served(place) {
            return Made::default();
        }
        let looked = Looked::default();
        let Some(backend) = self.backend(&place.service, &looked) else {
            return Made { looked_at: taken(looked), ..Made::default() };
        };
        let guards = self.guards_at(place, &looked);
        let policies = guards.iter().map(Guard::name).collect();
        let eyes = self.eyes(&place.gateway, &looked);
        let service = served::derive(&backend, policies, &mut |port| eyes.routes(&backend, port));
        let to = |service| Place { gateway: place.gateway.clone(), service };
        let uses = served::destinations(&service).map(to).collect();
        let keeps = served::keep_sessions(service.ports.iter().flat_map(|port| {
            let of_clients = port.http_of_clients.iter().flat_map(|own| &own.http);
            port.http.iter().chain(of_clients)
        }));
        let needs = keeps.then(|| Need { gateway: place.gateway.clone(), wanted: self.sessions() });
        let name = proxy::name_at(&place.gateway, &place.service);
        let served = resource::own(type_url::SERVICE, &name, &service, &place.gateway);
        Made {
            resources: guards.iter().map(Guard::resource).chain([served]).collect(),
            looked_at: taken(looked),
            uses,
            needs: needs.into_iter().collect(),
            ..Made::default()
        }
    }

    /// How a proxy sends to a service.
    pub(super) fn sent(&self, place: &Place) -> Made {
        if !self.bindings.is_sent_to(place) {
            return Made::default();
        }
        let looked = Looked::default();
        let Some(backend) = self.backend(&place.service, &looked) else {
            return Made { looked_at: taken(looked), ..Made::default() };
        };
        let labels = self.labels_of(&place.gateway);
        let merged = self.merged((&place.gateway, &labels), &place.service);
        let eyes = self.eyes(&place.gateway, &looked);
        let client = self.shown_to_backends(&place.gateway, &eyes);
        let around = destination::Around {
            gateway: &place.gateway,
            look: &|source| eyes.look(source),
            label_keys: &self.world.label_keys,
            through_waypoint: self.passes_waypoint(place, &looked),
            client: client.as_ref(),
            connect_timeout: self.mesh.proxies.connect_timeout,
            merged: merged.as_ref(),
            backing: &|port| eyes.backing(&backend, port),
        };
        let made = destination::derive(&backend, around);
        let name = proxy::name_at(&place.gateway, &place.service);
        let need = |wanted| Need { gateway: place.gateway.clone(), wanted };
        Made {
            resources: vec![resource::own(type_url::DESTINATION, &name, &made.destination, &place.gateway)],
            needs: made.wanted.into_iter().map(need).collect(),
            looked_at: taken(looked),
            ..Made::default()
        }
    }

    /// Whether a gateway is to send to a service through that service's own waypoint.
    fn passes_waypoint(&self, place: &Place, looked: &Looked) -> bool {
        if !self.found(&place.gateway).is_some_and(|found| self.is_gate(found)) {
            return false;
        }
        let name = &place.service;
        let named = self.service_named(&name.hostname).filter(|(key, _)| key.namespace == name.namespace);
        let granted = match named {
            Some((key, service)) => self.grant_service(key, service),
            None => {
                let holders = self.holders(&name.hostname);
                let held = holders.each.into_iter().find(|(key, _)| key.namespace == name.namespace);
                let Some((key, entry)) = held else { return false };
                self.grant_entry(key, entry)
            }
        };
        let passes = granted.ingress && granted.must_pass().is_some();
        looked.borrow_mut().extend(granted.looked_at.into_iter().map(Thing::Gateway));
        passes
    }

    /// The certificate that a Gateway's proxies show where a backend TLS policy asks for TLS.
    fn shown_to_backends(&self, gateway: &Key, eyes: &Eyes<'_>) -> Option<Result<Wanted, Problem>> {
        eyes.looked.borrow_mut().insert(Thing::Gateway(gateway.clone()));
        client::shown(gateway, &self.world.gateways.find(gateway)?.tls, eyes)
    }

    /// A waypoint or gateway itself.
    pub(super) fn proxy(&self, key: &Key) -> Made {
        let found = self.found(key);
        if let Some(found) = found.filter(|found| self.is_gate(*found)) {
            return self.gate(key, found);
        }
        let Some(found) = found.filter(|found| waypoint::is_ours(found.gateway)) else {
            let gateway = self.world.gateways.find(key).map(|gateway| &**gateway);
            return Made { told: vec![listeners::silent(key, gateway)], ..Made::default() };
        };
        let mut labels = self.labels_of(key);
        labels.retain(|label, _| self.world.label_keys.contains(label));
        let looked = Looked::default();
        let guards = self.guards_of(key, found, &looked);
        let policies = guards.iter().map(Guard::name).collect();
        let mut around = proxy::Around { labels, policies, ..proxy::Around::default() };
        for bound in self.bindings.served(key) {
            match bound {
                Bound::Service(service) => around.services.push(service),
                Bound::Workload(uid) => around.workloads.push(uid),
            }
        }
        let made = proxy::waypoint(&self.mesh.proxies, key, found, around);
        let proxy = resource::own(type_url::PROXY, &key.to_string(), &made, key);
        let told = listeners::told_of_waypoint(key, found.gateway, &self.eyes(key, &looked));
        Made {
            resources: guards.iter().map(Guard::resource).chain([proxy]).collect(),
            told: vec![told],
            looked_at: taken(looked),
            ..Made::default()
        }
    }

    /// What layer 7 knows of a service.
    pub(super) fn backend(&self, name: &ServiceName, looked: &Looked) -> Option<Backend> {
        looked.borrow_mut().insert(Thing::Host(name.hostname.to_string()));
        looked.borrow_mut().insert(Thing::Namespace(name.namespace.clone()));
        let space = self.space(&name.namespace);
        if let Some((key, service)) =
            self.service_named(&name.hostname).filter(|(key, _)| key.namespace == name.namespace)
        {
            return Some(Backend::of_service(&self.mesh, key, service, space));
        }
        let holders = self.holders(&name.hostname);
        let (key, entry) = holders.each.into_iter().find(|(key, _)| key.namespace == name.namespace)?;
        Some(Backend::of_entry(key, entry, &name.hostname, space))
    }

    /// What the destination rules say together of how a Gateway, whose pods carry `labels`, sends to a service. They are
    /// among what is told by [`Thing::Host`].
    pub(super) fn merged(&self, (gateway, labels): (&Key, &Labels), service: &ServiceName) -> Option<Merged<'_>> {
        let asker = Asker { mesh: &self.mesh, namespace: &gateway.namespace, labels, service };
        let rules = self.rules_of(&service.hostname);
        destination::lookup(asker, &rules)
    }

    fn rules_of(&self, hostname: &str) -> Vec<(&Key, &DestinationRule)> {
        let named = self.world.rules_of_host.of(hostname);
        let wild = self.world.wild_rules.iter().filter(|key| {
            let host = self.world.rules.find(key).map(|rule| self.mesh.fqdn(&rule.spec.host, &key.namespace));
            host.is_some_and(|host| host != *hostname && host_matches(&host, hostname))
        });
        let keys = named.chain(wild);
        keys.filter_map(|key| self.world.rules.pair(key)).map(|(key, rule)| (key, &**rule)).collect()
    }

    /// The labels all pods of a Gateway carry.
    pub(super) fn labels_of(&self, gateway: &Key) -> Labels {
        let mut pods = self.pod_labels(gateway);
        let Some(first) = pods.next() else { return Labels::new() };
        let mut labels = first.clone();
        for other in pods {
            labels.retain(|key, value| other.get(key) == Some(value));
        }
        labels
    }

    /// The labels of each pod of a Gateway that has not ended.
    pub(super) fn pod_labels(&self, gateway: &Key) -> impl Iterator<Item = &Labels> {
        let pods = self.world.pods_of_gateway.of(gateway).filter_map(|key| self.world.pods.find(key));
        pods.filter(|pod| pod.phase == Phase::Live).map(|pod| &*pod.labels)
    }
}

pub(super) fn taken(looked: Looked) -> Vec<Thing> {
    looked.into_inner().into_iter().collect()
}
