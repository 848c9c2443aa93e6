mod keeper;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use lateen_state::workload::Locality as At;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

use super::{
    Ask, Candidate, Chooser, Spot,
    hash::{Hashed, hash, new_cookie, of_request},
    policy::{
        Balancing, ConsistentHash, HashCookie, HashKey, HashTable, Label, Locality, LocalityPattern, MadeCookie, Share,
        Warmup,
    },
};
use crate::{
    book::TrafficPolicy,
    upstream::health::{EndpointHealth, OutlierDetection},
};

const SEED: u64 = 20_261_122;
const NOW: Duration = Duration::from_secs(1_000);

/// Endpoint number `at`, in a locality `region/zone/subzone`.
fn endpoint(at: usize, locality: &str) -> Candidate<usize> {
    Candidate {
        endpoint: at,
        uid: format!("pod-{at:03}").into(),
        address: ([10, 0, 0, u8::try_from(at).expect("few")], 80).into(),
        weight: 1,
        spot: spot(locality),
        since: Duration::ZERO,
        health: Arc::new(EndpointHealth::default()),
    }
}

fn spot(locality: &str) -> Spot {
    let mut parts = locality.split('/').map(Into::into);
    let mut part = || parts.next().unwrap_or_default();
    Spot { locality: At { region: part(), zone: part(), subzone: part() }, ..Spot::default() }
}

/// Endpoints, one for each of these localities.
fn endpoints(localities: &[&str]) -> Vec<Candidate<usize>> {
    localities.iter().enumerate().map(|(at, locality)| endpoint(at, locality)).collect()
}

fn alike(count: usize) -> Vec<Candidate<usize>> {
    endpoints(&vec![""; count])
}

/// Of `weights`.
fn weighted(weights: &[u32]) -> Vec<Candidate<usize>> {
    let with = |(one, weight): (Candidate<usize>, &u32)| Candidate { weight: *weight, ..one };
    alike(weights.len()).into_iter().zip(weights).map(with).collect()
}

fn policy(balancing: Balancing) -> TrafficPolicy {
    TrafficPolicy { balancing, ..TrafficPolicy::default() }
}

fn with_locality(locality: Locality) -> TrafficPolicy {
    TrafficPolicy { locality, ..policy(Balancing::Random) }
}

fn outlier(min_health_percent: u32) -> OutlierDetection {
    OutlierDetection {
        consecutive_5xx: 5,
        consecutive_gateway_errors: 0,
        split_local_errors: false,
        consecutive_local_errors: 5,
        interval: Duration::from_secs(10),
        base_ejection_time: Duration::from_secs(30),
        max_ejection_percent: 100,
        min_health_percent,
        status_codes: Box::default(),
    }
}

fn chooser(policy: &TrafficPolicy, here: &str, candidates: Vec<Candidate<usize>>) -> Chooser<usize> {
    Chooser::new(policy, &spot(here), candidates, NOW, 0)
}

/// How many of 10,000 requests each endpoint gets.
fn spread(chooser: &Chooser<usize>) -> Vec<usize> {
    spread_of(chooser, Ask::default())
}

fn spread_of(chooser: &Chooser<usize>, ask: Ask<'_>) -> Vec<usize> {
    let mut dice = StdRng::seed_from_u64(SEED);
    let mut counts = vec![0; chooser.members().iter().map(|one| one.endpoint + 1).max().unwrap_or_default()];
    for _ in 0..10_000 {
        if let Some(chosen) = chooser.choose(&Ask { now: NOW, ..ask }, &mut dice) {
            counts[chosen.member.endpoint] += 1;
        }
    }
    counts
}

/// Within 3 % of all requests, which for 10,000 is six standard deviations.
fn assert_about(counts: &[usize], expected: &[usize]) {
    let near = |(count, expected): (&usize, &usize)| count.abs_diff(*expected) <= 300;
    assert!(counts.len() == expected.len() && counts.iter().zip(expected).all(near), "{counts:?} is not {expected:?}");
}

fn eject(candidates: &[Candidate<usize>], which: &[usize]) {
    which.iter().for_each(|at| candidates[*at].health.set_ejected(true));
}

#[test]
fn without_weights_all_come_alike() {
    for balancing in [Balancing::LeastRequest, Balancing::RoundRobin, Balancing::Random] {
        assert_about(&spread(&chooser(&policy(balancing), "", alike(4))), &[2_500; 4]);
    }
    let counts = spread(&chooser(&policy(Balancing::RoundRobin), "", alike(4)));
    assert_eq!(counts, [2_500; 4], "one after the other");
}

#[test]
fn weights_are_shares() {
    for balancing in [Balancing::LeastRequest, Balancing::RoundRobin, Balancing::Random] {
        let counts = spread(&chooser(&policy(balancing), "", weighted(&[1, 2, 0, 7])));
        assert_about(&counts, &[1_000, 2_000, 0, 7_000]);
    }
    let mut dice = StdRng::seed_from_u64(SEED);
    let turns = chooser(&policy(Balancing::RoundRobin), "", weighted(&[1, 3]));
    let order: Vec<usize> =
        (0..8).map(|_| turns.choose(&Ask::default(), &mut dice).expect("one").member.endpoint).collect();
    let rare: Vec<usize> = (0..8).filter(|at| order[*at] == 0).collect();
    assert!(rare.len() == 2 && rare[1] - rare[0] >= 3, "spread evenly, not in heaps: {order:?}");
}

/// Vector 17 of l7-destination.
#[test]
fn vector_17_a_slow_endpoint_gets_less() {
    for weights in [[1, 1, 1], [2, 2, 1]] {
        let candidates = weighted(&weights);
        // The slow one always has more under way than the others.
        (0..8).for_each(|_| candidates[0].health.began());
        let counts = spread(&chooser(&policy(Balancing::LeastRequest), "", candidates));
        assert!(counts[0] < 2_000 && counts[1] > 3_000, "{counts:?} with {weights:?}");
    }
}

#[test]
fn what_was_tried_is_avoided_while_there_is_another() {
    for balancing in [Balancing::LeastRequest, Balancing::RoundRobin, Balancing::Random, ring(HashKey::SourceIp)] {
        let candidates = alike(3);
        let addresses: Vec<_> = candidates.iter().map(|one| one.address).collect();
        let chooser = chooser(&policy(balancing), "", candidates);
        let spread = |tried: &[usize]| {
            let tried: Vec<_> = tried.iter().map(|at| addresses[*at]).collect();
            spread_of(&chooser, Ask { hash: Some(5), tried: &tried, ..Ask::default() })
        };
        assert_eq!(spread(&[0])[0], 0);
        assert_eq!(spread(&[0, 2]), [0, 10_000, 0]);
        assert_eq!(spread(&[0, 1, 2]).iter().sum::<usize>(), 10_000, "if need be, one that was tried");
    }
}

/// Vector 9 of l7-destination.
#[test]
fn vector_9_with_too_few_healthy_ones_ejections_do_not_count() {
    let spread_with = |min_health: u32| {
        let candidates = alike(4);
        eject(&candidates, &[0, 1, 2]);
        let policy = TrafficPolicy { outlier: Some(outlier(min_health)), ..policy(Balancing::Random) };
        spread(&chooser(&policy, "", candidates))
    };
    assert_about(&spread_with(50), &[2_500; 4]);
    assert_eq!(spread_with(25), [0, 0, 0, 10_000]);
    assert_eq!(spread_with(0), [0, 0, 0, 10_000]);
}

#[test]
fn where_all_are_ejected_there_is_nothing_to_choose() {
    let candidates = alike(3);
    eject(&candidates, &[0, 1, 2]);
    assert_eq!(spread(&chooser(&policy(Balancing::Random), "", candidates.clone())), [0, 0, 0]);
    let panics = TrafficPolicy { outlier: Some(outlier(1)), ..policy(Balancing::Random) };
    assert_about(&spread(&chooser(&panics, "", candidates)), &[3_333; 3]);
    assert!(chooser(&panics, "", vec![]).choose(&Ask::default(), &mut StdRng::seed_from_u64(SEED)).is_none());
}

/// Vector 15 of l7-destination. The controller sends no locality where there is no outlier detection.
#[test]
fn vector_15_near_ones_first() {
    let failover = with_locality(Locality::Failover(BTreeMap::new()));
    let localities = ["r1/z1", "r1/z2", "r2/z1"];
    let after = |ejected: &[usize]| {
        let candidates = endpoints(&localities);
        eject(&candidates, ejected);
        spread(&chooser(&failover, "r1/z1", candidates))
    };
    assert_eq!(after(&[]), [10_000, 0, 0]);
    assert_eq!(after(&[0]), [0, 10_000, 0]);
    assert_eq!(after(&[0, 1]), [0, 0, 10_000]);
    assert_about(&spread(&chooser(&with_locality(Locality::Off), "r1/z1", endpoints(&localities))), &[3_333; 3]);
}

#[test]
fn a_tier_that_is_not_whole_spills_over() {
    let failover = with_locality(Locality::Failover(BTreeMap::new()));
    // Half of the near ones are left: they are worth 70 % of the load.
    let candidates = endpoints(&["r1", "r1", "r2"]);
    eject(&candidates, &[0]);
    assert_about(&spread(&chooser(&failover, "r1", candidates)), &[0, 7_000, 3_000]);
    let candidates = endpoints(&["r1", "r1", "r1", "r1", "r2"]);
    eject(&candidates, &[0]);
    assert_about(&spread(&chooser(&failover, "r1", candidates)), &[0, 3_333, 3_333, 3_333, 0]);
}

#[test]
fn another_region_is_named_to_come_first() {
    let regions = [("r1".into(), "r3".into())].into();
    let candidates = endpoints(&["r2", "r3"]);
    let counts = spread(&chooser(&with_locality(Locality::Failover(regions)), "r1", candidates));
    assert_eq!(counts, [0, 10_000]);
}

#[test]
fn a_retry_leaves_tiers_out() {
    let chooser = chooser(&with_locality(Locality::Failover(BTreeMap::new())), "r1", endpoints(&["r1", "r2"]));
    let mut dice = StdRng::seed_from_u64(SEED);
    let near = chooser.choose(&Ask::default(), &mut dice).expect("one");
    assert_eq!(near.member.endpoint, 0);
    let again = chooser.choose(&Ask { without_tiers: near.tier, ..Ask::default() }, &mut dice).expect("one");
    assert_eq!(again.member.endpoint, 1, "another locality");
    let all = chooser.choose(&Ask { without_tiers: u64::MAX, ..Ask::default() }, &mut dice).expect("one");
    assert_eq!(all.member.endpoint, 0, "where nothing is left, nothing is left out");
}

#[test]
fn labels_say_who_is_near() {
    let label = |text: &str| match text.split_once('=') {
        Some((key, value)) => Label { key: key.into(), value: Some(value.into()) },
        None => Label { key: text.into(), value: None },
    };
    let labels = ["topology.kubernetes.io/region", "version=v2", "team"].map(label);
    let with = |at: usize, region: &str, labels: &[(&str, &str)]| {
        let mut one = endpoint(at, region);
        one.spot.labels = labels.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
        one
    };
    let candidates = || {
        vec![
            with(0, "r2", &[("version", "v2"), ("team", "a")]),
            with(1, "r1", &[("version", "v1"), ("team", "a")]),
            with(2, "r1", &[("version", "v2"), ("team", "b")]),
            with(3, "r1", &[("version", "v2"), ("team", "a")]),
        ]
    };
    let mut here = spot("r1");
    here.labels = [("team".into(), "a".into())].into();
    let policy = with_locality(Locality::Priorities(labels.into()));
    // The order in which they fall away.
    let mut all = candidates();
    for expected in [3, 2, 1, 0] {
        let counts = spread(&Chooser::new(&policy, &here, all.clone(), NOW, 0));
        assert_eq!(counts[expected], 10_000, "{expected} of {counts:?}");
        all.retain(|one| one.endpoint != expected);
    }
}

/// Vector 16 of l7-destination.
#[test]
fn vector_16_shares_of_localities() {
    let share = |from: &str, to: &[(&str, u32)]| Share {
        from: LocalityPattern::read(from),
        to: to.iter().map(|(pattern, percent)| (LocalityPattern::read(pattern), *percent)).collect(),
    };
    let shares = [share("r2/*", &[("r2", 100)]), share("r1/*", &[("r1/*", 80), ("r2/*", 20)])];
    let policy = with_locality(Locality::Distribute(shares.into()));
    let counts = spread(&chooser(&policy, "r1/z1", endpoints(&["r1/z1", "r2/z1", "r2/z2", "r2/z3", "r2/z4", "r3"])));
    assert_about(&counts, &[8_000, 500, 500, 500, 500, 0]);
    let counts = spread(&chooser(&policy, "r1/z1", endpoints(&["r1/z1", "r1/z2", "r1/z3", "r1/z4", "r2/z1"])));
    assert_about(&counts, &[2_000, 2_000, 2_000, 2_000, 2_000]);
    let counts = spread(&chooser(&policy, "r9", endpoints(&["r1", "r2"])));
    assert_about(&counts, &[5_000, 5_000]);
    let counts = spread(&chooser(&policy, "r1", endpoints(&["r2"])));
    assert_eq!(counts, [10_000], "a share without endpoints is nobody's");
}

fn ring(key: HashKey) -> Balancing {
    Balancing::Hash(Box::new(ConsistentHash { key, table: HashTable::Ring { points_min: 1_024 } }))
}

fn maglev(key: HashKey) -> Balancing {
    Balancing::Hash(Box::new(ConsistentHash { key, table: HashTable::Maglev { size: 65_537 } }))
}

/// Where each of 10,000 keys goes.
fn homes(chooser: &Chooser<usize>) -> Vec<usize> {
    let mut dice = StdRng::seed_from_u64(SEED);
    let mut home = |key: u32| {
        let ask = Ask { hash: Some(hash(&key.to_be_bytes())), ..Ask::default() };
        chooser.choose(&ask, &mut dice).expect("one").member.endpoint
    };
    (0..10_000).map(&mut home).collect()
}

#[test]
fn equal_keys_have_equal_homes_and_few_move() {
    // Maglev pays for its evenness and speed.
    for (balancing, moved_max) in [(ring(HashKey::SourceIp), 100), (maglev(HashKey::SourceIp), 1_500)] {
        let policy = policy(balancing);
        let before = homes(&chooser(&policy, "", alike(10)));
        assert_eq!(before, homes(&chooser(&policy, "", alike(10))), "every replica has the same table");
        let mut fewer = alike(10);
        fewer.remove(3);
        let after = homes(&chooser(&policy, "", fewer));
        let moved = before.iter().zip(&after).filter(|(before, after)| before != after && **before != 3).count();
        assert!(moved <= moved_max, "{moved} of 10000 keys moved that did not have to");
        let counts: Vec<usize> = (0..10).map(|at| before.iter().filter(|home| **home == at).count()).collect();
        assert!(counts.iter().all(|count| (600..=1_500).contains(count)), "{counts:?}");
    }
}

#[test]
fn tables_know_weights_shares_and_ejections() {
    for balancing in [ring(HashKey::SourceIp), maglev(HashKey::SourceIp)] {
        let counts = |homes: &[usize], of: usize| homes.iter().filter(|home| **home == of).count();
        let homes_of = homes(&chooser(&policy(balancing.clone()), "", weighted(&[1, 3])));
        assert!((2_000..=3_000).contains(&counts(&homes_of, 0)), "{}", counts(&homes_of, 0));
        let candidates = alike(3);
        eject(&candidates, &[1]);
        assert_eq!(counts(&homes(&chooser(&policy(balancing.clone()), "", candidates)), 1), 0);
        let without_key = spread(&chooser(&policy(balancing), "", alike(4)));
        assert!(without_key.iter().all(|count| (1_800..=3_200).contains(count)), "{without_key:?}");
    }
}

/// Vector 14 of l7-destination.
#[test]
fn vector_14_a_cookie_is_made_once() {
    let cookie = |made| HashCookie { name: "user".into(), path: "/".into(), made, attributes: "; SameSite=Lax".into() };
    let (client, local) = ("10.0.0.9:1234".parse().expect("an address"), "10.0.0.1:80".parse().expect("an address"));
    let new = new_cookie(&cookie(MadeCookie::ForSession), client, local).expect("made");
    let text = new.set_cookie.to_str().expect("text").to_owned();
    assert!(text.starts_with("user=\"") && text.ends_with("\"; Path=/; HttpOnly; SameSite=Lax"), "{text}");
    let pair = text.split(';').next().expect("a pair").to_owned();
    let headers = [(http::header::COOKIE, pair.parse().expect("a value"))].into_iter().collect();
    let asked = Hashed { headers: &headers, query: None, client: None };
    let key = HashKey::Cookie(cookie(MadeCookie::ForSession));
    assert_eq!(of_request(&key, &asked), Some(new.hash), "the next request is hashed alike");
    let lasting = new_cookie(&cookie(MadeCookie::For(Duration::from_secs(9))), client, local).expect("made");
    assert!(lasting.set_cookie.to_str().expect("text").contains("; Max-Age=9; Path=/"));
    assert_eq!(new_cookie(&cookie(MadeCookie::Never), client, local), None);
}

#[test]
fn keys_are_what_they_say() {
    let one = [("x-user".parse::<http::HeaderName>().expect("a name"), "a".parse().expect("a value"))];
    let mut headers: http::HeaderMap = one.into_iter().collect();
    let of = |key: &HashKey, headers: &http::HeaderMap| {
        of_request(key, &Hashed { headers, query: Some("a=1&user=b"), client: Some([10, 0, 0, 9].into()) })
    };
    let header = HashKey::Header(http::HeaderName::from_static("x-user"));
    assert_eq!(of(&header, &headers), Some(hash(b"a")));
    headers.append("x-user", "b".parse().expect("a value"));
    assert_eq!(of(&header, &headers), Some(hash(b"a,b")));
    assert_eq!(of(&HashKey::Header(http::HeaderName::from_static("x-none")), &headers), None);
    assert_eq!(of(&HashKey::Query("user".into()), &headers), Some(hash(b"b")));
    assert_eq!(of(&HashKey::SourceIp, &headers), Some(hash(&[10, 0, 0, 9])));
    assert_eq!(hash(b"lateen"), hash(b"lateen"));
    assert_ne!(hash(b"lateen"), hash(b"lateem"));
}

#[test]
fn a_session_keeps_its_endpoint_while_that_is_healthy() {
    let candidates = alike(4);
    let (address, health) = (candidates[2].address, candidates[2].health.clone());
    let chooser = chooser(&policy(Balancing::Random), "", candidates);
    let mut dice = StdRng::seed_from_u64(SEED);
    let mut choose = |tried: &[std::net::SocketAddr]| {
        let ask = Ask { session: Some(address), tried, ..Ask::default() };
        chooser.choose(&ask, &mut dice).map(|chosen| (chosen.member.endpoint, chosen.by_session)).expect("one")
    };
    assert!((0..100).all(|_| choose(&[]) == (2, true)));
    assert!(choose(&[address]).0 != 2, "tried in vain");
    health.set_ejected(true);
    assert!(!choose(&[]).1, "the client is told another one");
    let gone = Ask { session: Some("10.9.9.9:80".parse().expect("an address")), ..Ask::default() };
    assert!(!chooser.choose(&gone, &mut dice).expect("one").by_session);
}

#[test]
fn new_endpoints_begin_with_little() {
    let warmup = Warmup { duration: Duration::from_secs(100), minimum: 0.1, aggression: 1.0 };
    for balancing in [Balancing::RoundRobin, Balancing::LeastRequest] {
        let policy = TrafficPolicy { warmup: Some(warmup), ..policy(balancing) };
        let with_age = |age: u64| {
            let mut candidates = alike(2);
            candidates[1].since = NOW - Duration::from_secs(age);
            spread(&chooser(&policy, "", candidates))
        };
        assert_about(&with_age(0), &[9_091, 909]);
        assert_about(&with_age(50), &[6_667, 3_333]);
        assert_about(&with_age(100), &[5_000, 5_000]);
    }
}

/// Whatever comes and goes, every healthy endpoint of the first whole tier is chosen, and no other.
#[test]
fn random_clusters_keep_their_promises() {
    let mut random = StdRng::seed_from_u64(SEED);
    for round in 0..200 {
        let count = random.random_range(1..12);
        let candidates: Vec<_> = (0..count)
            .map(|at| Candidate {
                weight: random.random_range(1..4),
                ..endpoint(at, ["r1", "r2", "r3"][random.random_range(0..3)])
            })
            .collect();
        let ejected: Vec<usize> = (0..count).filter(|_| random.random_bool(0.3)).collect();
        eject(&candidates, &ejected);
        let balancing = [
            Balancing::LeastRequest,
            Balancing::RoundRobin,
            Balancing::Random,
            ring(HashKey::SourceIp),
            Balancing::Hash(Box::new(ConsistentHash {
                key: HashKey::SourceIp,
                table: HashTable::Maglev { size: 251 },
            })),
        ][round % 5]
            .clone();
        let policy = TrafficPolicy { locality: Locality::Failover(BTreeMap::new()), ..policy(balancing) };
        let chooser = chooser(&policy, "r1", candidates);
        let chosen = (0..200).filter_map(|_| chooser.choose(&Ask::default(), &mut random));
        let chosen: Vec<usize> = chosen.map(|chosen| chosen.member.endpoint).collect();
        assert!(chosen.iter().all(|at| !ejected.contains(at)), "round {round}: an ejected one of {ejected:?}");
        let expected = if ejected.len() == count { 0 } else { 200 };
        assert_eq!(chosen.len(), expected, "round {round} (seed {SEED})");
    }
}
