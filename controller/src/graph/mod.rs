//! What has to be derived anew when objects change, and what of that is really different.
//!
//! In: updates of cluster objects. Out: a [`Delta`] of encoded resources and of policies' conditions.
//! Absent on purpose: how anything is derived (see `derive`), who is told (see `publish`), waiting.
//!
//! | changed | derived anew |
//! | --- | --- |
//! | pod | itself |
//! | node | its pods |
//! | namespace | its services; everything when it is the root one and the network changes |
//! | service | itself, pods its selector matched before or after, its slices and the pods they name |
//! | slice | itself, the pods it named before or after |
//! | authorization policy | itself, pods its selector matched before or after |
//! | peer authentication | the policy that refuses plaintext, all peer policies and pods of its reach |

mod resource;
mod world;

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use lateen_cluster::store::Key;
use lateen_types::label::Labels;
use lateen_wire::workload as wire;

use lateen_xds::server::Publish;
use resource::Resource;
pub use resource::node_group;
use world::World;

use crate::{
    derive::{self, Mesh, authorization::Condition, peer},
    facts::{self, AuthorizationPolicy, EndpointSlice, Namespace, Node, PeerAuthentication, Pod, Service},
};

/// A new state of one object; `None` once it is gone.
#[derive(Debug, Clone)]
pub enum Update {
    Namespace(Key, Option<Arc<Namespace>>),
    Node(Key, Option<Arc<Node>>),
    Pod(Key, Option<Arc<Pod>>),
    Service(Key, Option<Arc<Service>>),
    Slice(Key, Option<Arc<EndpointSlice>>),
    Policy(Key, Option<Arc<AuthorizationPolicy>>),
    Peer(Key, Option<Arc<PeerAuthentication>>),
}

/// What is derived together.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Derived {
    Pod(Key),
    Service(Key),
    Slice(Key),
    Policy(Key),
    Peer(Key),
    StaticStrict,
}

/// What is different now.
#[derive(Debug, Default, Clone)]
pub struct Delta {
    /// Resources that are new, differ or are gone.
    pub changes: Vec<Publish>,
    /// What authors of policies are told now.
    pub conditions: Vec<Told>,
}

/// A resource as it was last published: by its version, since keeping its bytes would keep everything twice.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Published {
    type_url: &'static str,
    name: String,
    version: String,
}

/// What the author of a policy is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// The policy.
    pub policy: Key,
    /// The generation this is about.
    pub generation: i64,
    /// The condition; `None` where node proxies have no say.
    pub condition: Option<Condition>,
}

/// The objects, what was derived from them, and how the two hang together.
#[derive(Debug)]
pub struct Graph {
    mesh: Mesh,
    world: World,
    /// Invariant: equal to deriving everything anew from `world`.
    outputs: HashMap<Derived, Vec<Published>>,
    told: HashMap<Key, Told>,
}

impl Graph {
    /// A graph over an empty cluster.
    pub fn new(mesh: Mesh) -> Self {
        Self { mesh, world: World::default(), outputs: HashMap::new(), told: HashMap::new() }
    }

    /// What holds for the whole mesh.
    pub fn mesh(&self) -> &Mesh {
        &self.mesh
    }

    /// Takes the new states and says what they change.
    pub fn apply(&mut self, updates: Vec<Update>) -> Delta {
        let mut dirty = HashSet::new();
        for update in updates {
            self.take(update, &mut dirty);
        }
        let mut delta = Delta::default();
        for derived in dirty {
            self.derive_anew(&derived, &mut delta);
        }
        delta
    }

    fn take(&mut self, update: Update, dirty: &mut HashSet<Derived>) {
        match update {
            Update::Namespace(key, new) => self.take_namespace(&key, new, dirty),
            Update::Node(key, new) => {
                self.world.nodes.set(&key, new);
                dirty.extend(self.world.pods_on_node.of(&*key.name).cloned().map(Derived::Pod));
            }
            Update::Pod(key, new) => {
                self.world.set_pod(&key, new);
                dirty.insert(Derived::Pod(key));
            }
            Update::Service(key, new) => self.take_service(key, new, dirty),
            Update::Slice(key, new) => {
                let old = self.world.set_slice(&key, new.clone());
                for slice in [&old, &new].into_iter().flatten().filter(|slice| !self.is_selected(slice)) {
                    dirty.extend(pods_named(slice));
                }
                dirty.insert(Derived::Slice(key));
            }
            Update::Policy(key, new) => {
                let old = self.world.policies.set(&key, new.clone());
                for policy in [&old, &new].into_iter().flatten() {
                    if let Some(selector) = &policy.selector {
                        self.dirty_selected(&key.namespace, selector, dirty);
                    }
                }
                dirty.insert(Derived::Policy(key));
            }
            Update::Peer(key, new) => self.take_peer(key, new, dirty),
        }
    }

    fn take_namespace(&mut self, key: &Key, new: Option<Arc<Namespace>>, dirty: &mut HashSet<Derived>) {
        let before = self.network().to_owned();
        self.world.namespaces.set(key, new);
        if self.network() != before {
            dirty.extend(self.world.pods.all().map(|(pod, _)| Derived::Pod(pod.clone())));
            dirty.extend(self.world.slices.all().map(|(slice, _)| Derived::Slice(slice.clone())));
            dirty.extend(self.world.services.all().map(|(service, _)| Derived::Service(service.clone())));
        }
        dirty.extend(self.world.services.within(&key.name).map(|(service, _)| Derived::Service(service.clone())));
    }

    fn take_service(&mut self, key: Key, new: Option<Arc<Service>>, dirty: &mut HashSet<Derived>) {
        let old = self.world.services.set(&key, new.clone());
        for service in [&old, &new].into_iter().flatten().filter(|service| !service.selector.is_empty()) {
            let pods = self.world.pods.within(&key.namespace);
            let selected = pods.filter(|(_, pod)| facts::selects(&service.selector, &pod.labels));
            dirty.extend(selected.map(|(pod, _)| Derived::Pod(pod.clone())));
        }
        for slice_key in self.world.slices_of_service.of(&key) {
            dirty.insert(Derived::Slice(slice_key.clone()));
            dirty.extend(self.world.slices.find(slice_key).into_iter().flat_map(|slice| pods_named(slice)));
        }
        dirty.insert(Derived::Service(key));
    }

    /// A peer authentication without selector reaches its namespace, or the whole mesh from the root namespace; one
    /// with a selector reaches at most its namespace.
    fn take_peer(&mut self, key: Key, new: Option<Arc<PeerAuthentication>>, dirty: &mut HashSet<Derived>) {
        self.world.peers.set(&key, new);
        if *key.namespace == *self.mesh.root_namespace {
            dirty.extend(self.world.pods.all().map(|(pod, _)| Derived::Pod(pod.clone())));
            dirty.extend(self.world.peers.all().map(|(peer, _)| Derived::Peer(peer.clone())));
        } else {
            dirty.extend(self.world.pods.within(&key.namespace).map(|(pod, _)| Derived::Pod(pod.clone())));
            dirty.extend(self.world.peers.within(&key.namespace).map(|(peer, _)| Derived::Peer(peer.clone())));
        }
        dirty.insert(Derived::StaticStrict);
        dirty.insert(Derived::Peer(key));
    }

    /// Whether the service of `slice` finds its pods by selector. Such slices change with every readiness of a pod,
    /// and say nothing of pods that the selector does not.
    fn is_selected(&self, slice: &EndpointSlice) -> bool {
        self.world.services.find(&slice.service).is_some_and(|service| !service.selector.is_empty())
    }

    fn dirty_selected(&self, namespace: &str, selector: &Labels, dirty: &mut HashSet<Derived>) {
        let selected =
            |(key, pod): (&Key, &Arc<Pod>)| facts::selects(selector, &pod.labels).then(|| Derived::Pod(key.clone()));
        if *namespace == *self.mesh.root_namespace {
            dirty.extend(self.world.pods.all().filter_map(selected));
        } else {
            dirty.extend(self.world.pods.within(namespace).filter_map(selected));
        }
    }

    /// The cluster's network: a label of the root namespace.
    fn network(&self) -> &str {
        let root = self.world.namespaces.find(&Key::new("", &self.mesh.root_namespace));
        root.map_or("", |namespace| namespace.network.as_str())
    }

    fn derive_anew(&mut self, derived: &Derived, delta: &mut Delta) {
        let new = self.derive(derived, delta);
        let old = self.outputs.remove(derived).unwrap_or_default();
        let mut gone: BTreeMap<String, Published> = old.into_iter().map(|one| (one.name.clone(), one)).collect();
        let mut kept = Vec::with_capacity(new.len());
        for Resource { type_url, entry } in new {
            let published = Published { type_url, name: entry.name.clone(), version: entry.version.clone() };
            if gone.remove(&entry.name).as_ref() != Some(&published) {
                delta.changes.push(Publish::Put(type_url, entry));
            }
            kept.push(published);
        }
        delta.changes.extend(gone.into_values().map(|one| Publish::Remove(one.type_url, one.name)));
        if !kept.is_empty() {
            self.outputs.insert(derived.clone(), kept);
        }
    }

    fn derive(&mut self, derived: &Derived, delta: &mut Delta) -> Vec<Resource> {
        match derived {
            Derived::Pod(key) => self.pod(key).map(resource::workload).into_iter().collect(),
            Derived::Service(key) => self.service(key).map(resource::service).into_iter().collect(),
            Derived::Slice(key) => self.slice(key),
            Derived::Policy(key) => self.policy(key, delta),
            Derived::Peer(key) => self.peer_ports(key).into_iter().collect(),
            Derived::StaticStrict if self.world.peers.is_empty() => Vec::new(),
            Derived::StaticStrict => vec![resource::policy(&peer::static_strict(&self.mesh))],
        }
    }

    fn service(&self, key: &Key) -> Option<wire::Service> {
        let service = self.world.services.find(key)?;
        let namespace = self.world.namespaces.find(&Key::new("", &key.namespace));
        Some(derive::service::derive(&self.mesh, self.network(), key, service, namespace.map(|found| &**found)))
    }

    fn slice(&self, key: &Key) -> Vec<Resource> {
        let Some(slice) = self.world.slices.find(key) else { return Vec::new() };
        let Some(service) = self.world.services.find(&slice.service) else { return Vec::new() };
        let workloads = derive::endpoint::derive(&self.mesh, self.network(), key, slice, service);
        // An address listed twice is one endpoint.
        let by_name: BTreeMap<String, Resource> =
            workloads.into_iter().map(|one| (one.uid.clone(), resource::workload(one))).collect();
        by_name.into_values().collect()
    }

    fn policy(&mut self, key: &Key, delta: &mut Delta) -> Vec<Resource> {
        let Some(policy) = self.world.policies.find(key) else {
            self.told.remove(key);
            return Vec::new();
        };
        let made = derive::authorization::derive(&self.mesh, key, policy);
        let told = Told { policy: key.clone(), generation: policy.generation, condition: made.condition };
        if self.told.get(key) != Some(&told) {
            delta.conditions.push(told.clone());
            self.told.insert(key.clone(), told);
        }
        made.policy.iter().map(resource::policy).collect()
    }

    fn peer_ports(&self, key: &Key) -> Option<Resource> {
        let found = self.world.peers.find(key)?;
        let counts = found.selector.is_some() && *key.namespace != *self.mesh.root_namespace;
        let strict = self.levels(&key.namespace).strict();
        peer::ports(key, found, strict).filter(|_| counts).map(|policy| resource::policy(&policy))
    }

    fn levels(&self, namespace: &str) -> peer::Levels<'_> {
        let of = |namespace: &str| {
            let whole = self.world.peers.within(namespace).filter(|(_, one)| one.selector.is_none());
            peer::oldest(whole.map(|(key, one)| (key, &**one))).map(|(_, one)| one)
        };
        let root = &self.mesh.root_namespace;
        peer::Levels { mesh: of(root), namespace: if *namespace == **root { None } else { of(namespace) } }
    }

    fn pod(&self, key: &Key) -> Option<wire::Workload> {
        let pod = self.world.pods.find(key)?;
        let around = derive::pod::Surroundings {
            network: self.network(),
            node: self.world.nodes.find(&Key::new("", &pod.node)).map(|node| &**node),
            services: self.services_of(key, pod),
            policies: self.policies_of(key, pod),
        };
        derive::pod::derive(&self.mesh, key, pod, around)
    }

    fn services_of(&self, key: &Key, pod: &Pod) -> Vec<(&Key, &Service)> {
        let selecting = self
            .world
            .services
            .within(&key.namespace)
            .filter(|(_, service)| !service.selector.is_empty() && facts::selects(&service.selector, &pod.labels));
        let mut all: Vec<(&Key, &Service)> = selecting.map(|(key, service)| (key, &**service)).collect();
        for slice in self.world.slices_naming_pod.of(key).filter_map(|slice| self.world.slices.find(slice)) {
            let names = slice
                .endpoints
                .iter()
                .any(|endpoint| endpoint.pod.as_ref().is_some_and(|one| one.key == *key && one.uid == pod.uid));
            let service = self.world.services.pair(&slice.service).filter(|(_, service)| service.selector.is_empty());
            all.extend(service.filter(|_| names).map(|(key, service)| (key, &**service)));
        }
        all
    }

    fn policies_of(&self, key: &Key, pod: &Pod) -> Vec<String> {
        let root = &*self.mesh.root_namespace;
        let own = self.world.policies.within(&key.namespace);
        let mesh_wide = self.world.policies.within(root).filter(|_| *key.namespace != *root);
        let selecting = own.chain(mesh_wide).filter(|(policy_key, policy)| {
            let selects = policy.selector.as_ref().is_some_and(|asked| facts::selects(asked, &pod.labels));
            // Only what is really sent may be named: a proxy must refuse where a named policy is missing.
            selects && derive::authorization::derive(&self.mesh, policy_key, policy).policy.is_some()
        });
        let mut names: Vec<String> = selecting.map(|(key, _)| key.to_string()).collect();
        let peers = self.world.peers.within(&key.namespace).filter(|_| *key.namespace != *root);
        let peers = peers.map(|(key, one)| (key, &**one));
        names.extend(peer::names(&self.mesh, self.levels(&key.namespace), peers, &pod.labels));
        names
    }
}

fn pods_named(slice: &EndpointSlice) -> impl Iterator<Item = Derived> {
    slice.endpoints.iter().filter_map(|endpoint| endpoint.pod.as_ref()).map(|pod| Derived::Pod(pod.key.clone()))
}
