//! What one thread keeps of one endpoint, and when it is kept no longer.
//!
//! In: connections that rest. Out: those that have rested too long, closed. Absent on purpose: who gets them.

use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use super::{ClusterPool, ConnectionKey, Many, One};

/// How long a connection is kept for its next request that few can be for.
const SELDOM_TIMEOUT: Duration = Duration::from_secs(15);

/// The connections of one thread to one endpoint, on the same terms.
#[derive(Debug, Default)]
pub(super) struct Kept {
    pub(super) idle: Vec<One>,
    pub(super) shared: Vec<Arc<Many>>,
    /// Open, and being opened.
    pub(super) open: usize,
    /// Somebody opens an HTTP/2 connection: others wait for it.
    pub(super) opens_shared: bool,
    pub(super) idle_timeout: Option<Duration>,
}

impl Kept {
    pub(super) fn is_nothing(&self) -> bool {
        self.open == 0 && self.idle.is_empty() && self.shared.is_empty() && !self.opens_shared
    }
}

/// A connection that has no request; closed when it is dropped.
#[derive(Debug)]
pub(super) enum Rested {
    One(#[allow(dead_code, reason = "held for its drop")] One),
    Many(#[allow(dead_code, reason = "held for its drop")] Arc<Many>),
}

impl Kept {
    pub(super) fn rested(&mut self) -> Option<Rested> {
        if let Some(one) = self.idle.pop() {
            return Some(Rested::One(one));
        }
        let at = self.shared.iter().position(|many| many.idle_for(Duration::ZERO))?;
        Some(Rested::Many(self.shared.swap_remove(at)))
    }
}

impl ClusterPool {
    /// Closes what is idle, now and later.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        for lane in &self.lanes {
            for kept in lane.lock().values_mut() {
                kept.idle.clear();
                kept.shared.clear();
            }
        }
    }

    pub(super) fn sweep(&self, lane: usize, lives: &impl Fn(&ConnectionKey) -> bool) {
        let mut dropped = Vec::new();
        let mut endpoints = self.lanes[lane].lock();
        endpoints.retain(|key, kept| {
            let (lives, mut timeout) = (lives(key), kept.idle_timeout);
            if key.is_seldom_used() {
                timeout = Some(timeout.map_or(SELDOM_TIMEOUT, |time| time.min(SELDOM_TIMEOUT)));
            }
            let stays = |idle_for: &dyn Fn(Duration) -> bool| {
                if lives { timeout.is_none_or(|time| !idle_for(time)) } else { !idle_for(Duration::ZERO) }
            };
            dropped
                .extend(kept.idle.extract_if(.., |one| one.sender.is_closed() || !stays(&|time| one.idle_for(time))));
            kept.shared.retain(|many| stays(&|time| many.idle_for(time)));
            !kept.is_nothing()
        });
        drop(endpoints);
        // Their ends call back (see `Permit`), so not under the lock.
        drop(dropped);
    }

    /// Takes out one that rests, to the same endpoint on other terms, for its caller to close.
    pub(super) fn rested_otherwise(&self, key: &ConnectionKey) -> Option<Rested> {
        let of = |endpoints: &mut HashMap<ConnectionKey, Kept>| {
            let others = endpoints.iter_mut().filter(|(one, _)| one.endpoint == key.endpoint && **one != *key);
            others.into_iter().find_map(|(_, kept)| kept.rested())
        };
        self.lanes.iter().find_map(|lane| of(&mut lane.lock()))
    }
}
