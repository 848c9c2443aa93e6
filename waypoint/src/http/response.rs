//! The body of an answer, without a box or a task for any but the few that are limited in time and not over at once.
//!
//! ```text
//! Alone ── a frame was handed over, there is more, and there are limits ──► Watched: hyper and a watcher share it
//! ```
//! In: what an endpoint sends, or what we answer. Out: a body that counts, that knows whether it ended well, and whose end is
//! told to [`Tail`]. hyper asks for more only as the client takes what it was given, so limits are watched beside it: what is
//! over by them is let go of at once, however long a client does not read. Absent on purpose: what is done with the counts.

use std::{
    pin::Pin,
    sync::{Arc, Weak},
    task::{Context, Poll, Waker, ready},
};

use bytes::Bytes;
use http::HeaderMap;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use parking_lot::Mutex;
use tokio::task::AbortHandle;

use super::{
    body::BodyError,
    deadline::{Limits, Over},
};

/// What follows a response to its end. Dropped without [`Tail::end`], the client did not take it whole.
pub trait Tail: Send + Unpin + Sized + 'static {
    /// So many bytes of the body pass.
    fn data(&mut self, bytes: usize);

    /// The trailers pass.
    fn trailers(&mut self, trailers: &HeaderMap);

    /// Runs the watcher as a task, until it ends or is aborted.
    fn watch(&self, overdue: Overdue<Self>) -> AbortHandle;

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
    /// Nothing passed for longer than it may.
    Idle,
    /// Policy came to refuse it.
    Denied,
    /// The client went away.
    Left,
}

impl From<Over> for End {
    fn from(over: Over) -> Self {
        match over {
            Over::Time | Over::Arrival => Self::TimedOut,
            Over::Idle => Self::Idle,
        }
    }
}

/// The body of a response on its way to the client.
#[derive(Debug)]
pub struct ResponseBody<T: Tail>(Held<T>);

#[derive(Debug)]
enum Held<T: Tail> {
    Alone(Passing<T>),
    Watched { shared: Arc<Mutex<Shared<T>>>, watcher: Option<AbortHandle> },
}

/// What hyper and a watcher have in common.
#[derive(Debug)]
struct Shared<T: Tail> {
    body: Passing<T>,
    /// hyper waits for more.
    asked: Option<Waker>,
}

#[derive(Debug)]
struct Passing<T: Tail> {
    kind: Kind,
    /// Boxed: few requests have any.
    limits: Option<Box<Limits>>,
    tail: Option<T>,
}

#[derive(Debug)]
enum Kind {
    Empty,
    Full(Bytes),
    Theirs(Incoming),
    /// A limit was reached.
    Over,
}

impl<T: Tail> ResponseBody<T> {
    /// No body.
    pub fn empty(tail: Option<T>) -> Self {
        Self(Held::Alone(Passing { kind: Kind::Empty, limits: None, tail }))
    }

    /// These bytes.
    pub fn full(bytes: impl Into<Bytes>, tail: Option<T>) -> Self {
        let bytes = bytes.into();
        let kind = if bytes.is_empty() { Kind::Empty } else { Kind::Full(bytes) };
        Self(Held::Alone(Passing { kind, limits: None, tail }))
    }

    /// What the endpoint sends, as it comes, within `limits`.
    pub fn passing(body: Incoming, limits: Option<Box<Limits>>, tail: T) -> Self {
        Self(Held::Alone(Passing { kind: Kind::Theirs(body), limits, tail: Some(tail) }))
    }

    /// From now on somebody else looks at the limits.
    fn watch(&mut self) {
        let Held::Alone(body) = &mut self.0 else { return };
        let body = std::mem::replace(body, Passing { kind: Kind::Empty, limits: None, tail: None });
        let shared = Arc::new(Mutex::new(Shared { body, asked: None }));
        let overdue = Overdue(Arc::downgrade(&shared));
        let watcher = shared.lock().body.tail.as_ref().map(|tail| tail.watch(overdue));
        self.0 = Held::Watched { shared, watcher };
    }
}

impl<T: Tail> Passing<T> {
    fn poll_limits(&mut self, context: &mut Context<'_>) -> Poll<Over> {
        self.limits.as_mut().map_or(Poll::Pending, |limits| limits.poll(context))
    }

    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = match &mut self.kind {
            Kind::Empty => None,
            Kind::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                self.kind = Kind::Empty;
                Some(Ok(Frame::data(bytes)))
            }
            Kind::Theirs(body) => ready!(Pin::new(body).poll_frame(context)),
            Kind::Over => return Poll::Ready(Some(Err(BodyError::Timeout))),
        };
        if let Some(limits) = &mut self.limits {
            limits.touch();
        }
        self.note(frame.as_ref());
        Poll::Ready(frame.map(|frame| frame.map_err(BodyError::Source)))
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

    fn ends(&mut self, end: End) {
        if let Some(tail) = self.tail.take() {
            tail.end(end);
        }
    }

    /// Lets go of what comes: a limit was reached.
    fn stop(&mut self) -> (Kind, Option<T>) {
        self.limits = None;
        (std::mem::replace(&mut self.kind, Kind::Over), self.tail.take())
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Empty => true,
            Kind::Full(bytes) => bytes.is_empty(),
            Kind::Theirs(body) => body.is_end_stream(),
            Kind::Over => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Empty => SizeHint::with_exact(0),
            Kind::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Kind::Theirs(body) => body.size_hint(),
            Kind::Over => SizeHint::default(),
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
        match &mut self.0 {
            Held::Alone(body) => {
                if let Poll::Ready(over) = body.poll_limits(context) {
                    let (_, tail) = body.stop();
                    tail.into_iter().for_each(|tail| tail.end(over.into()));
                }
                let frame = ready!(body.poll_next(context));
                if body.limits.is_some() && body.tail.is_some() && !body.is_end_stream() {
                    self.watch();
                }
                Poll::Ready(frame)
            }
            Held::Watched { shared, .. } => {
                let mut shared = shared.lock();
                let polled = shared.body.poll_next(context);
                shared.asked = polled.is_pending().then(|| context.waker().clone());
                polled
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Held::Alone(body) => body.is_end_stream(),
            Held::Watched { shared, .. } => shared.lock().body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Held::Alone(body) => body.size_hint(),
            Held::Watched { shared, .. } => shared.lock().body.size_hint(),
        }
    }
}

impl<T: Tail> Drop for ResponseBody<T> {
    fn drop(&mut self) {
        if let Held::Watched { watcher: Some(watcher), .. } = &self.0 {
            watcher.abort();
        }
    }
}

impl<T: Tail> Drop for Passing<T> {
    fn drop(&mut self) {
        // hyper does not ask for the end of a body that says that it is over, nor for any of an answer to HEAD.
        let end = if self.is_end_stream() { End::Whole } else { End::Left };
        self.ends(end);
    }
}

/// Ends a body once a limit of it is reached.
#[derive(Debug)]
pub struct Overdue<T: Tail>(Weak<Mutex<Shared<T>>>);

impl<T: Tail> Future for Overdue<T> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let Some(shared) = self.0.upgrade() else { return Poll::Ready(()) };
        let mut locked = shared.lock();
        if locked.body.limits.is_none() {
            return Poll::Ready(());
        }
        let over = ready!(locked.body.poll_limits(context));
        let (rest, tail) = locked.body.stop();
        let asked = locked.asked.take();
        drop(locked);
        // Not under the lock: it tells others.
        drop(rest);
        tail.into_iter().for_each(|tail| tail.end(over.into()));
        asked.into_iter().for_each(Waker::wake);
        Poll::Ready(())
    }
}
