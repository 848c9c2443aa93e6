//! All objects, their order of change, and the recent past of each resource.
//!
//! In: finished objects. Out: objects by key, lists, and for watches the events after a revision.
//! Absent on purpose: what is a valid object, who may write, waiting. Every call is short and holds one lock.
//!
//! Memory is bounded per resource: so many events are remembered; a watch that falls further behind is told so.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
};

use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::watch;

use crate::object;

/// How many past events of one resource are kept for watches, where nobody says otherwise.
pub const HISTORY_MAX: usize = 4096;

/// One stored kind: group and plural.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupResource {
    /// API group; empty for core.
    pub group: String,
    /// Plural name.
    pub resource: String,
}

impl GroupResource {
    /// From its two words.
    pub fn new(group: &str, resource: &str) -> Self {
        Self { group: group.to_owned(), resource: resource.to_owned() }
    }
}

/// Which object of a kind.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectKey {
    /// Empty for cluster-scoped objects.
    pub namespace: String,
    /// The name.
    pub name: String,
}

impl ObjectKey {
    /// From its two words.
    pub fn new(namespace: &str, name: &str) -> Self {
        Self { namespace: namespace.to_owned(), name: name.to_owned() }
    }

    /// The key under which `object` is stored.
    pub fn of(object: &Value) -> Self {
        Self::new(object::namespace(object), object::name(object))
    }
}

/// One change.
#[derive(Debug, Clone)]
pub struct Event {
    /// The store's revision after it.
    pub revision: u64,
    /// The object after it; for a removal the last state, with the removal's revision.
    pub object: Arc<Value>,
    /// The object before it; none for a creation.
    pub previous: Option<Arc<Value>>,
    /// Whether the object is gone.
    pub removed: bool,
}

/// Asked for events that are no longer remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too old resource version: {asked} ({oldest})")]
pub struct TooOld {
    /// The revision asked for.
    pub asked: u64,
    /// The oldest one that can be continued from.
    pub oldest: u64,
}

/// A list at one moment.
#[derive(Debug)]
pub struct Snapshot {
    /// The objects, by namespace and name.
    pub objects: Vec<Arc<Value>>,
    /// The store's revision at that moment.
    pub revision: u64,
}

/// The store.
#[derive(Debug)]
pub struct Store {
    inner: Mutex<Inner>,
    history_max: usize,
}

impl Default for Store {
    fn default() -> Self {
        Self::remembering(HISTORY_MAX)
    }
}

#[derive(Debug, Default)]
struct Inner {
    revision: u64,
    tables: HashMap<GroupResource, Table>,
    /// How many references name an owner, by its uid.
    owners: HashMap<String, usize>,
}

#[derive(Debug)]
struct Table {
    objects: BTreeMap<ObjectKey, Arc<Value>>,
    history: VecDeque<Event>,
    /// Events up to this revision are forgotten.
    forgotten: u64,
    changed: watch::Sender<u64>,
}

impl Default for Table {
    fn default() -> Self {
        Self { objects: BTreeMap::new(), history: VecDeque::new(), forgotten: 0, changed: watch::channel(0).0 }
    }
}

impl Store {
    /// A store that keeps so many past events of each resource.
    pub fn remembering(history_max: usize) -> Self {
        Self { inner: Mutex::default(), history_max }
    }

    /// Puts `object` under its key, whatever was there, and gives it the next revision.
    /// An object that differs from the present one in nothing but its revision is not written again.
    pub fn put(&self, kind: &GroupResource, mut object: Value) -> Arc<Value> {
        let mut inner = self.inner.lock();
        let key = ObjectKey::of(&object);
        let next = inner.revision + 1;
        let table = inner.tables.entry(kind.clone()).or_default();
        let previous = table.objects.get(&key).cloned();
        if let Some(present) = &previous {
            object::set(
                &mut object,
                &["metadata", "resourceVersion"],
                object::text(present, "/metadata/resourceVersion"),
            );
            if **present == object {
                return present.clone();
            }
        }
        object::set(&mut object, &["metadata", "resourceVersion"], next.to_string());
        let object = Arc::new(object);
        table.objects.insert(key, object.clone());
        let event = Event { revision: next, object: object.clone(), previous: previous.clone(), removed: false };
        table.remember(event, self.history_max);
        inner.revision = next;
        inner.follow_owners(previous.as_deref(), Some(&*object));
        object
    }

    /// Removes an object and returns its last state, with the removal's revision.
    pub fn remove(&self, kind: &GroupResource, key: &ObjectKey) -> Option<Arc<Value>> {
        let mut inner = self.inner.lock();
        let next = inner.revision + 1;
        let table = inner.tables.get_mut(kind)?;
        let previous = table.objects.remove(key)?;
        let mut last = (*previous).clone();
        object::set(&mut last, &["metadata", "resourceVersion"], next.to_string());
        let last = Arc::new(last);
        inner.follow_owners(Some(&*previous), None);
        let table = inner.tables.get_mut(kind)?;
        let event = Event { revision: next, object: last.clone(), previous: Some(previous), removed: true };
        table.remember(event, self.history_max);
        inner.revision = next;
        Some(last)
    }

    /// Whether an object names the one of this uid as its owner.
    pub fn has_dependents(&self, uid: &str) -> bool {
        self.inner.lock().owners.contains_key(uid)
    }

    /// One object.
    pub fn get(&self, kind: &GroupResource, key: &ObjectKey) -> Option<Arc<Value>> {
        self.inner.lock().tables.get(kind)?.objects.get(key).cloned()
    }

    /// All objects of a kind, or those of one namespace, in key order.
    pub fn list(&self, kind: &GroupResource, namespace: Option<&str>) -> Snapshot {
        let inner = self.inner.lock();
        let objects = match inner.tables.get(kind) {
            None => Vec::new(),
            Some(table) => match namespace {
                None => table.objects.values().cloned().collect(),
                Some(namespace) => table
                    .objects
                    .range(ObjectKey::new(namespace, "")..)
                    .take_while(|(key, _)| key.namespace == namespace)
                    .map(|(_, object)| object.clone())
                    .collect(),
            },
        };
        Snapshot { objects, revision: inner.revision }
    }

    /// The latest revision.
    pub fn revision(&self) -> u64 {
        self.inner.lock().revision
    }

    /// The events of a kind after `revision`, and the store's present revision.
    pub fn since(&self, kind: &GroupResource, revision: u64) -> Result<(Vec<Event>, u64), TooOld> {
        let inner = self.inner.lock();
        let Some(table) = inner.tables.get(kind) else { return Ok((Vec::new(), inner.revision)) };
        if revision < table.forgotten {
            return Err(TooOld { asked: revision, oldest: table.forgotten });
        }
        let start = table.history.partition_point(|event| event.revision <= revision);
        Ok((table.history.range(start..).cloned().collect(), inner.revision))
    }

    /// Wakes on every change of a kind; the value is the revision of the latest.
    pub fn changes(&self, kind: &GroupResource) -> watch::Receiver<u64> {
        self.inner.lock().tables.entry(kind.clone()).or_default().changed.subscribe()
    }
}

impl Inner {
    fn follow_owners(&mut self, before: Option<&Value>, after: Option<&Value>) {
        let of = |object: &'_ Value| {
            let owners = object::list(object, "/metadata/ownerReferences").iter();
            owners.map(|owner| object::text(owner, "/uid").to_owned()).collect::<Vec<_>>()
        };
        for uid in after.map(of).unwrap_or_default() {
            *self.owners.entry(uid).or_default() += 1;
        }
        for uid in before.map(of).unwrap_or_default() {
            if let Some(count) = self.owners.get_mut(&uid) {
                *count -= 1;
                if *count == 0 {
                    self.owners.remove(&uid);
                }
            }
        }
    }
}

impl Table {
    fn remember(&mut self, event: Event, history_max: usize) {
        let revision = event.revision;
        self.history.push_back(event);
        if self.history.len() > history_max
            && let Some(oldest) = self.history.pop_front()
        {
            self.forgotten = oldest.revision;
        }
        self.changed.send_replace(revision);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn revision(object: &Value) -> u64 {
        object::text(object, "/metadata/resourceVersion").parse().expect("a number")
    }

    fn object(name: &str, value: u64) -> Value {
        json!({"metadata": {"name": name, "namespace": "n"}, "value": value})
    }

    #[test]
    fn revisions_grow_and_an_equal_object_is_not_written_again() {
        let store = Store::default();
        let kind = GroupResource::new("", "things");
        assert_eq!(revision(&store.put(&kind, object("a", 1))), 1);
        assert_eq!(revision(&store.put(&kind, object("a", 1))), 1);
        assert_eq!(revision(&store.put(&kind, object("a", 2))), 2);
        let gone = store.remove(&kind, &ObjectKey::new("n", "a")).expect("it was there");
        assert_eq!(revision(&gone), 3);
        let (events, revision) = store.since(&kind, 1).expect("remembered");
        assert_eq!((events.len(), revision), (2, 3));
        assert!(events[1].removed);
    }

    #[test]
    fn a_forgotten_past_is_said_to_be_so() {
        let store = Store::default();
        let kind = GroupResource::new("", "things");
        for value in 0..=HISTORY_MAX as u64 {
            store.put(&kind, object("a", value));
        }
        assert_eq!(store.since(&kind, 0).expect_err("forgotten"), TooOld { asked: 0, oldest: 1 });
        assert_eq!(store.since(&kind, 1).expect("remembered").0.len(), HISTORY_MAX);
    }

    #[test]
    fn owners_are_known_while_somebody_names_them() {
        let store = Store::default();
        let kind = GroupResource::new("", "things");
        let owned = |name: &str, owner: &str| json!({"metadata": {"name": name, "namespace": "n", "ownerReferences": [{"uid": owner}]}});
        store.put(&kind, owned("a", "u1"));
        store.put(&kind, owned("b", "u1"));
        store.put(&kind, owned("a", "u2"));
        assert!(store.has_dependents("u1") && store.has_dependents("u2"));
        store.remove(&kind, &ObjectKey::new("n", "b"));
        store.put(&kind, object("a", 1));
        assert!(!store.has_dependents("u1") && !store.has_dependents("u2"));
    }

    #[test]
    fn a_namespace_is_listed_alone() {
        let store = Store::default();
        let kind = GroupResource::new("", "things");
        for namespace in ["a", "ab", "b"] {
            store.put(&kind, json!({"metadata": {"name": "x", "namespace": namespace}}));
        }
        assert_eq!(store.list(&kind, Some("a")).objects.len(), 1);
        assert_eq!(store.list(&kind, None).objects.len(), 3);
    }
}
