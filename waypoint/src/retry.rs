//! Whether a request is tried again.
//!
//! In: the policy of the route, what became of an attempt, how many there were, dice. Out: try again after this wait, or
//! hand this outcome on, perhaps with a flag. Absent on purpose: waiting, sending, the count of retries under way (whoever
//! carries a retry out takes a slot of `upstream::health::Breaker` first, and without one hands the outcome on with
//! [`Flag::Overflow`]).

use std::time::Duration;

use http::{HeaderMap, HeaderName, StatusCode};
use lateen_types::retry::RetryOn;

#[cfg(test)]
mod tests;

/// When a route tries again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retry {
    /// Tries after the first.
    pub attempts: u32,
    /// Of each try; `None`: as long as the whole request.
    pub per_try_timeout: Option<Duration>,
    /// What is tried again.
    pub on: RetryOn,
    /// Statuses, where `on.status_codes`.
    pub status_codes: Box<[u16]>,
    /// Headers one of which the answer must have, where `on.headers`.
    pub response_headers: Box<[HeaderName]>,
    /// Statuses of gRPC in the headers of an answer.
    pub grpc: Box<[u32]>,
    /// Base of the waits.
    pub backoff: Duration,
    /// Endpoints not tried yet are preferred.
    pub avoid_previous: bool,
    /// After every two attempts, the priorities tried so far are left out.
    pub other_localities: bool,
}

/// Base of the waits where nobody says otherwise.
pub const BACKOFF: Duration = Duration::from_millis(25);
/// No wait is longer than so many bases.
const BACKOFF_FACTOR_MAX: u32 = 10;
/// How often an endpoint is chosen anew because it was tried before.
pub const CHOICES_MAX: u32 = 5;
/// After so many attempts other localities come next, where the policy asks for it.
pub const OTHER_LOCALITIES_AFTER: u32 = 2;

/// What became of one attempt.
#[derive(Debug, Clone, Copy)]
pub enum Outcome<'a> {
    /// The upstream's headers arrived, and none of them was handed on yet.
    Answer {
        /// Its status.
        status: StatusCode,
        /// Its headers.
        headers: &'a HeaderMap,
    },
    /// There was no answer.
    Failure(Failure),
}

/// Why there was no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// TCP or TLS failed, or took too long.
    Connect,
    /// The connection broke, or the upstream reset the stream.
    Reset {
        /// Whether anything of the request had been sent.
        sent: bool,
    },
    /// REFUSED_STREAM, or a GOAWAY that leaves the stream out.
    Refused,
    /// This try took too long.
    PerTryTimeout,
    /// The whole request took too long.
    Timeout,
    /// A limit of the cluster (flag UO already).
    Overflow,
    /// No endpoint.
    NoEndpoint,
}

/// What is known of a request beside the outcome of its last attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Attempts made, the one whose outcome is judged included.
    pub made: u32,
    /// Whether the request can be sent again: its body was kept whole (or there is none), and it is no upgrade.
    pub replayable: bool,
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Another attempt, after this wait; the time of the whole request goes on.
    Again(Duration),
    /// The outcome is handed on.
    HandOn(Option<Flag>),
}

/// What the record says of retries that did not happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flag {
    /// URX: there were as many as the policy allows.
    Exhausted,
    /// UO: too many retries are under way.
    Overflow,
}

impl Flag {
    /// The word in the record.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Exhausted => "URX",
            Self::Overflow => "UO",
        }
    }
}

/// What to do after an attempt; `dice` are evenly thrown.
pub fn next(retry: Option<&Retry>, outcome: Outcome<'_>, progress: Progress, dice: u64) -> Next {
    let Some(retry) = retry.filter(|retry| retry.attempts > 0) else { return Next::HandOn(None) };
    if !progress.replayable || !retry.wants(outcome) {
        return Next::HandOn(None);
    }
    if progress.made > retry.attempts {
        return Next::HandOn(Some(Flag::Exhausted));
    }
    Next::Again(retry.wait(progress.made, dice))
}

/// The time of one try when `left` of the whole request's is left. `None`: only the whole request's counts, also where
/// a try may take as long as that or longer.
pub fn try_timeout(retry: Option<&Retry>, left: Option<Duration>) -> Option<Duration> {
    let own = retry.and_then(|retry| retry.per_try_timeout)?;
    match left {
        Some(left) if own >= left => None,
        Some(_) | None => Some(own),
    }
}

/// Whether the priorities tried so far are left out of the attempt that follows `made` ones.
pub fn leaves_tried_priorities(retry: Option<&Retry>, made: u32) -> bool {
    retry.is_some_and(|retry| retry.other_localities) && made >= OTHER_LOCALITIES_AFTER
}

const RATE_LIMITED: HeaderName = HeaderName::from_static("x-envoy-ratelimited");
const OVERLOADED: HeaderName = HeaderName::from_static("x-envoy-overloaded");
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");

impl Retry {
    /// Whether the policy names this outcome.
    pub fn wants(&self, outcome: Outcome<'_>) -> bool {
        match outcome {
            Outcome::Answer { status, headers } => self.wants_answer(status, headers),
            Outcome::Failure(failure) => self.wants_failure(failure),
        }
    }

    fn wants_answer(&self, status: StatusCode, headers: &HeaderMap) -> bool {
        let on = self.on;
        // Whoever is overloaded is not helped by more of it.
        if headers.contains_key(OVERLOADED) {
            return false;
        }
        // One that says that it limits rates is asked again for that reason only.
        if headers.contains_key(RATE_LIMITED) {
            return on.rate_limited;
        }
        let code = status.as_u16();
        (on.server_error && status.is_server_error())
            || (on.gateway_error && matches!(code, 502..=504))
            || (on.retriable_4xx && status == StatusCode::CONFLICT)
            || (on.status_codes && self.status_codes.contains(&code))
            || (on.headers && self.response_headers.iter().any(|name| headers.contains_key(name)))
            || grpc_status(headers).is_some_and(|status| self.grpc.contains(&status))
    }

    fn wants_failure(&self, failure: Failure) -> bool {
        let on = self.on;
        let any = on.server_error || on.gateway_error;
        match failure {
            Failure::Connect => any || on.reset || on.reset_before_request || on.connect_failure,
            Failure::Reset { sent } => any || on.reset || (on.reset_before_request && !sent),
            Failure::Refused => any || on.reset || on.refused_stream || on.reset_before_request,
            Failure::PerTryTimeout => any || on.reset,
            Failure::Timeout | Failure::Overflow | Failure::NoEndpoint => false,
        }
    }

    /// The wait before retry number `number` (from 1): anything below (2^number - 1) bases, and below ten of them.
    fn wait(&self, number: u32, dice: u64) -> Duration {
        let factor = 1_u32.checked_shl(number).map_or(BACKOFF_FACTOR_MAX, |power| (power - 1).min(BACKOFF_FACTOR_MAX));
        let below = self.backoff.saturating_mul(factor).as_nanos();
        let nanos = u128::from(dice).checked_rem(below).unwrap_or_default();
        u64::try_from(nanos).map_or(Duration::MAX, Duration::from_nanos)
    }
}

/// The status of gRPC in the headers of an answer, which has no body then.
pub fn grpc_status(headers: &HeaderMap) -> Option<u32> {
    headers.get(GRPC_STATUS)?.to_str().ok()?.parse().ok()
}
