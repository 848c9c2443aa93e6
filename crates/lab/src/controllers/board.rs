//! What the controllers know: one shelf of objects per kind.
//!
//! In: watch events, and the answers to our own writes. Out: objects to look at.
//! Absent on purpose: the watching itself (see the parent), deciding.
//!
//! Our own writes are put on the shelf at once, so that a controller never makes a second pod because the event of the
//! first is still on its way. An event older than what the shelf holds is therefore ignored.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::api::{
    apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet},
    batch::v1::Job,
    coordination::v1::Lease,
    core::v1::{Endpoints, Node, Pod, Service},
    discovery::v1::EndpointSlice,
};
use kube::{Resource, runtime::watcher::Event};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{
    action::{Kind, Target},
    pods::is_terminating,
};

/// Namespace and name; the namespace is empty for a Node.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ObjectKey {
    namespace: String,
    name: String,
}

/// All objects of one kind.
#[derive(Debug)]
pub struct Shelf<K> {
    objects: BTreeMap<ObjectKey, Arc<K>>,
    /// What a list that is under way has brought so far.
    arriving: Option<BTreeMap<ObjectKey, Arc<K>>>,
    listed: bool,
}

impl<K> Default for Shelf<K> {
    fn default() -> Self {
        Self { objects: BTreeMap::new(), arriving: None, listed: false }
    }
}

impl<K: Resource> Shelf<K> {
    /// Takes one event of a watch.
    pub fn take(&mut self, event: Event<K>) {
        match event {
            Event::Init => self.arriving = Some(BTreeMap::new()),
            Event::InitApply(object) => {
                if let Some(arriving) = &mut self.arriving {
                    arriving.insert(key(&object), Arc::new(object));
                }
            }
            Event::InitDone => {
                self.objects = self.arriving.take().unwrap_or_default();
                self.listed = true;
            }
            Event::Apply(object) => self.learn(object),
            Event::Delete(object) => {
                let key = key(&object);
                // The name may already be taken by a later object.
                if self.objects.get(&key).is_some_and(|held| held.meta().uid == object.meta().uid) {
                    self.objects.remove(&key);
                }
            }
        }
    }

    /// Puts an object on the shelf, unless a newer state of it is there.
    pub fn learn(&mut self, object: K) {
        let (key, object) = (key(&object), Arc::new(object));
        if let Some(arriving) = &mut self.arriving {
            arriving.insert(key.clone(), Arc::clone(&object));
        }
        let stale = self.objects.get(&key).is_some_and(|held| is_newer(held.as_ref(), &object));
        if !stale {
            self.objects.insert(key, object);
        }
    }

    /// Forgets an object we deleted.
    pub fn forget(&mut self, namespace: &str, name: &str) {
        self.objects.remove(&ObjectKey { namespace: namespace.to_owned(), name: name.to_owned() });
    }

    /// Whether the kind has been listed once; before that, what is missing only looks as if it were.
    pub fn is_listed(&self) -> bool {
        self.listed
    }

    /// Every object.
    pub fn all(&self) -> impl Iterator<Item = &K> + Clone {
        self.objects.values().map(Arc::as_ref)
    }

    /// Every object whose deletion was not asked for.
    pub fn live(&self) -> impl Iterator<Item = &K> + Clone {
        self.all().filter(|object| !is_terminating(object.meta()))
    }

    /// One object.
    pub fn find(&self, namespace: &str, name: &str) -> Option<&K> {
        self.objects.get(&ObjectKey { namespace: namespace.to_owned(), name: name.to_owned() }).map(Arc::as_ref)
    }
}

fn key<K: Resource>(object: &K) -> ObjectKey {
    let meta = object.meta();
    ObjectKey { namespace: meta.namespace.clone().unwrap_or_default(), name: meta.name.clone().unwrap_or_default() }
}

/// Whether `held` is a later state than `other`. The versions of our API are numbers, as etcd's are.
fn is_newer<K: Resource>(held: &K, other: &K) -> bool {
    let version = |object: &K| object.meta().resource_version.as_ref()?.parse::<u64>().ok();
    match (version(held), version(other)) {
        (Some(held), Some(other)) => held > other,
        (None, _) | (_, None) => false,
    }
}

/// Everything the controllers look at.
#[derive(Debug, Default)]
#[allow(missing_docs)] // Each shelf is what its name says.
pub struct Board {
    pub nodes: Shelf<Node>,
    pub leases: Shelf<Lease>,
    pub pods: Shelf<Pod>,
    pub services: Shelf<Service>,
    pub endpoints: Shelf<Endpoints>,
    pub slices: Shelf<EndpointSlice>,
    pub replica_sets: Shelf<ReplicaSet>,
    pub deployments: Shelf<Deployment>,
    pub daemon_sets: Shelf<DaemonSet>,
    pub stateful_sets: Shelf<StatefulSet>,
    pub jobs: Shelf<Job>,
}

impl Board {
    /// Whether every kind has been listed once; before that, what is missing only looks as if it were.
    pub fn is_complete(&self) -> bool {
        self.nodes.listed
            && self.leases.listed
            && self.pods.listed
            && self.services.listed
            && self.endpoints.listed
            && self.slices.listed
            && self.replica_sets.listed
            && self.deployments.listed
            && self.daemon_sets.listed
            && self.stateful_sets.listed
            && self.jobs.listed
    }

    /// Learns the answer to a write.
    pub fn learn(&mut self, kind: Kind, object: Value) {
        match kind {
            Kind::Pod => learn(&mut self.pods, object),
            Kind::Node => learn(&mut self.nodes, object),
            Kind::Endpoints => learn(&mut self.endpoints, object),
            Kind::EndpointSlice => learn(&mut self.slices, object),
            Kind::ReplicaSet => learn(&mut self.replica_sets, object),
            Kind::Deployment => learn(&mut self.deployments, object),
            Kind::DaemonSet => learn(&mut self.daemon_sets, object),
            Kind::StatefulSet => learn(&mut self.stateful_sets, object),
            Kind::Job => learn(&mut self.jobs, object),
        }
    }

    /// Forgets an object that is gone.
    pub fn forget(&mut self, target: &Target) {
        let (namespace, name) = (target.namespace.as_str(), target.name.as_str());
        match target.kind {
            Kind::Pod => self.pods.forget(namespace, name),
            Kind::Node => self.nodes.forget(namespace, name),
            Kind::Endpoints => self.endpoints.forget(namespace, name),
            Kind::EndpointSlice => self.slices.forget(namespace, name),
            Kind::ReplicaSet => self.replica_sets.forget(namespace, name),
            Kind::Deployment => self.deployments.forget(namespace, name),
            Kind::DaemonSet => self.daemon_sets.forget(namespace, name),
            Kind::StatefulSet => self.stateful_sets.forget(namespace, name),
            Kind::Job => self.jobs.forget(namespace, name),
        }
    }
}

fn learn<K: Resource + DeserializeOwned>(shelf: &mut Shelf<K>, object: Value) {
    match serde_json::from_value(object) {
        Ok(object) => shelf.learn(object),
        // The watch brings the object again; until then this controller may repeat itself and meet a conflict.
        Err(error) => tracing::warn!(%error, "the API answered a write with an object that cannot be read"),
    }
}
