//! What a client asks of timeouts and retries, in the reference's headers.
//!
//! In: a request's headers, and who sent them. Out: what is asked, and headers without what is for us alone. Absent on
//! purpose: carrying it out (see `forward`).

use std::{borrow::Cow, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue};
use lateen_types::retry::RetryOn;

use crate::retry::{BACKOFF, Retry};

const PREFIX: &str = "x-envoy-";
static TIMEOUT: HeaderName = HeaderName::from_static("x-envoy-upstream-rq-timeout-ms");
static PER_TRY: HeaderName = HeaderName::from_static("x-envoy-upstream-rq-per-try-timeout-ms");
static MAX_RETRIES: HeaderName = HeaderName::from_static("x-envoy-max-retries");
static RETRY_ON: HeaderName = HeaderName::from_static("x-envoy-retry-on");
static RETRY_GRPC_ON: HeaderName = HeaderName::from_static("x-envoy-retry-grpc-on");
static STATUS_CODES: HeaderName = HeaderName::from_static("x-envoy-retriable-status-codes");
static HEADER_NAMES: HeaderName = HeaderName::from_static("x-envoy-retriable-header-names");
static EXPECTED: HeaderName = HeaderName::from_static("x-envoy-expected-rq-timeout-ms");
static GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
/// What proxies tell each other of themselves: no application's business.
const OF_PROXIES: [&str; 2] = ["x-envoy-peer-metadata", "x-envoy-peer-metadata-id"];
/// Tries after the first that a client may ask for.
const RETRIES_MAX: u32 = 25;

/// Who sent a request's headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sender {
    /// A workload of the mesh: what it asks counts.
    Mesh,
    /// Anybody: what it says in the mesh's own words is taken off.
    Outside,
}

/// What is asked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Asked {
    /// Of the whole request; zero: none.
    timeout: Option<Duration>,
    per_try: Option<Duration>,
    grpc_timeout: Option<Duration>,
    retries: Option<u32>,
    on: RetryOn,
    grpc: Vec<u32>,
    status_codes: Vec<u16>,
    headers: Vec<HeaderName>,
}

/// How long things may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// The whole request, from its end.
    pub whole: Option<Duration>,
    /// Each try.
    pub per_try: Option<Duration>,
}

/// Takes off what is for us.
pub fn take(headers: &mut HeaderMap, sender: Sender, is_grpc: bool) -> Option<Box<Asked>> {
    let mut asked: Option<Box<Asked>> = None;
    // Most requests have none, and then nothing is looked up.
    if headers.keys().any(|name| name.as_str().starts_with(PREFIX)) {
        match sender {
            Sender::Outside => take_off(headers),
            Sender::Mesh => asked = Some(Box::new(read(headers))),
        }
    }
    if let Some(timeout) = headers.get(&GRPC_TIMEOUT).filter(|_| is_grpc).and_then(grpc_timeout) {
        asked.get_or_insert_default().grpc_timeout = Some(timeout);
    }
    asked.filter(|asked| **asked != Asked::default())
}

fn take_off(headers: &mut HeaderMap) {
    while let Some(name) = headers.keys().find(|name| name.as_str().starts_with(PREFIX)).cloned() {
        headers.remove(name);
    }
}

fn read(headers: &mut HeaderMap) -> Asked {
    OF_PROXIES.iter().for_each(|name| drop(headers.remove(*name)));
    // Whoever is told of it is told by us.
    headers.remove(&EXPECTED);
    let millis = |headers: &mut HeaderMap, name| number(headers, name).map(Duration::from_millis);
    let mut asked = Asked {
        timeout: millis(headers, &TIMEOUT),
        per_try: millis(headers, &PER_TRY).filter(|time| !time.is_zero()),
        retries: number(headers, &MAX_RETRIES)
            .map(|retries| u32::try_from(retries).unwrap_or(RETRIES_MAX).min(RETRIES_MAX)),
        status_codes: words(headers, &STATUS_CODES).iter().filter_map(|word| word.parse().ok()).collect(),
        headers: words(headers, &HEADER_NAMES).iter().filter_map(|word| word.parse().ok()).collect(),
        ..Asked::default()
    };
    for name in [&RETRY_ON, &RETRY_GRPC_ON] {
        for word in words(headers, name) {
            // Others mean nothing.
            let _is_known = asked.on.ask(&word, &mut asked.grpc);
        }
    }
    asked
}

fn number(headers: &mut HeaderMap, name: &HeaderName) -> Option<u64> {
    headers.remove(name)?.to_str().ok()?.trim().parse().ok()
}

fn words(headers: &mut HeaderMap, name: &HeaderName) -> Vec<String> {
    let value = headers.remove(name);
    let text = value.as_ref().and_then(|value| value.to_str().ok()).unwrap_or_default();
    text.split(',').map(|word| word.trim().to_owned()).filter(|word| !word.is_empty()).collect()
}

/// gRPC over HTTP/2, "Requests": at most eight digits and a unit.
fn grpc_timeout(value: &HeaderValue) -> Option<Duration> {
    let (digits, unit) = value.to_str().ok()?.split_at_checked(value.len().checked_sub(1)?)?;
    if digits.len() > 8 || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(number * 3600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

impl Asked {
    fn asks_for_retries(&self) -> bool {
        self.on != RetryOn::default() || !self.grpc.is_empty()
    }
}

/// The route's policy with what the client adds to it. The number of tries is the client's, if it names one.
pub fn retry<'r>(asked: Option<&Asked>, route: Option<&'r Retry>) -> Option<Cow<'r, Retry>> {
    let Some(asked) = asked.filter(|asked| asked.asks_for_retries() || asked.retries.is_some()) else {
        return route.map(Cow::Borrowed);
    };
    let mut retry = match route {
        Some(route) => route.clone(),
        None if asked.asks_for_retries() => none(),
        None => return None,
    };
    retry.attempts = asked.retries.unwrap_or(retry.attempts);
    retry.on = either(retry.on, asked.on);
    retry.status_codes = retry.status_codes.iter().chain(&asked.status_codes).copied().collect();
    retry.response_headers = retry.response_headers.iter().chain(&asked.headers).cloned().collect();
    retry.grpc = retry.grpc.iter().chain(&asked.grpc).copied().collect();
    Some(Cow::Owned(retry))
}

/// A policy that a client fills.
fn none() -> Retry {
    Retry {
        attempts: 1,
        per_try_timeout: None,
        on: RetryOn::default(),
        status_codes: Box::default(),
        response_headers: Box::default(),
        grpc: Box::default(),
        backoff: BACKOFF,
        avoid_previous: true,
        other_localities: false,
    }
}

fn either(one: RetryOn, other: RetryOn) -> RetryOn {
    RetryOn {
        server_error: one.server_error || other.server_error,
        gateway_error: one.gateway_error || other.gateway_error,
        reset: one.reset || other.reset,
        reset_before_request: one.reset_before_request || other.reset_before_request,
        connect_failure: one.connect_failure || other.connect_failure,
        retriable_4xx: one.retriable_4xx || other.retriable_4xx,
        refused_stream: one.refused_stream || other.refused_stream,
        status_codes: one.status_codes || other.status_codes,
        headers: one.headers || other.headers,
        rate_limited: one.rate_limited || other.rate_limited,
    }
}

/// How long the request may take: as the client asks, or as the route says. What a gRPC client asks is never more than the
/// route's.
pub fn times(asked: Option<&Asked>, route: Option<Duration>, retry: Option<&Retry>) -> Times {
    let grpc = asked.and_then(|asked| asked.grpc_timeout);
    let within_route = grpc.map(|grpc| route.map_or(grpc, |route| grpc.min(route))).or(route);
    let whole = asked.and_then(|asked| asked.timeout).or(within_route).filter(|time| !time.is_zero());
    let own = retry.and_then(|retry| asked.and_then(|asked| asked.per_try).or(retry.per_try_timeout));
    Times { whole, per_try: own.filter(|own| whole.is_none_or(|whole| *own < whole)) }
}

impl Times {
    /// Tells the endpoint how long its answer will be waited for.
    pub fn tell(self, headers: &mut HeaderMap) {
        if let Some(time) = self.per_try.or(self.whole) {
            let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
            headers.insert(EXPECTED.clone(), HeaderValue::from(millis));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(of: &[(&'static str, &'static str)]) -> HeaderMap {
        of.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
    }

    const fn millis(number: u64) -> Option<Duration> {
        Some(Duration::from_millis(number))
    }

    #[test]
    fn what_is_for_us_does_not_pass_and_counts_only_from_the_mesh() {
        let all = [
            ("x-envoy-upstream-rq-timeout-ms", "500"),
            ("x-envoy-max-retries", "3"),
            ("x-envoy-retry-on", "5xx,connect-failure, nonsense"),
            ("x-envoy-retry-grpc-on", "unavailable"),
            ("x-envoy-retriable-status-codes", "429,x"),
            ("x-envoy-peer-metadata", "p"),
            ("x-envoy-expected-rq-timeout-ms", "1"),
            ("x-envoy-other", "o"),
            ("a", "b"),
        ];
        let mut ours = headers(&all);
        let asked = take(&mut ours, Sender::Mesh, false).expect("something");
        assert_eq!(ours, headers(&[("x-envoy-other", "o"), ("a", "b")]));
        let retry = retry(Some(&asked), None).expect("the client asks for it");
        assert_eq!((retry.attempts, &*retry.grpc, &*retry.status_codes), (3, &[14][..], &[429][..]));
        assert!(retry.on.server_error && retry.on.connect_failure && !retry.on.reset);
        assert_eq!(times(Some(&asked), millis(100), None).whole, millis(500), "longer than the route's, too");

        let mut theirs = headers(&all);
        assert_eq!(take(&mut theirs, Sender::Outside, false), None);
        assert_eq!(theirs, headers(&[("a", "b")]));
    }

    #[test]
    fn timeouts_are_the_clients_or_the_routes() {
        let asks = |of: &[(&'static str, &'static str)]| take(&mut headers(of), Sender::Mesh, true);
        let per_try = Retry { per_try_timeout: millis(80), ..none() };
        for (of, route, expected) in [
            (&[][..], None, None),
            (&[], millis(100), millis(100)),
            (&[("x-envoy-upstream-rq-timeout-ms", "0")], millis(100), None),
            (&[("x-envoy-upstream-rq-timeout-ms", "x")], millis(100), millis(100)),
            (&[("grpc-timeout", "50m")], millis(100), millis(50)),
            (&[("grpc-timeout", "1S")], millis(100), millis(100)),
            (&[("grpc-timeout", "1S")], None, millis(1000)),
            (&[("grpc-timeout", "123456789m")], None, None),
            (&[("grpc-timeout", "1x")], None, None),
            (&[("grpc-timeout", "m")], None, None),
        ] {
            assert_eq!(times(asks(of).as_deref(), route, None).whole, expected, "{of:?} {route:?}");
        }
        assert_eq!(times(None, millis(100), Some(&per_try)), Times { whole: millis(100), per_try: millis(80) });
        assert_eq!(times(None, millis(80), Some(&per_try)).per_try, None, "no shorter than the whole");
        let mut told = HeaderMap::new();
        Times { whole: millis(100), per_try: None }.tell(&mut told);
        assert_eq!(told["x-envoy-expected-rq-timeout-ms"], "100");
    }
}
