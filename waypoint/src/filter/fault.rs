//! What goes wrong on purpose: a delay, then an answer that is an error, each with dice of its own.
//!
//! In: dice. Out: how long to wait, what to answer. Absent on purpose: waiting.

use std::time::Duration;

use http::StatusCode;

/// Of so many requests a share is given.
pub const MILLION: u32 = 1_000_000;

/// Faults of one route. They come before timeouts and retries of the same route, which therefore do not apply to them.
#[derive(Debug, Clone, PartialEq)]
pub struct Fault {
    /// Looked at first. Flag DI.
    pub delay: Option<Share<Duration>>,
    /// Flag FI, details `fault_filter_abort`.
    pub abort: Option<Share<Abort>>,
}

/// Something that happens to a share of requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share<T> {
    /// What happens.
    pub what: T,
    /// To how many of a million.
    pub per_million: u32,
}

/// An answer that is an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Abort {
    /// This status, with the body [`ABORT_BODY`].
    Http(StatusCode),
    /// 200 with this gRPC status and no body.
    Grpc(u32),
}

/// What an aborted request is told.
pub const ABORT_BODY: &str = "fault filter abort";

impl<T: Copy> Share<T> {
    /// What happens to the request whose `dice`, evenly thrown, are these.
    pub fn hits(&self, dice: u64) -> Option<T> {
        (dice % u64::from(MILLION) < u64::from(self.per_million)).then_some(self.what)
    }
}
