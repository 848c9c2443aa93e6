//! The cluster's objects as the graph holds them, with the indexes its questions need.

use std::{
    borrow::Borrow,
    collections::{BTreeMap, BTreeSet, HashMap, hash_map::Entry},
    hash::Hash,
    sync::Arc,
};

use lateen_cluster::store::Key;

use super::{
    attached::{Parent, RouteName},
    servers::gateway_named,
};

use crate::derive::{backing, destination};
use crate::facts::{
    AuthorizationPolicy, BackendTls, DestinationRule, EndpointSlice, Gateway, GatewayClass, Lookup, Namespace, Node,
    PeerAuthentication, Pod, ReferenceGrant, Route, RouteKind, Servers, Service, ServiceEntry, Source, VirtualService,
    WorkloadEntry,
};

/// Objects of one kind, by namespace.
#[derive(Debug)]
pub(super) struct Objects<V> {
    spaces: HashMap<Arc<str>, BTreeMap<Key, Arc<V>>>,
}

impl<V> Default for Objects<V> {
    fn default() -> Self {
        Self { spaces: HashMap::new() }
    }
}

impl<V> Objects<V> {
    /// Sets or removes; what was there before.
    pub(super) fn set(&mut self, key: &Key, new: Option<Arc<V>>) -> Option<Arc<V>> {
        if let Some(new) = new {
            return self.spaces.entry(key.namespace.clone()).or_default().insert(key.clone(), new);
        }
        let space = self.spaces.get_mut(&key.namespace)?;
        let old = space.remove(key);
        if space.is_empty() {
            self.spaces.remove(&key.namespace);
        }
        old
    }

    pub(super) fn find(&self, key: &Key) -> Option<&Arc<V>> {
        self.spaces.get(&key.namespace)?.get(key)
    }

    /// The kept key with its object.
    pub(super) fn pair(&self, key: &Key) -> Option<(&Key, &Arc<V>)> {
        self.spaces.get(&key.namespace)?.get_key_value(key)
    }

    /// All objects of a namespace, in the order of their names.
    pub(super) fn within(&self, namespace: &str) -> impl Iterator<Item = (&Key, &Arc<V>)> {
        self.spaces.get(namespace).into_iter().flatten()
    }

    pub(super) fn all(&self) -> impl Iterator<Item = (&Key, &Arc<V>)> {
        self.spaces.values().flatten()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.spaces.is_empty()
    }
}

/// Which objects belong to a thing. Ordered, so that the same cluster always gives the same answer.
#[derive(Debug)]
pub(super) struct Index<K, V = Key> {
    sets: HashMap<K, Set<V>>,
}

/// Never empty. Nearly every pod is named by one slice: a tree for each would be most of the index.
#[derive(Debug)]
enum Set<V> {
    One(V),
    Many(BTreeSet<V>),
}

impl<K, V> Default for Index<K, V> {
    fn default() -> Self {
        Self { sets: HashMap::new() }
    }
}

impl<K: Eq + Hash, V: Ord + Clone> Index<K, V> {
    pub(super) fn add(&mut self, of: K, value: &V) {
        match self.sets.entry(of) {
            Entry::Vacant(place) => _ = place.insert(Set::One(value.clone())),
            Entry::Occupied(mut place) => match place.get_mut() {
                Set::Many(all) => _ = all.insert(value.clone()),
                Set::One(one) if one == value => {}
                Set::One(one) => {
                    let both = [one.clone(), value.clone()].into();
                    *place.get_mut() = Set::Many(both);
                }
            },
        }
    }

    pub(super) fn remove<Q: Eq + Hash + ?Sized>(&mut self, of: &Q, value: &V)
    where
        K: Borrow<Q>,
    {
        let is_empty = match self.sets.get_mut(of) {
            None => false,
            Some(Set::One(one)) => one == value,
            Some(Set::Many(all)) => {
                all.remove(value);
                all.is_empty()
            }
        };
        if is_empty {
            self.sets.remove(of);
        }
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &K> {
        self.sets.keys()
    }

    pub(super) fn of<Q: Eq + Hash + ?Sized>(&self, of: &Q) -> impl Iterator<Item = &V> + use<'_, Q, K, V>
    where
        K: Borrow<Q>,
    {
        let (one, many) = match self.sets.get(of) {
            None => (None, None),
            Some(Set::One(one)) => (Some(one), None),
            Some(Set::Many(all)) => (None, Some(all)),
        };
        one.into_iter().chain(many.into_iter().flatten())
    }
}

/// Everything the graph knows of the cluster.
#[derive(Debug, Default)]
pub(super) struct World {
    pub(super) namespaces: Objects<Namespace>,
    pub(super) nodes: Objects<Node>,
    pub(super) pods: Objects<Pod>,
    pub(super) services: Objects<Service>,
    pub(super) slices: Objects<EndpointSlice>,
    pub(super) policies: Objects<AuthorizationPolicy>,
    pub(super) peers: Objects<PeerAuthentication>,
    pub(super) entries: Objects<ServiceEntry>,
    pub(super) externals: Objects<WorkloadEntry>,
    pub(super) gateways: Objects<Gateway>,
    pub(super) classes: Objects<GatewayClass>,
    pub(super) pods_on_node: Index<Arc<str>>,
    pub(super) pods_of_gateway: Index<Key>,
    pub(super) slices_of_service: Index<Key>,
    pub(super) slices_naming_pod: Index<Key>,
    pub(super) entries_of_host: Index<String>,
    /// Policies with targets, by namespace.
    pub(super) targeted_in: Index<Arc<str>>,
    pub(super) virtual_services: Objects<VirtualService>,
    /// Virtual services by the full names of their hosts, wildcards too.
    pub(super) services_of_host: Index<String>,
    /// Virtual services with a wildcard among their hosts.
    pub(super) wild_services: BTreeSet<Key>,
    pub(super) rules: Objects<DestinationRule>,
    /// Destination rules by the full name of their host, those of wildcards too.
    pub(super) rules_of_host: Index<String>,
    /// Destination rules whose host is a wildcard.
    pub(super) wild_rules: BTreeSet<Key>,
    routes: HashMap<RouteKind, Objects<Route>>,
    /// Routes of the Gateway API by what they are attached to.
    pub(super) routes_of: Index<Parent, RouteName>,
    pub(super) grants: Objects<ReferenceGrant>,
    /// Gateways of the mesh's own API.
    pub(super) servers: Objects<Servers>,
    /// Virtual services by the Gateways they name.
    pub(super) services_at: Index<Key>,
    pub(super) backings: Objects<BackendTls>,
    /// Backend TLS policies by the services they name.
    pub(super) backings_of: Index<Key>,
    /// What was found of the Secrets and ConfigMaps that somebody looks for.
    pub(super) credentials: HashMap<Source, Lookup>,
    /// The keys of labels by which destination rules choose endpoints, or once did: a route that leads to a subset may
    /// go after the rule that has it, and workloads must not lose their labels before. Never more than
    /// [`LABEL_KEYS_MAX`].
    pub(super) label_keys: BTreeSet<String>,
}

/// By as many labels endpoints are chosen in the whole mesh: every proxy holds them of every workload. What comes later is
/// not chosen by, and its subsets are refused.
pub(super) const LABEL_KEYS_MAX: usize = 256;

impl World {
    /// The namespaces that hold workloads.
    pub(super) fn spaces(&self) -> impl Iterator<Item = Arc<str>> {
        let all = self.pods.spaces.keys().chain(self.externals.spaces.keys()).chain(self.entries.spaces.keys());
        all.cloned().collect::<BTreeSet<_>>().into_iter()
    }

    /// Sets or removes an entry; what was there before.
    pub(super) fn set_entry(&mut self, key: &Key, new: Option<Arc<ServiceEntry>>) -> Option<Arc<ServiceEntry>> {
        let old = self.entries.set(key, new.clone());
        for host in old.iter().flat_map(|entry| &entry.hosts) {
            self.entries_of_host.remove(host, key);
        }
        for host in new.iter().flat_map(|entry| &entry.hosts) {
            self.entries_of_host.add(host.clone(), key);
        }
        old
    }

    /// Sets or removes a virtual service; what was there before.
    pub(super) fn set_virtual_service(
        &mut self,
        key: &Key,
        new: Option<Arc<VirtualService>>,
        fqdn: &dyn Fn(&String) -> String,
    ) -> Option<Arc<VirtualService>> {
        let old = self.virtual_services.set(key, new.clone());
        self.wild_services.remove(key);
        let places = |one: &VirtualService| -> Vec<Key> {
            let named = one.spec.gateways.iter().filter(|name| *name != "mesh");
            named.map(|name| gateway_named(name, &key.namespace)).collect()
        };
        old.iter().flat_map(|one| places(one)).for_each(|place| self.services_at.remove(&place, key));
        new.iter().flat_map(|one| places(one)).for_each(|place| self.services_at.add(place, key));
        for host in old.iter().flat_map(|one| &one.spec.hosts) {
            self.services_of_host.remove(&fqdn(host), key);
        }
        for host in new.iter().flat_map(|one| &one.spec.hosts).map(fqdn) {
            if host.starts_with('*') {
                self.wild_services.insert(key.clone());
            }
            self.services_of_host.add(host, key);
        }
        old
    }

    pub(super) fn route(&self, (kind, key): &RouteName) -> Option<&Route> {
        self.routes.get(kind)?.find(key).map(|route| &**route)
    }

    pub(super) fn all_routes(&self) -> impl Iterator<Item = RouteName> {
        self.routes.iter().flat_map(|(kind, all)| all.all().map(|(key, _)| (*kind, key.clone())))
    }

    /// Sets or removes a route; what was there before.
    pub(super) fn set_route(&mut self, name: &RouteName, new: Option<Arc<Route>>) -> Option<Arc<Route>> {
        let parents = |route: &Route| -> Vec<Parent> {
            let all = route.spec.parent_refs.iter();
            all.filter_map(|reference| Parent::of(reference, &name.1.namespace)).collect()
        };
        let old = self.routes.entry(name.0).or_default().set(&name.1, new.clone());
        for parent in old.iter().flat_map(|route| parents(route)) {
            self.routes_of.remove(&parent, name);
        }
        for parent in new.iter().flat_map(|route| parents(route)) {
            self.routes_of.add(parent, name);
        }
        old
    }

    /// Sets or removes a destination rule whose host's full name is `fqdn` of what is written; what was there before, and
    /// whether more labels choose endpoints now.
    pub(super) fn set_rule(
        &mut self,
        key: &Key,
        new: Option<Arc<DestinationRule>>,
        fqdn: &dyn Fn(&DestinationRule) -> String,
    ) -> (Option<Arc<DestinationRule>>, bool) {
        let known = self.label_keys.len();
        let old = self.rules.set(key, new.clone());
        self.wild_rules.remove(key);
        if let Some(old) = &old {
            self.rules_of_host.remove(&fqdn(old), key);
        }
        if let Some(new) = &new {
            let host = fqdn(new);
            if host.starts_with('*') {
                self.wild_rules.insert(key.clone());
            }
            self.rules_of_host.add(host, key);
            for label in destination::label_keys(new) {
                if self.label_keys.len() < LABEL_KEYS_MAX {
                    self.label_keys.insert(label.to_owned());
                }
            }
        }
        (old, known != self.label_keys.len())
    }

    /// Sets or removes a backend TLS policy; what was there before.
    pub(super) fn set_backing(&mut self, key: &Key, new: Option<Arc<BackendTls>>) -> Option<Arc<BackendTls>> {
        let old = self.backings.set(key, new.clone());
        for service in old.iter().flat_map(|one| backing::targets(key, one)) {
            self.backings_of.remove(&service, key);
        }
        for service in new.iter().flat_map(|one| backing::targets(key, one)) {
            self.backings_of.add(service, key);
        }
        old
    }

    /// Sets or removes a policy; what was there before.
    pub(super) fn set_policy(
        &mut self,
        key: &Key,
        new: Option<Arc<AuthorizationPolicy>>,
    ) -> Option<Arc<AuthorizationPolicy>> {
        self.targeted_in.remove(&key.namespace, key);
        if new.as_ref().is_some_and(|policy| policy.has_target()) {
            self.targeted_in.add(key.namespace.clone(), key);
        }
        self.policies.set(key, new)
    }

    /// Sets or removes a pod.
    pub(super) fn set_pod(&mut self, key: &Key, new: Option<Arc<Pod>>) {
        let gateway_of = |pod: &Pod| pod.gateway().map(|name| Key::new(&key.namespace, name));
        let node = new.as_ref().map(|pod| pod.node.clone());
        let gateway = new.as_deref().and_then(gateway_of);
        if let Some(old) = self.pods.set(key, new) {
            self.pods_on_node.remove(&old.node, key);
            if let Some(old) = gateway_of(&old) {
                self.pods_of_gateway.remove(&old, key);
            }
        }
        if let Some(gateway) = gateway {
            self.pods_of_gateway.add(gateway, key);
        }
        if let Some(node) = node.filter(|node| !node.is_empty()) {
            self.pods_on_node.add(node, key);
        }
    }

    /// Sets or removes a slice; what was there before.
    pub(super) fn set_slice(&mut self, key: &Key, new: Option<Arc<EndpointSlice>>) -> Option<Arc<EndpointSlice>> {
        let old = self.slices.set(key, new.clone());
        if let Some(old) = &old {
            self.slices_of_service.remove(&old.service, key);
            for pod in old.endpoints.iter().filter_map(|endpoint| endpoint.pod.as_ref()) {
                self.slices_naming_pod.remove(&pod.key, key);
            }
        }
        if let Some(new) = new {
            self.slices_of_service.add(new.service.clone(), key);
            for pod in new.endpoints.iter().filter_map(|endpoint| endpoint.pod.as_ref()) {
                self.slices_naming_pod.add(pod.key.clone(), key);
            }
        }
        old
    }
}
