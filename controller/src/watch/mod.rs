//! Follows every kind the mesh is derived from.
//!
//! In: the API. Out: stores of facts, the names of what changed in one merging inbox, word when all stores are complete.
//! Absent on purpose: what a change means.

use std::{fmt::Debug, sync::Arc};

use k8s_openapi::api::{core::v1 as core, discovery::v1 as discovery};
use kube::{
    Api, Client, Resource,
    api::{ApiResource, DynamicObject},
    runtime::watcher,
};
use lateen_cluster::{
    api as resources,
    store::{self, Key, Listener, Reading, Store},
};
use lateen_rt::{drain::Drain, inbox::Inbox, ready::Readiness, tasks::Tasks};
use serde::de::DeserializeOwned;
use tokio::sync::watch;

use crate::{
    ca::residents::Residents,
    facts::{AuthorizationPolicy, EndpointSlice, Namespace, Node, PeerAuthentication, Pod, Service},
    graph::Update,
};

/// Something changed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Change {
    Namespace(Key),
    Node(Key),
    Pod(Key),
    Service(Key),
    Slice(Key),
    Policy(Key),
    Peer(Key),
}

/// What is kept of the cluster; clones share it.
#[derive(Debug, Clone, Default)]
pub struct Stores {
    /// By name.
    pub namespaces: Store<Namespace>,
    nodes: Store<Node>,
    pods: Store<Pod>,
    services: Store<Service>,
    slices: Store<EndpointSlice>,
    policies: Store<AuthorizationPolicy>,
    peers: Store<PeerAuthentication>,
}

impl Stores {
    /// The present state of what changed.
    pub fn update(&self, change: Change) -> Update {
        match change {
            Change::Namespace(key) => Update::Namespace(key.clone(), self.namespaces.find(&key)),
            Change::Node(key) => Update::Node(key.clone(), self.nodes.find(&key)),
            Change::Pod(key) => Update::Pod(key.clone(), self.pods.find(&key)),
            Change::Service(key) => Update::Service(key.clone(), self.services.find(&key)),
            Change::Slice(key) => Update::Slice(key.clone(), self.slices.find(&key)),
            Change::Policy(key) => Update::Policy(key.clone(), self.policies.find(&key)),
            Change::Peer(key) => Update::Peer(key.clone(), self.peers.find(&key)),
        }
    }
}

/// How many kinds are not complete yet; 0 is all.
pub type Incomplete = watch::Receiver<usize>;

/// What following needs.
pub struct Watch {
    /// The API.
    pub client: Client,
    /// Where facts are kept.
    pub stores: Stores,
    /// Where changes are told.
    pub inbox: Inbox<Change>,
    /// Namespaces to hand trust anchors to.
    pub anchors: Inbox<Key>,
    /// Who lives on which node, kept current without waiting for the inbox.
    pub residents: Residents,
    /// Gets one condition per kind.
    pub readiness: Readiness,
}

/// The kinds followed.
const KINDS: usize = 7;

impl Watch {
    /// Follows everything until `drain` begins.
    pub fn start(self, tasks: &Tasks, drain: &Drain) -> Incomplete {
        let left = watch::Sender::new(KINDS);
        let incomplete = left.subscribe();
        let follow = Follow { watch: &self, left: Arc::new(left), tasks, drain };
        let stores = &self.stores;
        let anchors = self.anchors.clone();
        let told = move |key: &Key| anchors.push(key.clone());
        let listener = follow.listener("namespaces", Namespace::read, Change::Namespace).also(told);
        follow.typed::<core::Namespace, _>(&stores.namespaces, listener);
        follow.typed::<core::Node, _>(&stores.nodes, follow.listener("nodes", Node::read, Change::Node));
        let (residents, pods) = (self.residents.clone(), stores.pods.clone());
        let noted = move |key: &Key| residents.note(key, pods.find(key).as_deref());
        follow.typed::<core::Pod, _>(&stores.pods, follow.listener("pods", Pod::read, Change::Pod).also(noted));
        let listener = follow.listener("services", Service::read, Change::Service);
        follow.typed::<core::Service, _>(&stores.services, listener);
        let listener = follow.listener("endpoint slices", EndpointSlice::read, Change::Slice);
        follow.typed::<discovery::EndpointSlice, _>(&stores.slices, listener);
        let read = |object: DynamicObject| AuthorizationPolicy::read(&object);
        let listener = follow.listener("authorization policies", read, Change::Policy);
        follow.dynamic(&ApiResource::erase::<resources::AuthorizationPolicy>(&()), &stores.policies, listener);
        let read = |object: DynamicObject| PeerAuthentication::read(&object);
        let listener = follow.listener("peer authentications", read, Change::Peer);
        follow.dynamic(&ApiResource::erase::<resources::PeerAuthentication>(&()), &stores.peers, listener);
        incomplete
    }
}

struct Follow<'a> {
    watch: &'a Watch,
    left: Arc<watch::Sender<usize>>,
    tasks: &'a Tasks,
    drain: &'a Drain,
}

impl Follow<'_> {
    fn listener<K, V>(&self, name: &'static str, read: fn(K) -> Reading<V>, change: fn(Key) -> Change) -> Told<K, V> {
        Told {
            read,
            change,
            inbox: self.watch.inbox.clone(),
            condition: self.watch.readiness.condition(name),
            left: Some(self.left.clone()),
            also: Box::new(|_| {}),
        }
    }

    fn typed<K, V>(&self, store: &Store<V>, listener: Told<K, V>)
    where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
        V: PartialEq + Send + Sync + 'static,
    {
        self.spawn(Api::all(self.watch.client.clone()), store, listener);
    }

    fn dynamic<V>(&self, kind: &ApiResource, store: &Store<V>, listener: Told<DynamicObject, V>)
    where
        V: PartialEq + Send + Sync + 'static,
    {
        self.spawn(Api::all_with(self.watch.client.clone(), kind), store, listener);
    }

    fn spawn<K, V>(&self, api: Api<K>, store: &Store<V>, listener: Told<K, V>)
    where
        K: Resource + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
        V: PartialEq + Send + Sync + 'static,
    {
        let (drain, store) = (self.drain.clone(), store.clone());
        self.tasks.spawn("following the cluster", async move {
            let following = store::follow(api, watcher::Config::default(), store, listener);
            tokio::select! {
                () = following => {}
                () = drain.draining() => {}
            }
        });
    }
}

/// Tells of changes of one kind.
struct Told<K, V> {
    read: fn(K) -> Reading<V>,
    change: fn(Key) -> Change,
    inbox: Inbox<Change>,
    condition: lateen_rt::ready::Condition,
    /// Until the first list is complete.
    left: Option<Arc<watch::Sender<usize>>>,
    also: Box<dyn Fn(&Key) + Send>,
}

impl<K, V> Told<K, V> {
    /// Calls `also` with each changed key, before the change is in the inbox.
    fn also(mut self, also: impl Fn(&Key) + Send + 'static) -> Self {
        self.also = Box::new(also);
        self
    }
}

impl<K, V: PartialEq + Send + Sync> Listener<K> for Told<K, V> {
    type Value = V;

    fn read(&mut self, object: K) -> Reading<V> {
        (self.read)(object)
    }

    fn changed(&mut self, key: &Key) {
        (self.also)(key);
        self.inbox.push((self.change)(key.clone()));
    }

    fn complete(&mut self) {
        if let Some(left) = self.left.take() {
            self.condition.set(true);
            left.send_modify(|left| *left -= 1);
        }
    }
}
