use std::{sync::Arc, time::Duration};

use super::*;

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// As the reference has it where `outlierDetection` is there and says nothing.
fn detection() -> OutlierDetection {
    OutlierDetection {
        consecutive_5xx: 5,
        consecutive_gateway_errors: 0,
        split_local_errors: false,
        consecutive_local_errors: 5,
        interval: seconds(10),
        base_ejection_time: seconds(30),
        max_ejection_percent: 10,
        min_health_percent: 0,
        status_codes: Box::default(),
    }
}

/// A cluster of endpoints `0`, `1` …
struct Cluster {
    detection: OutlierDetection,
    endpoints: Vec<Arc<EndpointHealth>>,
    ejections: Ejections,
}

impl Cluster {
    fn of(count: usize, detection: OutlierDetection) -> Self {
        let endpoints = (0..count).map(|_| Arc::default()).collect();
        Self { detection, endpoints, ejections: Ejections::default() }
    }

    fn eject(&mut self, at: usize, now: Duration) -> bool {
        let total = self.endpoints.len().try_into().expect("few");
        let uid = at.to_string().as_str().into();
        let suspect = Suspect { uid: &uid, health: &self.endpoints[at], total };
        self.ejections.eject(suspect, &self.detection, now).is_ok() && self.endpoints[at].is_ejected()
    }

    /// The second of the first sweep, one every ten seconds, after which the endpoint is back.
    fn back_after(&mut self, at: usize, from: u64) -> u64 {
        let sweeps = (1..).map(|number| number * 10).filter(|second| *second > from);
        for second in sweeps.take(100) {
            self.ejections.sweep(&self.detection, seconds(second));
            if !self.endpoints[at].is_ejected() {
                return second;
            }
        }
        panic!("it never came back");
    }
}

/// The cause that the last of these answers is, none that those before are.
fn cause(detection: &OutlierDetection, codes: &[u16]) -> Option<Cause> {
    let health = EndpointHealth::default();
    let causes: Vec<_> = codes.iter().map(|code| health.observe(detection, Event::Answer(*code))).collect();
    let (last, before) = causes.split_last().expect("some codes");
    assert!(before.iter().all(Option::is_none), "{codes:?}: too early");
    *last
}

/// Vector 1 of l7-destination.
#[test]
fn vector_1_the_gate_counts_the_one_to_come() {
    for (percent, expected) in [(10, 0), (33, 0), (34, 1), (66, 1), (67, 2), (100, 3)] {
        let mut cluster = Cluster::of(3, OutlierDetection { max_ejection_percent: percent, ..detection() });
        let ejected = (0..3).filter(|at| cluster.eject(*at, seconds(1))).count();
        assert_eq!((ejected, cluster.ejections.count()), (expected, expected.try_into().expect("few")), "{percent} %");
    }
    let mut cluster = Cluster::of(3, detection());
    let suspect = Suspect { uid: &"0".into(), health: &cluster.endpoints[0].clone(), total: 3 };
    let closed = cluster.ejections.eject(suspect, &detection(), seconds(1)).expect_err("closed");
    assert!(closed.to_string().contains("maxEjectionPercent"), "{closed}");
}

/// Vector 2 of l7-destination.
#[test]
fn vector_2_of_ten_one_at_a_time() {
    let mut cluster = Cluster::of(10, detection());
    assert_eq!((0..10).filter(|at| cluster.eject(*at, seconds(1))).count(), 1);
    assert!(cluster.eject(0, seconds(1)), "that one stays ejected");
    assert_eq!(cluster.back_after(0, 1), 40);
    assert!(cluster.eject(5, seconds(41)));
}

/// Vector 3 of l7-destination.
#[test]
fn vector_3_a_good_answer_begins_the_count_anew() {
    assert_eq!(cause(&detection(), &[500, 500, 500, 500, 200, 500]), None);
    assert_eq!(cause(&detection(), &[500, 503, 500, 502, 500]), Some(Cause::Errors));
    assert_eq!(cause(&detection(), &[499, 404, 429, 400, 200, 302]), None);
}

/// Vector 4 of l7-destination.
#[test]
fn vector_4_the_third_gateway_error() {
    let gateway = OutlierDetection { consecutive_gateway_errors: 3, ..detection() };
    assert_eq!(cause(&gateway, &[503, 503, 503]), Some(Cause::GatewayErrors));
    assert_eq!(cause(&gateway, &[502, 503, 504]), Some(Cause::GatewayErrors));
}

/// Vector 5 of l7-destination.
#[test]
fn vector_5_an_error_of_another_kind_begins_the_gateway_count_anew() {
    let gateway = OutlierDetection { consecutive_gateway_errors: 3, ..detection() };
    assert_eq!(cause(&gateway, &[503, 500, 503, 503]), None);
    assert_eq!(cause(&gateway, &[503, 500, 503, 503, 500]), Some(Cause::Errors), "five errors in all");
}

/// Vector 6 of l7-destination.
#[test]
fn vector_6_errors_of_our_own_are_counted_apart() {
    let split = OutlierDetection { split_local_errors: true, ..detection() };
    let health = EndpointHealth::default();
    let failures: Vec<_> = (0..10).map(|_| health.observe(&split, Event::ConnectFailure)).collect();
    assert_eq!((failures[..4].iter().flatten().count(), failures[4]), (0, Some(Cause::LocalErrors)));
    let health = EndpointHealth::default();
    for event in [Event::Reset, Event::Timeout, Event::ConnectFailure, Event::Answer(500), Event::Reset] {
        assert_eq!(health.observe(&split, event), None, "{event:?}: a 500 is no error of ours");
    }
    assert_eq!(health.observe(&split, Event::Connected), None);
    assert_eq!(health.observe(&split, Event::Reset), None, "a connection began the count anew");
    let health = EndpointHealth::default();
    let together: Vec<_> = (0..5).map(|_| health.observe(&detection(), Event::ConnectFailure)).collect();
    assert_eq!(together[4], Some(Cause::Errors), "not split: as a 503");
}

/// Vector 7 of l7-destination.
#[test]
fn vector_7_listed_statuses_are_the_only_errors() {
    let listed = OutlierDetection { status_codes: Box::new([429]), ..detection() };
    assert_eq!(cause(&listed, &[429; 5]), Some(Cause::Errors));
    assert_eq!(cause(&listed, &[500; 10]), None);
    assert_eq!(cause(&listed, &[429, 429, 429, 429, 500, 429]), None);
}

/// Vector 8 of l7-destination: ejected in second 3, back with the sweep of second 40; then for twice as long.
#[test]
fn vector_8_ejections_grow_and_are_forgotten() {
    let mut cluster = Cluster::of(1, OutlierDetection { max_ejection_percent: 100, ..detection() });
    assert!(cluster.eject(0, seconds(3)));
    assert_eq!(cluster.back_after(0, 3), 40);
    assert!(cluster.eject(0, seconds(41)));
    assert_eq!(cluster.back_after(0, 41), 110, "60 s and up to the next sweep");
    assert!(cluster.eject(0, seconds(111)));
    assert_eq!(cluster.back_after(0, 111), 210, "90 s");
    for second in [220, 230] {
        cluster.ejections.sweep(&cluster.detection, seconds(second));
    }
    assert!(cluster.eject(0, seconds(231)));
    assert_eq!(cluster.back_after(0, 231), 300, "two quiet intervals took two steps back: 60 s again");
    let mut now = 301;
    for _ in 0..20 {
        assert!(cluster.eject(0, seconds(now)));
        let back = cluster.back_after(0, now);
        assert!(back - now <= 310, "never longer than 300 s and a sweep: {now} to {back}");
        now = back + 1;
    }
    assert!(cluster.eject(0, seconds(now)));
    assert!(cluster.back_after(0, now) - now >= 300, "many ejections last as long as any may");
}

#[test]
fn a_returned_endpoint_begins_anew() {
    let all = OutlierDetection { max_ejection_percent: 100, ..detection() };
    let mut cluster = Cluster::of(1, all.clone());
    let health = cluster.endpoints[0].clone();
    (0..4).for_each(|_| assert_eq!(health.observe(&all, Event::Answer(500)), None));
    assert!(cluster.eject(0, seconds(0)));
    assert_eq!(health.observe(&all, Event::Answer(500)), None, "what is still under way says nothing");
    cluster.back_after(0, 0);
    (0..4).for_each(|_| assert_eq!(health.observe(&all, Event::Answer(500)), None));
    assert_eq!(health.observe(&all, Event::Answer(500)), Some(Cause::Errors));
}

#[test]
fn endpoints_that_go_give_their_place_back() {
    let mut cluster = Cluster::of(10, detection());
    assert!(cluster.eject(0, seconds(0)) && !cluster.eject(1, seconds(0)));
    assert!(cluster.ejections.keep(|uid| uid.as_str() != "0"));
    assert!(cluster.eject(1, seconds(0)));
    assert!(cluster.ejections.clear() && !cluster.endpoints[1].is_ejected() && cluster.ejections.count() == 0);
}

#[test]
fn statuses_of_grpc_count_as_statuses_of_http() {
    let cases = [(0, 200), (2, 500), (4, 504), (8, 429), (12, 501), (13, 500), (14, 503), (3, 400), (99, 400)];
    for (grpc, http) in cases {
        assert_eq!(code_of_grpc(grpc), http);
    }
}

/// Vector 10 of l7-destination, in slots: one request is sent, one waits, the third overflows.
#[test]
fn vector_10_one_connection_and_one_that_waits() {
    let breaker = Arc::new(Breaker::default());
    let connection = breaker.take_connection(1, false).expect("the endpoint has none");
    assert!(breaker.take_connection(1, true).is_none());
    let waits = breaker.take(Counted::Pending, 1).expect("may wait");
    assert!(breaker.take(Counted::Pending, 1).is_none());
    assert_eq!((breaker.overflows(Counted::Pending), breaker.count(Counted::Pending)), (1, 1));
    drop(waits);
    assert!(breaker.take(Counted::Pending, 1).is_some());
    assert!(breaker.take_connection(1, false).is_some(), "each endpoint may have one");
    drop(connection);
    assert_eq!(breaker.count(Counted::Connections), 0);
}

/// Vector 11 of l7-destination.
#[test]
fn vector_11_the_third_request() {
    let breaker = Arc::new(Breaker::default());
    let under_way: Vec<_> = (0..3).map(|_| breaker.take(Counted::Requests, 2)).collect();
    assert_eq!(under_way.iter().map(Option::is_some).collect::<Vec<_>>(), [true, true, false]);
    assert!(breaker.take(Counted::Requests, 3).is_some(), "a limit that was raised counts at once");
    drop(under_way);
    assert_eq!(breaker.count(Counted::Requests), 0);
}

#[test]
fn limits_are_exact_with_many_threads() {
    let breaker = Arc::new(Breaker::default());
    let took = std::thread::scope(|scope| {
        let taking = || (0..1_000).filter_map(|_| breaker.take(Counted::Requests, 100)).collect::<Vec<_>>();
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(taking)).collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic").len()).sum::<usize>()
    });
    assert!((100..=4_000).contains(&took) && breaker.count(Counted::Requests) == 0, "{took}");
}

#[test]
fn a_budget_is_a_share_of_what_is_under_way() {
    let budget = RetryBudget { percent: 20.0, concurrency_min: 3 };
    assert_eq!([0, 10, 20, 100].map(|requests| budget.allowed(requests)), [3, 3, 4, 20]);
    let breaker = Arc::new(Breaker::default());
    let _requests: Vec<_> = (0..20).map(|_| breaker.take(Counted::Requests, u32::MAX)).collect();
    let retries: Vec<_> = (0..5).map(|_| breaker.take_retry(0, Some(&budget))).collect();
    assert_eq!(retries.iter().flatten().count(), 4, "the budget stands in the place of the limit");
    drop(retries);
    assert!(breaker.take_retry(0, None).is_none() && breaker.take_retry(1, None).is_some());
    assert_eq!(breaker.overflows(Counted::Retries), 2);
}
