//! What has to be derived anew when objects change, and what of that is really different.
//!
//! In: updates of cluster objects. Out: a [`Delta`] of encoded resources, of conditions, of policies to be enforced.
//! Absent on purpose: how anything is derived (see `derive`), who is told (see `publish`), waiting.
//! `dirty` says what hangs on what, `build` gathers what a derivation needs, `hosts` says who has a host.

mod build;
mod dirty;
mod hosts;
mod resource;
mod told;
mod world;

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use lateen_cluster::store::Key;
use lateen_wire::workload as wire;
use lateen_xds::{resource::Version, server::Publish};

use resource::Resource;
pub use resource::node_group;
pub use told::{Enforcing, Kind, Object, Reporter, Told};
use world::{Index, World};

use crate::{
    derive::Mesh,
    facts::{
        AuthorizationPolicy, EndpointSlice, Gateway, GatewayClass, Namespace, Node, PeerAuthentication, Pod, Service,
        ServiceEntry, WorkloadEntry,
    },
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
    Entry(Key, Option<Arc<ServiceEntry>>),
    External(Key, Option<Arc<WorkloadEntry>>),
    Gateway(Key, Option<Arc<Gateway>>),
    Class(Key, Option<Arc<GatewayClass>>),
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
    /// The services of all entries with this host: who has it is decided among all of them.
    Host(String),
    /// The workloads written in a service entry.
    Entry(Key),
    /// The workload of a workload entry.
    External(Key),
    /// The ways into other networks.
    Ways,
}

/// What is different now.
#[derive(Debug, Default, Clone)]
pub struct Delta {
    /// Resources that are gone, then those that are new or differ: a name may pass from one object to another.
    pub changes: Vec<Publish>,
    /// What authors are told now.
    pub conditions: Vec<Told>,
    /// Policies whose enforcement begins anew.
    pub enforcing: Vec<Enforcing>,
}

/// A resource as it was last published: by its version, since keeping its bytes would keep everything twice.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Published {
    type_url: &'static str,
    name: Arc<str>,
    version: Version,
}

/// What a derivation gives.
#[derive(Debug, Default)]
struct Made {
    resources: Vec<Resource>,
    told: Vec<Told>,
    enforcing: Option<Enforcing>,
    /// Gateways the result depends on, there or not.
    looked_at: Vec<Key>,
}

/// The objects, what was derived from them, and how the two hang together.
#[derive(Debug)]
pub struct Graph {
    mesh: Mesh,
    world: World,
    /// The first way into each network.
    ways: BTreeMap<String, wire::GatewayAddress>,
    /// Invariant: equal to deriving everything anew from `world`.
    outputs: HashMap<Derived, Vec<Published>>,
    told: HashMap<(Object, Reporter), Told>,
    looked_at: HashMap<Derived, Vec<Key>>,
    lookers: Index<Key, Derived>,
}

impl Graph {
    /// A graph over an empty cluster.
    pub fn new(mesh: Mesh) -> Self {
        Self {
            mesh,
            world: World::default(),
            ways: BTreeMap::new(),
            outputs: HashMap::new(),
            told: HashMap::new(),
            looked_at: HashMap::new(),
            lookers: Index::default(),
        }
    }

    /// What holds for the whole mesh.
    pub fn mesh(&self) -> &Mesh {
        &self.mesh
    }

    /// Takes the new states, and says what they change. A new `mesh` changes everything that depends on it.
    pub fn apply(&mut self, mesh: &Mesh, updates: Vec<Update>) -> Delta {
        let mut dirty = HashSet::new();
        if self.mesh != *mesh {
            self.mesh = mesh.clone();
            self.all(&mut dirty);
        }
        for update in updates {
            self.take(update, &mut dirty);
        }
        self.targeted(&mut dirty);
        let mut delta = Delta::default();
        let mut put = Vec::new();
        for derived in dirty {
            self.derive_anew(&derived, &mut delta, &mut put);
        }
        delta.changes.append(&mut put);
        delta
    }

    fn derive_anew(&mut self, derived: &Derived, delta: &mut Delta, put: &mut Vec<Publish>) {
        let made = self.derive(derived);
        let old = self.outputs.remove(derived).unwrap_or_default();
        let mut gone: BTreeMap<Arc<str>, Published> = old.into_iter().map(|one| (one.name.clone(), one)).collect();
        let mut kept = Vec::with_capacity(made.resources.len());
        for Resource { type_url, entry } in made.resources {
            let published = Published { type_url, name: entry.name.clone(), version: entry.version };
            if gone.remove(&entry.name).as_ref() != Some(&published) {
                put.push(Publish::Put(type_url, entry));
            }
            kept.push(published);
        }
        delta.changes.extend(gone.into_values().map(|one| Publish::Remove(one.type_url, one.name)));
        if !kept.is_empty() {
            self.outputs.insert(derived.clone(), kept);
        }
        delta.enforcing.extend(made.enforcing);
        for told in made.told {
            self.tell(told, delta);
        }
        self.looks_at(derived, made.looked_at);
    }

    /// Passes on what differs from what was said before.
    fn tell(&mut self, told: Told, delta: &mut Delta) {
        let place = (told.object.clone(), told.reporter);
        let before = self.told.get(&place);
        if told.is_gone {
            if self.told.remove(&place).is_some() {
                delta.conditions.push(told);
            }
            return;
        }
        // To say nothing of what nothing was ever said of is no news.
        let is_silence = before.is_none() && told.words.is_empty() && !told.was_said;
        if before == Some(&told) || is_silence {
            return;
        }
        delta.conditions.push(told.clone());
        self.told.insert(place, told);
    }

    fn looks_at(&mut self, derived: &Derived, new: Vec<Key>) {
        let old = if new.is_empty() {
            self.looked_at.remove(derived)
        } else {
            self.looked_at.insert(derived.clone(), new.clone())
        };
        for key in old.iter().flatten().filter(|key| !new.contains(key)) {
            self.lookers.remove(key, derived);
        }
        for key in new {
            self.lookers.add(key, derived);
        }
    }
}
