//! The ztunnels of this node, and what they are told.
//!
//! In: pods that come and go, a snapshot of those that are in. Out: ztunnel's word on each.
//! Adds go to the newest ztunnel, deletes to all. A ztunnel counts from its hello on: what is added while its snapshot is
//! under way waits in its queue, so that nothing falls between the two.

mod session;
#[cfg(test)]
mod tests;

use std::{path::Path, sync::Arc, time::Duration};

use lateen_net::{
    fdpass::{SeqpacketListener, SeqpacketStream},
    netns::Netns,
};
use lateen_rt::{
    deadline::{Elapsed, within},
    drain::Drain,
    tasks::Tasks,
};
use lateen_types::name::PodUid;
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

use crate::catalogue::ZTUNNEL_CONNECTED;

/// Waiting for the answer, which stands in a queue of messages of at most 5 s each.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// One connection in this time: a ztunnel in a crash loop must not keep us busy.
const ACCEPT_EVERY: Duration = Duration::from_millis(200);
const QUEUE_MAX: usize = 1024;
/// A rolling update has two.
const ZTUNNELS_MAX: usize = 8;

/// A pod as ztunnel is told of it.
#[derive(Debug, Clone)]
pub struct Workload {
    /// Its UID.
    pub uid: PodUid,
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Its service account.
    pub service_account: String,
    /// Its network namespace; none where it is not known, and then ztunnel keeps what it has.
    pub netns: Option<Netns>,
}

/// Why ztunnel does not serve a pod.
#[derive(Debug, thiserror::Error)]
pub enum ZdsError {
    /// There is none.
    #[error("no ztunnel connection; is the DaemonSet ztunnel running on this node?")]
    NoConnection,
    /// It went away while it was asked.
    #[error("ztunnel went away before it answered")]
    Lost,
    /// It said no.
    #[error("ztunnel refused: {0}")]
    Refused(String),
    /// It is behind.
    #[error("too many messages wait for ztunnel")]
    Busy,
    /// It is slow.
    #[error(transparent)]
    Timeout(#[from] Elapsed),
}

/// What one ztunnel is to be told.
enum Order {
    Add(Workload, oneshot::Sender<Result<(), ZdsError>>),
    Del(PodUid, oneshot::Sender<Result<(), ZdsError>>),
}

/// The pods that are in at this moment.
pub type Snapshot = Arc<dyn Fn() -> Vec<Workload> + Send + Sync>;

/// The connected ztunnels; clones share them.
#[derive(Clone, Default)]
pub struct Ztunnels {
    connected: Arc<Mutex<Connected>>,
}

/// Oldest first.
#[derive(Default)]
struct Connected {
    next: u64,
    lines: Vec<(u64, mpsc::Sender<Order>)>,
}

impl Ztunnels {
    /// Has the newest ztunnel serve a pod. Safe to drop: the message may still go out.
    pub async fn add(&self, workload: Workload) -> Result<(), ZdsError> {
        let newest = self.connected.lock().lines.last().map(|(_, line)| line.clone());
        let (tell, told) = oneshot::channel();
        post(newest.ok_or(ZdsError::NoConnection)?, Order::Add(workload, tell))?;
        within("waiting for ztunnel to serve the pod", ANSWER_TIMEOUT, told).await?.map_err(|_| ZdsError::Lost)?
    }

    /// Has every ztunnel drop a pod. A ztunnel that goes away has dropped it.
    pub async fn del(&self, uid: &PodUid) -> Result<(), ZdsError> {
        let lines: Vec<_> = self.connected.lock().lines.iter().map(|(_, line)| line.clone()).collect();
        let mut answers = Vec::new();
        for line in lines {
            let (tell, told) = oneshot::channel();
            match post(line, Order::Del(uid.clone(), tell)) {
                Ok(()) => answers.push(told),
                Err(ZdsError::Lost) => {}
                Err(error) => return Err(error),
            }
        }
        for told in answers {
            match within("waiting for ztunnel to drop the pod", ANSWER_TIMEOUT, told).await? {
                Ok(answer) => answer?,
                Err(_gone) => {}
            }
        }
        Ok(())
    }

    fn join(&self) -> Option<(u64, mpsc::Receiver<Order>)> {
        let mut connected = self.connected.lock();
        if connected.lines.len() >= ZTUNNELS_MAX {
            return None;
        }
        let (line, orders) = mpsc::channel(QUEUE_MAX);
        let id = connected.next;
        connected.next += 1;
        connected.lines.push((id, line));
        metrics::gauge!(ZTUNNEL_CONNECTED).set(connected.lines.len() as f64);
        Some((id, orders))
    }

    fn leave(&self, id: u64) {
        let mut connected = self.connected.lock();
        connected.lines.retain(|(one, _)| *one != id);
        metrics::gauge!(ZTUNNEL_CONNECTED).set(connected.lines.len() as f64);
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.connected.lock().lines.len()
    }
}

fn post(line: mpsc::Sender<Order>, order: Order) -> Result<(), ZdsError> {
    line.try_send(order).map_err(|error| match error {
        mpsc::error::TrySendError::Full(_) => ZdsError::Busy,
        mpsc::error::TrySendError::Closed(_) => ZdsError::Lost,
    })
}

/// Listens at `path`, replacing what an earlier agent left there.
pub fn listen(path: &Path) -> std::io::Result<SeqpacketListener> {
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory)?;
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    SeqpacketListener::bind(path)
}

/// Accepts ztunnels until the drain begins.
pub async fn serve(
    listener: SeqpacketListener,
    ztunnels: Ztunnels,
    snapshot: Snapshot,
    (tasks, drain): (Tasks, Drain),
) {
    let mut pace = tokio::time::interval(ACCEPT_EVERY);
    pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        pace.tick().await;
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = drain.draining() => return,
        };
        match accepted {
            Ok(stream) if trusted(&stream) => {
                let (ztunnels, snapshot, drain) = (ztunnels.clone(), snapshot.clone(), drain.clone());
                tasks.spawn("ztunnel", async move {
                    tokio::select! {
                        () = session::run(stream, ztunnels, snapshot) => {}
                        () = drain.draining() => {}
                    }
                });
            }
            Ok(_) => tracing::warn!("a user who is neither root nor ours connected as a ztunnel; refused"),
            Err(error) => tracing::warn!(%error, "cannot accept a ztunnel"),
        }
    }
}

/// Namespace descriptors go to root and to our own user only.
fn trusted(stream: &SeqpacketStream) -> bool {
    stream.peer_uid().is_ok_and(|uid| uid == 0 || uid == nix::unistd::geteuid().as_raw())
}
