//! Waiting for the outside world, but not for ever.
//!
//! In: a future and how long it may take. Out: its value, or an error that names what took too long.

use std::{future::Future, time::Duration};

use futures::FutureExt as _;

/// Something did not happen in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{what} took longer than {after:?}")]
pub struct Elapsed {
    /// What was waited for, as an operator would say it.
    pub what: &'static str,
    /// The deadline.
    pub after: Duration,
}

/// `wait`, or [`Elapsed`] once `after` has passed. On a timeout the future is dropped where it stands.
/// The time runs from now, not from the first poll. To be called on a runtime.
pub fn within<T, F: Future<Output = T>>(
    what: &'static str,
    after: Duration,
    wait: F,
) -> impl Future<Output = Result<T, Elapsed>> + use<T, F> {
    // Not an async function: that would hold `wait` twice, as argument and as awaited.
    tokio::time::timeout(after, wait).map(move |ended| ended.map_err(|_| Elapsed { what, after }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_waited_for_is_held_once() {
        let room = [0_u8; 10_000];
        let work = async move {
            tokio::task::yield_now().await;
            room[9_999]
        };
        let alone = size_of_val(&work);
        let waiting = within("a test", Duration::from_secs(60), work);
        let size = size_of_val(&waiting);
        assert!(size <= alone + 256, "{size} bytes for a future of {alone}");
        assert_eq!(waiting.await, Ok(0));
    }

    #[tokio::test(start_paused = true)]
    async fn what_takes_too_long_is_named() {
        let elapsed = within("a test", Duration::from_secs(1), std::future::pending::<()>()).await;
        assert_eq!(elapsed.map_err(|error| error.to_string()), Err("a test took longer than 1s".to_owned()));
    }
}
