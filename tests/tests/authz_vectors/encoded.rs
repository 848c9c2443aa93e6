//! The edge vectors on the level of messages, which no object of a user leads to.

use lateen_policy::{
    decide::{Facts, decide},
    model::Policy,
};
use lateen_state::{decode, index::Change};
use lateen_wire::security::{Action, Address, Authorization, Clause, Match, Rule, StringMatch};
use prost::Message as _;

fn decoded(rules: Vec<Rule>) -> Result<Box<Policy>, String> {
    let message = Authorization {
        name: "p".to_owned(),
        namespace: "shop".to_owned(),
        action: Action::Deny.into(),
        rules,
        ..Authorization::default()
    };
    match decode::policy(&message.encode_to_vec()) {
        Ok(Change::Policy(policy)) => Ok(policy),
        Ok(other) => panic!("a policy became {other:?}"),
        Err(error) => Err(error.to_string()),
    }
}

/// Whether a DENY policy with these rules refuses a plaintext call from `source`.
fn fires(rules: Vec<Rule>, source: &str) -> bool {
    let policy = decoded(rules).expect("decodes");
    let source = format!("{source}:40000").parse().expect("an address");
    let destination = "10.0.0.9:80".parse().expect("an address");
    !decide(&[&policy], &Facts { source, destination, identity: None, client: None }).is_allowed()
}

fn one(only: Match) -> Vec<Rule> {
    vec![Rule { clauses: vec![Clause { matches: vec![only] }] }]
}

#[test]
fn empty_levels_keep_their_meaning_on_the_wire() {
    assert!(!fires(vec![], "10.0.0.1"), "[]");
    assert!(fires(vec![Rule { clauses: vec![] }], "10.0.0.1"), "[[]]");
    assert!(fires(vec![Rule { clauses: vec![Clause { matches: vec![] }] }], "10.0.0.1"), "[[[]]]");
    assert!(!fires(one(Match::default()), "10.0.0.1"), "[[[{{}}]]]");
}

#[test]
fn host_bits_of_a_block_do_not_count() {
    let block = |address: &[u8], length| {
        one(Match { source_ips: vec![Address { address: address.to_vec(), length }], ..Match::default() })
    };
    assert!(fires(block(&[127, 0, 0, 1], 24), "127.0.0.4"));
    assert!(!fires(block(&[127, 0, 0, 1], 24), "127.0.1.4"));
    assert!(fires(block(&[0; 4], 0), "10.0.0.1"));
    assert!(!fires(block(&[0; 16], 0), "10.0.0.1"), "IPv6 never holds IPv4");
}

/// A condition that cannot be understood must not become one that asks nothing.
#[test]
fn what_cannot_be_understood_is_refused_and_named() {
    let block = |address: &[u8], length| Match {
        source_ips: vec![Address { address: address.to_vec(), length }],
        ..Match::default()
    };
    for (what, broken) in [
        ("three bytes of address", block(&[1, 2, 3], 24)),
        ("a prefix longer than the address", block(&[1, 2, 3, 4], 33)),
        ("a string match of no kind", Match { principals: vec![StringMatch::default()], ..Match::default() }),
        ("a port over 65535", Match { destination_ports: vec![65_616], ..Match::default() }),
    ] {
        assert!(decoded(one(broken)).is_err(), "{what} was accepted");
    }
}
