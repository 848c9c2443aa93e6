//! The snapshot everyone reads, and its owner.
//!
//! ```text
//! changes ─► clone of the current world ─► change it, off any reader's way ─► one swap ─► wake the waiters
//! ```
//! In: batches of changes. Out: [`World`]s and wake-ups. One reader takes one world per connection and asks only it.

use std::sync::Arc;

use arc_swap::ArcSwap;
use lateen_policy::model::Policy;
use lateen_types::{
    addr::NetworkAddress,
    id::Namespace,
    name::{Hostname, NamespacedHostname, NodeName, PolicyKey, WorkloadUid},
};
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::{
    claims::Claims,
    endpoints::Endpoints,
    index::Change,
    service::Service,
    shards::{Keyed, Set, Shards},
    unusable::Unusables,
    workload::Workload,
};

/// Everything known at one moment. A clone shares all it does not change.
#[derive(Debug, Clone, Default)]
pub struct World {
    /// Our own node; workloads there are `local`. Unset: all are.
    pub(crate) node: Option<NodeName>,
    pub(crate) workloads: Set<Workload>,
    pub(crate) by_ip: Claims,
    pub(crate) by_workload_hostname: Shards<NamespacedHostname, Vec<Arc<Workload>>>,
    /// Workloads of our node, by namespace.
    pub(crate) local: Shards<Namespace, Vec<Arc<Workload>>>,
    pub(crate) services: Set<Service>,
    pub(crate) by_vip: Shards<NetworkAddress, Vec<Arc<Service>>>,
    pub(crate) by_hostname: Shards<Hostname, Vec<Arc<Service>>>,
    /// The few services that have address ranges.
    pub(crate) with_cidrs: Arc<Vec<Arc<Service>>>,
    /// Derived from the workloads alone, so a service that comes later, or comes back, finds its endpoints here.
    pub(crate) endpoints: Shards<NamespacedHostname, Endpoints>,
    /// Workloads and services that cannot be read.
    pub(crate) unusable: Unusables,
    pub(crate) policies: Set<Policy>,
    pub(crate) global_policies: Arc<Vec<Arc<Policy>>>,
    pub(crate) namespace_policies: Shards<Namespace, Vec<Arc<Policy>>>,
    pub(crate) policy_epoch: u64,
    pub(crate) local_epoch: u64,
}

impl Keyed for Workload {
    type Key = WorkloadUid;

    fn key(&self) -> &WorkloadUid {
        &self.uid
    }
}

impl Keyed for Service {
    type Key = NamespacedHostname;

    fn key(&self) -> &NamespacedHostname {
        &self.key
    }
}

impl Keyed for Policy {
    type Key = PolicyKey;

    fn key(&self) -> &PolicyKey {
        &self.key
    }
}

impl World {
    /// A number that differs whenever a verdict about a local workload could: a policy changed, or a workload of our
    /// node did (it may name other policies now).
    pub fn verdict_epoch(&self) -> (u64, u64) {
        (self.policy_epoch, self.local_epoch)
    }
}

/// Holds the current [`World`]; clones share it.
#[derive(Debug, Clone)]
pub struct WorldStore {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    current: ArcSwap<World>,
    /// One writer at a time, so that no batch is built on a world that another batch replaces.
    writer: Mutex<()>,
    changed: watch::Sender<u64>,
}

impl WorldStore {
    /// An empty world as seen from `node`.
    pub fn new(node: Option<NodeName>) -> Self {
        let current = ArcSwap::from_pointee(World { node, ..World::default() });
        Self { shared: Arc::new(Shared { current, writer: Mutex::new(()), changed: watch::Sender::new(0) }) }
    }

    /// The world as it is now.
    pub fn load(&self) -> Arc<World> {
        self.shared.current.load_full()
    }

    /// Applies a batch: all of it becomes visible at once, then waiters wake.
    pub fn apply(&self, changes: impl IntoIterator<Item = Change>) {
        let writing = self.shared.writer.lock();
        let mut next = World::clone(&self.shared.current.load());
        for change in changes {
            next.change(change);
        }
        self.shared.current.store(Arc::new(next));
        drop(writing);
        self.shared.changed.send_modify(|count| *count += 1);
    }

    /// Hears of every swap after this call. Several swaps may be heard as one.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.shared.changed.subscribe()
    }
}
