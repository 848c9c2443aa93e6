//! Whatever a pod's namespace holds, a plan put into it gives the same rules, and once more changes nothing:
//! apply(apply(x)) = apply(x), for random plans over random remains.
//!
//! The seed is printed when a case fails; write it in place of the random one to see the case again.

mod fixture;

use fixture::{fresh, ip, output, visible};
use lateen_cni_agent::rules::{
    DnsCapture, Families, InboundCapture, InterfaceName, PodOptions, ProbeAddresses,
    apply::{Comparer, Found, apply, open, remove},
    plan::{PodRules, TABLE, plan},
};
use lateen_net::netns::Netns;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng, seq::IndexedRandom as _};

const CASES: u32 = 24;

#[tokio::test]
async fn a_plan_put_in_twice_is_the_plan_put_in_once_whatever_was_there() {
    let seed: u64 = rand::random();
    let mut random = StdRng::seed_from_u64(seed);
    let comparer = Comparer::default();
    for case in 0..CASES {
        let told = format!("seed {seed}, case {case}");
        let pod = fresh();
        let remains = leave_something(&mut random, &pod).await;
        let rules = random_plan(&mut random);
        apply(&pod, &rules).await.unwrap_or_else(|error| panic!("{told}, after {remains:?}: {error}"));
        let once = visible(&pod);
        apply(&pod, &rules).await.unwrap_or_else(|error| panic!("{told}, again after {remains:?}: {error}"));
        assert_eq!(visible(&pod), once, "{told}, after {remains:?}");
        let found = comparer.compare(&pod, &rules).await.expect("compares");
        assert_eq!(found, Found::Same, "{told}, after {remains:?}: {once}");
        let empty = fresh();
        apply(&empty, &rules).await.expect("applies");
        assert_eq!(table(&pod), table(&empty), "{told}: it depends on what was there: {remains:?}");
    }
}

fn random_plan(random: &mut StdRng) -> PodRules {
    let named = ["vif0", "tap-1", "cni0.7"].map(|name| InterfaceName::parse(name).expect("a name"));
    let probes = ProbeAddresses { v4: [10, 9, 8, 7].into(), ..ProbeAddresses::default() };
    plan(&PodOptions {
        families: *[Families::V4, Families::V6, Families::Both].choose(random).expect("some"),
        dns: *[DnsCapture::On, DnsCapture::Off].choose(random).expect("some"),
        inbound: *[InboundCapture::On, InboundCapture::Off].choose(random).expect("some"),
        virtual_interfaces: named.into_iter().filter(|_| random.random_bool(0.3)).collect(),
        probes: *[probes, ProbeAddresses::default()].choose(random).expect("some"),
    })
}

/// What an older agent, an interrupted one, another mesh or a person may leave; the words say what, for the failure.
async fn leave_something(random: &mut StdRng, pod: &Netns) -> Vec<&'static str> {
    let mut left = Vec::new();
    for _ in 0..random.random_range(0..4) {
        let (word, done) = match random.random_range(0..7) {
            0 => ("another plan", apply(pod, &random_plan(random)).await),
            1 => ("an opened table", open(pod).await),
            2 => ("a removed plan", remove(pod).await),
            3 => ("a table of that name without a rule", nft(pod, format!("add table inet {TABLE}"))),
            4 => {
                ("a chain of a name not ours", nft(pod, format!("add table inet {TABLE}; add chain inet {TABLE} odd")))
            }
            5 => ("a flushed table", nft(pod, format!("add table inet {TABLE}; flush table inet {TABLE}"))),
            _ => {
                ip(pod, &format!("rule add priority {} fwmark 0x111/0xfff lookup 101", 33_000 + left.len()));
                ("somebody's rule for our mark", Ok(()))
            }
        };
        done.unwrap_or_else(|error| panic!("{word}: {error}"));
        left.push(word);
    }
    left
}

fn nft(pod: &Netns, line: String) -> Result<(), lateen_cni_agent::rules::apply::ApplyError> {
    output(pod, "nft", &line);
    Ok(())
}

/// Our table as the kernel has it, without counters.
fn table(netns: &Netns) -> String {
    output(netns, "nft", &format!("-s list table inet {TABLE}"))
}
