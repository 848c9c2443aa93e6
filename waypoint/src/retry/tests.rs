use super::*;

/// What a request has when nothing went wrong before.
fn progress(made: u32) -> Progress {
    Progress { made, replayable: true }
}

fn retry(attempts: u32, on: RetryOn) -> Retry {
    Retry {
        attempts,
        per_try_timeout: None,
        on,
        status_codes: Box::default(),
        response_headers: Box::default(),
        grpc: Box::default(),
        backoff: BACKOFF,
        avoid_previous: true,
        other_localities: false,
    }
}

/// What holds where nobody says anything.
fn by_default() -> Retry {
    let on = RetryOn { connect_failure: true, refused_stream: true, status_codes: true, ..RetryOn::default() };
    Retry { grpc: Box::new([1, 14]), ..retry(2, on) }
}

fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
    pairs.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().expect("a value"))).collect()
}

/// Whether the policy tries again after this status with these headers.
fn wants_answer(policy: &Retry, code: u16, pairs: &[(&'static str, &'static str)]) -> bool {
    let (status, headers) = (StatusCode::from_u16(code).expect("a status"), headers(pairs));
    policy.wants(Outcome::Answer { status, headers: &headers })
}

fn is_again(next: Next) -> bool {
    matches!(next, Next::Again(_))
}

/// Vector 12 of l7-routing: a try may take longer than the whole request, so the whole request's time ends it.
#[test]
fn vector_12_a_try_that_may_take_longer_than_the_request() {
    let policy = Retry {
        per_try_timeout: Some(Duration::from_secs(2)),
        ..retry(3, RetryOn { server_error: true, ..RetryOn::default() })
    };
    assert_eq!(try_timeout(Some(&policy), Some(Duration::from_secs(1))), None);
    assert_eq!(try_timeout(Some(&policy), Some(Duration::from_secs(3))), Some(Duration::from_secs(2)));
    assert_eq!(try_timeout(Some(&policy), None), Some(Duration::from_secs(2)));
    assert_eq!(try_timeout(None, Some(Duration::from_secs(1))), None);
    let over = next(Some(&policy), Outcome::Failure(Failure::Timeout), progress(1), 0);
    assert_eq!(over, Next::HandOn(None), "one try, 504");
}

/// Vector 13 of l7-routing: "503,reset".
#[test]
fn vector_13_a_reset_is_tried_again_a_500_is_not() {
    let on = RetryOn { reset: true, status_codes: true, ..RetryOn::default() };
    let policy = Retry { status_codes: Box::new([503]), ..retry(2, on) };
    assert!(policy.wants(Outcome::Failure(Failure::Reset { sent: true })));
    assert!(wants_answer(&policy, 503, &[]) && !wants_answer(&policy, 500, &[]));
}

/// Vector 14 of l7-routing.
#[test]
fn vector_14_a_503_is_not_tried_again_by_default() {
    let policy = by_default();
    assert!(!wants_answer(&policy, 503, &[]) && !wants_answer(&policy, 200, &[]));
    assert!(
        wants_answer(&policy, 200, &[("grpc-status", "14")]) && wants_answer(&policy, 200, &[("grpc-status", "1")])
    );
    assert!(
        !wants_answer(&policy, 200, &[("grpc-status", "0")]) && !wants_answer(&policy, 200, &[("grpc-status", "x")])
    );
    assert!(policy.wants(Outcome::Failure(Failure::Connect)) && policy.wants(Outcome::Failure(Failure::Refused)));
    assert!(!policy.wants(Outcome::Failure(Failure::Reset { sent: false })));
}

/// Each word of `retryOn` and what it tries again: statuses, then failures.
#[test]
fn each_word_tries_again_what_it_says() {
    let none = RetryOn::default();
    let (connect, refused, per_try) = (Failure::Connect, Failure::Refused, Failure::PerTryTimeout);
    let (unsent, sent) = (Failure::Reset { sent: false }, Failure::Reset { sent: true });
    let all = [connect, refused, unsent, sent, per_try];
    let table: [(RetryOn, &[u16], &[Failure]); 7] = [
        (RetryOn { server_error: true, ..none }, &[500, 501, 502, 503, 504], &all),
        (RetryOn { gateway_error: true, ..none }, &[502, 503, 504], &all),
        (RetryOn { reset: true, ..none }, &[], &all),
        (RetryOn { reset_before_request: true, ..none }, &[], &[connect, refused, unsent]),
        (RetryOn { connect_failure: true, ..none }, &[], &[connect]),
        (RetryOn { retriable_4xx: true, ..none }, &[409], &[]),
        (RetryOn { refused_stream: true, ..none }, &[], &[refused]),
    ];
    for (on, statuses, failures) in table {
        let policy = retry(1, on);
        for code in [200, 400, 409, 429, 500, 501, 502, 503, 504] {
            assert_eq!(wants_answer(&policy, code, &[]), statuses.contains(&code), "{on:?} and {code}");
        }
        for failure in all {
            assert_eq!(policy.wants(Outcome::Failure(failure)), failures.contains(&failure), "{on:?} and {failure:?}");
        }
        for never in [Failure::Timeout, Failure::Overflow, Failure::NoEndpoint] {
            assert!(!policy.wants(Outcome::Failure(never)), "{on:?} and {never:?}");
        }
    }
}

#[test]
fn headers_say_whether_to_try_again() {
    let on = RetryOn { server_error: true, ..RetryOn::default() };
    assert!(!wants_answer(&retry(1, on), 503, &[("x-envoy-overloaded", "true")]), "overload is not mended by more");
    assert!(!wants_answer(&retry(1, on), 503, &[("x-envoy-ratelimited", "true")]));
    let limited = RetryOn { rate_limited: true, ..on };
    assert!(wants_answer(&retry(1, limited), 429, &[("x-envoy-ratelimited", "true")]));
    let named = RetryOn { headers: true, ..RetryOn::default() };
    let policy = Retry { response_headers: Box::new([HeaderName::from_static("x-again")]), ..retry(1, named) };
    assert!(wants_answer(&policy, 200, &[("x-again", "")]) && !wants_answer(&policy, 500, &[]));
}

#[test]
fn there_are_as_many_tries_as_the_policy_allows() {
    let on = RetryOn { reset: true, ..RetryOn::default() };
    let reset = Outcome::Failure(Failure::Reset { sent: true });
    let after = |attempts: u32, made: u32| next(Some(&retry(attempts, on)), reset, progress(made), 7);
    assert!(is_again(after(2, 1)) && is_again(after(2, 2)));
    assert_eq!(after(2, 3), Next::HandOn(Some(Flag::Exhausted)));
    assert_eq!(after(0, 1), Next::HandOn(None), "attempts: 0 switches retries off");
    assert_eq!(next(None, reset, progress(1), 7), Next::HandOn(None));
    let gone = Progress { made: 1, replayable: false };
    assert_eq!(next(Some(&retry(2, on)), reset, gone, 7), Next::HandOn(None), "the body is not there any more");
    let fine = headers(&[]);
    let answer = Outcome::Answer { status: StatusCode::OK, headers: &fine };
    assert_eq!(next(Some(&retry(2, on)), answer, progress(3), 7), Next::HandOn(None), "the last try went well");
}

#[test]
fn waits_grow_are_random_and_have_a_bound() {
    let policy =
        Retry { backoff: Duration::from_millis(10), ..retry(40, RetryOn { reset: true, ..RetryOn::default() }) };
    let longest = |number: u32| (0..100_000_u64).map(|at| policy.wait(number, at * 1_000)).max().expect("some");
    for (number, bases) in [(1, 1_u32), (2, 3), (3, 7), (4, 10), (5, 10), (31, 10), (32, 10), (40, 10)] {
        let (bound, longest) = (Duration::from_millis(10) * bases, longest(number));
        assert!(longest < bound && longest > bound * 9 / 10, "{number}: {longest:?} of {bound:?}");
    }
    assert_eq!(policy.wait(1, 0), Duration::ZERO);
    assert_eq!(Retry { backoff: Duration::ZERO, ..policy }.wait(1, 5), Duration::ZERO);
}

#[test]
fn other_localities_come_after_two_attempts() {
    let asks = Retry { other_localities: true, ..by_default() };
    assert_eq!([1, 2, 3].map(|made| leaves_tried_priorities(Some(&asks), made)), [false, true, true]);
    assert!(!leaves_tried_priorities(Some(&by_default()), 2) && !leaves_tried_priorities(None, 2));
}
