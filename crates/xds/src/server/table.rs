//! What is published now, and what changed lately.
//!
//! In: batches; a batch may span types and becomes visible at once. Out: [`View`]s, and word of new revisions.
//! The log of changes is bounded: a session that asks for something older than it must begin anew.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    ops::Bound,
    sync::Arc,
};

use futures::Stream;
use lateen_wire::discovery::DeltaDiscoveryRequest;
use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;
use tonic::{Status, body::Body};

use super::{
    requests::{Readers, requests},
    turn::{Places, Turn},
};
use crate::resource::Entry;

/// One change of the table.
#[derive(Debug, Clone, PartialEq)]
pub enum Publish {
    /// This is its content from now on.
    Put(&'static str, Entry),
    /// It is no more: type and name.
    Remove(&'static str, Arc<str>),
}

/// The published resources; clones share them.
#[derive(Debug, Clone)]
pub struct Table {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    view: RwLock<View>,
    revision: watch::Sender<u64>,
    places: Places,
    readers: Readers,
}

/// The table at one moment.
#[derive(Debug, Default)]
pub struct View {
    revision: u64,
    kinds: HashMap<&'static str, Kind>,
    log: VecDeque<Change>,
    /// Changes up to this revision are no longer in the log.
    forgotten: u64,
    /// What [`View::since`] has answered at this revision: nearly all sessions ask the same.
    answered: Mutex<Vec<Answered>>,
}

#[derive(Debug)]
struct Answered {
    type_url: String,
    since: u64,
    delta: Arc<Delta>,
}

/// Answers remembered at one revision. Sessions that are busy stay behind by some revisions, each by its own number.
const ANSWERED_MAX: usize = 64;

#[derive(Debug)]
struct Change {
    revision: u64,
    type_url: &'static str,
    name: Arc<str>,
}

#[derive(Debug, Default)]
struct Kind {
    entries: BTreeMap<Arc<str>, Arc<Entry>>,
    by_alias: HashMap<String, Names>,
    by_group: HashMap<Arc<str>, BTreeSet<Arc<str>>>,
}

/// The names that have one alias: nearly always one. Sorted.
type Names = smallvec::SmallVec<[Arc<str>; 1]>;

/// What changed in one type.
#[derive(Debug, Default)]
pub(crate) struct Delta {
    pub(crate) put: Vec<Arc<Entry>>,
    pub(crate) removed: Vec<Arc<str>>,
}

/// Names remembered as changed. Sessions collect at each change, so only one that is stuck for this long loses its place.
const LOG_MAX: usize = 1 << 16;

impl Default for Table {
    fn default() -> Self {
        Self::new()
    }
}

impl Table {
    /// An empty table.
    pub fn new() -> Self {
        let shared = Shared {
            view: RwLock::default(),
            revision: watch::Sender::new(0),
            places: Places::default(),
            readers: Readers::default(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Makes all of `batch` visible at once, then wakes the sessions. What equals the present content changes nothing.
    pub fn publish(&self, batch: impl IntoIterator<Item = Publish>) {
        let mut view = self.shared.view.write();
        let next = view.revision + 1;
        let mut changed = false;
        for change in batch {
            changed |= view.apply(change, next);
        }
        if changed {
            view.revision = next;
            view.trim();
            drop(view);
            self.shared.revision.send_replace(next);
        }
    }

    /// Looks at the table; writers wait meanwhile.
    pub fn with<T>(&self, look: impl FnOnce(&View) -> T) -> T {
        look(&self.shared.view.read())
    }

    /// When a stream may send its first picture.
    pub(super) fn turn(&self) -> Turn {
        self.shared.places.turn()
    }

    /// The requests in the body of one stream. Large ones of all streams are read a few at a time.
    pub fn requests(
        &self,
        body: Body,
    ) -> impl Stream<Item = Result<DeltaDiscoveryRequest, Status>> + Send + Unpin + use<> {
        requests(body, self.shared.readers.clone())
    }

    /// Hears of new revisions.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.shared.revision.subscribe()
    }
}

impl View {
    fn apply(&mut self, change: Publish, revision: u64) -> bool {
        let (type_url, name, entry) = match change {
            Publish::Put(type_url, entry) => (type_url, entry.name.clone(), Some(entry)),
            Publish::Remove(type_url, name) => (type_url, name, None),
        };
        let kind = self.kinds.entry(type_url).or_default();
        if kind.entries.get(&name).map(|known| &**known) == entry.as_ref() {
            return false;
        }
        kind.remove(&name);
        if let Some(entry) = entry {
            kind.insert(entry);
        }
        self.log.push_back(Change { revision, type_url, name });
        self.answered.get_mut().clear();
        true
    }

    fn trim(&mut self) {
        while self.log.len() > LOG_MAX {
            if let Some(change) = self.log.pop_front() {
                self.forgotten = change.revision;
            }
        }
    }

    /// The number of the last batch.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Everything of a type, by name.
    pub fn all(&self, type_url: &str) -> impl Iterator<Item = &Arc<Entry>> + use<'_> {
        self.kinds.get(type_url).into_iter().flat_map(|kind| kind.entries.values())
    }

    /// Those of a type whose names come after `name`, in their order; all without one.
    pub(crate) fn after(&self, type_url: &str, name: Option<&Arc<str>>) -> impl Iterator<Item = &Arc<Entry>> {
        let begin = name.map_or(Bound::Unbounded, Bound::Excluded);
        let range = (begin, Bound::Unbounded);
        let kind = self.kinds.get(type_url).into_iter();
        kind.flat_map(move |kind| kind.entries.range::<Arc<str>, _>(range)).map(|(_, entry)| entry)
    }

    /// The resource called `name`.
    pub fn entry(&self, type_url: &str, name: &str) -> Option<&Arc<Entry>> {
        self.kinds.get(type_url)?.entries.get(name)
    }

    /// What `key` stands for: a name, else an alias; with each found one the members of the group it names.
    pub(crate) fn find(&self, type_url: &str, key: &str) -> Vec<Arc<Entry>> {
        let Some(kind) = self.kinds.get(type_url) else { return Vec::new() };
        let named: Vec<&Arc<Entry>> = match kind.entries.get(key) {
            Some(entry) => vec![entry],
            None => kind.by_alias.get(key).into_iter().flatten().filter_map(|name| kind.entries.get(name)).collect(),
        };
        let members = named.iter().flat_map(|entry| kind.members(&entry.name));
        named.iter().copied().chain(members).cloned().collect()
    }

    /// The members of any of `groups`.
    pub(crate) fn members(&self, type_url: &str, groups: &[String]) -> Vec<Arc<Entry>> {
        let Some(kind) = self.kinds.get(type_url) else { return Vec::new() };
        groups.iter().flat_map(|group| kind.members(group)).cloned().collect()
    }

    /// What changed after `revision`; `None` if the log does not reach back so far.
    pub(crate) fn since(&self, type_url: &str, revision: u64) -> Option<Arc<Delta>> {
        if revision < self.forgotten {
            return None;
        }
        let is_it = |one: &&Answered| one.since == revision && one.type_url == type_url;
        let mut answered = self.answered.lock();
        if let Some(found) = answered.iter().find(is_it) {
            return Some(found.delta.clone());
        }
        let delta = Arc::new(self.changes_after(type_url, revision));
        if answered.len() < ANSWERED_MAX {
            answered.push(Answered { type_url: type_url.to_owned(), since: revision, delta: delta.clone() });
        }
        Some(delta)
    }

    fn changes_after(&self, type_url: &str, revision: u64) -> Delta {
        let recent = self.log.iter().rev().take_while(|change| change.revision > revision);
        let names: BTreeSet<&Arc<str>> =
            recent.filter(|change| change.type_url == type_url).map(|change| &change.name).collect();
        let mut delta = Delta::default();
        for name in names {
            match self.entry(type_url, name) {
                Some(entry) => delta.put.push(entry.clone()),
                None => delta.removed.push(name.clone()),
            }
        }
        delta
    }
}

impl Kind {
    fn members(&self, group: &str) -> impl Iterator<Item = &Arc<Entry>> {
        self.by_group.get(group).into_iter().flatten().filter_map(|name| self.entries.get(name))
    }

    fn insert(&mut self, mut entry: Entry) {
        for alias in &entry.aliases {
            let names = self.by_alias.entry(alias.clone()).or_default();
            if let Err(place) = names.binary_search(&entry.name) {
                names.insert(place, entry.name.clone());
            }
        }
        for group in &mut entry.groups {
            // One text for all members.
            if let Some((known, _)) = self.by_group.get_key_value(group) {
                *group = known.clone();
            }
            self.by_group.entry(group.clone()).or_default().insert(entry.name.clone());
        }
        self.entries.insert(entry.name.clone(), Arc::new(entry));
    }

    fn remove(&mut self, name: &str) {
        let Some(entry) = self.entries.remove(name) else { return };
        for alias in &entry.aliases {
            if let Some(names) = self.by_alias.get_mut(alias) {
                names.retain(|one| **one != *name);
                if names.is_empty() {
                    self.by_alias.remove(alias);
                }
            }
        }
        for group in &entry.groups {
            if let Some(names) = self.by_group.get_mut(group) {
                names.remove(name);
                if names.is_empty() {
                    self.by_group.remove(group);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIND: &str = "t";

    fn put(name: &str, text: &str) -> Publish {
        Publish::Put(KIND, Entry::new(KIND, name, &text.to_owned()))
    }

    #[test]
    fn equal_content_is_no_change() {
        let table = Table::new();
        table.publish([put("a", "1")]);
        table.publish([put("a", "1"), Publish::Remove(KIND, "b".into())]);
        assert_eq!(table.with(View::revision), 1);
        table.publish([put("a", "2")]);
        assert_eq!(table.with(View::revision), 2);
    }

    #[test]
    fn keys_lead_to_entries_and_their_members() {
        let table = Table::new();
        let pod = Entry::new(KIND, "pod", &"p".to_owned()).with_aliases(vec!["/1.1.1.1".into()]);
        let service = Entry::new(KIND, "ns/svc", &"s".to_owned()).with_aliases(vec!["/9.9.9.9".into()]);
        table.publish([
            Publish::Put(KIND, pod.with_groups(vec!["ns/svc".into(), "node/n1".into()])),
            Publish::Put(KIND, service),
        ]);
        let found = |key: &str| -> Vec<String> {
            table.with(|view| view.find(KIND, key).iter().map(|entry| (*entry.name).to_owned()).collect())
        };
        assert_eq!(found("/9.9.9.9"), ["ns/svc", "pod"]);
        assert_eq!(found("/1.1.1.1"), ["pod"]);
        assert!(found("node/n1").is_empty() && found("x").is_empty());
        assert_eq!(table.with(|view| view.members(KIND, &["node/n1".into()]).len()), 1);
        table.publish([Publish::Remove(KIND, "pod".into())]);
        assert_eq!(found("/9.9.9.9"), ["ns/svc"]);
        assert!(found("/1.1.1.1").is_empty());
    }

    #[test]
    fn sessions_at_one_revision_share_what_changed() {
        let table = Table::new();
        table.publish([put("a", "1")]);
        let since = |revision| table.with(|view| view.since(KIND, revision)).expect("in the log");
        assert!(Arc::ptr_eq(&since(0), &since(0)));
        assert!(since(1).put.is_empty());
        table.publish([put("b", "1")]);
        assert_eq!((since(0).put.len(), since(1).put.len()), (2, 1));
        table.publish([Publish::Remove(KIND, "a".into())]);
        assert_eq!((since(1).put.len(), since(1).removed.len()), (1, 1));
    }

    #[test]
    fn the_log_forgets_and_says_so() {
        let table = Table::new();
        for round in 0..LOG_MAX + 2 {
            table.publish([put(&format!("n{}", round % 3), &round.to_string())]);
        }
        assert!(table.with(|view| view.since(KIND, 1)).is_none());
        let delta = table.with(|view| view.since(KIND, view.revision() - 2)).expect("in the log");
        assert_eq!(delta.put.len(), 2);
    }
}
