//! The state of all clusters, which outlives configurations.
//!
//! In: clusters' names, the book. Out: one [`ClusterPool`] for each. Absent on purpose: connections.

use std::{collections::HashMap, sync::Arc, time::Duration};

use parking_lot::RwLock;

use super::{ClusterPool, ConnectionKey};
use crate::book::{Book, Upstream};

/// The state of all clusters.
#[derive(Debug)]
pub struct Clusters {
    pools: RwLock<HashMap<Upstream, Arc<ClusterPool>>>,
    lanes: usize,
}

impl Clusters {
    /// For so many threads.
    pub fn new(lanes: usize) -> Self {
        Self { pools: RwLock::default(), lanes: lanes.max(1) }
    }

    /// The state of `upstream`.
    pub fn of(&self, upstream: &Upstream) -> Arc<ClusterPool> {
        if let Some(pool) = self.pools.read().get(upstream) {
            return pool.clone();
        }
        let mut pools = self.pools.write();
        pools.entry(upstream.clone()).or_insert_with(|| Arc::new(ClusterPool::new(self.lanes))).clone()
    }

    /// Forgets clusters that no longer `hold`; what is under way goes on.
    pub fn retain(&self, holds: impl Fn(&Upstream) -> bool) {
        let gone: Vec<_> = self.pools.write().extract_if(|upstream, _| !holds(upstream)).collect();
        gone.iter().for_each(|(_, pool)| pool.close());
    }

    /// Lets ejected endpoints return whose time has come.
    pub fn look(&self, book: &Book, now: Duration) {
        let pools: Vec<_> = self.pools.read().iter().map(|(upstream, pool)| (upstream.clone(), pool.clone())).collect();
        for (upstream, pool) in pools {
            if let Some(cluster) = book.cluster(&upstream) {
                pool.keeper.sweep(cluster, now);
            }
        }
    }

    /// Closes what this thread has kept too long, or for what no longer `lives`.
    pub fn sweep(&self, lane: usize, lives: impl Fn(&ConnectionKey) -> bool) {
        let pools: Vec<_> = self.pools.read().values().cloned().collect();
        pools.iter().for_each(|pool| pool.sweep(lane, &lives));
    }
}
