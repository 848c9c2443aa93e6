//! A request's body that can be sent again: what has come of it is kept, up to a limit.
//!
//! In: a body. Out: one reader for each attempt; the newest alone gets more of it. Absent on purpose: whether to try again.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::HeaderMap;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use parking_lot::Mutex;

use super::body::{BodyError, Flow};

/// What is kept of one body.
pub const KEPT_MAX: usize = 64 * 1024;

/// The body.
#[derive(Debug)]
pub struct Replay(Arc<Mutex<Kept>>);

#[derive(Debug)]
struct Kept {
    body: Incoming,
    flow: Arc<Flow>,
    chunks: Vec<Bytes>,
    size: usize,
    trailers: Option<HeaderMap>,
    ended: bool,
    /// More came than is kept.
    overflown: bool,
    length: Option<u64>,
    /// The reader that may read.
    newest: u32,
}

impl Replay {
    /// Keeps what comes of `body`.
    pub fn new(body: Incoming, flow: Arc<Flow>) -> Self {
        let (length, ended) = (body.size_hint().exact(), body.is_end_stream());
        if ended {
            flow.ends();
        }
        let kept = Kept {
            body,
            flow,
            chunks: Vec::new(),
            size: 0,
            trailers: None,
            ended,
            overflown: false,
            length,
            newest: 0,
        };
        Self(Arc::new(Mutex::new(kept)))
    }

    /// Reads it from its beginning. Readers made before get no more.
    pub fn reader(&self) -> Reader {
        let mut kept = self.0.lock();
        kept.newest += 1;
        Reader { kept: self.0.clone(), number: kept.newest, next: 0, given: 0, length: kept.length, over: false }
    }

    /// All of it, if it has come and was kept.
    pub fn whole(&self) -> Option<Bytes> {
        let kept = self.0.lock();
        match &kept.chunks[..] {
            _ if kept.overflown || !kept.ended => None,
            [one] => Some(one.clone()),
            all => Some(all.concat().into()),
        }
    }

    /// Whether a further reader would get all of it.
    pub fn is_whole(&self) -> bool {
        !self.0.lock().overflown
    }
}

/// One attempt's reader.
#[derive(Debug)]
pub struct Reader {
    kept: Arc<Mutex<Kept>>,
    number: u32,
    next: usize,
    given: u64,
    length: Option<u64>,
    over: bool,
}

impl Reader {
    pub(super) fn flow(&self) -> Arc<Flow> {
        self.kept.lock().flow.clone()
    }

    pub(super) fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.over {
            return Poll::Ready(None);
        }
        let mut kept = self.kept.lock();
        if kept.newest != self.number {
            self.over = true;
            return Poll::Ready(Some(Err(BodyError::GivenUp)));
        }
        if let Some(chunk) = kept.chunks.get(self.next) {
            (self.next, self.given) = (self.next + 1, self.given + chunk.len() as u64);
            return Poll::Ready(Some(Ok(Frame::data(chunk.clone()))));
        }
        if kept.ended {
            self.over = true;
            return Poll::Ready(kept.trailers.clone().map(|trailers| Ok(Frame::trailers(trailers))));
        }
        let frame = ready!(kept.poll_more(context));
        match &frame {
            Some(Ok(frame)) => {
                self.given += frame.data_ref().map_or(0, |data| data.len() as u64);
                self.next = kept.chunks.len();
                // Trailers are the last of a body.
                self.over = frame.is_trailers();
            }
            Some(Err(_)) | None => self.over = true,
        }
        Poll::Ready(frame)
    }

    pub(super) fn is_end_stream(&self) -> bool {
        let kept = self.kept.lock();
        self.over
            || (kept.ended && kept.trailers.is_none() && self.next >= kept.chunks.len() && kept.newest == self.number)
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        self.length.map_or_else(SizeHint::default, |length| SizeHint::with_exact(length.saturating_sub(self.given)))
    }
}

impl Kept {
    fn poll_more(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) else {
            ready!(self.flow.waits(context));
            return Poll::Ready(Some(Err(BodyError::GivenUp)));
        };
        self.flow.note(frame.as_ref());
        match &frame {
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    self.keep(data);
                } else if let Some(trailers) = frame.trailers_ref() {
                    (self.trailers, self.ended) = (Some(trailers.clone()), true);
                    self.flow.ends();
                }
            }
            Some(Err(_)) => self.overflown = true,
            None => self.ended = true,
        }
        if self.body.is_end_stream() {
            self.ended = true;
            self.flow.ends();
        }
        Poll::Ready(frame.map(|frame| frame.map_err(BodyError::Source)))
    }

    fn keep(&mut self, data: &Bytes) {
        if self.overflown {
            return;
        }
        self.size += data.len();
        if self.size > KEPT_MAX {
            self.overflown = true;
            self.chunks = Vec::new();
        } else {
            self.chunks.push(data.clone());
        }
    }
}
