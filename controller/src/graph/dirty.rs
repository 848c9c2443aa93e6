//! What hangs on what.
//!
//! | changed | derived anew |
//! | --- | --- |
//! | pod | itself; services that select it, where waypoints of its namespace are for accounts |
//! | node | its pods |
//! | namespace | its services and entries; its workloads when labels change; everything when the network does |
//! | service | itself, workloads its selector matched before or after, its slices and the pods they name, entries of its name |
//! | slice | itself, the pods it named before or after |
//! | authorization policy | itself, workloads its selector matched before or after; waypoints and services it names or named |
//! | peer authentication | the policy that refuses plaintext, all peer policies and workloads of its reach |
//! | service entry | its hosts, all entries that claim one of them, and the workloads these select |
//! | workload entry | itself |
//! | gateway | whatever looked for it, its pods; workloads of the network it leads to; all of its namespace where it is for an account |
//! | any of a policy's targets | the policies of the namespace that have targets |
//! | virtual service | services it names, where a waypoint serves them; what delegates to it |
//! | destination rule | how proxies send to the service it names; all workloads when other labels choose endpoints |
//! | route of the Gateway API | services it is attached to |
//! | reference grant | what looked for one in its namespace |
//! | Gateway of the mesh's own API | every gateway; those that name it |
//! | backend TLS policy | how proxies send to the services it names |
//! | Secret, ConfigMap | what looked for it |
//! | who is bound to a waypoint | the waypoint, how it serves and sends to what was bound |

use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
};

use lateen_cluster::store::Key;
use lateen_types::label::Labels;

use super::{
    Derived, Graph, Place, Thing, Update,
    attached::{Parent, RouteName},
    servers::gateway_named,
};
use crate::{
    derive::{backing, gateway, host_matches, targets},
    facts::{
        self, AuthorizationPolicy, BackendTls, DestinationRule, EndpointSlice, Gateway, GatewayClass, Namespace,
        PeerAuthentication, Pod, Route, Service, ServiceEntry, VirtualService,
    },
};

type Dirty = HashSet<Derived>;

impl Graph {
    pub(super) fn take(&mut self, update: Update, dirty: &mut Dirty) {
        match update {
            Update::Namespace(key, new) => self.take_namespace(&key, new, dirty),
            Update::Node(key, new) => {
                self.world.nodes.set(&key, new);
                dirty.extend(self.world.pods_on_node.of(&*key.name).cloned().map(Derived::Pod));
            }
            Update::Pod(key, new) => self.take_pod(key, new, dirty),
            Update::Service(key, new) => self.take_service(key, new, dirty),
            Update::Slice(key, new) => self.take_slice(key, new, dirty),
            Update::Policy(key, new) => self.take_policy(key, new, dirty),
            Update::Peer(key, new) => self.take_peer(key, new, dirty),
            Update::Entry(key, new) => self.take_entry(key, new, dirty),
            Update::External(key, new) => {
                self.world.externals.set(&key, new);
                dirty.insert(Derived::External(key));
            }
            Update::Gateway(key, new) => self.take_gateway(&key, new, dirty),
            Update::Class(key, new) => self.take_class(&key, new, dirty),
            Update::VirtualService(key, new) => self.take_virtual_service(&key, new, dirty),
            Update::Rule(key, new) => self.take_rule(&key, new, dirty),
            Update::Route(kind, key, new) => self.take_route((kind, key), new, dirty),
            Update::Grant(key, new) => {
                self.world.grants.set(&key, new);
                dirty.extend(self.lookers.of(&Thing::Grants(key.namespace)).cloned());
            }
            Update::Servers(key, new) => {
                self.world.servers.set(&key, new);
                dirty.extend(self.lookers.of(&Thing::AllServers).cloned());
                dirty.insert(Derived::ServersTold(key));
            }
            Update::Backing(key, new) => self.take_backing(key, new, dirty),
            Update::Credential(source, found) => {
                // What nobody asks for any more is not kept.
                if self.asked.contains(&source) {
                    let found = found.after(self.world.credentials.get(&source));
                    self.world.credentials.insert(source.clone(), found);
                    dirty.extend(self.lookers.of(&Thing::Credential(source)).cloned());
                }
            }
        }
    }

    fn take_pod(&mut self, key: Key, new: Option<Arc<Pod>>, dirty: &mut Dirty) {
        self.gateway_of(&key, dirty);
        let old = self.world.pods.find(&key).cloned();
        self.world.set_pod(&key, new.clone());
        self.gateway_of(&key, dirty);
        if self.has_account_waypoints(&key.namespace) {
            [&old, &new].into_iter().flatten().for_each(|pod| self.selecting(&key, pod, dirty));
        }
        dirty.insert(Derived::Pod(key));
    }

    fn take_slice(&mut self, key: Key, new: Option<Arc<EndpointSlice>>, dirty: &mut Dirty) {
        let old = self.world.set_slice(&key, new.clone());
        for slice in [&old, &new].into_iter().flatten().filter(|slice| !self.is_selected(slice)) {
            dirty.extend(pods_named(slice));
        }
        dirty.insert(Derived::Slice(key));
    }

    fn take_policy(&mut self, key: Key, new: Option<Arc<AuthorizationPolicy>>, dirty: &mut Dirty) {
        let old = self.world.set_policy(&key, new.clone());
        for policy in [&old, &new].into_iter().flatten() {
            if let Some(selector) = &policy.selector {
                self.ruled(&key.namespace, selector, dirty);
            }
            for target in targets::asks(&key, policy) {
                dirty.extend(self.lookers.of(&Thing::Ruled(target)).cloned());
            }
        }
        dirty.extend(self.lookers.of(&Thing::Policies(key.namespace.clone())).cloned());
        dirty.insert(Derived::Policy(key));
    }

    fn take_backing(&mut self, key: Key, new: Option<Arc<BackendTls>>, dirty: &mut Dirty) {
        let old = self.world.set_backing(&key, new.clone());
        for service in [&old, &new].into_iter().flatten().flat_map(|one| backing::targets(&key, one)) {
            dirty.extend(self.lookers.of(&Thing::Backing(service)).cloned());
        }
        dirty.insert(Derived::BackingTold(key));
    }

    /// What is said of a Gateway's pods is said of it.
    fn gateway_of(&self, pod: &Key, dirty: &mut Dirty) {
        let name =
            self.world.pods.find(pod).and_then(|found| found.gateway().map(|name| Key::new(&pod.namespace, name)));
        let Some(gateway) = name else { return };
        if self.world.rules.all().any(|(_, rule)| rule.spec.workload_selector.is_some()) {
            let at = |place: &Place| place.gateway == gateway;
            dirty.extend(self.bindings.places().filter(at).map(Derived::Sent));
        }
        dirty.extend(self.lookers.of(&Thing::Gates).cloned());
        dirty.insert(Derived::Proxy(gateway));
    }

    fn take_virtual_service(&mut self, key: &Key, new: Option<Arc<VirtualService>>, dirty: &mut Dirty) {
        let mesh = &self.mesh;
        let fqdn = |host: &String| mesh.fqdn(host, &key.namespace);
        let old = self.world.set_virtual_service(key, new.clone(), &fqdn);
        for service in [&old, &new].into_iter().flatten() {
            for host in &service.spec.hosts {
                self.looked_for(&self.mesh.fqdn(host, &key.namespace), Thing::Routes, dirty);
            }
        }
        for service in [&old, &new].into_iter().flatten() {
            let named = service.spec.gateways.iter().map(|name| gateway_named(name, &key.namespace));
            named.for_each(|place| dirty.extend(self.lookers.of(&Thing::Servers(place)).cloned()));
        }
        dirty.extend(self.lookers.of(&Thing::VirtualService(key.clone())).cloned());
        dirty.insert(Derived::RoutesTold(key.clone()));
    }

    fn take_route(&mut self, name: RouteName, new: Option<Arc<Route>>, dirty: &mut Dirty) {
        let old = self.world.set_route(&name, new.clone());
        for route in [&old, &new].into_iter().flatten() {
            for parent in route.spec.parent_refs.iter().filter_map(|one| Parent::of(one, &name.1.namespace)) {
                if let Parent::Gateway(gateway) = &parent {
                    dirty.insert(Derived::Proxy(gateway.clone()));
                }
                for service in self.services_at(&parent) {
                    self.looked_for(&service.hostname, Thing::Routes, dirty);
                }
            }
        }
        dirty.insert(Derived::RouteTold(name.0, name.1));
    }

    fn take_rule(&mut self, key: &Key, new: Option<Arc<DestinationRule>>, dirty: &mut Dirty) {
        let mesh = &self.mesh;
        let fqdn = |rule: &DestinationRule| mesh.fqdn(&rule.spec.host, &key.namespace);
        let (old, labels_differ) = self.world.set_rule(key, new.clone(), &fqdn);
        for rule in [&old, &new].into_iter().flatten() {
            self.looked_for(&self.mesh.fqdn(&rule.spec.host, &key.namespace), Thing::Host, dirty);
        }
        dirty.insert(Derived::RuleTold(key.clone()));
        if labels_differ {
            dirty.extend(self.world.pods.all().map(|(key, _)| Derived::Pod(key.clone())));
            dirty.extend(self.world.externals.all().map(|(key, _)| Derived::External(key.clone())));
            dirty.extend(self.world.entries.all().map(|(key, _)| Derived::Entry(key.clone())));
            self.proxies(dirty);
        }
    }

    /// Whatever looked for a host that `pattern` names, or for a pattern that names it.
    pub(super) fn looked_for(&self, pattern: &str, thing: fn(String) -> Thing, dirty: &mut Dirty) {
        dirty.extend(self.lookers.of(&thing(pattern.to_owned())).cloned());
        let names = |known: &str| host_matches(pattern, known) || host_matches(known, pattern);
        // Few look for patterns, and few things are patterns.
        if !pattern.starts_with('*') && self.world.wild_services.is_empty() && self.world.wild_rules.is_empty() {
            return;
        }
        let others = self.lookers.keys().filter(|known| match known {
            Thing::Host(host) | Thing::Routes(host) | Thing::Bound(host) => {
                names(host) && **known == thing(host.clone())
            }
            Thing::Gateway(_)
            | Thing::VirtualService(_)
            | Thing::Namespace(_)
            | Thing::Ruled(_)
            | Thing::Grants(_)
            | Thing::Entry(_)
            | Thing::Policies(_)
            | Thing::Servers(_)
            | Thing::AllServers
            | Thing::Gates
            | Thing::Backing(_)
            | Thing::Credential(_) => false,
        });
        dirty.extend(others.flat_map(|known| self.lookers.of(known).cloned()));
    }

    /// Everything of every proxy.
    fn proxies(&self, dirty: &mut Dirty) {
        dirty.extend(self.world.gateways.all().map(|(key, _)| Derived::Proxy(key.clone())));
        dirty.extend(self.world.virtual_services.all().map(|(key, _)| Derived::RoutesTold(key.clone())));
        dirty.extend(self.world.rules.all().map(|(key, _)| Derived::RuleTold(key.clone())));
        dirty.extend(self.world.all_routes().map(|(kind, key)| Derived::RouteTold(kind, key)));
        dirty.extend(self.world.servers.all().map(|(key, _)| Derived::ServersTold(key.clone())));
        dirty.extend(self.world.backings.all().map(|(key, _)| Derived::BackingTold(key.clone())));
        dirty.extend(self.needs.all().cloned().map(Derived::Credential));
        for place in self.bindings.places() {
            dirty.insert(Derived::Served(place.clone()));
            dirty.insert(Derived::Sent(place));
        }
    }

    fn take_namespace(&mut self, key: &Key, new: Option<Arc<Namespace>>, dirty: &mut Dirty) {
        let before = self.network().to_owned();
        let old = self.world.namespaces.set(key, new.clone());
        if self.network() != before {
            self.all(dirty);
            return;
        }
        let named = &key.name;
        dirty.extend(self.lookers.of(&Thing::Namespace(named.clone())).cloned());
        dirty.extend(self.world.services.within(named).map(|(service, _)| Derived::Service(service.clone())));
        for (entry_key, entry) in self.world.entries.within(named) {
            dirty.insert(Derived::Entry(entry_key.clone()));
            dirty.extend(entry.hosts.iter().cloned().map(Derived::Host));
        }
        let used = |space: &Arc<Namespace>| (space.labels.clone(), space.wish.clone());
        if old.as_ref().map(used) != new.as_ref().map(used) {
            dirty.extend(self.world.pods.within(named).map(|(pod, _)| Derived::Pod(pod.clone())));
            dirty.extend(self.world.externals.within(named).map(|(entry, _)| Derived::External(entry.clone())));
        }
    }

    fn take_service(&mut self, key: Key, new: Option<Arc<Service>>, dirty: &mut Dirty) {
        let old = self.world.services.set(&key, new.clone());
        for service in [&old, &new].into_iter().flatten().filter(|service| !service.selector.is_empty()) {
            self.selected(&key.namespace, &service.selector, dirty);
        }
        for slice_key in self.world.slices_of_service.of(&key) {
            dirty.insert(Derived::Slice(slice_key.clone()));
            dirty.extend(self.world.slices.find(slice_key).into_iter().flat_map(|slice| pods_named(slice)));
        }
        let hostname = self.mesh.hostname(&key);
        if old.is_some() != new.is_some() {
            self.claimed([hostname], dirty);
        } else {
            dirty.extend(self.lookers.of(&Thing::Host(hostname)).cloned());
        }
        dirty.insert(Derived::Service(key));
    }

    fn take_entry(&mut self, key: Key, new: Option<Arc<ServiceEntry>>, dirty: &mut Dirty) {
        let old = self.world.set_entry(&key, new.clone());
        let both = [&old, &new];
        for selector in both.iter().copied().flatten().filter_map(|entry| entry.selector.as_ref()) {
            self.selected(&key.namespace, selector, dirty);
        }
        dirty.extend(self.lookers.of(&Thing::Entry(key.clone())).cloned());
        self.claimed(both.iter().copied().flatten().flat_map(|entry| entry.hosts.clone()), dirty);
        dirty.insert(Derived::Entry(key));
    }

    /// Who has these hosts may have changed.
    fn claimed(&self, hosts: impl IntoIterator<Item = String>, dirty: &mut Dirty) {
        for host in hosts {
            dirty.extend(self.lookers.of(&Thing::Host(host.clone())).cloned());
            for key in self.world.entries_of_host.of(&host) {
                dirty.insert(Derived::Entry(key.clone()));
                if let Some(selector) = self.world.entries.find(key).and_then(|entry| entry.selector.as_ref()) {
                    self.selected(&key.namespace, selector, dirty);
                }
            }
            dirty.insert(Derived::Host(host));
        }
    }

    /// A peer authentication without selector reaches its namespace, or the whole mesh from the root namespace; one
    /// with a selector reaches at most its namespace.
    fn take_peer(&mut self, key: Key, new: Option<Arc<PeerAuthentication>>, dirty: &mut Dirty) {
        self.world.peers.set(&key, new);
        self.ruled(&key.namespace, &Labels::new(), dirty);
        if *key.namespace == *self.mesh.root_namespace {
            dirty.extend(self.world.peers.all().map(|(peer, _)| Derived::Peer(peer.clone())));
        } else {
            dirty.extend(self.world.peers.within(&key.namespace).map(|(peer, _)| Derived::Peer(peer.clone())));
        }
        dirty.insert(Derived::StaticStrict);
        dirty.insert(Derived::Peer(key));
    }

    fn take_gateway(&mut self, key: &Key, new: Option<Arc<Gateway>>, dirty: &mut Dirty) {
        let old = self.world.gateways.set(key, new.clone());
        dirty.extend(self.lookers.of(&Thing::Gateway(key.clone())).cloned());
        dirty.extend(self.lookers.of(&Thing::Gates).cloned());
        dirty.extend(self.world.pods_of_gateway.of(key).cloned().map(Derived::Pod));
        dirty.insert(Derived::Proxy(key.clone()));
        self.targeted_within(&key.namespace, dirty);
        let account = |gateway: &Option<Arc<Gateway>>| gateway.as_ref().and_then(|one| one.serves_account.clone());
        if account(&old) != account(&new) {
            let within = &key.namespace;
            dirty.extend(self.world.pods.within(within).map(|(pod, _)| Derived::Pod(pod.clone())));
            dirty.extend(self.world.services.within(within).map(|(service, _)| Derived::Service(service.clone())));
            dirty.extend(self.world.externals.within(within).map(|(one, _)| Derived::External(one.clone())));
            dirty.extend(self.world.entries.within(within).map(|(one, _)| Derived::Entry(one.clone())));
        }
        if [&old, &new].into_iter().flatten().any(|gateway| gateway::network_of(gateway).is_some()) {
            self.find_ways(dirty);
        }
    }

    fn take_class(&mut self, key: &Key, new: Option<Arc<GatewayClass>>, dirty: &mut Dirty) {
        self.world.classes.set(key, new);
        for (gateway, _) in self.world.gateways.all().filter(|(_, gateway)| *gateway.class == *key.name) {
            dirty.extend(self.lookers.of(&Thing::Gateway(gateway.clone())).cloned());
            dirty.insert(Derived::Proxy(gateway.clone()));
            dirty.extend(self.world.pods_of_gateway.of(gateway).cloned().map(Derived::Pod));
        }
        dirty.extend(self.lookers.of(&Thing::Gates).cloned());
    }

    fn find_ways(&mut self, dirty: &mut Dirty) {
        dirty.insert(Derived::Ways);
        let before = std::mem::take(&mut self.ways);
        for way in self.all_ways() {
            self.ways.entry(way.workload.network).or_insert(way.address);
        }
        if self.ways == before {
            return;
        }
        dirty.extend(self.world.externals.all().map(|(key, _)| Derived::External(key.clone())));
        dirty.extend(self.world.entries.all().map(|(key, _)| Derived::Entry(key.clone())));
        if self.ways.get(self.network()) != before.get(self.network()) {
            dirty.extend(self.world.pods.all().map(|(key, _)| Derived::Pod(key.clone())));
        }
    }

    /// Everything there is.
    pub(super) fn all(&mut self, dirty: &mut Dirty) {
        self.find_ways(dirty);
        let world = &self.world;
        dirty.extend(world.pods.all().map(|(key, _)| Derived::Pod(key.clone())));
        dirty.extend(world.slices.all().map(|(key, _)| Derived::Slice(key.clone())));
        dirty.extend(world.services.all().map(|(key, _)| Derived::Service(key.clone())));
        dirty.extend(world.policies.all().map(|(key, _)| Derived::Policy(key.clone())));
        dirty.extend(world.peers.all().map(|(key, _)| Derived::Peer(key.clone())));
        dirty.extend(world.externals.all().map(|(key, _)| Derived::External(key.clone())));
        for (key, entry) in world.entries.all() {
            dirty.insert(Derived::Entry(key.clone()));
            dirty.extend(entry.hosts.iter().cloned().map(Derived::Host));
        }
        dirty.insert(Derived::StaticStrict);
        self.proxies(dirty);
    }

    /// Adds the policies whose targets are derived anew.
    pub(super) fn targeted(&self, dirty: &mut Dirty) {
        let spaces: BTreeSet<Arc<str>> = dirty
            .iter()
            .filter_map(|derived| match derived {
                Derived::Service(key) | Derived::Entry(key) => Some(key.namespace.clone()),
                Derived::Pod(_)
                | Derived::Slice(_)
                | Derived::Policy(_)
                | Derived::Peer(_)
                | Derived::StaticStrict
                | Derived::Host(_)
                | Derived::External(_)
                | Derived::Ways
                | Derived::Served(_)
                | Derived::Sent(_)
                | Derived::Proxy(_)
                | Derived::RoutesTold(_)
                | Derived::RuleTold(_)
                | Derived::RouteTold(..)
                | Derived::ServersTold(_)
                | Derived::BackingTold(_)
                | Derived::Credential(_) => None,
            })
            .collect();
        spaces.iter().for_each(|space| self.targeted_within(space, dirty));
    }

    fn targeted_within(&self, namespace: &str, dirty: &mut Dirty) {
        dirty.extend(self.world.targeted_in.of(namespace).cloned().map(Derived::Policy));
    }

    /// Whether the service of `slice` finds its pods by selector. Such slices change with every readiness of a pod,
    /// and say nothing of pods that the selector does not.
    fn is_selected(&self, slice: &EndpointSlice) -> bool {
        self.world.services.find(&slice.service).is_some_and(|service| !service.selector.is_empty())
    }

    /// The services a pod stands behind.
    fn selecting(&self, key: &Key, pod: &Pod, dirty: &mut Dirty) {
        let services = self.world.services.within(&key.namespace);
        let selecting =
            services.filter(|(_, one)| !one.selector.is_empty() && facts::selects(&one.selector, &pod.labels));
        dirty.extend(selecting.map(|(service, _)| Derived::Service(service.clone())));
    }

    /// The workloads of a namespace that may stand behind a service.
    fn selected(&self, namespace: &str, selector: &Labels, dirty: &mut Dirty) {
        let pods = self.world.pods.within(namespace).filter(|(_, pod)| facts::selects(selector, &pod.labels));
        dirty.extend(pods.map(|(key, _)| Derived::Pod(key.clone())));
        let externals = self.world.externals.within(namespace);
        let externals = externals.filter(|(_, entry)| facts::selects(selector, &entry.external.labels));
        dirty.extend(externals.map(|(key, _)| Derived::External(key.clone())));
    }

    /// The workloads a policy of this namespace may name: of all namespaces for the root one.
    fn ruled(&self, namespace: &str, selector: &Labels, dirty: &mut Dirty) {
        let everywhere = *namespace == *self.mesh.root_namespace;
        let spaces: Vec<Arc<str>> = if everywhere { self.world.spaces().collect() } else { vec![Arc::from(namespace)] };
        for space in spaces {
            self.selected(&space, selector, dirty);
            let entries =
                self.world.entries.within(&space).filter(|(_, entry)| facts::selects(selector, &entry.labels));
            dirty.extend(entries.map(|(key, _)| Derived::Entry(key.clone())));
        }
    }
}

fn pods_named(slice: &EndpointSlice) -> impl Iterator<Item = Derived> {
    slice.endpoints.iter().filter_map(|endpoint| endpoint.pod.as_ref()).map(|pod| Derived::Pod(pod.key.clone()))
}
