//! What the limits of a cluster allow: exact counts of what is under way, without a lock.
//!
//! In: limits, which come with each question, because counts outlive them. Out: a slot to be held as long as the thing
//! lasts, or none (503, flag UO). Absent on purpose: queues and connections.

use std::sync::{
    Arc,
    atomic::{
        AtomicU32, AtomicU64,
        Ordering::{AcqRel, Acquire, Relaxed},
    },
};

use super::RetryBudget;

/// The counts of one cluster.
#[derive(Debug, Default)]
pub struct Breaker {
    under_way: [AtomicU32; COUNTED],
    overflows: [AtomicU64; COUNTED],
}

const COUNTED: usize = 4;

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Counted {
    /// Connections to endpoints.
    Connections,
    /// Requests that wait for a connection.
    Pending,
    /// Requests sent and not ended.
    Requests,
    /// Retries among them.
    Retries,
}

/// One of what is counted; given back when dropped.
#[derive(Debug)]
pub struct Slot {
    breaker: Arc<Breaker>,
    of: Counted,
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.breaker.under_way[self.of as usize].fetch_sub(1, AcqRel);
    }
}

impl Breaker {
    /// One more, if that makes no more than `max`.
    pub fn take(self: &Arc<Self>, of: Counted, max: u32) -> Option<Slot> {
        let more = |now: u32| (now < max).then(|| now.saturating_add(1));
        match self.under_way[of as usize].fetch_update(AcqRel, Acquire, more) {
            Ok(_) => Some(Slot { breaker: self.clone(), of }),
            Err(_) => {
                self.overflows[of as usize].fetch_add(1, Relaxed);
                None
            }
        }
    }

    /// One more connection: an endpoint that has none gets one whatever the limit says, so that each can be reached.
    pub fn take_connection(self: &Arc<Self>, max: u32, endpoint_has_one: bool) -> Option<Slot> {
        let max = if endpoint_has_one { max } else { u32::MAX };
        self.take(Counted::Connections, max)
    }

    /// One more retry: within the budget, if there is one, else within `max`.
    pub fn take_retry(self: &Arc<Self>, max: u32, budget: Option<&RetryBudget>) -> Option<Slot> {
        let requests = self.count(Counted::Requests).saturating_add(self.count(Counted::Pending));
        self.take(Counted::Retries, budget.map_or(max, |budget| budget.allowed(requests)))
    }

    /// How many are under way.
    pub fn count(&self, of: Counted) -> u32 {
        self.under_way[of as usize].load(Acquire)
    }

    /// How often there was no slot.
    pub fn overflows(&self, of: Counted) -> u64 {
        self.overflows[of as usize].load(Relaxed)
    }
}
