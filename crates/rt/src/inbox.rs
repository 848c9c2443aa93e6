//! A queue that merges repeats: many changes to one key are one piece of work.
//!
//! In: keys, from any thread. Out: batches of distinct keys in order of first arrival.
//! Its bound is the number of distinct keys; pushing never waits.

use std::{collections::HashSet, hash::Hash, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::Notify;

/// The queue; clones share it.
#[derive(Debug)]
pub struct Inbox<K> {
    shared: Arc<Shared<K>>,
}

#[derive(Debug)]
struct Shared<K> {
    waiting: Mutex<Waiting<K>>,
    arrived: Notify,
}

/// Invariant: `order` and `keys` hold the same keys.
#[derive(Debug)]
struct Waiting<K> {
    order: Vec<K>,
    keys: HashSet<K>,
}

impl<K> Clone for Inbox<K> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone() }
    }
}

impl<K: Eq + Hash + Clone> Default for Inbox<K> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: Eq + Hash + Clone> Inbox<K> {
    /// An empty queue.
    pub fn new() -> Self {
        let waiting = Mutex::new(Waiting { order: Vec::new(), keys: HashSet::new() });
        Self { shared: Arc::new(Shared { waiting, arrived: Notify::new() }) }
    }

    /// Adds `key` unless it already waits.
    pub fn push(&self, key: K) {
        let mut waiting = self.shared.waiting.lock();
        if waiting.keys.insert(key.clone()) {
            waiting.order.push(key);
            drop(waiting);
            self.shared.arrived.notify_one();
        }
    }

    /// Waits for at least one key and takes all that wait. Safe to drop: nothing is taken before it returns.
    /// Meant for one consumer.
    pub async fn drain(&self) -> Vec<K> {
        loop {
            let batch = self.take();
            if !batch.is_empty() {
                return batch;
            }
            self.shared.arrived.notified().await;
        }
    }

    /// What waits now, without waiting for more.
    pub fn take(&self) -> Vec<K> {
        let mut waiting = self.shared.waiting.lock();
        waiting.keys.clear();
        std::mem::take(&mut waiting.order)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn repeats_merge_and_order_is_kept() {
        let inbox = Inbox::new();
        for key in ["b", "a", "b", "c", "a"] {
            inbox.push(key);
        }
        assert_eq!(inbox.drain().await, ["b", "a", "c"]);
        inbox.push("a");
        assert_eq!(inbox.drain().await, ["a"]);
    }
}
