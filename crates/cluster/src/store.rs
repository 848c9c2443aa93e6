//! A followed collection: what the cluster holds of one kind, kept small and current.
//!
//! In: the watch of one kind. Out: a [`Store`] of what the reader made of each object, a call for each key whose value
//! changed, a call once the store is complete.
//! Absent on purpose: what a change means. Objects themselves are not kept, only what [`Read`] takes from them, so
//! managed fields and everything unread never stay in memory.
//!
//! ```text
//! list ──► complete ──► watch ──► changes …
//!   ▲                     │
//!   └── expired, gone, or several failures in a row: list again, then drop what is no longer there
//! ```

use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::Arc,
    time::Duration,
};

use futures::StreamExt as _;
use kube::{
    Api, Resource,
    runtime::watcher::{self, Event},
};
use lateen_rt::backoff::Backoff;
use parking_lot::RwLock;
use serde::de::DeserializeOwned;

/// An object's place: namespace (empty for cluster-wide kinds) and name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// The namespace.
    pub namespace: Arc<str>,
    /// The name.
    pub name: Arc<str>,
}

impl Key {
    /// The key of `namespace/name`.
    pub fn new(namespace: &str, name: &str) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }

    /// The key of an object.
    pub fn of(object: &impl Resource) -> Self {
        let meta = object.meta();
        Self::new(meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default())
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() { f.write_str(&self.name) } else { write!(f, "{}/{}", self.namespace, self.name) }
    }
}

/// What a reader makes of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reading<V> {
    /// This is kept.
    Value(V),
    /// The object is of no interest; a value kept for it before goes.
    Nothing,
    /// The object cannot be understood; what was kept for it before stays.
    Unreadable(String),
}

/// The kept values of one kind; clones share them.
#[derive(Debug)]
pub struct Store<V> {
    values: Arc<RwLock<HashMap<Key, Arc<V>>>>,
}

impl<V> Clone for Store<V> {
    fn clone(&self) -> Self {
        Self { values: self.values.clone() }
    }
}

impl<V> Default for Store<V> {
    fn default() -> Self {
        Self { values: Arc::default() }
    }
}

impl<V> Store<V> {
    /// What is kept for `key` now.
    pub fn find(&self, key: &Key) -> Option<Arc<V>> {
        self.values.read().get(key).cloned()
    }

    /// How many objects are kept.
    pub fn len(&self) -> usize {
        self.values.read().len()
    }

    /// Whether nothing is kept.
    pub fn is_empty(&self) -> bool {
        self.values.read().is_empty()
    }

    /// All keys and values of this moment.
    pub fn snapshot(&self) -> Vec<(Key, Arc<V>)> {
        self.values.read().iter().map(|(key, value)| (key.clone(), value.clone())).collect()
    }
}

impl<V: PartialEq> Store<V> {
    /// Keeps `value` for `key`; whether that changed anything.
    pub fn put(&self, key: &Key, value: V) -> bool {
        let mut values = self.values.write();
        if values.get(key).is_some_and(|kept| **kept == value) {
            return false;
        }
        values.insert(key.clone(), Arc::new(value));
        true
    }

    /// Keeps nothing for `key`; whether that changed anything.
    pub fn remove(&self, key: &Key) -> bool {
        self.values.write().remove(key).is_some()
    }

    fn keys_outside(&self, seen: &HashSet<Key>) -> Vec<Key> {
        self.values.read().keys().filter(|key| !seen.contains(key)).cloned().collect()
    }
}

/// Who listens to a followed collection.
pub trait Listener<K>: Send {
    /// What is kept of an object.
    type Value: PartialEq + Send + Sync;

    /// Takes from `object` what will be used.
    fn read(&mut self, object: K) -> Reading<Self::Value>;

    /// The value of `key` has changed or gone; the store says which.
    fn changed(&mut self, key: &Key);

    /// The store holds everything the cluster held at the time of the list. Called after each list.
    fn complete(&mut self);
}

/// The state of one followed collection between two events. Pure apart from the store.
struct Following<V> {
    store: Store<V>,
    /// Keys of the list under way.
    seen: Option<HashSet<Key>>,
}

impl<V: PartialEq + Send + Sync> Following<V> {
    fn take<K: Resource>(&mut self, event: Event<K>, listener: &mut impl Listener<K, Value = V>) {
        match event {
            Event::Init => self.seen = Some(HashSet::new()),
            Event::InitApply(object) => {
                if let Some(seen) = &mut self.seen {
                    seen.insert(Key::of(&object));
                }
                self.keep(object, listener);
            }
            Event::InitDone => self.finish_list(listener),
            Event::Apply(object) => self.keep(object, listener),
            Event::Delete(object) => self.drop_key(&Key::of(&object), listener),
        }
    }

    fn keep<K: Resource>(&mut self, object: K, listener: &mut impl Listener<K, Value = V>) {
        let key = Key::of(&object);
        match listener.read(object) {
            Reading::Value(value) => {
                if self.store.put(&key, value) {
                    listener.changed(&key);
                }
            }
            Reading::Nothing => self.drop_key(&key, listener),
            Reading::Unreadable(reason) => {
                tracing::warn!(object = %key, reason, "an object cannot be read; the mesh keeps its former state");
            }
        }
    }

    fn drop_key<K: Resource>(&self, key: &Key, listener: &mut impl Listener<K, Value = V>) {
        if self.store.remove(key) {
            listener.changed(key);
        }
    }

    /// What the list did not name was deleted while nobody watched.
    fn finish_list<K: Resource>(&mut self, listener: &mut impl Listener<K, Value = V>) {
        let seen = self.seen.take().unwrap_or_default();
        for key in self.store.keys_outside(&seen) {
            self.drop_key(&key, listener);
        }
        listener.complete();
    }
}

/// After so many failures in a row the position in the watch is given up and everything is listed again: a restarted
/// API server may not know the position.
const FAILURES_MAX: u32 = 3;
const RETRY_START: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(5);

/// Keeps `store` equal to what `api` holds, for ever. Survives expired watches and restarts of the API server. A kind
/// the cluster does not know (its CRD is not installed) is an empty collection until it appears.
pub async fn follow<K, L>(api: Api<K>, config: watcher::Config, store: Store<L::Value>, mut listener: L)
where
    K: Resource + Clone + fmt::Debug + DeserializeOwned + Send + 'static,
    L: Listener<K>,
{
    let mut following = Following { store, seen: None };
    let mut pace = Backoff::new(RETRY_START, RETRY_MAX).with_jitter(0.2);
    loop {
        let mut events = watcher::watcher(api.clone(), config.clone()).boxed();
        let mut failures = 0;
        while failures < FAILURES_MAX {
            match events.next().await {
                Some(Ok(event)) => {
                    // Beginning a list is no success yet: it is said before the server was asked.
                    if !matches!(event, Event::Init) {
                        failures = 0;
                        pace.reset();
                    }
                    following.take(event, &mut listener);
                }
                Some(Err(error)) => {
                    failures += 1;
                    if is_unknown_kind(&error) {
                        following.seen = None;
                        following.finish_list(&mut listener);
                    } else {
                        tracing::warn!(url = api.resource_url(), %error, "watching failed; trying again");
                    }
                    tokio::time::sleep(pace.next_wait()).await;
                }
                None => break,
            }
        }
    }
}

/// Whether the server says that there is no such kind.
fn is_unknown_kind(error: &watcher::Error) -> bool {
    match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status)) => status.code == 404,
        watcher::Error::InitialListFailed(_)
        | watcher::Error::WatchStartFailed(_)
        | watcher::Error::WatchError(_)
        | watcher::Error::WatchFailed(_)
        | watcher::Error::NoResourceVersion => false,
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::core::ObjectMeta;

    use super::*;

    /// Keeps the key `v` of a ConfigMap; `-` is of no interest, `?` cannot be read.
    #[derive(Default)]
    struct Recorder {
        changed: Vec<String>,
        completed: u32,
    }

    impl Listener<ConfigMap> for Recorder {
        type Value = String;

        fn read(&mut self, object: ConfigMap) -> Reading<String> {
            match object.data.and_then(|mut data| data.remove("v")).as_deref() {
                None | Some("-") => Reading::Nothing,
                Some("?") => Reading::Unreadable("on purpose".to_owned()),
                Some(value) => Reading::Value(value.to_owned()),
            }
        }

        fn changed(&mut self, key: &Key) {
            self.changed.push(key.to_string());
        }

        fn complete(&mut self) {
            self.completed += 1;
        }
    }

    fn map(name: &str, value: &str) -> ConfigMap {
        let metadata = ObjectMeta { namespace: Some("ns".into()), name: Some(name.into()), ..ObjectMeta::default() };
        let data = [("v".to_owned(), value.to_owned())].into();
        ConfigMap { metadata, data: Some(data), ..ConfigMap::default() }
    }

    fn fresh() -> (Following<String>, Recorder, Store<String>) {
        let store = Store::default();
        (Following { store: store.clone(), seen: None }, Recorder::default(), store)
    }

    #[test]
    fn only_real_changes_are_told() {
        let (mut following, mut recorder, store) = fresh();
        for event in [
            Event::Init,
            Event::InitApply(map("a", "1")),
            Event::InitDone,
            Event::Apply(map("a", "1")),
            Event::Apply(map("a", "2")),
            Event::Apply(map("b", "-")),
            Event::Apply(map("a", "?")),
        ] {
            following.take(event, &mut recorder);
        }
        assert_eq!(recorder.changed, ["ns/a", "ns/a"]);
        assert_eq!(recorder.completed, 1);
        assert_eq!(store.find(&Key::new("ns", "a")).as_deref(), Some(&"2".to_owned()));
        following.take(Event::Delete(map("a", "2")), &mut recorder);
        following.take(Event::Delete(map("a", "2")), &mut recorder);
        assert_eq!(recorder.changed.len(), 3);
        assert!(store.is_empty());
    }

    #[test]
    fn a_second_list_removes_what_went_unseen() {
        let (mut following, mut recorder, store) = fresh();
        let list = |names: &[&str]| {
            let mut events = vec![Event::Init];
            events.extend(names.iter().map(|name| Event::InitApply(map(name, "1"))));
            events.push(Event::InitDone);
            events
        };
        for event in list(&["a", "b"]).into_iter().chain(list(&["b", "c"])) {
            following.take(event, &mut recorder);
        }
        let mut kept: Vec<String> = store.snapshot().iter().map(|(key, _)| key.to_string()).collect();
        kept.sort();
        assert_eq!(kept, ["ns/b", "ns/c"]);
        assert_eq!(recorder.changed, ["ns/a", "ns/b", "ns/c", "ns/a"]);
        assert_eq!(recorder.completed, 2);
    }

    #[test]
    fn a_list_cut_short_removes_nothing() {
        let (mut following, mut recorder, store) = fresh();
        for event in [Event::Init, Event::InitApply(map("a", "1")), Event::InitDone, Event::Init] {
            following.take(event, &mut recorder);
        }
        following.take(Event::Apply(map("b", "1")), &mut recorder);
        assert_eq!(store.len(), 2);
    }
}
