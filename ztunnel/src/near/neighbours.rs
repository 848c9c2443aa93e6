//! The pods this process serves, by name, for callers on the same node.
//!
//! In: pods as they begin and end. Out: a snapshot that `plan` can ask, and the pod itself once it is to be entered.
//! Absent on purpose: whether anyone may call it.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Weak},
    time::Duration,
};

use arc_swap::ArcSwap;
use lateen_net::local::is_own_address;
use lateen_state::workload::{PodKey, Workload};
use lateen_types::{id::Namespace, name::PodUid};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::pod::{KeepSource, Pod};

/// How long a pod's address is believed to be its own before the kernel is asked again.
const PROVEN_FOR: Duration = Duration::from_secs(5);
/// A pod has one or two addresses; what does not fit is asked each time.
const PROVEN_MAX: usize = 8;

/// Which workloads this process serves itself, at one moment.
pub trait Neighbourhood: std::fmt::Debug + Sync {
    /// The pod that `workload` is, if exactly one such pod is served.
    fn pod_of(&self, workload: &Workload) -> Option<&PodKey>;
}

/// Nobody: the short cut is switched off.
#[derive(Debug, Clone, Copy)]
pub struct Nobody;

impl Neighbourhood for Nobody {
    fn pod_of(&self, _: &Workload) -> Option<&PodKey> {
        None
    }
}

type Name = (Namespace, Arc<str>);

/// The served pods at one moment.
#[derive(Debug, Clone, Default)]
pub struct Snapshot(HashMap<Name, Vec<Arc<Neighbour>>>);

impl Snapshot {
    /// The one pod that `workload` is. Two of one name are a pod and its successor: which of them has the address is not
    /// known here, so neither is taken.
    fn find(&self, workload: &Workload) -> Option<&Arc<Neighbour>> {
        let named = self.0.get(&(workload.namespace.clone(), workload.name.clone()))?;
        match named.as_slice() {
            [one] if workload.is_pod(&one.key) => Some(one),
            _ => None,
        }
    }

    /// The pod itself, if it still takes connections and `ip` is its own, so that what is sent there stays in it.
    pub fn enter(&self, workload: &Workload, ip: IpAddr) -> Option<Entered> {
        let neighbour = self.find(workload)?;
        let pod = neighbour.pod.upgrade().filter(|pod| !pod.drain.is_draining())?;
        neighbour.has(&pod, ip).then_some(Entered { pod, keep: neighbour.keep })
    }
}

impl Neighbourhood for Snapshot {
    fn pod_of(&self, workload: &Workload) -> Option<&PodKey> {
        self.find(workload).map(|neighbour| &neighbour.key)
    }
}

/// A pod to be called without a tunnel.
pub struct Entered {
    /// The pod.
    pub pod: Arc<Pod>,
    /// Whether its application sees the client's address.
    pub keep: KeepSource,
}

/// One served pod.
pub struct Neighbour {
    uid: PodUid,
    key: PodKey,
    /// Weak: what all pods share must not keep them.
    pod: Weak<Pod>,
    keep: KeepSource,
    /// Addresses the kernel said are its own, and when.
    proven: Mutex<Vec<(IpAddr, Instant)>>,
}

impl std::fmt::Debug for Neighbour {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Neighbour").field("uid", &self.uid).field("key", &self.key).finish_non_exhaustive()
    }
}

impl Neighbour {
    /// Whether `ip` is an address of the pod's namespace. The world may be behind: it may still give the pod an address
    /// that another has by now, and what is sent to it must not leave this namespace in plain.
    fn has(&self, pod: &Pod, ip: IpAddr) -> bool {
        let Some(netns) = &pod.netns else { return false };
        let now = Instant::now();
        let mut proven = self.proven.lock();
        proven.retain(|(_, at)| now.saturating_duration_since(*at) < PROVEN_FOR);
        if proven.iter().any(|(known, _)| *known == ip) {
            return true;
        }
        match is_own_address(netns, ip) {
            Ok(true) => {
                if proven.len() < PROVEN_MAX {
                    proven.push((ip, now));
                }
                true
            }
            Ok(false) => {
                tracing::debug!(pod = %self.key, %ip, "not an address of the pod itself; taking the tunnel");
                false
            }
            Err(error) => {
                tracing::debug!(pod = %self.key, %error, "taking the tunnel");
                false
            }
        }
    }
}

/// The served pods; clones share them.
#[derive(Debug, Clone, Default)]
pub struct Neighbours {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    current: ArcSwap<Snapshot>,
    /// One writer at a time.
    writer: Mutex<()>,
}

impl Neighbours {
    /// The pods as they are now.
    pub fn load(&self) -> Arc<Snapshot> {
        self.shared.current.load_full()
    }

    /// The pod's listeners are up; `keep` is what its tunnels' listener does with clients' addresses.
    pub fn add(&self, uid: &PodUid, pod: &Arc<Pod>, keep: KeepSource) {
        let key = pod.key.clone();
        let neighbour = Neighbour { uid: uid.clone(), key, pod: Arc::downgrade(pod), keep, proven: Mutex::default() };
        self.change(|pods| {
            let name = (neighbour.key.namespace.clone(), neighbour.key.name.clone());
            pods.entry(name).or_default().push(Arc::new(neighbour));
        });
    }

    /// The pod is no longer served.
    pub fn forget(&self, uid: &PodUid) {
        self.change(|pods| {
            pods.retain(|_, named| {
                named.retain(|neighbour| neighbour.uid != *uid);
                !named.is_empty()
            });
        });
    }

    fn change(&self, change: impl FnOnce(&mut HashMap<Name, Vec<Arc<Neighbour>>>)) {
        let _writing = self.shared.writer.lock();
        let mut next = Snapshot::clone(&self.shared.current.load());
        change(&mut next.0);
        self.shared.current.store(Arc::new(next));
    }
}
