//! A connection for one request, and its way back.
//!
//! In: a connection. Out: the same, given back to the pool or ended. Absent on purpose: what passes over it.

use std::{sync::Arc, time::Duration};

use lateen_rt::{deadline::within, tasks::Tasks};

use super::{ClusterPool, ConnectionKey, One};
use crate::{
    book::Cluster,
    upstream::{connection::Stream, health::Slot},
};

/// A connection for one request.
#[derive(Debug)]
pub struct Lease {
    pub(super) pool: Arc<ClusterPool>,
    pub(super) key: ConnectionKey,
    pub(super) cluster: Arc<Cluster>,
    pub(super) held: Option<Held>,
    pub(super) _request: Slot,
}

/// The connection itself.
#[derive(Debug)]
pub enum Held {
    /// For this request alone.
    One(One),
    /// A stream of it.
    Many(Stream),
}

impl Lease {
    /// The connection.
    pub fn held(&mut self) -> Option<&mut Held> {
        self.held.as_mut()
    }

    /// The exchange ended well; what carried it may carry the next. `tasks` own the wait for a connection that is not
    /// done yet.
    pub fn done(mut self, tasks: &Tasks) {
        match self.held.take() {
            Some(Held::One(one)) if one.is_ready(&self.cluster.policy.pool) => {
                self.pool.keep(&self.key, one, &self.cluster.policy.pool)
            }
            Some(Held::One(one)) if one.is_over(&self.cluster.policy.pool) => drop(one),
            Some(Held::One(mut one)) => {
                let (pool, key, cluster) = (self.pool.clone(), self.key.clone(), self.cluster.clone());
                tasks.spawn("upstream-rest", async move {
                    if let Ok(Ok(())) = within("the end of an exchange", REST_TIMEOUT, one.sender.ready()).await {
                        pool.keep(&key, one, &cluster.policy.pool);
                    }
                });
            }
            Some(Held::Many(stream)) => self.leave(stream),
            None => {}
        }
    }

    fn leave(&self, stream: Stream) {
        let lane = stream.lane();
        drop(stream);
        self.pool.freed(lane, &self.key);
    }
}

/// How long a connection may need to be ready again after it has handed over a whole response.
const REST_TIMEOUT: Duration = Duration::from_secs(1);

impl Drop for Lease {
    fn drop(&mut self) {
        match self.held.take() {
            // In the middle of an exchange: what follows could not be told from what is left of it.
            Some(Held::One(one)) => one.cut(),
            // hyper resets the stream with the response's drop.
            Some(Held::Many(stream)) => self.leave(stream),
            None => {}
        }
    }
}
