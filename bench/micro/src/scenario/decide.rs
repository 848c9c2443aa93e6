//! Policy: may this connection pass?

use std::{hint::black_box, net::SocketAddr};

use lateen_policy::{
    decide::{Decision, Facts, Refusal, decide},
    model::{Action, Clause, Match, Policy, Rule, Scope, StringMatch},
};
use lateen_types::id::SpiffeId;
use lateen_ztunnel::conns::Passage;

use super::Operation;
use crate::world;

/// What every rule of `many` asks besides the caller.
const PORT: u16 = 8080;
const POLICIES: usize = 20;
const RULES: usize = 25;

pub(super) fn allow_few() -> Operation {
    deciding(few(), "web", |decision| matches!(decision, Decision::Allow(_)))
}

pub(super) fn deny_few() -> Operation {
    deciding(few(), "evil", |decision| matches!(decision, Decision::Refuse(Refusal::ExplicitlyDenied(_))))
}

pub(super) fn allow_many() -> Operation {
    let last = format!("caller-{}", POLICIES * RULES - 1);
    deciding(many(), &last, |decision| matches!(decision, Decision::Allow(_)))
}

pub(super) fn none_many() -> Operation {
    deciding(many(), "stranger", |decision| matches!(decision, Decision::Refuse(Refusal::NoneAllowed)))
}

pub(super) fn of_the_world() -> Operation {
    let world = world::the();
    let workload = world.local_workload(&world::local()).expect("in the world").clone();
    let (source, destination) = (socket("10.0.3.7:41000"), world::server());
    let passage = Passage { source, destination, identity: Some(id("web")), client: None };
    assert!(passage.verdict(&world, &workload).is_allowed(), "the world's policies admit it");
    Box::new(move || {
        black_box(passage.verdict(black_box(&world), &workload));
    })
}

fn deciding<const N: usize>(policies: [Policy; N], caller: &str, is_right: fn(&Decision) -> bool) -> Operation {
    let identity = id(caller);
    let (source, destination) = (socket("10.0.3.7:41000"), SocketAddr::new(world::server().ip(), PORT));
    let verdict = move || {
        let facts = Facts { source, destination, identity: Some(&identity), client: None };
        decide(black_box(&policies.each_ref()), black_box(&facts))
    };
    assert!(is_right(&verdict().decision), "not the verdict that is to be counted");
    Box::new(move || {
        black_box(verdict());
    })
}

fn few() -> [Policy; 2] {
    let of = |action, name: &str, rules| Policy {
        key: format!("shop/{name}").parse().expect("a key"),
        scope: Scope::Namespace,
        action,
        dry_run: false,
        rules,
    };
    let allowed = vec![from("front", None), from("back", None), from("web", None)];
    [of(Action::Deny, "not-evil", vec![from("evil", None)]), of(Action::Allow, "callers", allowed)]
}

fn many() -> [Policy; POLICIES] {
    let policy = |at: usize| Policy {
        key: format!("shop/callers-{at}").parse().expect("a key"),
        scope: Scope::Namespace,
        action: Action::Allow,
        dry_run: false,
        rules: (0..RULES).map(|rule| from(&format!("caller-{}", at * RULES + rule), Some(PORT))).collect(),
    };
    std::array::from_fn(policy)
}

/// `from: principals`, and where given `to: ports`, as a decoder makes them of a policy.
pub(crate) fn from(caller: &str, port: Option<u16>) -> Rule {
    let principal = StringMatch::from_notation(id(caller).principal().as_str());
    let of_caller = Match { principals: [principal].into_iter().collect(), ..Match::default() };
    let to_port = port.map(|port| Match { destination_ports: [port].into_iter().collect(), ..Match::default() });
    let clauses = [of_caller].into_iter().chain(to_port).map(|one| Clause { matches: vec![one] });
    Rule { clauses: clauses.collect() }
}

fn id(account: &str) -> SpiffeId {
    SpiffeId::new("cluster.local".into(), "shop".into(), account.into()).expect("an identity")
}

fn socket(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}
