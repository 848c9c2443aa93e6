//! Certificates that are there when needed: one request per identity, renewed at half of their life.
//!
//! In: an [`Issuer`], and who needs which identity how urgently. Out: certificates from memory, or why there is none.
//! Absent on purpose: which identities a node has; the caller prefetches and forgets.
//!
//! ```text
//! per identity, one task:   queue (by priority, 8 at once) ► issue ► publish ► sleep to half-life ► queue …
//!                                                              └ failure ► publish ► back off ► queue …
//!                                                                          (a waiting caller cuts this short)
//!                           before each further request: prefetched, or asked for since the last answer? If not, end.
//! callers:                  read what is published; wait for the next news if there is nothing valid
//! ```

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use lateen_rt::{
    backoff::Backoff,
    deadline::{Elapsed, within},
    drain::Drain,
    tasks::Tasks,
};
use lateen_types::id::SpiffeId;
use parking_lot::Mutex;
use tokio::{
    sync::{Notify, watch},
    task::AbortHandle,
};

use crate::{
    ca_client::{IssueError, Issuer},
    cert::WorkloadCertificate,
};

mod gate;
mod need;
mod schedule;

pub use gate::Priority;

use gate::Gate;
use need::Need;

/// How many requests the CA gets at once.
const CONCURRENT_MAX: usize = 8;
/// How long a caller waits for an identity's first certificate.
const FIRST_TIMEOUT: Duration = Duration::from_secs(15);
/// How long a caller waits for the next try when the last one failed. Short, because every connection of a workload
/// whose identity is refused waits so; long enough for a CA that learns of a new pod a moment later.
const NEXT_TRY_TIMEOUT: Duration = Duration::from_secs(2);
const RETRY_START: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(150);
const RETRY_JITTER: f64 = 0.2;
/// A caller who waits ends a back-off that has lasted this long, so that a CA that comes back is used at once.
const NUDGE_AFTER: Duration = Duration::from_secs(3);
/// Long sleeps are cut into slices, so that a clock that was set, or a machine that was suspended, is noticed.
const SLEEP_MAX: Duration = Duration::from_secs(60);

/// Why there is no certificate.
#[derive(Debug, Clone, thiserror::Error)]
pub enum KeeperError {
    /// The last request failed, and what was held before, if anything, has expired.
    #[error("{0}")]
    Issue(Arc<IssueError>),
    /// No answer has come yet.
    #[error(transparent)]
    Timeout(#[from] Elapsed),
    /// The identity was given up while waiting: its last workload left.
    #[error("the certificate of {0} is no longer kept; no workload on this node has that identity")]
    Forgotten(SpiffeId),
}

/// What time it is, for validity. Tests bring their own.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> SystemTime + Send + Sync>);

impl Clock {
    /// A clock of one's own.
    pub fn new(now: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    fn now(&self) -> SystemTime {
        (self.0)()
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new(SystemTime::now)
    }
}

/// What is held for an identity, for the configuration dump.
#[derive(Debug, Clone)]
pub struct Held {
    /// Whose.
    pub identity: SpiffeId,
    /// The certificate; `None` until the first one came. It may have expired.
    pub certificate: Option<Arc<WorkloadCertificate>>,
    /// Why the last request failed; `None` if it did not.
    pub last_error: Option<Arc<IssueError>>,
}

/// The keeper; clones share what it holds.
#[derive(Clone)]
pub struct Keeper {
    shared: Arc<Shared>,
}

struct Shared {
    issuer: Arc<dyn Issuer>,
    clock: Clock,
    gate: Arc<Gate<SpiffeId>>,
    entries: Mutex<HashMap<SpiffeId, Entry>>,
    tasks: Tasks,
    drain: Drain,
}

struct Entry {
    news: watch::Receiver<News>,
    /// Callers who find nothing valid ring it.
    nudge: Arc<Notify>,
    need: Arc<Need>,
    task: AbortHandle,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What an identity's task knows of it.
struct Kept {
    identity: SpiffeId,
    nudge: Arc<Notify>,
    need: Arc<Need>,
    /// How urgent the first request is, and every other while nothing valid is held.
    first: Priority,
}

#[derive(Debug, Clone, Default)]
struct News {
    certificate: Option<Arc<WorkloadCertificate>>,
    last_error: Option<Arc<IssueError>>,
}

impl News {
    fn valid(&self, now: SystemTime) -> Option<Arc<WorkloadCertificate>> {
        self.certificate.clone().filter(|certificate| !certificate.is_expired(now))
    }
}

impl Keeper {
    /// Keeps certificates from `issuer`, whose requests must end by themselves. `tasks` owns one task per identity;
    /// forcing `drain` ends them.
    pub fn new(issuer: Arc<dyn Issuer>, clock: Clock, tasks: &Tasks, drain: &Drain) -> Self {
        let (gate, entries) = (Gate::new(CONCURRENT_MAX), Mutex::new(HashMap::new()));
        let (tasks, drain) = (tasks.clone(), drain.clone());
        Self { shared: Arc::new(Shared { issuer, clock, gate, entries, tasks, drain }) }
    }

    /// The certificate of `identity`, requested now if it is not held. Safe to drop.
    pub async fn certificate(&self, identity: &SpiffeId) -> Result<Arc<WorkloadCertificate>, KeeperError> {
        let (mut news, nudge) = self.shared.watched(identity, Priority::RealTime, Need::ask);
        let (held, failed_before) = {
            let news = news.borrow_and_update();
            (news.valid(self.shared.clock.now()), news.last_error.clone())
        };
        if let Some(certificate) = held {
            return Ok(certificate);
        }
        self.shared.gate.raise(identity, Priority::RealTime);
        nudge.notify_one();
        let timeout = if failed_before.is_some() { NEXT_TRY_TIMEOUT } else { FIRST_TIMEOUT };
        match (within("the CA's certificate", timeout, news.changed()).await, failed_before) {
            (Ok(Ok(())), _) => {}
            (Ok(Err(_)), None) => return Err(KeeperError::Forgotten(identity.clone())),
            (Ok(Err(_)) | Err(_), Some(error)) => return Err(KeeperError::Issue(error)),
            (Err(elapsed), None) => return Err(elapsed.into()),
        }
        let news = news.borrow();
        match (news.valid(self.shared.clock.now()), &news.last_error) {
            (Some(certificate), _) => Ok(certificate),
            (None, Some(error)) => Err(KeeperError::Issue(error.clone())),
            (None, None) => Err(KeeperError::Forgotten(identity.clone())),
        }
    }

    /// Keeps `identity` until it is forgotten, without waiting. What was only asked for is kept while it is asked for.
    pub fn prefetch(&self, identity: &SpiffeId, priority: Priority) {
        self.shared.watched(identity, priority, Need::last);
    }

    /// Drops what is held for `identity` and stops asking for it. Callers that wait get an error.
    pub fn forget(&self, identity: &SpiffeId) {
        let forgotten = self.shared.entries.lock().remove(identity);
        drop(forgotten);
    }

    /// Everything held, by identity.
    pub fn dump(&self) -> Vec<Held> {
        let entries = self.shared.entries.lock();
        let mut held: Vec<Held> = entries
            .iter()
            .map(|(identity, entry)| {
                let News { certificate, last_error } = entry.news.borrow().clone();
                Held { identity: identity.clone(), certificate, last_error }
            })
            .collect();
        held.sort_by(|one, two| one.identity.cmp(&two.identity));
        held
    }
}

impl Shared {
    /// The news of an identity, whose task is started if it has none, and its bell.
    fn watched(
        self: &Arc<Self>,
        identity: &SpiffeId,
        priority: Priority,
        needed: fn(&Need),
    ) -> (watch::Receiver<News>, Arc<Notify>) {
        let mut entries = self.entries.lock();
        if let Some(entry) = entries.get(identity) {
            needed(&entry.need);
            return (entry.news.clone(), entry.nudge.clone());
        }
        let (publish, news) = watch::channel(News::default());
        let (shared, nudge, need) = (self.clone(), Arc::new(Notify::new()), Arc::new(Need::default()));
        needed(&need);
        let kept = Kept { identity: identity.clone(), nudge: nudge.clone(), need: need.clone(), first: priority };
        let task = self.tasks.spawn("certificate", async move {
            tokio::select! {
                () = shared.keep(&kept, publish) => {}
                () = shared.drain.forced() => {}
            }
        });
        entries.insert(identity.clone(), Entry { news: news.clone(), nudge: nudge.clone(), need, task });
        (news, nudge)
    }

    /// Requests, publishes, waits, as long as anybody needs it.
    async fn keep(&self, kept: &Kept, publish: watch::Sender<News>) {
        let identity = &kept.identity;
        let mut retry = Backoff::new(RETRY_START, RETRY_MAX).with_jitter(RETRY_JITTER);
        while self.is_needed(kept) {
            let held = publish.borrow().valid(self.clock.now());
            let priority = if held.is_some() { Priority::Background } else { kept.first };
            let pass = self.gate.enter(identity, priority).await;
            let issued = self.issuer.issue(identity).await;
            drop(pass);
            let now = self.clock.now();
            match issued {
                Ok(certificate) => {
                    retry.reset();
                    let life = schedule::Life { begins: certificate.not_before(), ends: certificate.not_after() };
                    tracing::debug!(%identity, serial = certificate.serial(), "a certificate was issued");
                    kept.need.answered();
                    publish.send_replace(News { certificate: Some(Arc::new(certificate)), last_error: None });
                    self.sleep_until(schedule::renewal(life, now, rand::random_range(-1.0..=1.0))).await;
                }
                Err(error) => {
                    tracing::warn!(%identity, %error, "no certificate; trying again");
                    if held.is_none() {
                        kept.need.answered();
                    }
                    publish.send_modify(|news| news.last_error = Some(Arc::new(error)));
                    let expiry = held.map(|certificate| certificate.not_after());
                    self.back_off(kept, schedule::next_try(now, retry.next_wait(), expiry)).await;
                }
            }
        }
    }

    /// Whether to go on; if not, nothing is held any more, and who asks next begins anew.
    fn is_needed(&self, kept: &Kept) -> bool {
        let mut entries = self.entries.lock();
        let ours = |entry: &Entry| Arc::ptr_eq(&entry.need, &kept.need);
        if kept.need.remains() || !entries.get(&kept.identity).is_some_and(ours) {
            return true;
        }
        tracing::debug!(identity = %kept.identity, "nobody needs the certificate any more");
        // Its drop aborts the task that is here; it ends by itself before it could notice.
        let unneeded = entries.remove(&kept.identity);
        drop(entries);
        drop(unneeded);
        false
    }

    /// Waits until `when`, or until a caller asks after a decent pause. (Callers ring only if nothing held is valid.)
    async fn back_off(&self, kept: &Kept, when: SystemTime) {
        let asked_for = async {
            tokio::time::sleep(NUDGE_AFTER).await;
            kept.nudge.notified().await;
        };
        tokio::select! {
            () = self.sleep_until(when) => {}
            () = asked_for => {}
        }
    }

    async fn sleep_until(&self, when: SystemTime) {
        while let Ok(left) = when.duration_since(self.clock.now()) {
            if left.is_zero() {
                return;
            }
            // A timer may fire a little early by the other clock; a millisecond more saves a second look.
            tokio::time::sleep(left.min(SLEEP_MAX) + Duration::from_millis(1)).await;
        }
    }
}

#[cfg(test)]
mod tests;
