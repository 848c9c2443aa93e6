//! Tables for every rule of the spec, and the engine against a slow, obvious evaluator on random cases.

pub(crate) mod random;
pub(crate) mod reference;

use std::net::SocketAddr;

use lateen_types::id::SpiffeId;

use crate::{
    decide::{Allowed, Decision, DryRun, Facts, Miss, Refusal, Speaker, decide, decide_with_missing},
    explain::{RuleFinding, explain},
    model::{Account, Action, Clause, Match, Policy, Rule, Scope, StringMatch},
};

fn addr(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

fn id(text: &str) -> SpiffeId {
    format!("spiffe://{text}").parse().expect("an identity")
}

fn front() -> SpiffeId {
    id("cluster.local/ns/web/sa/front")
}

fn facts(identity: Option<&SpiffeId>) -> Facts<'_> {
    Facts { source: addr("10.1.2.3:40000"), destination: addr("10.0.0.9:80"), identity, client: None }
}

fn policy(name: &str, action: Action, rules: Vec<Rule>) -> Policy {
    let key = format!("shop/{name}").parse().expect("a key");
    Policy { key, scope: Scope::Namespace, action, dry_run: false, rules }
}

fn one(only: Match) -> Vec<Rule> {
    vec![Rule { clauses: vec![Clause { matches: vec![only] }] }]
}

fn strings(notation: &[&str]) -> crate::compile::Strings {
    notation.iter().map(|text| StringMatch::from_notation(text)).collect()
}

fn hits(only: Match, facts: &Facts<'_>) -> bool {
    decide(&[&policy("p", Action::Deny, one(only))], facts).refusal().is_some()
}

#[test]
fn empty_levels_mean_what_the_table_says() {
    let deny = |rules| decide(&[&policy("p", Action::Deny, rules)], &facts(None)).refusal().is_some();
    assert!(!deny(vec![]), "no rules: never matches");
    assert!(deny(vec![Rule::default()]), "a rule without clauses always matches");
    assert!(deny(vec![Rule { clauses: vec![Clause::default()] }]), "a clause without matches always matches");
    assert!(!deny(one(Match::default())), "a match without fields never matches");
    let beside = vec![Rule {
        clauses: vec![Clause {
            matches: vec![
                Match::default(),
                Match { destination_ports: [80].into_iter().collect(), ..Match::default() },
            ],
        }],
    }];
    assert!(deny(beside), "an empty match is skipped, the one beside it counts");
}

#[test]
fn rules_are_ored_and_clauses_anded() {
    let port =
        |port| Clause { matches: vec![Match { destination_ports: [port].into_iter().collect(), ..Match::default() }] };
    let deny = |rules| decide(&[&policy("p", Action::Deny, rules)], &facts(None)).refusal().is_some();
    assert!(deny(vec![Rule { clauses: vec![port(81)] }, Rule { clauses: vec![port(80)] }]));
    assert!(!deny(vec![Rule { clauses: vec![port(80), port(81)] }]));
}

#[test]
fn strings_compare_in_four_ways_with_case() {
    for (notation, text, expected) in [
        ("abc", "abc", true),
        ("abc", "abcd", false),
        ("Abc", "abc", false),
        ("ab*", "abc", true),
        ("ab*", "ab", true),
        ("ab*", "xab", false),
        ("*bc", "abc", true),
        ("*bc", "bcd", false),
        ("*", "x", true),
        ("*", "", false),
        ("", "", true),
        ("a*c", "abc", false),
        ("a*c", "a*c", true),
    ] {
        assert_eq!(StringMatch::from_notation(notation).hits(text), expected, "{notation:?} on {text:?}");
        assert_eq!(strings(&[notation]).hits(text), expected, "{notation:?} on {text:?} as a list");
        assert_eq!(StringMatch::from_notation(notation).to_string(), notation);
    }
}

#[test]
fn principals_are_compared_without_the_scheme() {
    let front = front();
    let facts = facts(Some(&front));
    let on = |notation: &str| hits(Match { principals: strings(&[notation]), ..Match::default() }, &facts);
    assert!(on("cluster.local/ns/web/sa/front"));
    assert!(on("cluster.local/ns/web/*"));
    assert!(on("*/sa/front"));
    assert!(on("*"));
    assert!(!on("spiffe://cluster.local/ns/web/sa/front"));
    assert!(!on("spiffe://*"));
}

#[test]
fn without_identity_positives_fail_and_negatives_hold() {
    let account = Account { namespace: "web".into(), service_account: "front".into() };
    let cases = [
        ("principals *", Match { principals: strings(&["*"]), ..Match::default() }, false),
        ("principals prefix nothing", prefix_nothing(), false),
        ("namespaces *", Match { namespaces: strings(&["*"]), ..Match::default() }, false),
        ("namespaces exactly nothing", Match { namespaces: strings(&[""]), ..Match::default() }, true),
        ("accounts", Match { service_accounts: [account.clone()].into_iter().collect(), ..Match::default() }, false),
        ("not principals", Match { not_principals: strings(&["*"]), ..Match::default() }, true),
        ("not namespaces", Match { not_namespaces: strings(&["shop"]), ..Match::default() }, true),
        ("not accounts", Match { not_service_accounts: [account].into_iter().collect(), ..Match::default() }, true),
    ];
    for (name, only, expected) in cases {
        assert_eq!(hits(only, &facts(None)), expected, "{name}");
    }
}

fn prefix_nothing() -> Match {
    Match { principals: [StringMatch::Prefix("".into())].into_iter().collect(), ..Match::default() }
}

#[test]
fn accounts_ignore_the_trust_domain() {
    let account = Account { namespace: "web".into(), service_account: "front".into() };
    let list: crate::compile::Accounts = [account].into_iter().collect();
    assert!(list.hits(&front()));
    assert!(list.hits(&id("other.org/ns/web/sa/front")));
    assert!(!list.hits(&id("cluster.local/ns/web/sa/back")));
    assert!(!list.hits(&id("cluster.local/ns/shop/sa/front")));
}

#[test]
fn blocks_ignore_host_bits_and_never_mix_families() {
    for (blocks, ip, expected) in [
        (&["127.0.0.1/24"][..], "127.0.0.4", true),
        (&["10.1.0.0/16"], "10.1.2.3", true),
        (&["10.1.0.0/16"], "10.2.0.1", false),
        (&["0.0.0.0/0"], "::1", false),
        (&["::/0"], "10.0.0.1", false),
        (&["0.0.0.0/0"], "::ffff:10.0.0.1", true),
        (&["::/0"], "::ffff:10.0.0.1", false),
        (&["fd00::/8"], "fd00::1", true),
        (&["10.0.0.0/8", "10.1.0.0/16", "192.168.0.0/16"], "10.200.0.1", true),
        (&["10.0.0.0/25", "10.0.0.128/25", "10.0.2.0/24"], "10.0.1.0", false),
        (&["10.0.0.1/32"], "10.0.0.0", false),
        (&["0.0.0.0/0"], "255.255.255.255", true),
    ] {
        let list: crate::compile::Blocks = blocks.iter().map(|text| text.parse().expect("a block")).collect();
        assert_eq!(list.hits(ip.parse().expect("an address")), expected, "{ip} in {blocks:?}");
        assert_eq!(list.iter().count(), blocks.len(), "dumps show what was written");
    }
}

#[test]
fn deny_speaks_first_then_a_missing_policy_then_allow() {
    let all = || vec![Rule::default()];
    let (deny, allow) = (policy("deny", Action::Deny, all()), policy("allow", Action::Allow, all()));
    let missing = ["shop/later".parse().expect("a key")];
    let verdict = |policies: &[&Policy], missing| decide_with_missing(policies, missing, &facts(None)).decision;

    let spoke = |name: &str| Speaker { policy: format!("shop/{name}").parse().expect("a key"), rule: 0 };
    assert_eq!(verdict(&[], &[]), Decision::Allow(Allowed::NoAllowPolicies));
    assert_eq!(verdict(&[&allow], &[]), Decision::Allow(Allowed::By(spoke("allow"))));
    assert_eq!(verdict(&[&allow, &deny], &[]), Decision::Refuse(Refusal::ExplicitlyDenied(spoke("deny"))));
    assert_eq!(verdict(&[&allow], &missing), Decision::Refuse(Refusal::PolicyMissing(missing[0].clone())));
    assert_eq!(verdict(&[&deny], &missing), Decision::Refuse(Refusal::ExplicitlyDenied(spoke("deny"))));
    let none = policy("none", Action::Allow, vec![]);
    assert_eq!(verdict(&[&none], &[]), Decision::Refuse(Refusal::NoneAllowed));
}

#[test]
fn refusals_read_as_the_references() {
    let speaker = Speaker { policy: "shop/no-plaintext".parse().expect("a key"), rule: 0 };
    assert_eq!(Refusal::ExplicitlyDenied(speaker).to_string(), "explicitly denied by: shop/no-plaintext");
    assert_eq!(Refusal::NoneAllowed.to_string(), "allow policies exist, but none allowed");
    let later = Refusal::PolicyMissing("shop/later".parse().expect("a key"));
    assert_eq!(later.to_string(), "policy shop/later is attached to the destination but has not arrived");
}

#[test]
fn dry_run_is_noted_and_never_enforced() {
    let tried = |name: &str, action, rules| Policy { dry_run: true, ..policy(name, action, rules) };
    let all = || vec![Rule::default()];
    let speaker = |name: &str| Speaker { policy: format!("shop/{name}").parse().expect("a key"), rule: 0 };

    let (deny, allow) = (tried("d", Action::Deny, all()), tried("a", Action::Allow, all()));
    let nobody = tried("n", Action::Allow, vec![]);
    let (real_allow, real_deny) = (policy("ra", Action::Allow, all()), policy("rd", Action::Deny, all()));
    for (policies, allowed, notes) in [
        (vec![&deny], true, vec![DryRun::WouldDeny(speaker("d"))]),
        (vec![&allow], true, vec![DryRun::WouldAllow(speaker("a"))]),
        (vec![&nobody], true, vec![DryRun::WouldAllowNone]),
        (vec![&nobody, &real_allow], true, vec![]),
        (vec![&deny, &nobody], true, vec![DryRun::WouldDeny(speaker("d")), DryRun::WouldAllowNone]),
        (vec![&deny, &allow, &real_deny], false, vec![DryRun::WouldDeny(speaker("d"))]),
    ] {
        let verdict = decide(&policies, &facts(None));
        assert_eq!((verdict.is_allowed(), &verdict.dry_run), (allowed, &notes), "{policies:?}");
    }
}

#[test]
fn an_explanation_names_the_clause_and_the_fields() {
    let from_batch = Match { namespaces: strings(&["batch"]), ..Match::default() };
    let to_81 = Match { destination_ports: [81].into_iter().collect(), ..Match::default() };
    let rule = Rule { clauses: vec![Clause::default(), Clause { matches: vec![from_batch, Match::default(), to_81] }] };
    let policy = policy("p", Action::Allow, vec![rule, Rule::default()]);
    let front = front();
    let findings = explain(&[&policy], &facts(Some(&front)));
    let stopped = RuleFinding::Stopped { clause: 1, misses: vec![Miss::Namespace, Miss::Empty, Miss::DestinationPort] };
    assert_eq!(findings[0].rules, [stopped, RuleFinding::Matched]);
    assert!(findings[0].matched());
}

/// A waypoint that speaks for a client is both: see [`Facts::client`].
#[test]
fn a_client_behind_a_waypoint_is_seen_beside_it() {
    let (waypoint, client) = (id("cluster.local/ns/shop/sa/waypoint"), front());
    let through = Facts { client: Some(&client), ..facts(Some(&waypoint)) };
    let list = |text: &str| [StringMatch::from_notation(text)].into_iter().collect();
    let of_client = || Match { principals: list("cluster.local/ns/web/sa/front"), ..Match::default() };
    let of_waypoint = || Match { principals: list("cluster.local/ns/shop/sa/waypoint"), ..Match::default() };
    let but_waypoint = Match { not_principals: list("cluster.local/ns/shop/sa/waypoint"), ..Match::default() };
    let but_client = Match { not_namespaces: list("web"), ..Match::default() };
    let through_and_from = Match { namespaces: list("web"), ..of_waypoint() };
    let through_but_not_from = Match { not_namespaces: list("web"), ..of_waypoint() };
    let accounts = [Account { namespace: "web".into(), service_account: "front".into() }].into_iter().collect();
    let of_account = Match { service_accounts: accounts, ..Match::default() };
    for (action, only, spoken_for, alone) in [
        (Action::Allow, of_client(), true, false),
        (Action::Allow, of_waypoint(), true, true),
        (Action::Allow, of_account, true, false),
        (Action::Allow, but_client.clone(), false, true),
        (Action::Allow, through_and_from, true, false),
        (Action::Allow, through_but_not_from, false, true),
        (Action::Deny, of_client(), false, true),
        // "Nobody but the waypoint" holds of what comes through it, whoever that is for.
        (Action::Deny, but_waypoint, true, true),
        (Action::Deny, but_client, true, false),
    ] {
        let policy = policy("p", action, one(only));
        let passes = |facts: &Facts<'_>| decide(&[&policy], facts).is_allowed();
        assert_eq!(passes(&through), spoken_for, "{policy:?} for a client");
        assert_eq!(passes(&facts(Some(&waypoint))), alone, "{policy:?} for nobody");
    }
}
