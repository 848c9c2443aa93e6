//! When a request is tried again.

use lateen_cluster::api::Retries;
use lateen_types::retry::{RetryOn, grpc};
use lateen_wire::proxy as wire;

use crate::derive::destination::on_wire;

/// Tries after the first, where nothing else is said.
const ATTEMPTS: u32 = 2;

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
        grpc: vec![grpc::CANCELLED, grpc::UNAVAILABLE],
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
    let (mut on, mut grpc) = (RetryOn::default(), Vec::new());
    for word in text.split(',').map(str::trim) {
        if on.ask(word, &mut grpc) {
            continue;
        }
        // Admission refuses other words.
        if let Some(code) = word.parse().ok().filter(|code| (100..=599).contains(code)) {
            on.status_codes = true;
            retry.status_codes.push(code);
        }
    }
    retry.on = Some(wire::RetryOn {
        server_error: on.server_error,
        gateway_error: on.gateway_error,
        reset: on.reset,
        reset_before_request: on.reset_before_request,
        connect_failure: on.connect_failure,
        retriable_4xx: on.retriable_4xx,
        refused_stream: on.refused_stream,
        status_codes: on.status_codes,
        headers: on.headers,
        rate_limited: on.rate_limited,
        grpc,
    });
}
