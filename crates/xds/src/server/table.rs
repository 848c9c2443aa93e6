//! What is published now, and what changed lately.
//!
//! In: batches; a batch may span types and becomes visible at once. Out: [`View`]s, and word of new revisions.
//! The log of changes is bounded: a session that asks for something older than it must begin anew.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::Arc,
};

use parking_lot::RwLock;
use tokio::sync::watch;

use crate::resource::Entry;

/// One change of the table.
#[derive(Debug, Clone, PartialEq)]
pub enum Publish {
    /// This is its content from now on.
    Put(&'static str, Entry),
    /// It is no more: type and name.
    Remove(&'static str, String),
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
}

/// The table at one moment.
#[derive(Debug, Default)]
pub struct View {
    revision: u64,
    kinds: HashMap<&'static str, Kind>,
    log: VecDeque<Change>,
    /// Changes up to this revision are no longer in the log.
    forgotten: u64,
}

#[derive(Debug)]
struct Change {
    revision: u64,
    type_url: &'static str,
    name: String,
}

#[derive(Debug, Default)]
struct Kind {
    entries: BTreeMap<String, Arc<Entry>>,
    by_alias: HashMap<String, BTreeSet<String>>,
    by_group: HashMap<String, BTreeSet<String>>,
}

/// What changed in one type.
#[derive(Debug, Default)]
pub(crate) struct Delta {
    pub(crate) put: Vec<Arc<Entry>>,
    pub(crate) removed: Vec<String>,
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
        let shared = Shared { view: RwLock::default(), revision: watch::Sender::new(0) };
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
    pub(crate) fn since(&self, type_url: &str, revision: u64) -> Option<Delta> {
        if revision < self.forgotten {
            return None;
        }
        let recent = self.log.iter().rev().take_while(|change| change.revision > revision);
        let names: BTreeSet<&str> =
            recent.filter(|change| change.type_url == type_url).map(|change| change.name.as_str()).collect();
        let mut delta = Delta::default();
        for name in names {
            match self.entry(type_url, name) {
                Some(entry) => delta.put.push(entry.clone()),
                None => delta.removed.push(name.to_owned()),
            }
        }
        Some(delta)
    }
}

impl Kind {
    fn members(&self, group: &str) -> impl Iterator<Item = &Arc<Entry>> {
        self.by_group.get(group).into_iter().flatten().filter_map(|name| self.entries.get(name))
    }

    fn insert(&mut self, entry: Entry) {
        for alias in &entry.aliases {
            self.by_alias.entry(alias.clone()).or_default().insert(entry.name.clone());
        }
        for group in &entry.groups {
            self.by_group.entry(group.clone()).or_default().insert(entry.name.clone());
        }
        self.entries.insert(entry.name.clone(), Arc::new(entry));
    }

    fn remove(&mut self, name: &str) {
        let Some(entry) = self.entries.remove(name) else { return };
        for (index, keys) in [(&mut self.by_alias, &entry.aliases), (&mut self.by_group, &entry.groups)] {
            for key in keys {
                if let Some(names) = index.get_mut(key) {
                    names.remove(name);
                    if names.is_empty() {
                        index.remove(key);
                    }
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
            table.with(|view| view.find(KIND, key).iter().map(|entry| entry.name.clone()).collect())
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
