//! The right to open a connection, and the word that one is being opened.
//!
//! In: a slot among the connections of a cluster. Out: guards whose end tells those who wait. Absent on purpose: dialling.

use std::{collections::VecDeque, sync::Arc};

use super::{Ask, ClusterPool, ConnectionKey, DialError, Grant, Speak, queue::Wanted};
use crate::upstream::health::Slot;

/// The right to have one connection; held as long as it is open.
#[derive(Debug)]
pub struct Permit {
    pool: Arc<ClusterPool>,
    lane: usize,
    key: ConnectionKey,
    slot: Option<Slot>,
}

impl Permit {
    pub(super) fn new(pool: &Arc<ClusterPool>, ask: &Ask, slot: Slot) -> Self {
        pool.lanes[ask.lane].lock().entry(ask.key.clone()).or_default().open += 1;
        Self { pool: pool.clone(), lane: ask.lane, key: ask.key.clone(), slot: Some(slot) }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.slot = None;
        {
            let mut endpoints = self.pool.lanes[self.lane].lock();
            if let Some(kept) = endpoints.get_mut(&self.key) {
                kept.open -= 1;
                if kept.is_nothing() {
                    endpoints.remove(&self.key);
                }
            }
        }
        self.pool.ended();
    }
}

/// An HTTP/2 connection is being opened; all who wait for it hear of the end.
pub(super) struct Opening {
    pub(super) pool: Arc<ClusterPool>,
    pub(super) lane: usize,
    pub(super) key: ConnectionKey,
    pub(super) failed: Option<DialError>,
}

impl Drop for Opening {
    fn drop(&mut self) {
        {
            let mut endpoints = self.pool.lanes[self.lane].lock();
            if let Some(kept) = endpoints.get_mut(&self.key) {
                kept.opens_shared = false;
                if kept.is_nothing() {
                    endpoints.remove(&self.key);
                }
            }
        }
        let mut queue = self.pool.queue.lock();
        let ours = |wanted: &Wanted| wanted.lane == self.lane && wanted.key == self.key && wanted.speak == Speak::Http2;
        let mut rest = VecDeque::with_capacity(queue.len());
        for waiter in queue.drain(..) {
            if ours(&waiter.wanted) {
                let grant = self.failed.clone().map_or(Grant::Look, Grant::Failed);
                // Whoever has left needs no word.
                let _left = waiter.grant.send(grant);
            } else {
                rest.push_back(waiter);
            }
        }
        *queue = rest;
    }
}
