//! The engine equals the slow evaluator on random policies and requests, down to the rule that speaks.
//!
//! Values are drawn from small pools, so that hits are common. The seed is printed when a case fails; set it in
//! `LATEEN_SEED` to see the same case again. `LATEEN_CASES` asks for another number of cases: `make test` for a million.

use std::{net::IpAddr, sync::Arc};

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

use super::{
    Listed, id, key,
    reference::{Expected, PlainFacts, PlainField, PlainPolicy, PlainRequest, expected},
};
use crate::{
    l7::{
        Action, Attribute, Clause, Decision, DryRun, Facts, Field, Match, Policies, Policy, Refusal, Request, Rule,
        Verdict, decide,
    },
    tests::random::{asked, list, pick, seed},
};

/// In the everyday profile, in about two seconds.
const CASES: u64 = 200_000;
/// Requests asked of one set of policies.
const REQUESTS: u64 = 25;

const DOMAINS: [&str; 2] = ["cluster.local", "other.org"];
const NAMESPACES: [&str; 4] = ["web", "shop", "prod", "preprod"];
const ACCOUNTS: [&str; 2] = ["front", "job"];
const HOSTS: [&str; 5] = ["shop", "Shop.example.COM", "shop.example.com:8080", "a.b", ""];
const METHODS: [&str; 3] = ["GET", "POST", "get"];
const PATHS: [&str; 9] = ["/", "/a", "/a/b", "/a/b/c", "/a//c", "/b.html", "/A", "/a/", "*"];
const SNIS: [&str; 2] = ["shop.example.com", "a.b"];
const IPS: [&str; 5] = ["10.0.0.1", "10.1.2.3", "192.168.7.7", "fd00::1", "::ffff:10.0.0.1"];
const PORTS: [u16; 3] = [80, 443, 8080];

const PRINCIPAL_VALUES: [&str; 6] = [
    "cluster.local/ns/web/sa/front",
    "other.org/ns/shop/sa/job",
    "cluster.local/ns/*",
    "*/sa/job",
    "*",
    "cluster.local/ns/prod/sa/front",
];
const NAMESPACE_VALUES: [&str; 8] = ["web", "shop", "pr*d", "*prod", "p*", "*", "*r*", "prod*"];
const ACCOUNT_VALUES: [&str; 3] = ["web/front", "shop/job", "prod/front"];
const DOMAIN_VALUES: [&str; 4] = ["cluster.local", "other*", "*.org", "*"];
const HOST_VALUES: [&str; 6] = ["shop", "SHOP.example.com", "shop.example.com*", "*.com", "*", "a.*"];
const METHOD_VALUES: [&str; 4] = ["GET", "POST", "*T", "G*"];
const PATH_VALUES: [&str; 13] =
    ["/", "/a", "/a/b", "/a*", "/a/*", "*.html", "*/c", "*", "/*", "/{*}", "/a/{*}", "/{*}/{**}", "/a/{**}/c"];
const BLOCKS: [&str; 6] = ["10.0.0.0/8", "10.0.0.1", "192.168.0.0/16", "fd00::/8", "0.0.0.0/0", "10.1.2.3/31"];
const HEADER_VALUES: [&str; 6] = ["v1", "v1,v2", "v*", "*2", "*", "V1"];

#[test]
fn the_engine_equals_the_slow_evaluator() {
    let (seed, cases) = (seed(), asked("LATEEN_CASES").unwrap_or(CASES));
    let mut rng = StdRng::seed_from_u64(seed);
    let (mut case, mut passed) = (0, 0);
    while case < cases {
        let sets: Vec<Vec<PlainPolicy>> = (0..2).map(|set| policies(&mut rng, set)).collect();
        let missing = rng.random_bool(0.05).then_some("later");
        let compiled: Vec<Policies> = sets
            .iter()
            .map(|plain| Policies::new(&plain.iter().map(compiled).collect::<Vec<_>>(), gone(missing)))
            .collect();
        let all: Vec<PlainPolicy> = sets.concat();
        for _ in 0..REQUESTS {
            let facts = facts(&mut rng);
            let wanted = expected(&all, missing, &facts);
            let found = engine(&compiled.iter().collect::<Vec<_>>(), &facts);
            assert_eq!(found, wanted, "LATEEN_SEED={seed} case {case}: {all:#?} {facts:#?}");
            passed += u64::from(!wanted.decision.contains("denied") && !wanted.decision.contains("none"));
            case += 1;
        }
    }
    // The pools are meant to make both answers common; a generator that always gives one proves nothing.
    assert!((case / 10..case * 9 / 10).contains(&passed), "{passed} of {case} pass");
}

fn gone(missing: Option<&str>) -> Vec<lateen_types::name::PolicyKey> {
    missing.map(key).into_iter().collect()
}

fn policies(rng: &mut StdRng, set: usize) -> Vec<PlainPolicy> {
    let mut all = list(rng, 4, policy);
    all.iter_mut().enumerate().for_each(|(at, one)| one.name = format!("s{set}p{at}"));
    all
}

fn policy(rng: &mut StdRng) -> PlainPolicy {
    let action = match rng.random_range(0..10) {
        0..=4 => Action::Allow,
        5..=8 => Action::Deny,
        _ => Action::Audit,
    };
    let rules = list(rng, 5, |rng| list(rng, 3, |rng| list(rng, 3, |rng| list(rng, 3, field))));
    PlainPolicy { name: String::new(), action, dry_run: rng.random_bool(0.15), rules }
}

fn field(rng: &mut StdRng) -> PlainField {
    let (attribute, pool): (Attribute, &[&str]) = match rng.random_range(0..16) {
        0 | 1 => (Attribute::Principal, &PRINCIPAL_VALUES),
        2 => (Attribute::SourceNamespace, &NAMESPACE_VALUES),
        3 => (Attribute::ServiceAccount, &ACCOUNT_VALUES),
        4 => (Attribute::TrustDomain, &DOMAIN_VALUES),
        5 => (Attribute::SourceIp, &BLOCKS),
        6 => (Attribute::RemoteIp, &BLOCKS),
        7 => (Attribute::Host, &HOST_VALUES),
        8 | 9 => (Attribute::Method, &METHOD_VALUES),
        10 | 11 => (Attribute::Path, &PATH_VALUES),
        12 => (Attribute::DestinationPort, &["80", "443"]),
        13 => (Attribute::DestinationIp, &BLOCKS),
        14 => (Attribute::Header(pick(rng, &["x-a", "x-b"]).into()), &HEADER_VALUES),
        _ => (Attribute::Sni, &HOST_VALUES),
    };
    let values = |rng: &mut StdRng, most| list(rng, most, |rng| pick(rng, pool).to_owned());
    let (any, none) = (values(rng, 4), if rng.random_bool(0.25) { values(rng, 2) } else { Vec::new() });
    PlainField { attribute, any, none }
}

fn facts(rng: &mut StdRng) -> PlainFacts {
    let ip = |rng: &mut StdRng| -> IpAddr { pick::<&str>(rng, &IPS).parse().expect("an address") };
    PlainFacts {
        identity: rng.random_bool(0.75).then(|| [pick(rng, &DOMAINS), pick(rng, &NAMESPACES), pick(rng, &ACCOUNTS)]),
        source_ip: ip(rng).to_canonical(),
        remote_ip: ip(rng).to_canonical(),
        destination_ip: ip(rng).to_canonical(),
        port: pick(rng, &PORTS),
        sni: rng.random_bool(0.3).then(|| pick(rng, &SNIS)),
        request: rng.random_bool(0.8).then(|| PlainRequest {
            host: pick(rng, &HOSTS),
            method: pick(rng, &METHODS),
            path: pick(rng, &PATHS),
            headers: list(rng, 4, |rng| {
                (pick(rng, &["x-a", "x-b", "x-c"]).to_owned(), pick(rng, &["v1", "v2", ""]).to_owned())
            }),
        }),
    }
}

fn compiled(plain: &PlainPolicy) -> Arc<Policy> {
    let field = |one: &PlainField| Field::read(one.attribute.clone(), &one.any, &one.none).expect("pools can be read");
    let one = |fields: &Vec<PlainField>| Match { fields: fields.iter().map(field).collect() };
    let clause = |matches: &Vec<Vec<PlainField>>| Clause { matches: matches.iter().map(one).collect() };
    let rule = |(number, clauses): (u32, &Vec<Vec<Vec<PlainField>>>)| {
        Arc::new(Rule { number, clauses: clauses.iter().map(clause).collect() })
    };
    Arc::new(Policy {
        key: key(&plain.name),
        action: plain.action,
        dry_run: plain.dry_run,
        rules: (0..).zip(&plain.rules).map(rule).collect(),
        unreadable: false,
    })
}

/// The engine's answer in the reference's words.
fn engine(sets: &[&Policies], plain: &PlainFacts) -> Expected {
    let identity =
        plain.identity.map(|[domain, namespace, account]| id(&format!("{domain}/ns/{namespace}/sa/{account}")));
    let headers = Listed(plain.request.as_ref().map(|one| one.headers.clone()).unwrap_or_default());
    let facts = Facts {
        identity: identity.as_ref(),
        source_ip: plain.source_ip,
        remote_ip: plain.remote_ip,
        destination: (plain.destination_ip, plain.port).into(),
        sni: plain.sni,
        request: plain.request.as_ref().map(|one| Request {
            host: one.host,
            method: one.method,
            path: one.path,
            headers: &headers,
        }),
    };
    in_words(&decide(sets, &facts))
}

fn in_words(verdict: &Verdict<'_>) -> Expected {
    let rule = |speaker: &super::Speaker<'_>| format!("{}:{}", speaker.policy.name, speaker.rule);
    let decision = match &verdict.decision {
        Decision::NothingForbids => "nothing forbids".to_owned(),
        Decision::Allowed(speaker) => format!("allowed {}", rule(speaker)),
        Decision::Refused(Refusal::Denied(speaker)) => format!("denied {}", rule(speaker)),
        Decision::Refused(Refusal::NoneAllowed) => "none allowed".to_owned(),
        Decision::Refused(Refusal::Missing(key)) => format!("missing {}", key.name),
        Decision::Refused(Refusal::Unreadable(key)) => format!("unreadable {}", key.name),
    };
    let note = |note: &DryRun<'_>| match note {
        DryRun::WouldDeny(speaker) => format!("would deny {}", rule(speaker)),
        DryRun::WouldAllow(speaker) => format!("would allow {}", rule(speaker)),
        DryRun::WouldAllowNone => "would allow none".to_owned(),
    };
    Expected {
        decision,
        audited: verdict.audited.as_ref().map(rule),
        dry_run: verdict.dry_run.iter().map(note).collect(),
    }
}
