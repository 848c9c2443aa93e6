//! The bodies that pass through, without a box or a task for any of them.
//!
//! In: what hyper received. Out: bodies that count, and that know whether they ended well. Absent on purpose: bodies of
//! answers (see `response`), what is done with the counts.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker, ready},
};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use parking_lot::Mutex;
use tokio::{
    sync::oneshot,
    time::{Instant, Sleep},
};

use super::replay::Reader;

/// Why a body ended early.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// Whoever sends it failed.
    #[error(transparent)]
    Source(#[from] hyper::Error),
    /// The attempt it was for was given up, or was answered without the rest of it.
    #[error("the attempt was given up")]
    GivenUp,
    /// The whole request took longer than it may.
    #[error("the request took longer than it may")]
    Timeout,
}

/// What became of a request's body so far.
#[derive(Debug, Default)]
pub struct Flow {
    bytes: AtomicU64,
    ended: AtomicBool,
    failed: AtomicBool,
    /// We have asked for more, and nothing has come yet.
    waiting: AtomicBool,
    /// When what was waited for came last. Taken only then, and when a deadline is looked at.
    waited: Mutex<Option<Instant>>,
    reading: Mutex<Reading>,
}

/// Whether the rest of a body is wanted.
#[derive(Debug, Default)]
enum Reading {
    /// It is.
    #[default]
    Wanted,
    /// It is, and whoever reads it waits for more.
    Waiting(Waker),
    /// Its answer is over.
    Unwanted,
}

/// Whose turn it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fed {
    /// It is the client's.
    Waiting,
    /// It has been ours since the client's bytes came last, if we had to wait for them ever.
    Since(Option<Instant>),
}

impl Flow {
    /// There is nothing (more) of it.
    pub fn ends(&self) {
        self.ended.store(true, Ordering::Relaxed);
    }

    /// Bytes received of the client.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// All of it was received.
    pub fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }

    /// The client broke it off.
    pub fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }

    /// Whose turn it was.
    pub fn fed(&self) -> Fed {
        if self.waiting.load(Ordering::Relaxed) && !self.has_ended() {
            Fed::Waiting
        } else {
            Fed::Since(*self.waited.lock())
        }
    }

    /// The answer is over: nobody wants what has not come yet. Whoever reads it for an endpoint ends, and with it that
    /// endpoint's stream: what follows on the client's connection would be read by nobody, or for the next request.
    pub fn stop(&self) {
        if !self.has_ended()
            && let Reading::Waiting(waker) = std::mem::replace(&mut *self.reading.lock(), Reading::Unwanted)
        {
            waker.wake();
        }
    }

    /// More is asked for, and is not there yet; ready if nobody wants it any more.
    pub(super) fn waits(&self, context: &Context<'_>) -> Poll<()> {
        self.waiting.store(true, Ordering::Relaxed);
        self.poll_unwanted(context)
    }

    fn poll_unwanted(&self, context: &Context<'_>) -> Poll<()> {
        let mut reading = self.reading.lock();
        match &*reading {
            Reading::Unwanted => return Poll::Ready(()),
            Reading::Waiting(waker) if waker.will_wake(context.waker()) => {}
            Reading::Wanted | Reading::Waiting(_) => *reading = Reading::Waiting(context.waker().clone()),
        }
        Poll::Pending
    }

    /// So many bytes came.
    pub(super) fn came(&self, bytes: usize) {
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        self.came_at_last();
    }

    fn came_at_last(&self) {
        if self.waiting.load(Ordering::Relaxed) {
            self.waiting.store(false, Ordering::Relaxed);
            *self.waited.lock() = Some(Instant::now());
        }
    }

    pub(super) fn note<E>(&self, frame: Option<&Result<Frame<Bytes>, E>>) {
        self.came_at_last();
        match frame {
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    self.came(data.len());
                }
            }
            Some(Err(_)) => self.failed.store(true, Ordering::Relaxed),
            None => self.ended.store(true, Ordering::Relaxed),
        }
    }
}

/// The body of a request on its way to an endpoint.
#[derive(Debug)]
pub struct RequestBody {
    kind: RequestKind,
    /// Opened when the endpoint wants the body (`Expect: 100-continue`).
    gate: Option<Gate>,
}

#[derive(Debug)]
enum RequestKind {
    Empty,
    Full(Bytes),
    Passing { body: Incoming, flow: Arc<Flow> },
    Kept(Reader),
}

/// Holds a body back until the endpoint has said that it wants it, or has said nothing for a while.
#[derive(Debug)]
struct Gate {
    wanted: oneshot::Receiver<()>,
    patience: Pin<Box<Sleep>>,
}

/// How long a body that was announced by `Expect: 100-continue` is held back for an endpoint that says nothing (RFC 9110
/// §10.1.1 wants no client to wait for ever).
pub const CONTINUE_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(1);

impl RequestBody {
    /// No body.
    pub fn empty() -> Self {
        Self { kind: RequestKind::Empty, gate: None }
    }

    /// These bytes.
    pub fn full(bytes: Bytes) -> Self {
        let kind = if bytes.is_empty() { RequestKind::Empty } else { RequestKind::Full(bytes) };
        Self { kind, gate: None }
    }

    /// What the client sends, as it comes.
    pub fn passing(body: Incoming, flow: Arc<Flow>) -> Self {
        if body.is_end_stream() {
            flow.ends();
            return Self::empty();
        }
        Self { kind: RequestKind::Passing { body, flow }, gate: None }
    }

    /// What is kept for further attempts.
    pub fn kept(reader: Reader) -> Self {
        Self { kind: RequestKind::Kept(reader), gate: None }
    }

    /// The same, held back until the sender speaks or [`CONTINUE_TIMEOUT`] has passed.
    pub fn held_back(mut self) -> (Self, oneshot::Sender<()>) {
        let (open, wanted) = oneshot::channel();
        self.gate = Some(Gate { wanted, patience: Box::pin(tokio::time::sleep(CONTINUE_TIMEOUT)) });
        (self, open)
    }

    /// Until the body may pass; an error if nobody wants it any more.
    fn poll_gate(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BodyError>> {
        if let Some(gate) = &mut self.gate {
            match Pin::new(&mut gate.wanted).poll(context) {
                Poll::Ready(Ok(())) => {}
                // The endpoint answers without it. An error now could take that answer away.
                Poll::Ready(Err(_)) => {
                    ready!(self.poll_unwanted(context));
                    return Poll::Ready(Err(self.give_up()));
                }
                Poll::Pending => ready!(gate.patience.as_mut().poll(context)),
            }
            self.gate = None;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_unwanted(&self, context: &Context<'_>) -> Poll<()> {
        match &self.kind {
            RequestKind::Empty | RequestKind::Full(_) => Poll::Pending,
            RequestKind::Passing { flow, .. } => flow.poll_unwanted(context),
            RequestKind::Kept(reader) => reader.flow().poll_unwanted(context),
        }
    }

    /// Lets go of the client's body.
    fn give_up(&mut self) -> BodyError {
        (self.kind, self.gate) = (RequestKind::Empty, None);
        BodyError::GivenUp
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Err(error) = ready!(self.poll_gate(context)) {
            return Poll::Ready(Some(Err(error)));
        }
        match &mut self.kind {
            RequestKind::Empty => Poll::Ready(None),
            RequestKind::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                self.kind = RequestKind::Empty;
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            RequestKind::Kept(reader) => reader.poll_frame(context),
            RequestKind::Passing { body, flow } => {
                let Poll::Ready(frame) = Pin::new(&mut *body).poll_frame(context) else {
                    ready!(flow.waits(context));
                    return Poll::Ready(Some(Err(self.give_up())));
                };
                flow.note(frame.as_ref());
                if body.is_end_stream() {
                    flow.ends();
                }
                Poll::Ready(frame.map(|frame| frame.map_err(BodyError::Source)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            RequestKind::Empty => true,
            RequestKind::Full(bytes) => bytes.is_empty(),
            RequestKind::Kept(reader) => reader.is_end_stream(),
            RequestKind::Passing { body, .. } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            RequestKind::Empty => SizeHint::with_exact(0),
            RequestKind::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            RequestKind::Kept(reader) => reader.size_hint(),
            RequestKind::Passing { body, .. } => body.size_hint(),
        }
    }
}
