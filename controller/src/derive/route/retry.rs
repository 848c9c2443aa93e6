//! When a request is tried again.

use lateen_cluster::api::Retries;
use lateen_wire::proxy as wire;

use crate::derive::destination::on_wire;

/// Tries after the first, where nothing else is said.
const ATTEMPTS: u32 = 2;
const CANCELLED: u32 = 1;
const DEADLINE_EXCEEDED: u32 = 4;
const RESOURCE_EXHAUSTED: u32 = 8;
const INTERNAL: u32 = 13;
const UNAVAILABLE: u32 = 14;

/// Where a route says nothing: what surely was not begun is tried again elsewhere.
pub fn usual() -> wire::Retry {
    wire::Retry { attempts: ATTEMPTS, on: Some(usual_on()), avoid_previous: true, ..wire::Retry::default() }
}

/// The conditions where none are said.
pub(crate) fn usual_on() -> wire::RetryOn {
    wire::RetryOn {
        connect_failure: true,
        refused_stream: true,
        status_codes: true,
        grpc: vec![CANCELLED, UNAVAILABLE],
        ..wire::RetryOn::default()
    }
}

/// What a route says; none where it wants no other try.
pub(super) fn derive(written: Option<&Retries>) -> Option<wire::Retry> {
    let Some(written) = written else { return Some(usual()) };
    let attempts = u32::try_from(written.attempts).ok().filter(|attempts| *attempts > 0)?;
    let mut retry = wire::Retry {
        attempts,
        per_try_timeout: written.per_try_timeout.filter(|length| !length.0.is_zero()).map(|length| on_wire(length.0)),
        backoff: written.backoff.filter(|length| !length.0.is_zero()).map(|length| on_wire(length.0)),
        avoid_previous: written.retry_ignore_previous_hosts.unwrap_or(true),
        other_localities: written.retry_remote_localities.unwrap_or_default(),
        ..wire::Retry::default()
    };
    match written.retry_on.as_deref().map(str::trim).filter(|text| !text.is_empty()) {
        None => retry.on = Some(usual_on()),
        Some(text) => conditions(text, &mut retry),
    }
    Some(retry)
}

fn conditions(text: &str, retry: &mut wire::Retry) {
    let mut on = wire::RetryOn::default();
    for word in text.split(',').map(str::trim) {
        match word {
            "5xx" => on.server_error = true,
            "gateway-error" => on.gateway_error = true,
            "reset" => on.reset = true,
            "reset-before-request" => on.reset_before_request = true,
            "connect-failure" => on.connect_failure = true,
            "retriable-4xx" => on.retriable_4xx = true,
            "refused-stream" => on.refused_stream = true,
            "retriable-status-codes" => on.status_codes = true,
            "retriable-headers" => on.headers = true,
            "envoy-ratelimited" => on.rate_limited = true,
            "cancelled" => on.grpc.push(CANCELLED),
            "deadline-exceeded" => on.grpc.push(DEADLINE_EXCEEDED),
            "internal" => on.grpc.push(INTERNAL),
            "resource-exhausted" => on.grpc.push(RESOURCE_EXHAUSTED),
            "unavailable" => on.grpc.push(UNAVAILABLE),
            other => {
                // Admission refuses other words.
                if let Some(code) = other.parse().ok().filter(|code| (100..=599).contains(code)) {
                    on.status_codes = true;
                    retry.status_codes.push(code);
                }
            }
        }
    }
    retry.on = Some(on);
}
