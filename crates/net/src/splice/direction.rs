//! One direction of a splice, as a state machine.
//!
//! In: the end read from, the end written to. Out: how the reading end's sending ended, or a failure of either.
//! Absent on purpose: telling the other side of anything but a clean end (see [`super::Pair`]).

use std::{
    io,
    sync::atomic::{AtomicU64, Ordering},
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};

use super::{
    Duplex, End,
    bulk::{Bulk, Line, Next},
};

/// How much to read at once: what costs no memory of its own until the connection has shown that it moves much. With the
/// nine bytes that begin an HTTP/2 frame, the first fills one TLS record and the second fills sixteen.
const FIRST_READ: usize = 16_384 - 9;
const SECOND_READ: usize = 16 * 16_384 - 9;
const SECOND_READ_AFTER: u64 = 1024 * 1024;
/// After this many chunks in one poll the task yields, so that one busy connection cannot hold a worker.
const CHUNKS_PER_POLL: usize = 32;
/// A direction that has moved this much is bulk after so many reads in a row that were this large, or all that was asked
/// for.
const BULK_AFTER: u64 = 128 * 1024;
const FULL_READ: usize = 4 * 16_384 - 9;
const FULL_READS: u8 = 4;

#[derive(Debug, Default)]
pub(super) struct Direction {
    state: State,
    scratch: BytesMut,
    /// Read and not yet handed over.
    chunk: Bytes,
    moved: u64,
    /// In a row.
    full_reads: u8,
    /// While the kernel moves the bytes.
    bulk: Option<Box<Bulk>>,
    /// Whether the writing end holds bytes that a flush would push on.
    unflushed: bool,
    /// Whether something that was read could not be handed over.
    lost: bool,
    /// Whether the reading end is known to have vanished: the end of what it had sent is no clean one.
    vanished: bool,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Copying,
    /// Sending the half-close.
    Closing,
    Ended(End),
}

/// Which end failed, relative to the direction.
#[derive(Debug)]
pub(super) enum Failed {
    Reading(io::Error),
    Writing(io::Error),
}

impl Failed {
    pub(super) fn seen_from<E>(self, reading: impl FnOnce(io::Error) -> E, writing: impl FnOnce(io::Error) -> E) -> E {
        match self {
            Self::Reading(error) => reading(error),
            Self::Writing(error) => writing(error),
        }
    }
}

impl Direction {
    /// Whether something that was read could not be handed over.
    pub(super) fn has_lost(&self) -> bool {
        self.lost
    }

    /// Whether nothing is read because nothing can be handed over, so that the reading end's vanishing is not heard.
    pub(super) fn is_blocked(&self) -> bool {
        // Bulk gives itself up to copying when its reader stalls.
        !self.chunk.is_empty()
    }

    /// Says that the reading end has vanished. Where the kernel told the other direction so, on a failed write, it tells this
    /// one only of an end.
    pub(super) fn reading_end_vanished(&mut self) {
        self.vanished = true;
    }

    /// Moves what can be moved. Ready once the direction has ended, and again whenever asked.
    pub(super) fn poll(
        &mut self,
        context: &mut Context<'_>,
        from: &mut impl Duplex,
        to: &mut impl Duplex,
        delivered: &AtomicU64,
    ) -> Poll<Result<End, Failed>> {
        for _ in 0..CHUNKS_PER_POLL {
            self.state = match self.state {
                State::Copying => ready!(self.poll_chunk(context, from, to, delivered))?,
                State::Closing => ready!(Self::poll_close(context, to))?,
                State::Ended(end) => return Poll::Ready(Ok(end)),
            };
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }

    /// Moves one chunk and names the state that follows.
    fn poll_chunk(
        &mut self,
        context: &mut Context<'_>,
        from: &mut impl Duplex,
        to: &mut impl Duplex,
        delivered: &AtomicU64,
    ) -> Poll<Result<State, Failed>> {
        while !self.chunk.is_empty() {
            let before = self.chunk.len();
            if let Err(error) = ready!(to.poll_take(context, &mut self.chunk)) {
                return Poll::Ready(self.write_failed(error));
            }
            let taken = (before - self.chunk.len()) as u64;
            self.moved += taken;
            self.unflushed = true;
            delivered.fetch_add(taken, Ordering::Relaxed);
        }
        if let Some(bulk) = self.bulk.as_mut()
            && let (Some(from), Some(to)) = (from.as_socket(), to.as_socket())
        {
            let next = ready!(bulk.poll(context, Line { from, to, delivered }));
            return Poll::Ready(self.follow(next));
        }
        let want = read_size(self.moved);
        match from.poll_chunk(context, &mut self.scratch, want) {
            Poll::Ready(Ok(chunk)) if chunk.is_empty() => Poll::Ready(Ok(self.end_of_file())),
            Poll::Ready(Ok(chunk)) => {
                let is_full = self.moved >= BULK_AFTER && chunk.len() >= want.min(FULL_READ);
                self.full_reads = if is_full { self.full_reads + 1 } else { 0 };
                if self.full_reads == FULL_READS {
                    (self.full_reads, self.scratch) = (0, BytesMut::new());
                    let sockets = from.as_socket().is_some() && to.as_socket().is_some();
                    self.bulk = sockets.then(Box::default);
                }
                self.chunk = chunk;
                Poll::Ready(Ok(State::Copying))
            }
            Poll::Ready(Err(error)) => Poll::Ready(read_failed(error)),
            Poll::Pending => self.poll_silence(context, to),
        }
    }

    /// What a step of bulk comes to.
    fn follow(&mut self, next: Result<Next, Failed>) -> Result<State, Failed> {
        match next {
            Ok(Next::Step) => Ok(State::Copying),
            Ok(Next::Copying(kept)) => {
                (self.bulk, self.chunk) = (None, kept);
                Ok(State::Copying)
            }
            Ok(Next::Ended) => Ok(self.end_of_file()),
            Err(Failed::Reading(error)) => read_failed(error),
            Err(Failed::Writing(error)) => self.write_failed(error),
        }
    }

    fn end_of_file(&mut self) -> State {
        self.bulk = None;
        if self.vanished { State::Ended(End::Reset) } else { State::Closing }
    }

    /// While the reading end is silent, pushes on what the writing end still holds and watches whether it still
    /// listens.
    fn poll_silence(&mut self, context: &mut Context<'_>, to: &mut impl Duplex) -> Poll<Result<State, Failed>> {
        if self.unflushed {
            match ready!(to.poll_flush(context)) {
                Ok(()) => self.unflushed = false,
                Err(error) => return Poll::Ready(self.write_failed(error)),
            }
        }
        to.poll_unwanted(context).map(|error| Ok(State::Ended(end_of_listening(&error))))
    }

    fn write_failed(&mut self, error: io::Error) -> Result<State, Failed> {
        self.chunk = Bytes::new();
        self.scratch = BytesMut::new();
        self.bulk = None;
        self.lost = true;
        if is_an_end(&error) { Ok(State::Ended(end_of_listening(&error))) } else { Err(Failed::Writing(error)) }
    }

    fn poll_close(context: &mut Context<'_>, to: &mut impl Duplex) -> Poll<Result<State, Failed>> {
        match ready!(to.poll_half_close(context)) {
            Err(error) if !is_an_end(&error) => Poll::Ready(Err(Failed::Writing(error))),
            // The writing end is gone already, which the other direction hears too; everything was handed over.
            Ok(()) | Err(_) => Poll::Ready(Ok(State::Ended(End::Closed))),
        }
    }
}

fn read_failed(error: io::Error) -> Result<State, Failed> {
    if is_an_end(&error) { Ok(State::Ended(End::Reset)) } else { Err(Failed::Reading(error)) }
}

/// How the reading end's sending ended when the writing end takes no more, for this reason.
fn end_of_listening(error: &io::Error) -> End {
    if error.kind() == io::ErrorKind::ConnectionReset { End::Abandoned } else { End::Unwanted }
}

fn read_size(moved: u64) -> usize {
    match moved {
        SECOND_READ_AFTER.. => SECOND_READ,
        _ => FIRST_READ,
    }
}

/// Errors that are how connections end in the wild.
fn is_an_end(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, NotConnected, UnexpectedEof};
    matches!(error.kind(), NotConnected | UnexpectedEof | ConnectionReset | BrokenPipe)
}
