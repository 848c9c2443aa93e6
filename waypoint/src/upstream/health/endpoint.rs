//! What one endpoint's answers say of it: errors in a row, without a lock.
//!
//! In: events. Out: the cause of an ejection, when one is reached. Absent on purpose: whether it may be ejected (see
//! `ejections`).

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};

use super::OutlierDetection;

/// Counters of one endpoint; shared by all who send to it, and kept as long as the endpoint exists.
#[derive(Debug, Default)]
pub struct EndpointHealth {
    errors: AtomicU32,
    gateway_errors: AtomicU32,
    local_errors: AtomicU32,
    ejected: AtomicBool,
    /// Requests under way, for balancing.
    active: AtomicU32,
}

/// What happened with an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// It answered so. For gRPC: [`code_of_grpc`] of a status that is not OK.
    Answer(u16),
    /// A connection came about.
    Connected,
    /// No connection came about.
    ConnectFailure,
    /// A connection or an answer took too long.
    Timeout,
    /// The connection or the stream was reset.
    Reset,
}

/// Why an endpoint is to be ejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// Errors in a row.
    Errors,
    /// 502, 503, 504 in a row.
    GatewayErrors,
    /// Errors of our own making in a row.
    LocalErrors,
}

impl Cause {
    /// The word in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Errors => "consecutive_5xx",
            Self::GatewayErrors => "consecutive_gateway_failure",
            Self::LocalErrors => "consecutive_local_origin_failure",
        }
    }
}

impl EndpointHealth {
    /// Whether it is ejected.
    pub fn is_ejected(&self) -> bool {
        self.ejected.load(Relaxed)
    }

    /// Requests under way.
    pub fn active(&self) -> u32 {
        self.active.load(Relaxed)
    }

    /// A request begins; to be followed by one [`Self::ended`].
    pub fn began(&self) {
        self.active.fetch_add(1, Relaxed);
    }

    /// A request ended.
    pub fn ended(&self) {
        self.active.fetch_sub(1, Relaxed);
    }

    /// Counts an event. A cause is said once: its count begins anew.
    pub fn observe(&self, detection: &OutlierDetection, event: Event) -> Option<Cause> {
        if self.is_ejected() {
            return None;
        }
        match (event, detection.split_local_errors) {
            (Event::Answer(code), _) => {
                let counts = match &*detection.status_codes {
                    [] => code >= 500,
                    listed => listed.contains(&code),
                };
                self.observe_code(detection, code, counts)
            }
            (Event::Connected, _) => {
                reset(&self.local_errors);
                None
            }
            (Event::ConnectFailure | Event::Timeout | Event::Reset, true) => {
                raise(&self.local_errors, detection.consecutive_local_errors).then_some(Cause::LocalErrors)
            }
            (Event::ConnectFailure | Event::Reset, false) => self.observe_code(detection, 503, true),
            (Event::Timeout, false) => self.observe_code(detection, 504, true),
        }
    }

    fn observe_code(&self, detection: &OutlierDetection, code: u16, is_error: bool) -> Option<Cause> {
        if !is_error {
            reset(&self.errors);
            reset(&self.gateway_errors);
            return None;
        }
        let errors = raise(&self.errors, detection.consecutive_5xx);
        let gateway = match code {
            502..=504 => raise(&self.gateway_errors, detection.consecutive_gateway_errors),
            _ => {
                reset(&self.gateway_errors);
                false
            }
        };
        match (gateway, errors) {
            (true, _) => Some(Cause::GatewayErrors),
            (false, true) => Some(Cause::Errors),
            (false, false) => None,
        }
    }

    pub(crate) fn set_ejected(&self, ejected: bool) {
        self.ejected.store(ejected, Relaxed);
    }

    /// A returned endpoint begins anew.
    pub(super) fn forgive(&self) {
        [&self.errors, &self.gateway_errors, &self.local_errors].into_iter().for_each(reset);
        self.set_ejected(false);
    }
}

/// Adds one; whether that makes `limit`, which then begins anew.
fn raise(counter: &AtomicU32, limit: u32) -> bool {
    let reached = counter.fetch_add(1, Relaxed).saturating_add(1) == limit;
    if reached {
        reset(counter);
    }
    reached
}

/// A store only where it changes something: the usual success then writes nothing.
fn reset(counter: &AtomicU32) {
    if counter.load(Relaxed) != 0 {
        counter.store(0, Relaxed);
    }
}

/// The HTTP status that a status of gRPC counts as.
pub fn code_of_grpc(status: u32) -> u16 {
    match status {
        0 => 200,
        1 => 499,
        2 | 13 | 15 => 500,
        4 => 504,
        5 => 404,
        6 | 10 => 409,
        7 => 403,
        8 => 429,
        12 => 501,
        14 => 503,
        16 => 401,
        _ => 400,
    }
}
