//! The bodies that pass through, without a box or a task for any of them.
//!
//! In: what hyper received, or what we answer. Out: bodies that count, that know whether they ended well, and whose end is
//! told to [`Tail`]. Absent on purpose: what is done with the counts.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::HeaderMap;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::{sync::oneshot, time::Sleep};

use super::replay::Reader;

/// Why a body ended early.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// Whoever sends it failed.
    #[error(transparent)]
    Source(#[from] hyper::Error),
    /// The attempt it was for was given up.
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

    pub(super) fn note<E>(&self, frame: Option<&Result<Frame<Bytes>, E>>) {
        match frame {
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    self.bytes.fetch_add(data.len() as u64, Ordering::Relaxed);
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

    fn poll_gate(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if let Some(gate) = &mut self.gate {
            match Pin::new(&mut gate.wanted).poll(context) {
                Poll::Ready(Ok(())) => {}
                // The endpoint has answered without it: nobody wants it any more.
                Poll::Ready(Err(_)) => return Poll::Pending,
                Poll::Pending => ready!(gate.patience.as_mut().poll(context)),
            }
            self.gate = None;
        }
        Poll::Ready(())
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        ready!(self.poll_gate(context));
        match &mut self.kind {
            RequestKind::Empty => Poll::Ready(None),
            RequestKind::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                self.kind = RequestKind::Empty;
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            RequestKind::Kept(reader) => reader.poll_frame(context),
            RequestKind::Passing { body, flow } => {
                let frame = ready!(Pin::new(&mut *body).poll_frame(context));
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

/// What follows a response to its end. Dropped without [`Tail::end`], the client did not take it whole.
pub trait Tail: Send + Unpin + 'static {
    /// So many bytes of the body pass.
    fn data(&mut self, bytes: usize);

    /// The trailers pass.
    fn trailers(&mut self, trailers: &HeaderMap);

    /// It is over.
    fn end(self, end: End);
}

/// How a response ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// All of it was handed over.
    Whole,
    /// The endpoint broke off.
    Broken,
    /// It took longer than it may.
    TimedOut,
    /// The client went away.
    Left,
}

/// The body of a response on its way to the client.
#[derive(Debug)]
pub struct ResponseBody<T: Tail> {
    kind: ResponseKind,
    /// Of the whole request.
    deadline: Option<Pin<Box<Sleep>>>,
    tail: Option<T>,
}

#[derive(Debug)]
enum ResponseKind {
    Empty,
    Full(Bytes),
    Passing(Incoming),
}

impl<T: Tail> ResponseBody<T> {
    /// No body.
    pub fn empty(tail: Option<T>) -> Self {
        Self { kind: ResponseKind::Empty, deadline: None, tail }
    }

    /// These bytes.
    pub fn full(bytes: impl Into<Bytes>, tail: Option<T>) -> Self {
        let bytes = bytes.into();
        let kind = if bytes.is_empty() { ResponseKind::Empty } else { ResponseKind::Full(bytes) };
        Self { kind, deadline: None, tail }
    }

    /// What the endpoint sends, as it comes, until `deadline`.
    pub fn passing(body: Incoming, deadline: Option<Pin<Box<Sleep>>>, tail: T) -> Self {
        Self { kind: ResponseKind::Passing(body), deadline, tail: Some(tail) }
    }

    fn ends(&mut self, end: End) {
        if let Some(tail) = self.tail.take() {
            tail.end(end);
        }
    }

    fn note(&mut self, frame: Option<&Result<Frame<Bytes>, hyper::Error>>) {
        match frame {
            Some(Ok(frame)) => {
                let Some(tail) = &mut self.tail else { return };
                if let Some(data) = frame.data_ref() {
                    tail.data(data.len());
                } else if let Some(trailers) = frame.trailers_ref() {
                    tail.trailers(trailers);
                }
            }
            Some(Err(_)) => self.ends(End::Broken),
            None => self.ends(End::Whole),
        }
    }
}

impl<T: Tail> Body for ResponseBody<T> {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        if let Some(deadline) = &mut this.deadline
            && deadline.as_mut().poll(context).is_ready()
        {
            this.ends(End::TimedOut);
            return Poll::Ready(Some(Err(BodyError::Timeout)));
        }
        let frame = match &mut this.kind {
            ResponseKind::Empty => None,
            ResponseKind::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                this.kind = ResponseKind::Empty;
                Some(Ok(Frame::data(bytes)))
            }
            ResponseKind::Passing(body) => ready!(Pin::new(body).poll_frame(context)),
        };
        this.note(frame.as_ref());
        Poll::Ready(frame.map(|frame| frame.map_err(BodyError::Source)))
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            ResponseKind::Empty => true,
            ResponseKind::Full(bytes) => bytes.is_empty(),
            ResponseKind::Passing(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            ResponseKind::Empty => SizeHint::with_exact(0),
            ResponseKind::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            ResponseKind::Passing(body) => body.size_hint(),
        }
    }
}

impl<T: Tail> Drop for ResponseBody<T> {
    fn drop(&mut self) {
        // hyper does not ask for the end of a body that says that it is over, nor for any of an answer to HEAD.
        let end = if self.is_end_stream() { End::Whole } else { End::Left };
        self.ends(end);
    }
}
