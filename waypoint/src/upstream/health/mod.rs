//! The health of endpoints as requests show it, and what the limits of a cluster allow.
//!
//! In: outcomes of requests, the time, counts. Out: who is ejected and who returns; slots, or none. Absent on purpose:
//! clocks, active probing, connections. All of it outlives a configuration, which is therefore passed in.

mod breaker;
mod ejections;
mod endpoint;
#[cfg(test)]
mod tests;

use std::time::Duration;

pub use self::{
    breaker::{Breaker, Counted, Slot},
    ejections::{Ejections, GateClosed, Suspect},
    endpoint::{Cause, EndpointHealth, Event, code_of_grpc},
};

/// When endpoints are ejected. A count of 0 is never reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutlierDetection {
    /// Errors in a row.
    pub consecutive_5xx: u32,
    /// 502, 503 and 504 in a row.
    pub consecutive_gateway_errors: u32,
    /// Whether errors of our own making (no connection, resets, timeouts) are counted apart.
    pub split_local_errors: bool,
    /// Such in a row, where they are counted apart.
    pub consecutive_local_errors: u32,
    /// How often ejected endpoints are looked at.
    pub interval: Duration,
    /// How long the first ejection lasts; the next lasts twice as long, and so on.
    pub base_ejection_time: Duration,
    /// Of all endpoints.
    pub max_ejection_percent: u32,
    /// With fewer healthy ones than this, ejections do not count.
    pub min_health_percent: u32,
    /// The statuses that are errors; none: 500 and above.
    pub status_codes: Box<[u16]>,
}

/// No ejection lasts longer, unless its base is longer.
const EJECTION_TIME_MAX: Duration = Duration::from_secs(300);

impl OutlierDetection {
    /// No ejection lasts longer.
    pub fn ejection_time_max(&self) -> Duration {
        EJECTION_TIME_MAX.max(self.base_ejection_time)
    }
}

/// How many retries may be under way.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RetryBudget {
    /// Of the requests under way or waiting.
    pub percent: f64,
    /// So many always.
    pub concurrency_min: u32,
}

impl RetryBudget {
    /// How many retries are allowed beside `requests` that are under way or waiting.
    pub fn allowed(&self, requests: u32) -> u32 {
        let share = self.percent.clamp(0.0, 100.0) / 100.0 * f64::from(requests);
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and a u32")]
        let share = share as u32;
        share.max(self.concurrency_min)
    }
}
