//! The engine equals the slow evaluator on random policies and connections.
//!
//! Values are drawn from small pools, so that hits are common. The seed is printed when a case fails; set it in
//! `LATEEN_SEED` to see the same case again.

use std::net::{IpAddr, SocketAddr};

use rand::{Rng, RngExt as _, SeedableRng as _, rngs::StdRng, seq::IndexedRandom as _};

use super::reference::{
    PlainBlock, PlainClause, PlainFacts, PlainIdentity, PlainMatch, PlainPolicy, PlainRule, passes,
};
use crate::{
    decide::{Facts, decide},
    explain::explain,
    model::{Account, Action, Clause, Match, Policy, Rule, Scope, StringMatch},
};

const CASES: u64 = 20_000;
const TRUST_DOMAINS: [&str; 2] = ["cluster.local", "other.org"];
const NAMESPACES: [&str; 3] = ["web", "shop", "batch"];
const ACCOUNTS: [&str; 2] = ["front", "job"];
const NAMESPACE_TEXTS: [&str; 8] = ["web", "shop", "we*", "*b", "*", "", "none", "*op"];
const PRINCIPAL_TEXTS: [&str; 6] = [
    "cluster.local/ns/web/sa/front",
    "cluster.local/ns/*",
    "*/sa/job",
    "*",
    "spiffe://cluster.local/ns/web/sa/front",
    "other.org/ns/shop/sa/job",
];
const ACCOUNT_TEXTS: [&str; 4] = ["web/front", "shop/job", "batch/front", "none/none"];
const IPS: [&str; 8] =
    ["10.0.0.1", "10.0.0.200", "10.1.2.3", "192.168.7.7", "fd00::1", "fd00::2:1", "fe80::1", "255.255.255.255"];
const PORTS: [u16; 3] = [80, 81, 8080];

/// A number from the environment: the seed to repeat, or how many cases are wanted.
#[allow(clippy::disallowed_methods)] // Tests have no config module.
pub fn asked(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text:?}")))
}

/// The seed to repeat, or a new one.
pub fn seed() -> u64 {
    asked("LATEEN_SEED").unwrap_or_else(|| rand::rng().random())
}

#[test]
fn the_engine_equals_the_slow_evaluator() {
    let seed = seed();
    let mut rng = StdRng::seed_from_u64(seed);
    let mut passed = 0;
    for case in 0..CASES {
        let plain: Vec<PlainPolicy> = list(&mut rng, 4, policy);
        let facts = facts(&mut rng);
        let expected = passes(&plain, &facts);
        let compiled: Vec<Policy> = plain.iter().enumerate().map(|(at, plain)| compiled(at, plain)).collect();
        let policies: Vec<&Policy> = compiled.iter().collect();
        let (allowed, explained) = engine(&policies, &facts);
        assert_eq!(allowed, expected, "LATEEN_SEED={seed} case {case}: {plain:#?} {facts:?}");
        assert_eq!(explained, expected, "LATEEN_SEED={seed} case {case}, by explain: {plain:#?} {facts:?}");
        passed += u64::from(expected);
    }
    // The pools are meant to make both answers common; a generator that always gives one proves nothing.
    assert!((CASES / 10..CASES * 9 / 10).contains(&passed), "{passed} of {CASES} pass");
}

/// The answer of `decide`, and the same derived from `explain`.
fn engine(policies: &[&Policy], plain: &PlainFacts) -> (bool, bool) {
    let id_of = |id: &PlainIdentity| {
        format!("spiffe://{}/ns/{}/sa/{}", id.trust_domain, id.namespace, id.account).parse().expect("an identity")
    };
    let (identity, client) = (plain.identity.as_ref().map(id_of), plain.client.as_ref().map(id_of));
    let facts = Facts {
        source: SocketAddr::new(plain.source_ip, 40_000),
        destination: SocketAddr::new(plain.destination_ip, plain.destination_port),
        identity: identity.as_ref(),
        client: client.as_ref(),
    };
    let findings: Vec<_> = explain(policies, &facts).into_iter().filter(|finding| !finding.dry_run).collect();
    let any = |action| findings.iter().any(|finding| finding.action == action && finding.matched());
    let allow_exists = findings.iter().any(|finding| finding.action == Action::Allow);
    let explained = !any(Action::Deny) && (!allow_exists || any(Action::Allow));
    (decide(policies, &facts).is_allowed(), explained)
}

/// At most `max` of something; short lists are the likelier ones.
pub fn list<T>(rng: &mut StdRng, max: usize, mut make: impl FnMut(&mut StdRng) -> T) -> Vec<T> {
    let most = rng.random_range(0..=max);
    (0..rng.random_range(0..=most)).map(|_| make(rng)).collect()
}

fn policy(rng: &mut StdRng) -> PlainPolicy {
    let rules = list(rng, 3, |rng| PlainRule(list(rng, 3, |rng| PlainClause(list(rng, 3, one_match)))));
    PlainPolicy { deny: rng.random_bool(0.4), dry_run: rng.random_bool(0.1), rules }
}

/// Some fields are set; mostly one or two of the twelve.
fn one_match(rng: &mut StdRng) -> PlainMatch {
    let texts = |rng: &mut StdRng, pool: &[&str]| some(rng, |rng| pick(rng, pool).to_owned());
    let ports = |rng: &mut StdRng| some(rng, |rng| pick(rng, &PORTS));
    PlainMatch {
        namespaces: texts(rng, &NAMESPACE_TEXTS),
        not_namespaces: texts(rng, &NAMESPACE_TEXTS),
        accounts: texts(rng, &ACCOUNT_TEXTS),
        not_accounts: texts(rng, &ACCOUNT_TEXTS),
        principals: texts(rng, &PRINCIPAL_TEXTS),
        not_principals: texts(rng, &PRINCIPAL_TEXTS),
        source_ips: some(rng, block),
        not_source_ips: some(rng, block),
        destination_ips: some(rng, block),
        not_destination_ips: some(rng, block),
        ports: ports(rng),
        not_ports: ports(rng),
    }
}

/// Mostly nothing, sometimes up to three.
pub fn some<T>(rng: &mut StdRng, make: impl FnMut(&mut StdRng) -> T) -> Vec<T> {
    if rng.random_bool(0.85) { Vec::new() } else { list(rng, 3, make) }
}

pub fn pick<T: Copy>(rng: &mut impl Rng, pool: &[T]) -> T {
    *pool.choose(rng).expect("pools are not empty")
}

fn ip(rng: &mut StdRng) -> IpAddr {
    pick(rng, &IPS).parse().expect("an address")
}

fn block(rng: &mut StdRng) -> PlainBlock {
    let base = ip(rng);
    let most = if base.is_ipv4() { 32 } else { 128 };
    PlainBlock { base, length: rng.random_range(0..=most) }
}

fn facts(rng: &mut StdRng) -> PlainFacts {
    let one = |rng: &mut StdRng| PlainIdentity {
        trust_domain: pick(rng, &TRUST_DOMAINS),
        namespace: pick(rng, &NAMESPACES),
        account: pick(rng, &ACCOUNTS),
    };
    let identity = rng.random_bool(0.7).then(|| one(rng));
    // Only a peer that has proven who it is can speak for another.
    let client = (identity.is_some() && rng.random_bool(0.3)).then(|| one(rng));
    PlainFacts { source_ip: ip(rng), destination_ip: ip(rng), destination_port: pick(rng, &PORTS), identity, client }
}

fn compiled(at: usize, plain: &PlainPolicy) -> Policy {
    let clause = |PlainClause(matches): &PlainClause| Clause { matches: matches.iter().map(compiled_match).collect() };
    Policy {
        key: format!("shop/p{at}").parse().expect("a key"),
        scope: Scope::Namespace,
        action: if plain.deny { Action::Deny } else { Action::Allow },
        dry_run: plain.dry_run,
        rules: plain
            .rules
            .iter()
            .map(|PlainRule(clauses)| Rule { clauses: clauses.iter().map(clause).collect() })
            .collect(),
    }
}

fn compiled_match(plain: &PlainMatch) -> Match {
    let texts = |list: &[String]| list.iter().map(|text| StringMatch::from_notation(text)).collect();
    let accounts = |list: &[String]| {
        let split = |text: &String| {
            let (namespace, service_account) = text.split_once('/').expect("pools hold pairs");
            Account { namespace: namespace.into(), service_account: service_account.into() }
        };
        list.iter().map(split).collect()
    };
    let blocks = |list: &[PlainBlock]| {
        list.iter().map(|block| ipnet::IpNet::new(block.base, block.length).expect("a length that fits")).collect()
    };
    Match {
        namespaces: texts(&plain.namespaces),
        not_namespaces: texts(&plain.not_namespaces),
        service_accounts: accounts(&plain.accounts),
        not_service_accounts: accounts(&plain.not_accounts),
        principals: texts(&plain.principals),
        not_principals: texts(&plain.not_principals),
        source_ips: blocks(&plain.source_ips),
        not_source_ips: blocks(&plain.not_source_ips),
        destination_ips: blocks(&plain.destination_ips),
        not_destination_ips: blocks(&plain.not_destination_ips),
        destination_ports: plain.ports.iter().copied().collect(),
        not_destination_ports: plain.not_ports.iter().copied().collect(),
    }
}
