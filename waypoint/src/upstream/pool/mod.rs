//! Connections to the endpoints of one cluster, kept by the thread that drives them, limited over all threads.
//!
//! In: an endpoint, on which terms it is connected to, what is spoken, the cluster's limits. Out: a [`Lease`] of a
//! connection, or why there is none.
//!
//! ```text
//! acquire ─► one of this thread that is idle (HTTP/1, the newest first) or has room (HTTP/2)? ─────────► lease
//!               │ none: a place among those that wait (pending), or overflow
//!               ├─ fewer connections than allowed, or none to this endpoint at all: dial ──────────────► lease
//!               ├─ another thread's that is idle or has room ────────────────────────────────────────────► lease
//!               └─ wait: for a connection that becomes free, for one that ends, for a dial of HTTP/2 ──► look again
//! ```
//! A thread's own connections are behind a lock that nobody else takes unless the limit is reached. Absent on purpose:
//! choosing endpoints, trying again.

mod clusters;
mod kept;
mod lease;
mod permit;
mod queue;

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use parking_lot::Mutex;
use tokio::sync::oneshot;

pub use self::{
    clusters::Clusters,
    lease::{Held, Lease},
    permit::Permit,
};
use self::{
    kept::{Kept, Rested},
    permit::Opening,
    queue::{Grant, Turn, Waiter, Wanted},
};
use super::{
    connection::{Many, One, Speak},
    dial::DialError,
    endpoint::{Endpoint, EndpointKey},
    health::{Breaker, Counted},
    terms::ConnectionKey,
};
use crate::balance::Keeper;
use crate::book::{Cluster, cluster::ConnectionPool};

/// The connections of one cluster.
#[derive(Debug)]
pub struct ClusterPool {
    /// What it carries.
    pub breaker: Arc<Breaker>,
    /// Which endpoints it has, and how they are.
    pub keeper: Keeper<Arc<Endpoint>>,
    lanes: Box<[Mutex<HashMap<ConnectionKey, Kept>>]>,
    /// How many wait in the queue; looked at without its lock.
    waiting: AtomicUsize,
    queue: Mutex<VecDeque<Waiter>>,
    /// It is forgotten: nothing is kept any more. Drivers hold the pool, and what is idle in it would hold its driver.
    closed: AtomicBool,
}

/// Why there is no connection.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AcquireError {
    /// A limit was reached.
    #[error("overflow")]
    Overflow,
    /// No connection came about.
    #[error(transparent)]
    Dial(#[from] DialError),
}

/// What a request asks of the pool.
#[derive(Debug, Clone)]
pub struct Ask {
    /// The thread.
    pub lane: usize,
    /// The endpoint, and the terms.
    pub key: ConnectionKey,
    /// What is spoken to it.
    pub speak: Speak,
    /// The cluster, for its limits.
    pub cluster: Arc<Cluster>,
}

impl Ask {
    fn limits(&self) -> &ConnectionPool {
        &self.cluster.policy.pool
    }
}

/// A fresh connection.
#[derive(Debug)]
pub enum Fresh {
    /// Of HTTP/1.
    One(One),
    /// Of HTTP/2.
    Many(Arc<Many>),
}

impl ClusterPool {
    fn new(lanes: usize) -> Self {
        Self {
            breaker: Arc::default(),
            keeper: Keeper::default(),
            lanes: (0..lanes).map(|_| Mutex::default()).collect(),
            waiting: AtomicUsize::new(0),
            queue: Mutex::default(),
            closed: AtomicBool::new(false),
        }
    }

    /// A connection for one request. `dial` opens one, and holds the permit as long as it is open. Dropping the future
    /// gives up, and what was being opened with it.
    pub async fn acquire<F>(self: &Arc<Self>, ask: Ask, dial: impl Fn(Permit) -> F) -> Result<Lease, AcquireError>
    where
        F: Future<Output = Result<Fresh, DialError>>,
    {
        let request = self.breaker.take(Counted::Requests, ask.limits().requests_max).ok_or(AcquireError::Overflow)?;
        let lease = |ask: Ask, held| Lease {
            pool: self.clone(),
            key: ask.key,
            cluster: ask.cluster,
            held: Some(held),
            _request: request,
        };
        if let Some(held) = self.take(ask.lane, &ask) {
            return Ok(lease(ask, held));
        }
        let _waits = self.breaker.take(Counted::Pending, ask.limits().pending_max).ok_or(AcquireError::Overflow)?;
        loop {
            match self.next(&ask) {
                Next::Take(held) => return Ok(lease(ask, held)),
                Next::Dial(permit, opening) => {
                    // Boxed: a dial is many times larger than a request, which carries its place to wherever it goes.
                    let held = Box::pin(self.open(&ask, dial(permit), opening)).await?;
                    return Ok(lease(ask, held));
                }
                Next::Wait(mut turn, in_the_way) => {
                    // Here, and not under the queue's lock.
                    drop(in_the_way);
                    match (&mut turn.grant).await {
                        Ok(Grant::Connection(one)) => return Ok(lease(ask, Held::One(one))),
                        Ok(Grant::Look) | Err(_) => {}
                        Ok(Grant::Failed(error)) => return Err(error.into()),
                    }
                }
            }
        }
    }

    /// What a thread has that is free.
    fn take(&self, lane: usize, ask: &Ask) -> Option<Held> {
        let mut endpoints = self.lanes[lane].lock();
        let kept = endpoints.get_mut(&ask.key)?;
        match ask.speak {
            Speak::Http1 => {
                while let Some(one) = kept.idle.pop() {
                    if one.is_ready(ask.limits()) {
                        return Some(Held::One(one));
                    }
                }
                None
            }
            Speak::Http2 => {
                kept.shared.retain(|many| !many.is_over(ask.limits()));
                kept.shared.iter().find_map(|many| many.enter(ask.limits())).map(Held::Many)
            }
        }
    }

    fn next(self: &Arc<Self>, ask: &Ask) -> Next {
        // Under the queue's lock, so that nothing becomes free between looking and queueing without a word (see `freed`).
        let mut queue = self.queue.lock();
        self.waiting.fetch_add(1, Ordering::SeqCst);
        let leave = || self.waiting.fetch_sub(1, Ordering::SeqCst);
        if let Some(held) = self.take(ask.lane, ask) {
            leave();
            return Next::Take(held);
        }
        let mut in_the_way = None;
        if !self.is_opening(ask) {
            if let Some(permit) = self.permit(ask) {
                leave();
                return Next::Dial(permit, self.opening(ask));
            }
            // At the limit what other threads have is as good as our own.
            if let Some(held) = (0..self.lanes.len()).find_map(|lane| self.take(lane, ask)) {
                leave();
                return Next::Take(held);
            }
            // One that rests on other terms is of no use here, and its end lets somebody look again.
            in_the_way = self.rested_otherwise(&ask.key);
        }
        let (grant, granted) = oneshot::channel();
        // Those who left are taken out now and then, so that the queue is no longer than twice what waits.
        if queue.len() > 2 * self.waiting.load(Ordering::SeqCst) + 16 {
            queue.retain(|waiter| !waiter.grant.is_closed());
        }
        queue.push_back(Waiter { wanted: Wanted { lane: ask.lane, key: ask.key.clone(), speak: ask.speak }, grant });
        Next::Wait(Turn { pool: self.clone(), grant: granted }, in_the_way)
    }

    async fn open(
        self: &Arc<Self>,
        ask: &Ask,
        dialling: impl Future<Output = Result<Fresh, DialError>>,
        mut opening: Option<Opening>,
    ) -> Result<Held, DialError> {
        match dialling.await {
            Ok(Fresh::One(one)) => Ok(Held::One(one)),
            Ok(Fresh::Many(many)) => {
                let mut endpoints = self.lanes[ask.lane].lock();
                let kept = endpoints.entry(ask.key.clone()).or_default();
                kept.idle_timeout = ask.limits().http_idle_timeout;
                let stream = many.enter(ask.limits());
                if !self.closed.load(Ordering::SeqCst) {
                    kept.shared.push(many);
                }
                drop(endpoints);
                stream.map(Held::Many).ok_or_else(|| DialError::Begin("it ended before its first request".into()))
            }
            Err(error) => {
                if let Some(opening) = &mut opening {
                    opening.failed = Some(error.clone());
                }
                Err(error)
            }
        }
    }

    fn is_opening(&self, ask: &Ask) -> bool {
        ask.speak == Speak::Http2 && self.lanes[ask.lane].lock().get(&ask.key).is_some_and(|kept| kept.opens_shared)
    }

    fn opening(self: &Arc<Self>, ask: &Ask) -> Option<Opening> {
        if ask.speak != Speak::Http2 {
            return None;
        }
        self.lanes[ask.lane].lock().entry(ask.key.clone()).or_default().opens_shared = true;
        Some(Opening { pool: self.clone(), lane: ask.lane, key: ask.key.clone(), failed: None })
    }

    fn permit(self: &Arc<Self>, ask: &Ask) -> Option<Permit> {
        let max = ask.limits().connections_max;
        // Who else is connected is looked at only where it can count: it takes every thread's lock.
        let has_one = max == u32::MAX || self.open_to(&ask.key.endpoint) > 0;
        let slot = self.breaker.take_connection(max, has_one)?;
        Some(Permit::new(self, ask, slot))
    }

    /// Connections of all threads to one endpoint, on whatever terms.
    fn open_to(&self, endpoint: &EndpointKey) -> usize {
        let of = |kept: &HashMap<ConnectionKey, Kept>| -> usize {
            kept.iter().filter(|(key, _)| key.endpoint == *endpoint).map(|(_, kept)| kept.open).sum()
        };
        self.lanes.iter().map(|lane| of(&lane.lock())).sum()
    }

    /// A connection is idle again: for who waits for it, else it is kept.
    fn keep(&self, key: &ConnectionKey, mut one: One, limits: &ConnectionPool) {
        if self.closed.load(Ordering::SeqCst) {
            return;
        }
        one.rest();
        let lane = one.lane();
        {
            let mut endpoints = self.lanes[lane].lock();
            let kept = endpoints.entry(key.clone()).or_default();
            kept.idle_timeout = limits.http_idle_timeout;
            kept.idle.push(one);
        }
        // After it is to be found: a waiter that looked before has been counted before (see `next`).
        self.freed(lane, key);
    }

    /// Connections kept by `lane` that are idle now.
    pub fn idle(&self, lane: usize) -> usize {
        self.lanes[lane].lock().values().map(|kept| kept.idle.len()).sum()
    }

    /// Whether a connection to this endpoint is open or being opened.
    pub fn is_connected(&self, endpoint: &EndpointKey) -> bool {
        self.open_to(endpoint) > 0
    }
}

/// What to do next.
enum Next {
    Take(Held),
    Dial(Permit, Option<Opening>),
    Wait(Turn, Option<Rested>),
}
