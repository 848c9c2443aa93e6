//! Which network namespace belongs to which pod, and how far each pod has come.
//!
//! In: what the plugin and the finder learned. Out: held namespaces, the snapshot for ztunnel; a file that survives us.
//! Absent on purpose: acting on pods. Every change is written at once: an agent may be killed at any moment.

use std::{collections::BTreeMap, io, net::IpAddr, path::PathBuf};

use lateen_cluster::store::Key;
use lateen_net::netns::{Netns, NetnsId};
use lateen_types::name::PodUid;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::decide::Stage;

/// More than any node runs; what is beyond is refused rather than remembered.
const ENTRIES_MAX: usize = 4096;
const FILE: &str = "ledger.json";

/// A pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its UID.
    pub uid: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its service account.
    pub service_account: String,
    /// The runtime's id of its sandbox, where the plugin told us of it.
    #[serde(default)]
    pub container_id: Option<String>,
    /// Where its network namespace can be opened.
    #[serde(default)]
    pub path: Option<PathBuf>,
    /// The namespace file's device and inode: a path may be reused.
    #[serde(default)]
    pub device: u64,
    /// See `device`.
    #[serde(default)]
    pub inode: u64,
    /// Its addresses.
    pub ips: Vec<IpAddr>,
    /// How far it has come.
    pub stage: Stage,
}

impl Entry {
    /// The pod's place.
    pub fn key(&self) -> Key {
        Key::new(&self.namespace, &self.name)
    }

    /// Its UID.
    pub fn pod_uid(&self) -> PodUid {
        self.uid.as_str().into()
    }

    /// Opens its namespace, if what is at the path is still the same one.
    pub fn reopen(&self) -> Option<Netns> {
        let netns = Netns::open(self.path.as_ref()?).ok()?;
        (netns.id() == NetnsId { device: self.device, inode: self.inode }).then_some(netns)
    }
}

/// An entry with its namespace, where that is open.
#[derive(Debug, Clone)]
pub struct Held {
    /// What is written down.
    pub entry: Entry,
    /// The namespace; open from the start of enrolment on.
    pub netns: Option<Netns>,
}

/// Why a pod is not remembered.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The file cannot be written.
    #[error("cannot write the ledger {}: {source}; is the run directory writable and the disk not full?", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What failed.
        source: io::Error,
    },
    /// Too many pods.
    #[error("the ledger holds {ENTRIES_MAX} pods already")]
    Full,
}

/// The ledger.
#[derive(Debug)]
pub struct Ledger {
    path: PathBuf,
    held: Mutex<BTreeMap<PodUid, Held>>,
}

impl Ledger {
    /// Reads the ledger in `run_dir`. One that cannot be read is as good as none: repair finds the pods again.
    pub fn load(run_dir: &std::path::Path) -> Self {
        let path = run_dir.join(FILE);
        let entries: Vec<Entry> = match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_else(|error| {
                tracing::warn!(path = %path.display(), %error, "the ledger cannot be read; looking for pods afresh");
                Vec::new()
            }),
            Err(error) => {
                if error.kind() != io::ErrorKind::NotFound {
                    tracing::warn!(path = %path.display(), %error, "the ledger cannot be read; looking for pods afresh");
                }
                Vec::new()
            }
        };
        let held = entries.into_iter().take(ENTRIES_MAX).map(|entry| {
            let netns = if entry.stage > Stage::Known { entry.reopen() } else { None };
            (entry.pod_uid(), Held { entry, netns })
        });
        Self { path, held: Mutex::new(held.collect()) }
    }

    /// What is known of a pod.
    pub fn find(&self, uid: &PodUid) -> Option<Held> {
        self.held.lock().get(uid).cloned()
    }

    /// Everything.
    pub fn all(&self) -> Vec<Held> {
        self.held.lock().values().cloned().collect()
    }

    /// Remembers a pod, replacing what was known of it.
    pub fn put(&self, entry: Entry, netns: Option<Netns>) -> Result<(), LedgerError> {
        let mut held = self.held.lock();
        let uid = entry.pod_uid();
        if held.len() >= ENTRIES_MAX && !held.contains_key(&uid) {
            return Err(LedgerError::Full);
        }
        held.insert(uid, Held { entry, netns });
        self.write(&held)
    }

    /// Changes what is known of a pod; nothing if it is not known.
    pub fn edit(&self, uid: &PodUid, change: impl FnOnce(&mut Held)) -> Result<(), LedgerError> {
        let mut held = self.held.lock();
        let Some(one) = held.get_mut(uid) else { return Ok(()) };
        change(one);
        self.write(&held)
    }

    /// Forgets a pod.
    pub fn remove(&self, uid: &PodUid) -> Result<(), LedgerError> {
        let mut held = self.held.lock();
        if held.remove(uid).is_some() { self.write(&held) } else { Ok(()) }
    }

    /// Written whole under another name, then renamed: a reader sees the old one or the new one. A few kilobytes, so the
    /// calling thread does it itself.
    fn write(&self, held: &BTreeMap<PodUid, Held>) -> Result<(), LedgerError> {
        let entries: Vec<&Entry> = held.values().map(|held| &held.entry).collect();
        let fresh = self.path.with_extension("new");
        let write = || {
            std::fs::write(&fresh, serde_json::to_vec(&entries).map_err(io::Error::other)?)?;
            std::fs::rename(&fresh, &self.path)
        };
        write().map_err(|source| LedgerError::Write { path: self.path.clone(), source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(uid: &str, stage: Stage) -> Entry {
        Entry {
            uid: uid.into(),
            namespace: "shop".into(),
            name: "web".into(),
            service_account: "default".into(),
            container_id: Some("c1".into()),
            path: None,
            device: 0,
            inode: 0,
            ips: vec!["10.0.0.5".parse().expect("valid")],
            stage,
        }
    }

    #[test]
    fn what_was_put_is_there_after_a_restart() {
        let dir = tempfile::tempdir().expect("a directory");
        let ledger = Ledger::load(dir.path());
        let here = Netns::current().expect("a namespace");
        let id = here.id();
        let mut enrolled = entry("u1", Stage::Enrolled);
        (enrolled.path, enrolled.device, enrolled.inode) = (Some("/proc/self/ns/net".into()), id.device, id.inode);
        ledger.put(enrolled.clone(), Some(here)).expect("written");
        ledger.put(entry("u2", Stage::Known), None).expect("written");
        ledger.edit(&"u2".into(), |held| held.entry.stage = Stage::Started).expect("written");
        let again = Ledger::load(dir.path());
        assert_eq!(again.find(&"u1".into()).expect("kept").entry, enrolled);
        assert_eq!(again.find(&"u1".into()).expect("kept").netns.expect("opened").id(), id);
        assert_eq!(again.find(&"u2".into()).expect("kept").entry.stage, Stage::Started);
        again.remove(&"u1".into()).expect("written");
        assert!(Ledger::load(dir.path()).find(&"u1".into()).is_none());
    }

    #[test]
    fn a_reused_path_is_not_the_pods_namespace() {
        let mut other = entry("u1", Stage::Enrolled);
        (other.path, other.device, other.inode) = (Some("/proc/self/ns/net".into()), 1, 1);
        assert!(other.reopen().is_none());
    }

    #[test]
    fn a_broken_file_is_no_obstacle() {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::write(dir.path().join(FILE), "{").expect("written");
        let ledger = Ledger::load(dir.path());
        assert!(ledger.all().is_empty());
        ledger.put(entry("u1", Stage::Known), None).expect("written");
        assert_eq!(Ledger::load(dir.path()).all().len(), 1);
    }
}
