//! Copying bytes both ways between two connections until both directions have ended.
//!
//! In: two [`Duplex`] ends, a [`Meter`] and a future that may cut the copying. Out: how each side ended.
//! Absent on purpose: idle timeouts (none on established connections) and any look at the bytes.
//!
//! ```text
//! source ──read──► chunk ──write──► destination      each direction: Copying ► Closing ► Ended
//! source ◄──write── chunk ◄──read── destination      one may end long before the other (half-close)
//! ```
//! Memory: one chunk in flight per direction. A slow reader stops the reads on the other side.

use std::{
    future::Future,
    io,
    pin::pin,
    sync::atomic::{AtomicU64, Ordering},
    task::{Context, Poll},
};

mod direction;
mod duplex;

pub use duplex::{Duplex, Io};

use direction::Direction;

/// Bytes delivered so far; any task may read it while the copying runs.
#[derive(Debug, Default)]
pub struct Meter {
    from_source: AtomicU64,
    from_destination: AtomicU64,
}

impl Meter {
    /// Bytes that came from the source and were handed to the destination.
    pub fn from_source(&self) -> u64 {
        self.from_source.load(Ordering::Relaxed)
    }

    /// Bytes that came from the destination and were handed to the source.
    pub fn from_destination(&self) -> u64 {
        self.from_destination.load(Ordering::Relaxed)
    }
}

/// How a side's sending ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It said that it will send no more, and everything was delivered.
    Closed,
    /// It vanished: a reset, or a TLS stream without its closing alert.
    Reset,
    /// The other side stopped listening before this one stopped sending.
    Unwanted,
    /// Nothing was heard from it any more because the other side had vanished.
    Abandoned,
}

/// How copying ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome<I> {
    /// Both directions ended.
    Ended {
        /// How the source's sending ended.
        source: End,
        /// How the destination's sending ended.
        destination: End,
    },
    /// The interruption came first, with this reason.
    Interrupted(I),
}

/// Copying cannot go on because a side failed in an unusual way, for example with a broken TLS record.
#[derive(Debug, thiserror::Error)]
pub enum SpliceError {
    /// The source failed.
    #[error("the source's connection failed: {0}")]
    Source(io::Error),
    /// The destination failed.
    #[error("the destination's connection failed: {0}")]
    Destination(io::Error),
}

/// Copies until both directions have ended, a side fails, or `interrupt` returns. Dropping the future, an interruption
/// and a failure close both ends where they stand; [`Meter`] keeps what was delivered.
pub async fn splice<A: Duplex, B: Duplex, I>(
    source: A,
    destination: B,
    meter: &Meter,
    interrupt: impl Future<Output = I>,
) -> Result<Outcome<I>, SpliceError> {
    let mut pair = Pair { source, destination, forward: Direction::default(), backward: Direction::default() };
    let mut interrupt = pin!(interrupt);
    std::future::poll_fn(|context| {
        if let Poll::Ready(reason) = interrupt.as_mut().poll(context) {
            return Poll::Ready(Ok(Outcome::Interrupted(reason)));
        }
        pair.poll(context, meter)
    })
    .await
}

struct Pair<A, B> {
    source: A,
    destination: B,
    forward: Direction,
    backward: Direction,
}

impl<A: Duplex, B: Duplex> Pair<A, B> {
    fn poll<I>(&mut self, context: &mut Context<'_>, meter: &Meter) -> Poll<Result<Outcome<I>, SpliceError>> {
        let forward = self.forward.poll(context, &mut self.source, &mut self.destination, &meter.from_source);
        let forward = forward.map_err(|failed| failed.seen_from(SpliceError::Source, SpliceError::Destination))?;
        let backward = self.backward.poll(context, &mut self.destination, &mut self.source, &meter.from_destination);
        let backward = backward.map_err(|failed| failed.seen_from(SpliceError::Destination, SpliceError::Source))?;
        match (forward, backward) {
            (Poll::Ready(source), Poll::Ready(destination)) => Poll::Ready(Ok(Outcome::Ended { source, destination })),
            // A side that vanished takes nothing more, so waiting for the other to stop sending serves nobody.
            (Poll::Ready(End::Reset), Poll::Pending) => {
                Poll::Ready(Ok(Outcome::Ended { source: End::Reset, destination: End::Abandoned }))
            }
            (Poll::Pending, Poll::Ready(End::Reset)) => {
                Poll::Ready(Ok(Outcome::Ended { source: End::Abandoned, destination: End::Reset }))
            }
            (Poll::Pending, _) | (_, Poll::Pending) => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests;
