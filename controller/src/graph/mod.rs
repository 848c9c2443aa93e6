//! What has to be derived anew when objects change, and what of that is really different.
//!
//! In: updates of cluster objects. Out: a [`Delta`] of encoded resources, of conditions, of policies to be enforced.
//! Absent on purpose: how anything is derived (see `derive`), who is told (see `publish`), waiting.
//! `dirty` says what hangs on what, `build` gathers what a derivation needs, `hosts` says who has a host.

mod attached;
mod authors;
mod backing;
mod bindings;
mod build;
mod consumers;
mod credentials;
mod dirty;
mod eyes;
mod gates;
mod guards;
mod hosts;
mod listeners;
mod proxies;
mod resource;
mod servers;
mod told;
mod world;

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use lateen_cluster::store::Key;
use lateen_wire::workload as wire;
use lateen_xds::{resource::Version, server::Publish};

pub use authors::{ACCEPTED, REPLACED, RESOLVED, UNSUPPORTED};
use bindings::{Binding, Bindings};
use credentials::{Need, Needs};
use resource::Resource;
pub use resource::{gateway_group, gateway_of, node_group};
pub use told::{Enforcing, Kind, ListenerTold, Object, ParentTold, Reporter, Told};
use world::{Index, World};

use crate::{
    derive::{Mesh, backend::ServiceName, targets::Ask},
    facts::{
        AuthorizationPolicy, BackendTls, DestinationRule, EndpointSlice, Gateway, GatewayClass, Lookup, Namespace,
        Node, PeerAuthentication, Pod, ReferenceGrant, Route, RouteKind, Servers, Service, ServiceEntry, Source,
        VirtualService, WorkloadEntry,
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
    VirtualService(Key, Option<Arc<VirtualService>>),
    Rule(Key, Option<Arc<DestinationRule>>),
    Route(RouteKind, Key, Option<Arc<Route>>),
    Grant(Key, Option<Arc<ReferenceGrant>>),
    /// A Gateway of the mesh's own API.
    Servers(Key, Option<Arc<Servers>>),
    Backing(Key, Option<Arc<BackendTls>>),
    /// What was found of a Secret or ConfigMap that was asked for.
    Credential(Source, Lookup),
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
    /// How a waypoint serves a service.
    Served(Place),
    /// How a proxy sends to a service.
    Sent(Place),
    /// A waypoint or gateway itself.
    Proxy(Key),
    /// What the author of a virtual service is told.
    RoutesTold(Key),
    /// What the author of a destination rule is told.
    RuleTold(Key),
    /// What the author of a route of the Gateway API is told.
    RouteTold(RouteKind, Key),
    /// What the author of a Gateway of the mesh's own API is told.
    ServersTold(Key),
    /// What the author of a backend TLS policy is told.
    BackingTold(Key),
    /// What a proxy is given for TLS.
    Credential(Need),
}

/// A service at a Gateway.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Place {
    gateway: Key,
    service: ServiceName,
}

/// Derivations of one layer depend on nothing of their own layer or of later ones: who is bound to a waypoint is known
/// before how it serves them, where routes lead to before how that is sent to, and all of it before what it takes of
/// Secrets.
const LAYERS: [Layer; 5] = [Layer::Objects, Layer::Routes, Layer::Destinations, Layer::Credentials, Layer::Authors];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layer {
    Objects,
    Routes,
    Destinations,
    Credentials,
    Authors,
}

impl Derived {
    fn layer(&self) -> Layer {
        match self {
            Self::Pod(_)
            | Self::Service(_)
            | Self::Slice(_)
            | Self::Policy(_)
            | Self::Peer(_)
            | Self::StaticStrict
            | Self::Host(_)
            | Self::Entry(_)
            | Self::External(_)
            | Self::Ways => Layer::Objects,
            Self::Served(_) | Self::Proxy(_) => Layer::Routes,
            Self::Sent(_) => Layer::Destinations,
            Self::Credential(_) => Layer::Credentials,
            Self::RoutesTold(_)
            | Self::RuleTold(_)
            | Self::RouteTold(..)
            | Self::ServersTold(_)
            | Self::BackingTold(_) => Layer::Authors,
        }
    }
}

/// Something a derivation looked for, there or not.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Thing {
    Gateway(Key),
    /// The service of this name, and how it is sent to.
    Host(String),
    /// The routes of requests to this name.
    Routes(String),
    /// Which proxies serve the service of this name, or send to it; a pattern stands for all it names.
    Bound(String),
    VirtualService(Key),
    Namespace(Arc<str>),
    /// The policies with this target.
    Ruled(Ask),
    /// The grants of a namespace.
    Grants(Arc<str>),
    /// The hosts of a service entry.
    Entry(Key),
    /// All policies of a namespace.
    Policies(Arc<str>),
    /// A Gateway of the mesh's own API, with the virtual services bound to it.
    Servers(Key),
    /// Every Gateway of the mesh's own API.
    AllServers,
    /// Which gateways there are, and what their pods carry.
    Gates,
    /// The backend TLS policies for a service.
    Backing(Key),
    /// What was found of a Secret or ConfigMap.
    Credential(Source),
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
    /// All Secrets and ConfigMaps that proxies need, where that differs from what was said before.
    pub asked: Option<BTreeSet<Source>>,
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
    /// What the result depends on besides, there or not.
    looked_at: Vec<Thing>,
    /// The waypoints that are to serve it.
    bound: Vec<Binding>,
    /// Where it sends to.
    uses: Vec<Place>,
    /// What it needs of Secrets.
    needs: Vec<Need>,
    /// Of a gateway: what of each Gateway of the mesh's own API cannot work there.
    found_wrong: FoundWrong,
}

/// What cannot work of Gateways of the mesh's own API.
type FoundWrong = BTreeMap<Key, Vec<String>>;

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
    looked_at: HashMap<Derived, Vec<Thing>>,
    lookers: Index<Thing, Derived>,
    bindings: Bindings,
    needs: Needs,
    /// What of Gateways of the mesh's own API cannot work, by gateway, where anything does not.
    found_wrong: HashMap<Key, FoundWrong>,
    /// Whatever is looked for of Secrets and ConfigMaps.
    asked: BTreeSet<Source>,
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
            bindings: Bindings::default(),
            needs: Needs::default(),
            found_wrong: HashMap::new(),
            asked: BTreeSet::new(),
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
        let asked_before = self.asked.clone();
        let mut put = Vec::new();
        for layer in LAYERS {
            let now: Vec<Derived> = dirty.extract_if(|derived| derived.layer() == layer).collect();
            for derived in now {
                self.derive_anew(&derived, (&mut delta, &mut put), &mut dirty);
            }
        }
        delta.changes.append(&mut put);
        if self.asked != asked_before {
            self.world.credentials.retain(|source, _| self.asked.contains(source));
            delta.asked = Some(self.asked.clone());
        }
        delta
    }

    /// Derives; what depends on the result and is derived later becomes dirty.
    fn derive_anew(
        &mut self,
        derived: &Derived,
        (delta, put): (&mut Delta, &mut Vec<Publish>),
        dirty: &mut HashSet<Derived>,
    ) {
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
        self.needs.note(derived, made.needs, dirty);
        if let Derived::Proxy(gateway) = derived {
            self.note_wrong(gateway, made.found_wrong, dirty);
        }
        let mut differ = self.bindings.bind(derived, made.bound, dirty);
        differ.extend(self.bindings.send(derived, made.uses, dirty));
        for service in differ {
            self.looked_for(&service.hostname, Thing::Bound, dirty);
        }
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
        let is_no_news = before.is_none() && told.is_silence() && !told.was_said;
        if before == Some(&told) || is_no_news {
            return;
        }
        delta.conditions.push(told.clone());
        self.told.insert(place, told);
    }

    /// Whose Gateways it concerns is told anew.
    fn note_wrong(&mut self, gateway: &Key, new: FoundWrong, dirty: &mut HashSet<Derived>) {
        let old = self.found_wrong.remove(gateway).unwrap_or_default();
        let keys: BTreeSet<&Key> = old.keys().chain(new.keys()).collect();
        let differ = keys.into_iter().filter(|key| old.get(*key) != new.get(*key));
        dirty.extend(differ.cloned().map(Derived::ServersTold));
        if !new.is_empty() {
            self.found_wrong.insert(gateway.clone(), new);
        }
    }

    fn looks_at(&mut self, derived: &Derived, mut new: Vec<Thing>) {
        new.sort_unstable();
        new.dedup();
        let old = if new.is_empty() {
            self.looked_at.remove(derived)
        } else {
            self.looked_at.insert(derived.clone(), new.clone())
        };
        for key in old.iter().flatten().filter(|key| !new.contains(key)) {
            self.lookers.remove(key, derived);
            if let Thing::Credential(source) = key
                && self.lookers.of(key).next().is_none()
            {
                self.asked.remove(source);
            }
        }
        for key in new {
            if let Thing::Credential(source) = &key {
                self.asked.insert(source.clone());
            }
            self.lookers.add(key, derived);
        }
    }
}
