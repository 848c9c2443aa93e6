//! Which waypoint serves whom, and which proxy sends where.
//!
//! In: what each derivation found. Out: answers, and what of the proxies has to be derived anew.

use std::collections::{BTreeSet, HashMap, HashSet};

use lateen_cluster::store::Key;

use super::{Derived, Place, world::Index};
use crate::derive::backend::ServiceName;

/// Somebody a waypoint is to serve.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Binding {
    pub(super) gateway: Key,
    pub(super) to: Bound,
}

/// Whom.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Bound {
    Service(ServiceName),
    /// By uid.
    Workload(String),
}

/// Both relations. Who says so is kept, since of two derivations that say the same one may stop.
#[derive(Debug, Default)]
pub(super) struct Bindings {
    bound_by: HashMap<Derived, Vec<Binding>>,
    of_gateway: Index<Key, (Bound, Derived)>,
    gateways_of: Index<ServiceName, (Key, Derived)>,
    sent_by: HashMap<Derived, Vec<Place>>,
    senders: Index<Place, Derived>,
}

impl Bindings {
    /// Notes what `derived` binds now; the services whose waypoints differ.
    pub(super) fn bind(
        &mut self,
        derived: &Derived,
        new: Vec<Binding>,
        dirty: &mut HashSet<Derived>,
    ) -> BTreeSet<ServiceName> {
        let new: BTreeSet<Binding> = new.into_iter().collect();
        let old: BTreeSet<Binding> = self.bound_by.remove(derived).into_iter().flatten().collect();
        for gone in old.difference(&new) {
            self.of_gateway.remove(&gone.gateway, &(gone.to.clone(), derived.clone()));
            if let Bound::Service(name) = &gone.to {
                self.gateways_of.remove(name, &(gone.gateway.clone(), derived.clone()));
            }
        }
        for come in new.difference(&old) {
            self.of_gateway.add(come.gateway.clone(), &(come.to.clone(), derived.clone()));
            if let Bound::Service(name) = &come.to {
                self.gateways_of.add(name.clone(), &(come.gateway.clone(), derived.clone()));
            }
        }
        let mut differ = BTreeSet::new();
        for changed in old.symmetric_difference(&new) {
            dirty.insert(Derived::Proxy(changed.gateway.clone()));
            if let Bound::Service(service) = &changed.to {
                let place = Place { gateway: changed.gateway.clone(), service: service.clone() };
                dirty.insert(Derived::Served(place.clone()));
                dirty.insert(Derived::Sent(place));
                differ.insert(service.clone());
            }
        }
        if !new.is_empty() {
            self.bound_by.insert(derived.clone(), new.into_iter().collect());
        }
        differ
    }

    /// Notes where `derived` sends to now; the services for which that differs.
    pub(super) fn send(
        &mut self,
        derived: &Derived,
        mut new: Vec<Place>,
        dirty: &mut HashSet<Derived>,
    ) -> BTreeSet<ServiceName> {
        new.sort_unstable();
        new.dedup();
        let old = self.sent_by.remove(derived).unwrap_or_default();
        let mut differ = BTreeSet::new();
        for gone in old.iter().filter(|place| new.binary_search(place).is_err()) {
            self.senders.remove(gone, derived);
            differ.insert(gone.service.clone());
            dirty.insert(Derived::Sent(gone.clone()));
        }
        for come in new.iter().filter(|place| old.binary_search(place).is_err()) {
            self.senders.add(come.clone(), derived);
            differ.insert(come.service.clone());
            dirty.insert(Derived::Sent(come.clone()));
        }
        if !new.is_empty() {
            self.sent_by.insert(derived.clone(), new);
        }
        differ
    }

    /// The waypoints of a service, each once.
    pub(super) fn waypoints_of(&self, service: &ServiceName) -> Vec<&Key> {
        let mut all: Vec<&Key> = self.gateways_of.of(service).map(|(gateway, _)| gateway).collect();
        all.dedup();
        all
    }

    /// Services with such names and the waypoints that serve them.
    pub(super) fn serving(&self, is_it: impl Fn(&str) -> bool) -> Vec<(&ServiceName, &Key)> {
        let named = self.gateways_of.keys().filter(|name| is_it(&name.hostname));
        let mut all: Vec<(&ServiceName, &Key)> =
            named.flat_map(|name| self.gateways_of.of(name).map(move |(gateway, _)| (name, gateway))).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// Services with such names and the proxies that send to them.
    pub(super) fn sent(&self, is_it: impl Fn(&str) -> bool) -> BTreeSet<Place> {
        self.places().filter(|place| is_it(&place.service.hostname)).collect()
    }

    /// Whom a Gateway is to serve, each once, in order.
    pub(super) fn served(&self, gateway: &Key) -> Vec<&Bound> {
        let mut all: Vec<&Bound> = self.of_gateway.of(gateway).map(|(bound, _)| bound).collect();
        all.dedup();
        all
    }

    pub(super) fn is_served(&self, place: &Place) -> bool {
        self.gateways_of.of(&place.service).any(|(gateway, _)| *gateway == place.gateway)
    }

    /// Whether the proxy of the place sends there.
    pub(super) fn is_sent_to(&self, place: &Place) -> bool {
        self.is_served(place) || self.senders.of(place).next().is_some()
    }

    /// All places at which something is served or sent to.
    pub(super) fn places(&self) -> impl Iterator<Item = Place> {
        let served = self.bound_by.values().flatten().filter_map(|binding| match &binding.to {
            Bound::Service(service) => Some(Place { gateway: binding.gateway.clone(), service: service.clone() }),
            Bound::Workload(_) => None,
        });
        served.chain(self.sent_by.values().flatten().cloned())
    }
}
