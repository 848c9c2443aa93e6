//! Is the other end still there? PING and wait.
//!
//! In: a connection's PING handle. Out: the news that it is dead. Absent on purpose: closing it.

use std::{convert::Infallible, time::Duration};

use h2::{Ping, PingPong};
use lateen_rt::deadline::{Elapsed, within};

/// Why a connection is taken for dead.
#[derive(Debug, thiserror::Error)]
pub enum Dead {
    /// No answer came.
    #[error(transparent)]
    Silent(#[from] Elapsed),
    /// The connection has ended.
    #[error("the connection has ended: {0}")]
    Ended(#[from] h2::Error),
}

/// Pings after each `idle` and returns once an answer takes longer than `timeout`, or the connection has ended.
/// Dropping it stops the pings.
pub async fn watch(mut pings: PingPong, idle: Duration, timeout: Duration) -> Result<Infallible, Dead> {
    loop {
        tokio::time::sleep(idle).await;
        within("the answer to an HTTP/2 PING", timeout, pings.ping(Ping::opaque())).await??;
    }
}
