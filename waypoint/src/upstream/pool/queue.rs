//! Who waits for a connection, in the order in which they came.
//!
//! In: what somebody wants. Out: a connection, or word that there may be one. Absent on purpose: opening any.

use std::sync::{Arc, atomic::Ordering};

use tokio::sync::oneshot;

use super::{ClusterPool, ConnectionKey, DialError, One, Speak, kept::Kept};

#[derive(Debug)]
pub(super) struct Waiter {
    pub(super) wanted: Wanted,
    pub(super) grant: oneshot::Sender<Grant>,
}

/// What is waited for.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    pub(super) lane: usize,
    pub(super) key: ConnectionKey,
    pub(super) speak: Speak,
}

#[derive(Debug)]
pub(super) enum Grant {
    Connection(One),
    Look,
    Failed(DialError),
}

impl ClusterPool {
    /// Tells the first who waits for `key` that there may be something for it.
    pub(super) fn freed(&self, lane: usize, key: &ConnectionKey) {
        if self.waiting.load(Ordering::SeqCst) == 0 {
            return;
        }
        let mut queue = self.queue.lock();
        while let Some(at) = queue.iter().position(|waiter| waiter.wanted.key == *key) {
            let Some(waiter) = queue.remove(at) else { return };
            let grant = match waiter.wanted.speak {
                Speak::Http2 => Grant::Look,
                Speak::Http1 => {
                    let idle = self.lanes[lane].lock().get_mut(key).and_then(|kept| kept.idle.pop());
                    idle.map_or(Grant::Look, Grant::Connection)
                }
            };
            match waiter.grant.send(grant) {
                Ok(()) => return,
                // It has left; the connection goes to the next.
                Err(Grant::Connection(one)) => {
                    self.lanes[lane].lock().entry(key.clone()).or_default().idle.push(one);
                }
                Err(Grant::Look | Grant::Failed(_)) => {}
            }
        }
        // Whoever waits for the endpoint on other terms can only have its place.
        let is_in_the_way = queue.iter().any(|waiter| waiter.wanted.key.endpoint == key.endpoint);
        drop(queue);
        if is_in_the_way {
            let rested = self.lanes[lane].lock().get_mut(key).and_then(Kept::rested);
            drop(rested);
        }
    }

    /// A connection ended: whoever waits first may open another.
    pub(super) fn ended(&self) {
        if self.waiting.load(Ordering::SeqCst) == 0 {
            return;
        }
        let mut queue = self.queue.lock();
        while let Some(waiter) = queue.pop_front() {
            if waiter.grant.send(Grant::Look).is_ok() {
                return;
            }
        }
    }
}

/// A place in the queue.
pub(super) struct Turn {
    pub(super) pool: Arc<ClusterPool>,
    pub(super) grant: oneshot::Receiver<Grant>,
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.pool.waiting.fetch_sub(1, Ordering::SeqCst);
        self.grant.close();
        // Granted, but nobody is there to take it.
        match self.grant.try_recv() {
            Ok(Grant::Connection(one)) => drop(one),
            Ok(Grant::Look) => self.pool.ended(),
            Ok(Grant::Failed(_)) | Err(_) => {}
        }
    }
}
