//! Waiting for the outside world, but not for ever.
//!
//! In: a future and how long it may take. Out: its value, or an error that names what took too long.

use std::{future::Future, time::Duration};

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
pub async fn within<T>(what: &'static str, after: Duration, wait: impl Future<Output = T>) -> Result<T, Elapsed> {
    tokio::time::timeout(after, wait).await.map_err(|_| Elapsed { what, after })
}
