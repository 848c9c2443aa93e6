//! Shared connections: many tunnels on few connections, at most one dial per key at a time.
//!
//! In: a key, a CONNECT, and how to dial. Out: an open tunnel. The key must name everything that makes connections
//! differ (who we are, where to, who may be there): equal keys share.
//! Absent on purpose: what a key is.
//!
//! ```text
//! connect ──► a free place? ──yes──► CONNECT ──► tunnel (gives its place back when dropped)
//!                  │ no                  │ never looked at: forget the connection, look again
//!                  ├─ somebody dials: wait for the outcome, look again (or share the failure)
//!                  └─ nobody dials: dial, keep the connection, take its first place
//! ```
//! The one lock is held for look-ups and never across an await.

use std::{collections::HashMap, hash::Hash, sync::Arc, time::Duration};

use lateen_rt::{drain::Drain, tasks::Tasks};
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::{
    client::{Answer, Client, ConnectError},
    request::Connect,
    stream::Tunnel,
};

mod places;

pub(crate) use places::Occupied;
use places::Places;

/// How long a connection without tunnels is kept.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(300);

/// Connections one pool has at a time. One to each of so many destinations; a busy one takes several.
pub const CONNECTIONS_MAX: usize = 8192;

/// Limits of a pool.
#[derive(Debug, Clone)]
pub struct PoolLimits {
    /// Tunnels per connection, unless the server allows fewer.
    pub streams_max: usize,
    /// How long a connection without tunnels is kept.
    pub idle_timeout: Duration,
    /// Connections, open and being dialled. At the limit those without tunnels make room; if there is none, no more are
    /// dialled.
    pub connections_max: usize,
}

impl Default for PoolLimits {
    fn default() -> Self {
        Self { streams_max: 100, idle_timeout: IDLE_TIMEOUT, connections_max: CONNECTIONS_MAX }
    }
}

/// Why there is no tunnel.
#[derive(Debug, thiserror::Error)]
pub enum PoolError<E> {
    /// No connection could be made. All who waited for the same dial get the same error.
    #[error("{0}")]
    Dial(Arc<E>),
    /// There are as many connections as there may be, and each carries tunnels.
    #[error("no more than {0} tunnel connections are kept for one pod, and all are in use")]
    Full(usize),
    /// The connection is there, but the tunnel was not opened.
    #[error(transparent)]
    Connect(ConnectError),
}

/// An open tunnel and what is known of its connection.
#[derive(Debug)]
pub struct Opened<M> {
    /// The tunnel.
    pub tunnel: Tunnel,
    /// What the server said with its 200.
    pub answer: Answer,
    /// What the dialler told of the connection, for example who is at its other end.
    pub about: M,
}

/// The pool; clones share it. `K` tells connections apart, `M` is remembered with each, `E` is why dialling failed.
#[derive(Debug)]
pub struct Pool<K, M, E> {
    shared: Arc<Shared<K, M, E>>,
}

impl<K, M, E> Clone for Pool<K, M, E> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone() }
    }
}

#[derive(Debug)]
struct Shared<K, M, E> {
    entries: Mutex<HashMap<K, Entry<M, E>>>,
    limits: PoolLimits,
    drain: Drain,
}

#[derive(Debug)]
struct Entry<M, E> {
    connections: Vec<Connection<M>>,
    /// Set while somebody dials. If its sender vanishes without a word, nobody dials.
    dialling: Option<watch::Receiver<Dialling<E>>>,
}

#[derive(Debug, Clone)]
struct Connection<M> {
    client: Client,
    about: M,
    places: Arc<Places>,
}

#[derive(Debug)]
enum Dialling<E> {
    Running,
    Done,
    Failed(Arc<E>),
}

/// What a look into the pool gives.
enum Found<M, E> {
    Place(Connection<M>, Occupied),
    Wait(watch::Receiver<Dialling<E>>),
    Dial(watch::Sender<Dialling<E>>),
    Full,
}

impl<K, M, E> Pool<K, M, E>
where
    K: Hash + Eq + Clone + Send + 'static,
    M: Clone + Send + 'static,
    E: Send + Sync + 'static,
{
    /// An empty pool. `tasks` owns the one that closes idle connections; it ends with `drain` or with the pool. Once
    /// `drain` begins nothing is kept: each connection ends with its last tunnel.
    pub fn new(limits: PoolLimits, tasks: &Tasks, drain: &Drain) -> Self {
        let shared = Arc::new(Shared { entries: Mutex::new(HashMap::new()), limits, drain: drain.clone() });
        let (weak, drain) = (Arc::downgrade(&shared), drain.clone());
        // Often enough that a connection outlives its time by a quarter at most.
        let every = shared.limits.idle_timeout / 4;
        tasks.spawn("hbone-pool-idle", async move {
            loop {
                tokio::select! {
                    () = tokio::time::sleep(every) => {}
                    () = drain.draining() => break,
                }
                match weak.upgrade() {
                    Some(shared) => shared.forget_idle(),
                    None => return,
                }
            }
            if let Some(shared) = weak.upgrade() {
                shared.forget_all();
            }
        });
        Self { shared }
    }

    /// Opens a tunnel on a connection for `key`, dialling if there is none with room. A connection that turns out to
    /// be closing is forgotten and the next one tried, without the caller noticing. Dropping the future gives its
    /// place back; if it was dialling, one of those who wait dials in its stead.
    pub async fn connect<F>(&self, key: &K, connect: &Connect, dial: impl Fn() -> F) -> Result<Opened<M>, PoolError<E>>
    where
        F: Future<Output = Result<(Client, M), E>>,
    {
        loop {
            let (connection, place, is_fresh) = match self.shared.find(key) {
                Found::Place(connection, place) => (connection, place, false),
                Found::Wait(outcome) => {
                    outcome_of(outcome).await?;
                    continue;
                }
                Found::Full => return Err(PoolError::Full(self.shared.limits.connections_max)),
                Found::Dial(report) => {
                    let (connection, place) = self.dial(key, report, dial()).await?;
                    (connection, place, true)
                }
            };
            match connection.client.connect_on(connect, Some(place)).await {
                Ok((tunnel, answer)) => return Ok(Opened { tunnel, answer, about: connection.about }),
                Err(error) => {
                    if error.condemns() {
                        self.shared.forget(key, &connection.places);
                    }
                    match error {
                        ConnectError::Unprocessed(_) if !is_fresh => {}
                        error => return Err(PoolError::Connect(error)),
                    }
                }
            }
        }
    }

    async fn dial(
        &self,
        key: &K,
        report: watch::Sender<Dialling<E>>,
        dialling: impl Future<Output = Result<(Client, M), E>>,
    ) -> Result<(Connection<M>, Occupied), PoolError<E>> {
        match dialling.await {
            Ok((client, about)) => {
                let kept = self.shared.keep(key, client, about);
                report.send_replace(Dialling::Done);
                Ok(kept)
            }
            Err(error) => {
                let error = Arc::new(error);
                self.shared.dial_ended(key);
                report.send_replace(Dialling::Failed(error.clone()));
                Err(PoolError::Dial(error))
            }
        }
    }

    /// How many connections are kept.
    pub fn connections(&self) -> usize {
        self.shared.entries.lock().values().map(|entry| entry.connections.len()).sum()
    }

    /// Forgets connections whose key no longer `holds`. Their tunnels go on; no new ones are opened on them.
    pub fn retain(&self, holds: impl Fn(&K) -> bool) {
        self.shared.entries.lock().retain(|key, _| holds(key));
    }
}

async fn outcome_of<E>(mut outcome: watch::Receiver<Dialling<E>>) -> Result<(), PoolError<E>> {
    let ended = outcome.wait_for(|dialling| !matches!(dialling, Dialling::Running)).await;
    match ended.as_deref() {
        Ok(Dialling::Failed(error)) => Err(PoolError::Dial(error.clone())),
        // Done, or the dialler was dropped: look again.
        Ok(Dialling::Running | Dialling::Done) | Err(_) => Ok(()),
    }
}

impl<K: Hash + Eq + Clone, M: Clone, E> Shared<K, M, E> {
    fn find(&self, key: &K) -> Found<M, E> {
        let mut entries = self.entries.lock();
        let entry = match entries.get_mut(key) {
            Some(entry) => entry,
            None => entries.entry(key.clone()).or_default(),
        };
        entry.connections.retain(|connection| connection.client.is_open());
        for connection in &entry.connections {
            if let Some(place) = connection.places.take(self.room(&connection.client)) {
                return Found::Place(connection.clone(), place);
            }
        }
        if let Some(outcome) = entry.dialling.as_ref().filter(|_| entry.is_dialling()) {
            return Found::Wait(outcome.clone());
        }
        if is_full(&entries, self.limits.connections_max) {
            // Idle ones first: they are only kept in case they are wanted again.
            forget(&mut entries, Duration::ZERO);
            if is_full(&entries, self.limits.connections_max) {
                return Found::Full;
            }
        }
        let entry = entries.entry(key.clone()).or_default();
        let (report, outcome) = watch::channel(Dialling::Running);
        entry.dialling = Some(outcome);
        Found::Dial(report)
    }

    /// At least one, or a server that says "no streams" would be dialled for ever; it refuses the stream instead.
    fn room(&self, client: &Client) -> usize {
        self.limits.streams_max.min(client.streams_max()).max(1)
    }

    fn keep(&self, key: &K, client: Client, about: M) -> (Connection<M>, Occupied) {
        let (places, place) = Places::with_one_taken();
        let connection = Connection { client, about, places };
        let mut entries = self.entries.lock();
        let entry = entries.entry(key.clone()).or_default();
        entry.dialling = None;
        // Asked under the lock: what is kept before the drain begins is forgotten by it.
        if !self.drain.is_draining() {
            entry.connections.push(connection.clone());
        }
        (connection, place)
    }

    fn dial_ended(&self, key: &K) {
        if let Some(entry) = self.entries.lock().get_mut(key) {
            entry.dialling = None;
        }
    }

    fn forget(&self, key: &K, places: &Arc<Places>) {
        if let Some(entry) = self.entries.lock().get_mut(key) {
            entry.connections.retain(|connection| !Arc::ptr_eq(&connection.places, places));
        }
    }

    /// Tunnels go on; dials that are under way report to who waits for them.
    fn forget_all(&self) {
        self.entries.lock().values_mut().for_each(|entry| entry.connections.clear());
    }

    fn forget_idle(&self) {
        forget(&mut self.entries.lock(), self.limits.idle_timeout);
    }
}

impl<M, E> Entry<M, E> {
    fn is_dialling(&self) -> bool {
        self.dialling.as_ref().is_some_and(|outcome| outcome.has_changed().is_ok())
    }
}

/// Forgets connections that have ended, or carried nothing for `idle`.
fn forget<K: Hash + Eq, M, E>(entries: &mut HashMap<K, Entry<M, E>>, idle: Duration) {
    entries.retain(|_, entry| {
        entry.connections.retain(|connection| connection.client.is_open() && !connection.places.idle_for(idle));
        !entry.connections.is_empty() || entry.is_dialling()
    });
}

fn is_full<K, M, E>(entries: &HashMap<K, Entry<M, E>>, max: usize) -> bool {
    // Asked only before a dial, which costs far more than this sum.
    let count = |entry: &Entry<M, E>| entry.connections.len() + usize::from(entry.is_dialling());
    entries.values().map(count).sum::<usize>() >= max
}

impl<M, E> Default for Entry<M, E> {
    fn default() -> Self {
        Self { connections: Vec::new(), dialling: None }
    }
}

#[cfg(test)]
mod tests;
