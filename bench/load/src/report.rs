//! What a load process counts.
//!
//! In: one addition per event. Out: one line of JSON.

use serde::{Deserialize, Serialize};

use crate::histogram::{Buckets, Histogram};

/// Everything counted since the start, but for `latency`: that is since the last report.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Nanoseconds since the start.
    pub at: u64,
    /// Bytes read.
    pub read: u64,
    /// Bytes written.
    pub written: u64,
    /// Replies that were complete.
    pub replies: u64,
    /// Connections that came to be.
    pub opened: u64,
    /// Connections that failed or ended too early.
    pub failed: u64,
    /// Requests that were due, but could not even wait in a queue.
    pub dropped: u64,
    /// How long replies took, from when their requests were due.
    pub latency: Buckets,
}

/// The counts while they grow.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub sum: Report,
    pub latency: Histogram,
}

impl Counts {
    /// One line.
    pub fn line(&mut self, at: u64) -> String {
        let report = Report { at, latency: self.latency.take(), ..self.sum.clone() };
        serde_json::to_string(&report).unwrap_or_default()
    }
}
