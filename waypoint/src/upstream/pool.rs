//! Connections to the endpoints of one cluster, kept by the thread that drives them, limited over all threads.
//!
//! In: an endpoint, what is spoken to it, the cluster's limits. Out: a [`Lease`] of a connection, or why there is none.
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

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use lateen_rt::deadline::within;
use parking_lot::{Mutex, RwLock};
use tokio::sync::oneshot;

use super::{
    connection::{Many, One, Speak, Stream},
    dial::DialError,
    endpoint::{Endpoint, EndpointKey},
    health::{Breaker, Counted, Slot},
};
use crate::balance::Keeper;
use crate::book::{Book, Cluster, Upstream, cluster::ConnectionPool};

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

    /// Closes what this thread has kept too long, or for endpoints that no longer `live`.
    pub fn sweep(&self, lane: usize, lives: impl Fn(&EndpointKey) -> bool) {
        let pools: Vec<_> = self.pools.read().values().cloned().collect();
        pools.iter().for_each(|pool| pool.sweep(lane, &lives));
    }
}

/// The connections of one cluster.
#[derive(Debug)]
pub struct ClusterPool {
    /// What it carries.
    pub breaker: Arc<Breaker>,
    /// Which endpoints it has, and how they are.
    pub keeper: Keeper<Arc<Endpoint>>,
    lanes: Box<[Mutex<HashMap<EndpointKey, Kept>>]>,
    /// How many wait in the queue; looked at without its lock.
    waiting: AtomicUsize,
    queue: Mutex<VecDeque<Waiter>>,
    /// It is forgotten: nothing is kept any more. Drivers hold the pool, and what is idle in it would hold its driver.
    closed: AtomicBool,
}

/// The connections of one thread to one endpoint.
#[derive(Debug, Default)]
struct Kept {
    idle: Vec<One>,
    shared: Vec<Arc<Many>>,
    /// Open, and being opened.
    open: usize,
    /// Somebody opens an HTTP/2 connection: others wait for it.
    opens_shared: bool,
    idle_timeout: Option<Duration>,
}

impl Kept {
    fn is_nothing(&self) -> bool {
        self.open == 0 && self.idle.is_empty() && self.shared.is_empty() && !self.opens_shared
    }
}

#[derive(Debug)]
struct Waiter {
    wanted: Wanted,
    grant: oneshot::Sender<Grant>,
}

/// What is waited for.
#[derive(Debug, Clone)]
struct Wanted {
    lane: usize,
    key: EndpointKey,
    speak: Speak,
}

#[derive(Debug)]
enum Grant {
    Connection(One),
    Look,
    Failed(DialError),
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

/// A connection for one request.
#[derive(Debug)]
pub struct Lease {
    pool: Arc<ClusterPool>,
    key: EndpointKey,
    cluster: Arc<Cluster>,
    held: Option<Held>,
    _request: Slot,
}

/// The connection itself.
#[derive(Debug)]
pub enum Held {
    /// For this request alone.
    One(One),
    /// A stream of it.
    Many(Stream),
}

/// What a request asks of the pool.
#[derive(Debug, Clone)]
pub struct Ask {
    /// The thread.
    pub lane: usize,
    /// The endpoint.
    pub key: EndpointKey,
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
                    let held = self.open(&ask, dial(permit), opening).await?;
                    return Ok(lease(ask, held));
                }
                Next::Wait(mut turn) => match (&mut turn.grant).await {
                    Ok(Grant::Connection(one)) => return Ok(lease(ask, Held::One(one))),
                    Ok(Grant::Look) | Err(_) => {}
                    Ok(Grant::Failed(error)) => return Err(error.into()),
                },
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
        }
        let (grant, granted) = oneshot::channel();
        // Those who left are taken out now and then, so that the queue is no longer than twice what waits.
        if queue.len() > 2 * self.waiting.load(Ordering::SeqCst) + 16 {
            queue.retain(|waiter| !waiter.grant.is_closed());
        }
        queue.push_back(Waiter { wanted: Wanted { lane: ask.lane, key: ask.key.clone(), speak: ask.speak }, grant });
        Next::Wait(Turn { pool: self.clone(), grant: granted })
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
        let has_one = max == u32::MAX || self.open_to(&ask.key) > 0;
        let slot = self.breaker.take_connection(max, has_one)?;
        Some(Permit::new(self, ask, slot))
    }

    /// Connections of all threads to one endpoint.
    fn open_to(&self, key: &EndpointKey) -> usize {
        self.lanes.iter().map(|lane| lane.lock().get(key).map_or(0, |kept| kept.open)).sum()
    }

    /// A connection is idle again: for who waits for it, else it is kept.
    fn keep(&self, key: &EndpointKey, mut one: One, limits: &ConnectionPool) {
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

    /// Tells the first who waits for `key` that there may be something for it.
    fn freed(&self, lane: usize, key: &EndpointKey) {
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
    }

    /// A connection ended: whoever waits first may open another.
    fn ended(&self) {
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

    /// Closes what is idle, now and later.
    fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        for lane in &self.lanes {
            for kept in lane.lock().values_mut() {
                kept.idle.clear();
                kept.shared.clear();
            }
        }
    }

    fn sweep(&self, lane: usize, lives: &impl Fn(&EndpointKey) -> bool) {
        let mut dropped = Vec::new();
        let mut endpoints = self.lanes[lane].lock();
        endpoints.retain(|key, kept| {
            let (lives, timeout) = (lives(key), kept.idle_timeout);
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
}

/// What to do next.
enum Next {
    Take(Held),
    Dial(Permit, Option<Opening>),
    Wait(Turn),
}

/// A place in the queue.
struct Turn {
    pool: Arc<ClusterPool>,
    grant: oneshot::Receiver<Grant>,
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

/// The right to have one connection; held as long as it is open.
#[derive(Debug)]
pub struct Permit {
    pool: Arc<ClusterPool>,
    lane: usize,
    key: EndpointKey,
    slot: Option<Slot>,
}

impl Permit {
    fn new(pool: &Arc<ClusterPool>, ask: &Ask, slot: Slot) -> Self {
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
struct Opening {
    pool: Arc<ClusterPool>,
    lane: usize,
    key: EndpointKey,
    failed: Option<DialError>,
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

impl Lease {
    /// The connection.
    pub fn held(&mut self) -> Option<&mut Held> {
        self.held.as_mut()
    }

    /// The exchange ended well; what carried it may carry the next. `tasks` own the wait for a connection that is not
    /// done yet.
    pub fn done(mut self, tasks: &lateen_rt::tasks::Tasks) {
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

    /// Gives the connection away for good, as for an upgrade: it stays open, and is never used for another request.
    pub fn detach(mut self) -> Option<Held> {
        self.held.take()
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

impl ClusterPool {
    /// Connections kept by `lane` that are idle now.
    pub fn idle(&self, lane: usize) -> usize {
        self.lanes[lane].lock().values().map(|kept| kept.idle.len()).sum()
    }

    /// Whether a connection to this endpoint is open or being opened.
    pub fn is_connected(&self, key: &EndpointKey) -> bool {
        self.open_to(key) > 0
    }
}
