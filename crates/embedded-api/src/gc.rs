//! The collector: removes dependents of what is gone, contents of namespaces and CRDs that go.
//!
//! In: a wake-up after any deletion. Out: deletions. One pass looks at everything; it repeats until a pass changes nothing.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use serde_json::Value;

use crate::{
    api::{Api, Target},
    object,
    ops::delete::{DeleteMode, Propagation, delete_locked},
    resource::{Origin, Resource},
    store::GroupResource,
};

/// Holds a CRD until its objects are gone.
pub const CRD_FINALIZER: &str = "customresourcecleanup.apiextensions.k8s.io";

/// Most passes in a row; more means that something makes objects as fast as they go.
const PASSES_MAX: usize = 64;

/// Collects until `api` is dropped by its owner; safe to drop between passes.
pub async fn run(api: Arc<Api>) {
    loop {
        api.collect.notified().await;
        for _ in 0..PASSES_MAX {
            if !pass(&api) {
                break;
            }
            tokio::task::yield_now().await;
        }
    }
}

/// Whether the collector may find work once `object` goes or has gone. A look costs as much as there are objects, and most
/// that go are pods of a living namespace that own nothing.
pub fn may_have_work(api: &Api, target: &Target, object: &Value) -> bool {
    let named = |pointer: &str| !object::list(object, pointer).is_empty();
    let namespace = api.built_in("", "namespaces", "", object::namespace(object));
    !target.resource.namespaced
        || target.resource.origin == Origin::Custom
        || named("/metadata/ownerReferences")
        || named("/metadata/finalizers")
        || namespace.is_none_or(|namespace| object::is_terminating(&namespace))
        || api.store.has_dependents(object::uid(object))
}

/// One look at everything. Whether it changed anything.
pub fn pass(api: &Api) -> bool {
    let _writer = api.writer.lock();
    let world = World::read(api);
    let mut changed = false;
    for (resource, object) in &world.objects {
        changed |= collect_orphan(api, &world, resource, object);
        if object::is_terminating(object) {
            changed |= finish_foreground(api, &world, resource, object);
            changed |= empty_namespace(api, &world, resource, object);
            changed |= empty_crd(api, &world, resource, object);
        }
    }
    changed
}

/// Everything at one moment.
struct World {
    objects: Vec<(Arc<Resource>, Arc<Value>)>,
    uids: HashSet<String>,
    dependents: HashMap<String, Vec<usize>>,
}

impl World {
    fn read(api: &Api) -> Self {
        let mut world = Self { objects: Vec::new(), uids: HashSet::new(), dependents: HashMap::new() };
        let mut seen: HashSet<GroupResource> = HashSet::new();
        for resource in api.registry.all().iter() {
            if resource.origin == Origin::Virtual
                || resource.versions.is_empty()
                || !seen.insert(resource.stored_as.clone())
            {
                continue;
            }
            for object in api.store.list(&resource.stored_as, None).objects {
                world.uids.insert(object::uid(&object).to_owned());
                for owner in object::list(&object, "/metadata/ownerReferences") {
                    let uid = object::text(owner, "/uid").to_owned();
                    world.dependents.entry(uid).or_default().push(world.objects.len());
                }
                world.objects.push((resource.clone(), object));
            }
        }
        world
    }

    fn dependents_of(&self, uid: &str) -> impl Iterator<Item = &(Arc<Resource>, Arc<Value>)> {
        self.dependents.get(uid).into_iter().flatten().filter_map(|at| self.objects.get(*at))
    }
}

fn target_of(resource: &Arc<Resource>, object: &Value) -> Target {
    Target {
        resource: resource.clone(),
        version: resource.versions.first().map(|version| version.name.clone()).unwrap_or_default(),
        namespace: object::namespace(object).to_owned(),
        name: object::name(object).to_owned(),
    }
}

fn remove(api: &Api, resource: &Arc<Resource>, object: &Value, propagation: Propagation) -> bool {
    if object::is_terminating(object) {
        return false;
    }
    let mode = DeleteMode { propagation, ..DeleteMode::default() };
    delete_locked(api, &target_of(resource, object), &mode).is_ok()
}

/// An object all of whose owners are gone goes too.
fn collect_orphan(api: &Api, world: &World, resource: &Arc<Resource>, object: &Value) -> bool {
    let owners = object::list(object, "/metadata/ownerReferences");
    if owners.is_empty() || owners.iter().any(|owner| world.uids.contains(object::text(owner, "/uid"))) {
        return false;
    }
    remove(api, resource, object, Propagation::Background)
}

/// An owner that goes in the foreground first deletes its dependents, then itself.
fn finish_foreground(api: &Api, world: &World, resource: &Arc<Resource>, object: &Value) -> bool {
    if !object::texts(object, "/metadata/finalizers").contains(&"foregroundDeletion") {
        return false;
    }
    let mut changed = false;
    let mut blocked = false;
    for (kind, dependent) in world.dependents_of(object::uid(object)) {
        let reference = object::list(dependent, "/metadata/ownerReferences");
        let blocks =
            |owner: &Value| object::text(owner, "/uid") == object::uid(object) && owner["blockOwnerDeletion"] == true;
        blocked |= reference.iter().any(blocks);
        changed |= remove(api, kind, dependent, Propagation::Foreground);
    }
    if !blocked {
        changed |= drop_finalizer(api, resource, object, "foregroundDeletion");
    }
    changed
}

fn drop_finalizer(api: &Api, resource: &Arc<Resource>, object: &Value, finalizer: &str) -> bool {
    let target = target_of(resource, object);
    let Some(present) = api.store.get(&resource.stored_as, &target.key()) else { return false };
    let kept: Vec<&str> =
        object::texts(&present, "/metadata/finalizers").into_iter().filter(|name| *name != finalizer).collect();
    let mut next = (*present).clone();
    if kept.is_empty() {
        object::remove(&mut next, &["metadata", "finalizers"]);
    } else {
        object::set(&mut next, &["metadata", "finalizers"], kept);
    }
    settle(api, &target, next);
    true
}

/// Stores a terminating object, or removes it where nothing holds it any more.
fn settle(api: &Api, target: &Target, next: Value) {
    let finished = crate::ops::replace::is_finished(target, &next);
    let stored = api.store.put(&target.resource.stored_as, next);
    if finished {
        api.store.remove(&target.resource.stored_as, &target.key());
    }
    crate::ops::follow_up(api, target, false, &stored);
}

/// A namespace that goes deletes what is in it, then itself.
fn empty_namespace(api: &Api, world: &World, resource: &Arc<Resource>, namespace: &Value) -> bool {
    if !resource.is("", "namespaces") || object::list(namespace, "/spec/finalizers").is_empty() {
        return false;
    }
    let name = object::name(namespace);
    let inside = || world.objects.iter().filter(|(kind, object)| kind.namespaced && object::namespace(object) == name);
    if inside().next().is_some() {
        return inside()
            .fold(false, |changed, (kind, object)| remove(api, kind, object, Propagation::Background) | changed);
    }
    let target = target_of(resource, namespace);
    let mut next = namespace.clone();
    object::remove(&mut next, &["spec", "finalizers"]);
    settle(api, &target, next);
    true
}

/// A CRD that goes deletes its objects, then itself.
fn empty_crd(api: &Api, world: &World, resource: &Arc<Resource>, crd: &Value) -> bool {
    if !resource.is("apiextensions.k8s.io", "customresourcedefinitions") {
        return false;
    }
    let (group, plural) = (object::text(crd, "/spec/group"), object::text(crd, "/spec/names/plural"));
    let kind = GroupResource::new(group, plural);
    let of_it = || world.objects.iter().filter(|(resource, _)| resource.stored_as == kind);
    if of_it().next().is_some() {
        return of_it()
            .fold(false, |changed, (kind, object)| remove(api, kind, object, Propagation::Background) | changed);
    }
    drop_finalizer(api, resource, crd, CRD_FINALIZER)
}

/// Takes references to an owner out of its dependents, so that they stay.
pub fn orphan(api: &Api, uid: &str) {
    let world = World::read(api);
    for (resource, dependent) in world.dependents_of(uid) {
        let mut next = (**dependent).clone();
        let kept: Vec<Value> = object::list(&next, "/metadata/ownerReferences")
            .iter()
            .filter(|owner| object::text(owner, "/uid") != uid)
            .cloned()
            .collect();
        if kept.is_empty() {
            object::remove(&mut next, &["metadata", "ownerReferences"]);
        } else {
            object::set(&mut next, &["metadata", "ownerReferences"], kept);
        }
        api.store.put(&resource.stored_as, next);
    }
}
