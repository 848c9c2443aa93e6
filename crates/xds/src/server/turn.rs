//! Whose turn it is to be sent a first picture.
//!
//! In: streams that have one to send. Out: word that they may. When all proxies connect at once, after a restart of ours or of
//! a network, a few are served after the other: the rest get through their handshakes meanwhile, and what is on its way to
//! proxies is in memory a few times, not a thousand times. A proxy that is slow gives its place up and goes on
//! without one. Absent on purpose: changes, which nobody waits for.

use std::{future::pending, pin::Pin, sync::Arc, time::Duration};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, sleep_until},
};

/// First pictures on their way. Two or three keep a core busy; some proxies take their time.
const PLACES: usize = 16;
/// The longest a place is held. A picture of 50,000 pods takes a waiting proxy a few tenths of a second.
const HOLD_TIMEOUT: Duration = Duration::from_secs(3);

/// The places; clones share them.
#[derive(Debug, Clone)]
pub(super) struct Places(Arc<Semaphore>);

impl Default for Places {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(PLACES)))
    }
}

impl Places {
    /// One stream's turn, which has not come yet.
    pub fn turn(&self) -> Turn {
        let place = self.0.clone().acquire_owned();
        // The semaphore is never closed.
        Turn::Waiting(Box::pin(async move { place.await.ok() }))
    }
}

/// One stream's turn: it comes once.
pub(super) enum Turn {
    /// Its place in the queue, kept while other things happen.
    Waiting(Pin<Box<dyn Future<Output = Option<OwnedSemaphorePermit>> + Send>>),
    /// Until then at most.
    Holding { _place: Option<OwnedSemaphorePermit>, until: Instant },
    /// It has been.
    Over,
}

impl Turn {
    /// Whether a first picture must wait.
    pub fn must_wait(&self) -> bool {
        matches!(self, Self::Waiting(_))
    }

    /// Waits for the turn to come, or to be over. Dropping it loses nothing.
    pub async fn next(&mut self) {
        match self {
            Self::Waiting(place) => {
                let place = place.await;
                *self = Self::Holding { _place: place, until: Instant::now() + HOLD_TIMEOUT };
            }
            Self::Holding { until, .. } => {
                sleep_until(*until).await;
                *self = Self::Over;
            }
            Self::Over => pending().await,
        }
    }

    /// The picture is complete: the next one may begin.
    pub fn give_up(&mut self) {
        if matches!(self, Self::Holding { .. }) {
            *self = Self::Over;
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_slow_one_holds_up_nobody_for_long() {
        let places = Places::default();
        let mut served: Vec<Turn> = (0..PLACES).map(|_| places.turn()).collect();
        for turn in &mut served {
            turn.next().now_or_never().expect("a place is free");
            assert!(!turn.must_wait());
        }
        let (mut second, mut third) = (places.turn(), places.turn());
        assert!(second.next().now_or_never().is_none() && third.next().now_or_never().is_none());
        served[0].give_up();
        second.next().now_or_never().expect("the first in the queue");
        assert!(third.next().now_or_never().is_none());
        served[1].next().await;
        assert!(matches!(served[1], Turn::Over), "its time is up");
        third.next().now_or_never().expect("its place is free");
    }
}
