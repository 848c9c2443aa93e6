//! Copying bytes both ways between two connections until both directions have ended.
//!
//! In: two [`Duplex`] ends, a [`Meter`] and a future that may cut the copying. Out: how each side ended.
//! Absent on purpose: idle timeouts (none on established connections) and any look at the bytes.
//!
//! ```text
//! source ──read──► chunk ──write──► destination      each direction: Copying ► Closing ► Ended
//! source ◄──write── chunk ◄──read── destination      one may end long before the other (half-close)
//! ```
//! A side that said it was done is a half-close for the other. Everything else that ends it (a reset, an interruption, a
//! failure, the future dropped where it stands) aborts both: what was cut short must not look complete.
//!
//! Memory: one chunk in flight per direction. A slow reader stops the reads on the other side. Between two TCP sockets
//! bulk stays in the kernel (see `bulk`).

use std::{
    future::Future,
    io,
    pin::{Pin, pin},
    sync::atomic::{AtomicU64, Ordering},
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep};

mod bulk;
mod direction;
mod duplex;
mod pipe;

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

/// Copies until both directions have ended, a side fails, or `interrupt` returns. [`Meter`] keeps what was delivered.
pub fn splice<A: Duplex, B: Duplex, I>(
    source: A,
    destination: B,
    meter: &Meter,
    interrupt: impl Future<Output = I>,
) -> impl Future<Output = Result<Outcome<I>, SpliceError>> {
    // Made now and not at the first poll: a future that is dropped before that aborts both ends too.
    let mut pair = Pair::new(source, destination);
    async move {
        let mut interrupt = pin!(interrupt);
        std::future::poll_fn(|context| {
            if let Poll::Ready(reason) = interrupt.as_mut().poll(context) {
                return Poll::Ready(Ok(Outcome::Interrupted(reason)));
            }
            pair.poll(context, meter).map_ok(|Ends { source, destination }| Outcome::Ended { source, destination })
        })
        .await
    }
}

/// How long what was sent before a reset may take to leave ahead of it.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(5);

/// How often an end that is not read, because the other takes nothing, is asked whether it is still there.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

/// Both ends; dropped before everything was handed over, it aborts them.
struct Pair<A: Duplex, B: Duplex> {
    source: A,
    destination: B,
    forward: Direction,
    backward: Direction,
    parting: Option<Parting>,
    /// When a blocked end is looked at next; made when one is blocked for the first time.
    look: Option<Pin<Box<Sleep>>>,
    /// Whether each side knows all that the other sent, or wants no more of it.
    whole: bool,
}

#[derive(Debug, Clone, Copy)]
struct Ends {
    source: End,
    destination: End,
}

/// Something was cut short: what was sent before may go ahead of the reset, within reason.
struct Parting {
    ends: Ends,
    patience: Pin<Box<Sleep>>,
}

impl<A: Duplex, B: Duplex> Pair<A, B> {
    fn new(source: A, destination: B) -> Self {
        let (forward, backward) = (Direction::default(), Direction::default());
        Self { source, destination, forward, backward, parting: None, look: None, whole: false }
    }

    fn poll(&mut self, context: &mut Context<'_>, meter: &Meter) -> Poll<Result<Ends, SpliceError>> {
        if let Some(parting) = &mut self.parting {
            return parting.poll(context, &mut self.source, &mut self.destination).map(Ok);
        }
        let ends = ready!(self.poll_ends(context, meter))?;
        self.whole = self.is_whole(ends);
        if self.whole {
            return Poll::Ready(Ok(ends));
        }
        let parting = self.parting.insert(Parting { ends, patience: Box::pin(sleep(SETTLE_TIMEOUT)) });
        parting.poll(context, &mut self.source, &mut self.destination).map(Ok)
    }

    fn poll_ends(&mut self, context: &mut Context<'_>, meter: &Meter) -> Poll<Result<Ends, SpliceError>> {
        let forward = self.forward.poll(context, &mut self.source, &mut self.destination, &meter.from_source);
        let forward = forward.map_err(|failed| failed.seen_from(SpliceError::Source, SpliceError::Destination))?;
        if forward == Poll::Ready(End::Abandoned) {
            self.backward.reading_end_vanished();
        }
        let backward = self.backward.poll(context, &mut self.destination, &mut self.source, &meter.from_destination);
        let backward = backward.map_err(|failed| failed.seen_from(SpliceError::Destination, SpliceError::Source))?;
        if backward == Poll::Ready(End::Abandoned) {
            self.forward.reading_end_vanished();
        }
        match (forward, backward) {
            (Poll::Ready(source), Poll::Ready(destination)) => Poll::Ready(Ok(Ends { source, destination })),
            // A side that vanished takes nothing more, so waiting for the other to stop sending serves nobody.
            (Poll::Ready(End::Reset), Poll::Pending) => {
                Poll::Ready(Ok(Ends { source: End::Reset, destination: End::Abandoned }))
            }
            (Poll::Pending, Poll::Ready(End::Reset)) => {
                Poll::Ready(Ok(Ends { source: End::Abandoned, destination: End::Reset }))
            }
            (Poll::Pending, _) | (_, Poll::Pending) if self.forward.is_blocked() || self.backward.is_blocked() => {
                self.poll_blocked(context).map(Ok)
            }
            (Poll::Pending, _) | (_, Poll::Pending) => Poll::Pending,
        }
    }

    /// Ready once an end has vanished whose bytes the other does not take. Else whoever sends to somebody who does not read
    /// would be kept for as long as that one likes, though it is long gone.
    fn poll_blocked(&mut self, context: &mut Context<'_>) -> Poll<Ends> {
        let look = self.look.get_or_insert_with(|| Box::pin(sleep(LOOK_INTERVAL)));
        while look.as_mut().poll(context).is_ready() {
            if self.forward.is_blocked() && self.source.has_vanished() {
                return Poll::Ready(Ends { source: End::Reset, destination: End::Abandoned });
            }
            if self.backward.is_blocked() && self.destination.has_vanished() {
                return Poll::Ready(Ends { source: End::Abandoned, destination: End::Reset });
            }
            look.as_mut().reset(Instant::now() + LOOK_INTERVAL);
        }
        Poll::Pending
    }

    fn is_whole(&self, ends: Ends) -> bool {
        let whole = |end, direction: &Direction| match end {
            End::Closed => true,
            End::Unwanted => !direction.has_lost(),
            End::Reset | End::Abandoned => false,
        };
        whole(ends.source, &self.forward) && whole(ends.destination, &self.backward)
    }
}

impl Parting {
    fn poll(
        &mut self,
        context: &mut Context<'_>,
        source: &mut impl Duplex,
        destination: &mut impl Duplex,
    ) -> Poll<Ends> {
        let (one, other) = (source.poll_settled(context), destination.poll_settled(context));
        if one.is_pending() || other.is_pending() {
            ready!(self.patience.as_mut().poll(context));
        }
        Poll::Ready(self.ends)
    }
}

impl<A: Duplex, B: Duplex> Drop for Pair<A, B> {
    fn drop(&mut self) {
        if !self.whole {
            self.source.abort();
            self.destination.abort();
        }
    }
}

#[cfg(test)]
mod end_tests;
#[cfg(test)]
mod tests;
