//! The conversation with the node agent.
//!
//! In: the agent's socket. Out: pods started and stopped, each request answered in order, readiness.
//! Absent on purpose: deciding what a request means (see `ledger`), serving a pod (see `pod`).
//!
//! Unlike the reference, nothing the agent says ends this process: a packet that breaks the protocol is refused,
//! counted, and the conversation begins again, while all pods go on being served.

use std::{future::Future, os::fd::OwnedFd, path::PathBuf, time::Duration};

use lateen_net::{
    fdpass::{Message, MessageError, SeqpacketStream},
    netns::{Netns, NetnsId},
};
use lateen_rt::{
    backoff::Backoff,
    deadline::{Elapsed, within},
    drain::Drain,
    ready::Condition,
};
use lateen_types::name::PodUid;

use super::{
    ledger::{Added, Ledger, Pod, ProtocolError},
    message::{self, BadMessage, Request},
};

/// How long one packet of ours may take.
const SEND_TIMEOUT: Duration = Duration::from_secs(5);
/// How often pods that could not be started are tried again.
const RETRY_INTERVAL: Duration = Duration::from_secs(5);
const REDIAL_START: Duration = Duration::from_millis(10);
const REDIAL_MAX: Duration = Duration::from_secs(15);
/// An agent that is not there is being replaced: new pods of the node wait for it and for us, and looking costs little.
const ABSENT_MAX: Duration = Duration::from_secs(1);

/// A network namespace and what it is known by.
#[derive(Debug, Clone)]
pub struct Room {
    /// The namespace, held open.
    pub netns: Netns,
    id: NetnsId,
}

impl Room {
    /// The room that is this namespace.
    pub fn new(netns: Netns) -> Self {
        Self { id: netns.id(), netns }
    }
}

impl PartialEq for Room {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

/// Serves pods.
pub trait Proxies: Send + Sync {
    /// Binds everything of the pod's proxy before it returns.
    fn start(&self, pod: &Pod<Room>) -> impl Future<Output = Result<(), String>> + Send;
    /// Ends the pod's proxy with all its connections, at once.
    fn stop(&self, uid: &PodUid) -> impl Future<Output = ()> + Send;
    /// A pod could not be started and waits.
    fn waits(&self, pod: &Pod<Room>);
    /// A pod that waited is forgotten.
    fn forget(&self, uid: &PodUid);
}

/// Why a conversation ended.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error("cannot reach the agent: {0}")]
    Dial(std::io::Error),
    #[error("the agent closed the connection")]
    Closed,
    #[error("a packet cannot be read: {0}")]
    Unreadable(#[source] MessageError),
    #[error("a packet was refused: {0}")]
    Bad(#[from] BadMessage),
    #[error("the agent broke the protocol: {0}")]
    Protocol(#[from] ProtocolError),
    #[error("an answer cannot be sent: {0}")]
    Send(#[source] MessageError),
    #[error(transparent)]
    Slow(#[from] Elapsed),
}

impl End {
    /// The metric label, where somebody broke the protocol.
    fn protocol_error(&self) -> Option<&'static str> {
        match self {
            Self::Unreadable(_) => Some("unreadable"),
            Self::Bad(_) => Some("bad_message"),
            Self::Protocol(_) => Some("out_of_order"),
            Self::Dial(_) | Self::Closed | Self::Send(_) | Self::Slow(_) => None,
        }
    }
}

/// Speaks with the agent at `path` until the drain begins. The pods' proxies are not ended by that.
pub async fn run(path: PathBuf, proxies: &impl Proxies, ready: &Condition, drain: &Drain) {
    let mut ledger = Ledger::default();
    let mut redial = Redial::new();
    let mut conversation = Conversation { proxies, ready, ledger: &mut ledger };
    loop {
        let end = tokio::select! {
            end = conversation.hold(&path) => end,
            () = drain.draining() => return,
        };
        ready.set(false);
        if let Some(reason) = end.protocol_error() {
            metrics::counter!("workload_manager_protocol_errors", "reason" => reason).increment(1);
        }
        let Next { wait, is_news } = redial.after(&end, conversation.ledger.is_complete());
        if is_news {
            tracing::warn!(error = %end, ?wait, socket = %path.display(), "not connected to the node agent; pods go on as they are");
        } else {
            tracing::debug!(error = %end, ?wait, "still not connected to the node agent");
        }
        tokio::select! {
            () = conversation.retry_while(wait) => {}
            () = drain.draining() => return,
        }
    }
}

/// When the agent is called again, and whether anybody needs to hear why.
struct Redial {
    pace: Backoff,
    is_absent: bool,
}

/// What comes after a conversation.
#[derive(Debug, PartialEq, Eq)]
struct Next {
    wait: Duration,
    is_news: bool,
}

impl Redial {
    fn new() -> Self {
        Self { pace: Backoff::new(REDIAL_START, REDIAL_MAX), is_absent: false }
    }

    /// What follows `end`. `is_complete` says whether the agent's pods are known as a whole.
    fn after(&mut self, end: &End, is_complete: bool) -> Next {
        let is_absent = matches!(end, End::Dial(_));
        // Only a conversation that got as far as a full snapshot begins again at once.
        if is_complete && !is_absent {
            self.pace.reset();
        }
        let wait = self.pace.next_wait();
        // That it is not there is said once, until it was there again.
        let is_news = !(is_absent && self.is_absent);
        self.is_absent = is_absent;
        Next { wait: if is_absent { wait.min(ABSENT_MAX) } else { wait }, is_news }
    }
}

struct Conversation<'a, P> {
    proxies: &'a P,
    ready: &'a Condition,
    ledger: &'a mut Ledger<Room>,
}

impl<P: Proxies> Conversation<'_, P> {
    /// One connection from hello to its end.
    async fn hold(&mut self, path: &PathBuf) -> End {
        let stream = match SeqpacketStream::connect(path) {
            Ok(stream) => stream,
            Err(error) => return End::Dial(error),
        };
        for pod in self.ledger.pending() {
            self.proxies.forget(&pod.uid);
        }
        self.ledger.connected();
        self.count();
        match self.speak(&stream).await {
            Ok(never) => match never {},
            Err(end) => end,
        }
    }

    async fn speak(&mut self, stream: &SeqpacketStream) -> Result<std::convert::Infallible, End> {
        send(stream, &message::hello()).await?;
        tracing::info!("connected to the node agent");
        let mut retry = tokio::time::interval(RETRY_INTERVAL);
        loop {
            // Both branches may be dropped: a packet is taken whole or not at all.
            tokio::select! {
                packet = stream.recv() => match packet {
                    Ok(Some(packet)) => self.answer(stream, packet).await?,
                    Ok(None) => return Err(End::Closed),
                    Err(error) => return Err(refuse(stream, End::Unreadable(error)).await),
                },
                _ = retry.tick() => {
                    self.retry().await;
                    if self.ledger.is_settled() {
                        self.ready.set(true);
                    }
                }
            }
        }
    }

    async fn answer(&mut self, stream: &SeqpacketStream, packet: Message) -> Result<(), End> {
        let request = match message::request(&packet.bytes, packet.descriptor.is_some()) {
            Ok(request) => request,
            Err(bad) => return Err(refuse(stream, bad.into()).await),
        };
        let done = self.fulfil(request, packet.descriptor).await;
        self.count();
        match done {
            Ok(()) => {
                self.ready.set(self.ledger.is_settled());
                send(stream, &message::ack(None)).await
            }
            Err(Failed::Start(reason)) => send(stream, &message::ack(Some(&reason))).await,
            Err(Failed::Protocol(error)) => Err(refuse(stream, error.into()).await),
        }
    }

    async fn fulfil(&mut self, request: Request, descriptor: Option<OwnedFd>) -> Result<(), Failed> {
        match request {
            Request::Add { uid, pod } => {
                let fd = descriptor.ok_or_else(|| Failed::Start(BadMessage::NoDescriptor.to_string()))?;
                let netns = Netns::from_fd(fd).map_err(|error| Failed::Start(error.to_string()))?;
                self.add(Pod { uid, key: pod, netns: Room::new(netns) }).await
            }
            Request::Keep(uid) => self.ledger.keep(uid).map_err(Failed::Protocol),
            Request::Del(uid) => {
                self.proxies.forget(&uid);
                if self.ledger.del(&uid) {
                    self.proxies.stop(&uid).await;
                }
                Ok(())
            }
            Request::SnapshotSent => {
                for uid in self.ledger.snapshot_sent().map_err(Failed::Protocol)? {
                    self.proxies.stop(&uid).await;
                }
                Ok(())
            }
        }
    }

    async fn add(&mut self, pod: Pod<Room>) -> Result<(), Failed> {
        match self.ledger.add(&pod) {
            Added::Nothing => return Ok(()),
            Added::Replace => self.proxies.stop(&pod.uid).await,
            Added::Start => {}
        }
        match self.proxies.start(&pod).await {
            Ok(()) => {
                self.ledger.started(pod);
                Ok(())
            }
            Err(reason) => {
                tracing::warn!(pod = %pod.key, uid = %pod.uid, error = reason, "cannot serve the pod yet, will try again");
                self.proxies.waits(&pod);
                self.ledger.failed(pod);
                Err(Failed::Start(format!("failure to start proxy : {reason}")))
            }
        }
    }

    /// Tries every waiting pod once. Readiness is not touched: it comes only from a connected agent.
    async fn retry(&mut self) {
        let waiting: Vec<Pod<Room>> = self.ledger.pending().cloned().collect();
        if waiting.is_empty() {
            return;
        }
        for pod in waiting {
            match self.proxies.start(&pod).await {
                Ok(()) => {
                    tracing::info!(pod = %pod.key, uid = %pod.uid, "the pod is served now");
                    self.ledger.started(pod);
                }
                Err(reason) => tracing::warn!(pod = %pod.key, error = reason, "still cannot serve the pod"),
            }
        }
        self.count();
    }

    /// Waits, and meanwhile goes on trying pods that wait.
    async fn retry_while(&mut self, wait: Duration) {
        let until = tokio::time::Instant::now() + wait;
        while tokio::time::timeout_at(until, tokio::time::sleep(RETRY_INTERVAL)).await.is_ok() {
            self.retry().await;
        }
    }

    #[allow(clippy::cast_precision_loss, reason = "a node has a few hundred pods")]
    fn count(&self) {
        metrics::gauge!("workload_manager_active_proxy_count").set(self.ledger.running().count() as f64);
        metrics::gauge!("workload_manager_pending_proxy_count").set(self.ledger.pending().count() as f64);
    }
}

/// Why a request was not fulfilled.
enum Failed {
    /// The pod's proxy did not start; the conversation goes on.
    Start(String),
    /// The agent broke the protocol; the conversation ends.
    Protocol(ProtocolError),
}

async fn send(stream: &SeqpacketStream, bytes: &[u8]) -> Result<(), End> {
    within("sending to the node agent", SEND_TIMEOUT, stream.send(bytes, None)).await?.map_err(End::Send)
}

/// Tells the agent why before the connection goes.
async fn refuse(stream: &SeqpacketStream, end: End) -> End {
    match send(stream, &message::ack(Some(&end.to_string()))).await {
        Ok(()) => end,
        Err(unsent) => {
            tracing::debug!(error = %unsent, "the refusal cannot be sent");
            end
        }
    }
}

#[cfg(test)]
#[path = "stream_tests.rs"]
mod tests;
