//! Which pods should be served versus which are (pure).
//!
//! In: the agent's requests, and whether starting a pod's proxy worked. Out: what to start and stop.
//! Absent on purpose: sockets, clocks, starting anything.
//!
//! ```text
//! add ──► to start ──► running ──► del / other namespace / missing from a snapshot ──► to stop
//!              └─────► pending (tried again) ──► running
//! ```

use std::collections::{BTreeMap, BTreeSet};

use lateen_state::workload::PodKey;
use lateen_types::name::PodUid;

/// A pod to serve. `N` is its network namespace; two of them are the same when device and inode are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pod<N> {
    /// The agent's key.
    pub uid: PodUid,
    /// Who it is.
    pub key: PodKey,
    /// Where its sockets live.
    pub netns: N,
}

/// The ledger. Invariant: a uid is in at most one of `running` and `pending`.
#[derive(Debug, Clone)]
pub struct Ledger<N> {
    running: BTreeMap<PodUid, Pod<N>>,
    /// Could not be started; tried again.
    pending: BTreeMap<PodUid, Pod<N>>,
    snapshot: Snapshot,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Snapshot {
    /// These were named so far on this connection.
    Receiving(BTreeSet<PodUid>),
    Complete,
}

/// What an Add leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Added {
    /// It runs already.
    Nothing,
    /// Start it.
    Start,
    /// Stop what runs under this uid in another namespace, then start it.
    Replace,
}

/// The agent broke the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// Keep only makes sense while pods are being listed.
    #[error("Keep after SnapshotSent")]
    KeepAfterSnapshot,
    /// There is one snapshot per connection.
    #[error("a second SnapshotSent on one connection")]
    SecondSnapshot,
}

impl<N> Default for Ledger<N> {
    fn default() -> Self {
        Self { running: BTreeMap::new(), pending: BTreeMap::new(), snapshot: Snapshot::Receiving(BTreeSet::new()) }
    }
}

impl<N: Clone + PartialEq> Ledger<N> {
    /// A new connection: it will name every pod again, so old failures are forgotten. What runs goes on.
    pub fn connected(&mut self) {
        self.pending.clear();
        self.snapshot = Snapshot::Receiving(BTreeSet::new());
    }

    /// The agent names a pod.
    pub fn add(&mut self, pod: &Pod<N>) -> Added {
        if let Snapshot::Receiving(named) = &mut self.snapshot {
            named.insert(pod.uid.clone());
        }
        // A pod that waits is tried now, in the namespace that came with this request.
        self.pending.remove(&pod.uid);
        match self.running.get(&pod.uid) {
            Some(running) if running.netns == pod.netns => Added::Nothing,
            Some(_) => {
                self.running.remove(&pod.uid);
                Added::Replace
            }
            None => Added::Start,
        }
    }

    /// Starting it worked.
    pub fn started(&mut self, pod: Pod<N>) {
        self.pending.remove(&pod.uid);
        self.running.insert(pod.uid.clone(), pod);
    }

    /// Starting it failed; it will be tried again until it works or is deleted.
    pub fn failed(&mut self, pod: Pod<N>) {
        self.pending.insert(pod.uid.clone(), pod);
    }

    /// The agent cannot say where the pod is, but it is still there.
    pub fn keep(&mut self, uid: PodUid) -> Result<(), ProtocolError> {
        match &mut self.snapshot {
            Snapshot::Receiving(named) => {
                named.insert(uid);
                Ok(())
            }
            Snapshot::Complete => Err(ProtocolError::KeepAfterSnapshot),
        }
    }

    /// The pod is gone; whether it runs and must be stopped now. Within a snapshot that happens at its end.
    pub fn del(&mut self, uid: &PodUid) -> bool {
        self.pending.remove(uid);
        match &mut self.snapshot {
            Snapshot::Receiving(named) => {
                named.remove(uid);
                false
            }
            Snapshot::Complete => self.running.remove(uid).is_some(),
        }
    }

    /// Every pod was named: those that run without having been are returned, to be stopped.
    pub fn snapshot_sent(&mut self) -> Result<Vec<PodUid>, ProtocolError> {
        let Snapshot::Receiving(named) = std::mem::replace(&mut self.snapshot, Snapshot::Complete) else {
            return Err(ProtocolError::SecondSnapshot);
        };
        let unnamed: Vec<PodUid> = self.running.keys().filter(|uid| !named.contains(*uid)).cloned().collect();
        for uid in &unnamed {
            self.running.remove(uid);
        }
        Ok(unnamed)
    }

    /// What to try again.
    pub fn pending(&self) -> impl Iterator<Item = &Pod<N>> {
        self.pending.values()
    }

    /// What runs.
    pub fn running(&self) -> impl Iterator<Item = &Pod<N>> {
        self.running.values()
    }

    /// Whether the agent has named every pod of the node on this connection.
    pub fn is_complete(&self) -> bool {
        self.snapshot == Snapshot::Complete
    }

    /// Whether every pod of the node is known and served.
    pub fn is_settled(&self) -> bool {
        self.is_complete() && self.pending.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(uid: &str, netns: u32) -> Pod<u32> {
        let key = PodKey { name: uid.into(), namespace: "shop".into(), service_account: "default".into() };
        Pod { uid: uid.into(), key, netns }
    }

    /// Adds and starts.
    fn run(ledger: &mut Ledger<u32>, pod: Pod<u32>) -> Added {
        let added = ledger.add(&pod);
        if added != Added::Nothing {
            ledger.started(pod);
        }
        added
    }

    fn names(ledger: &Ledger<u32>) -> Vec<String> {
        ledger.running().map(|pod| pod.uid.to_string()).collect()
    }

    #[test]
    fn the_same_add_twice_starts_one() {
        let mut ledger = Ledger::default();
        assert_eq!(run(&mut ledger, pod("u", 1)), Added::Start);
        assert_eq!(run(&mut ledger, pod("u", 1)), Added::Nothing);
        assert_eq!(names(&ledger), ["u"]);
    }

    #[test]
    fn another_namespace_replaces() {
        let mut ledger = Ledger::default();
        run(&mut ledger, pod("u", 1));
        assert_eq!(run(&mut ledger, pod("u", 2)), Added::Replace);
        assert_eq!(ledger.running().next().map(|pod| pod.netns), Some(2));
    }

    #[test]
    fn a_failed_start_waits_until_it_works_or_is_replaced_or_deleted() {
        let mut ledger = Ledger::default();
        ledger.snapshot_sent().expect("first");
        assert!(ledger.is_settled());
        ledger.add(&pod("u", 1));
        ledger.failed(pod("u", 1));
        assert!(!ledger.is_settled());
        assert_eq!(ledger.add(&pod("u", 2)), Added::Start);
        ledger.failed(pod("u", 2));
        assert_eq!(ledger.pending().map(|pod| pod.netns).collect::<Vec<_>>(), [2]);
        ledger.started(pod("u", 2));
        assert!(ledger.is_settled());
        ledger.failed(pod("w", 3));
        assert!(!ledger.del(&"w".into()), "it never ran");
        assert_eq!(ledger.pending().count(), 0);
    }

    #[test]
    fn a_delete_within_the_snapshot_takes_effect_at_its_end() {
        let mut ledger = Ledger::default();
        run(&mut ledger, pod("u", 1));
        assert!(!ledger.del(&"u".into()));
        assert_eq!(ledger.snapshot_sent().expect("first"), ["u".into()]);
        assert!(names(&ledger).is_empty());
    }

    #[test]
    fn add_delete_add_is_one() {
        let mut ledger = Ledger::default();
        ledger.snapshot_sent().expect("first");
        run(&mut ledger, pod("u", 1));
        assert!(ledger.del(&"u".into()));
        assert!(!ledger.del(&"u".into()), "unknown is fine");
        run(&mut ledger, pod("u", 1));
        assert_eq!(names(&ledger), ["u"]);
    }

    #[test]
    fn a_second_snapshot_keeps_what_it_names() {
        let mut ledger = Ledger::default();
        for uid in ["added", "kept", "gone"] {
            run(&mut ledger, pod(uid, 1));
        }
        ledger.snapshot_sent().expect("first");
        ledger.failed(pod("old failure", 1));
        ledger.connected();
        assert!(!ledger.is_settled() && ledger.pending().count() == 0);
        run(&mut ledger, pod("added", 1));
        ledger.keep("kept".into()).expect("in time");
        ledger.keep("never seen".into()).expect("in time");
        assert_eq!(ledger.snapshot_sent().expect("first of this connection"), ["gone".into()]);
        assert_eq!(names(&ledger), ["added", "kept"]);
        assert!(ledger.is_settled());
    }

    #[test]
    fn out_of_order_requests_are_errors() {
        let mut ledger = Ledger::<u32>::default();
        ledger.snapshot_sent().expect("first");
        assert_eq!(ledger.keep("u".into()), Err(ProtocolError::KeepAfterSnapshot));
        assert_eq!(ledger.snapshot_sent(), Err(ProtocolError::SecondSnapshot));
        assert!(ledger.is_settled(), "and change nothing");
    }
}
