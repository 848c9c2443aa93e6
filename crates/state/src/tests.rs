//! The store's behaviour through its public face: wire resources in, look-ups out.

use std::{net::IpAddr, sync::Arc, time::Duration};

use lateen_types::{addr::NetworkAddress, id::Namespace, name::NamespacedHostname};
use lateen_wire::{security, workload as wire};
use prost::Message as _;

use crate::{
    decode,
    index::Change,
    lookup::Known,
    wait,
    workload::{PodKey, Workload},
    world::{World, WorldStore},
};

const HOST: &str = "web.shop.svc.cluster.local";

fn workload(name: &str, ip: &str) -> wire::Workload {
    let addresses = if ip.is_empty() { vec![] } else { vec![bytes(ip)] };
    wire::Workload {
        uid: format!("Kubernetes//Pod/shop/{name}"),
        name: name.into(),
        namespace: "shop".into(),
        node: "node-1".into(),
        addresses,
        ..Default::default()
    }
}

fn of_service(workload: wire::Workload) -> wire::Workload {
    wire::Workload { services: [(format!("shop/{HOST}"), wire::PortList::default())].into(), ..workload }
}

fn service(namespace: &str, vips: &[&str]) -> wire::Service {
    wire::Service {
        name: "web".into(),
        namespace: namespace.into(),
        hostname: HOST.into(),
        addresses: vips.iter().map(|vip| range(vip)).collect(),
        ports: vec![wire::Port { service_port: 80, target_port: 8080, app_protocol: 0 }],
        ..Default::default()
    }
}

/// `10.0.0.1` or `10.0.0.0/8`, optionally in a network: `n/10.0.0.0/8` is written `n|10.0.0.0/8`.
fn range(text: &str) -> wire::NetworkAddress {
    let (network, rest) = text.split_once('|').unwrap_or(("", text));
    let (ip, length) = rest.split_once('/').map_or((rest, None), |(ip, length)| (ip, length.parse().ok()));
    wire::NetworkAddress { network: network.into(), address: bytes(ip), length }
}

fn bytes(ip: &str) -> Vec<u8> {
    match ip.parse().expect("an address") {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

fn w(workload: wire::Workload) -> Change {
    let message = wire::Address { r#type: Some(wire::address::Type::Workload(workload)) };
    decode::address(&message.encode_to_vec()).expect("good")
}

/// A workload of which only the uid matters.
pub(crate) fn named(uid: &str) -> Arc<Workload> {
    reached(uid, &[])
}

/// A workload with these addresses.
pub(crate) fn reached(uid: &str, ips: &[&str]) -> Arc<Workload> {
    let addresses = ips.iter().map(|ip| bytes(ip)).collect();
    let Change::Workload(workload) = w(wire::Workload { uid: uid.into(), addresses, ..workload(uid, "") }) else {
        panic!("a workload");
    };
    workload
}

fn s(service: wire::Service) -> Change {
    let message = wire::Address { r#type: Some(wire::address::Type::Service(service)) };
    decode::address(&message.encode_to_vec()).expect("good")
}

fn gone(name: &str) -> Change {
    Change::RemoveAddress(name.into())
}

fn gone_pod(name: &str) -> Change {
    gone(&format!("Kubernetes//Pod/shop/{name}"))
}

pub(crate) fn at(ip: &str) -> NetworkAddress {
    NetworkAddress { network: "".into(), ip: ip.parse().expect("an address") }
}

fn key() -> NamespacedHostname {
    format!("shop/{HOST}").parse().expect("valid")
}

fn endpoints(world: &World) -> Vec<String> {
    let service = world.service(&key()).expect("known");
    world.endpoints(service).map(|endpoint| endpoint.workload.name.to_string()).collect()
}

fn store(changes: Vec<Change>) -> WorldStore {
    let store = WorldStore::new(Some("node-1".into()));
    store.apply(changes);
    store
}

fn vip_namespace(world: &World, ip: &str, caller: &str) -> Option<String> {
    world.service_by_vip(&at(ip), &caller.into()).map(|service| service.key.namespace.to_string())
}

#[test]
fn endpoints_and_services_find_each_other_in_either_order() {
    let endpoint = || w(of_service(workload("a", "10.0.0.1")));
    for changes in
        [vec![endpoint(), s(service("shop", &["10.9.0.1"]))], vec![s(service("shop", &["10.9.0.1"])), endpoint()]]
    {
        assert_eq!(endpoints(&store(changes).load()), ["a"]);
    }
}

#[test]
fn an_endpoint_waits_for_a_service_that_is_not_there() {
    let store = store(vec![w(of_service(workload("a", "10.0.0.1")))]);
    assert_eq!(store.load().staged().count(), 1);
    store.apply([s(service("shop", &[]))]);
    assert_eq!(store.load().staged().count(), 0);
    store.apply([gone(&format!("shop/{HOST}"))]);
    store.apply([s(service("shop", &[]))]);
    assert_eq!(endpoints(&store.load()), ["a"], "a service that comes back finds its endpoints");
}

#[test]
fn replacing_a_service_keeps_endpoints_and_drops_old_addresses() {
    let store = store(vec![s(service("shop", &["10.9.0.1"])), w(of_service(workload("a", "10.0.0.1")))]);
    store.apply([s(service("shop", &["10.9.0.2"]))]);
    let world = store.load();
    assert_eq!(endpoints(&world), ["a"]);
    assert!(vip_namespace(&world, "10.9.0.1", "shop").is_none());
    assert!(vip_namespace(&world, "10.9.0.2", "shop").is_some());
}

#[test]
fn leaving_a_service_or_the_mesh_removes_the_endpoint() {
    let store = store(vec![s(service("shop", &[])), w(of_service(workload("a", "10.0.0.1")))]);
    store.apply([w(workload("a", "10.0.0.1"))]);
    assert!(endpoints(&store.load()).is_empty());
    store.apply([w(of_service(workload("a", "10.0.0.1")))]);
    store.apply([gone_pod("a")]);
    assert!(endpoints(&store.load()).is_empty());
}

#[test]
fn after_removing_everything_nothing_is_left() {
    let store = store(vec![
        s(service("shop", &["10.9.0.1", "10.8.0.0/16"])),
        w(of_service(workload("a", "10.0.0.1"))),
        w(of_service(wire::Workload { hostname: "a.example".into(), ..workload("b", "") })),
    ]);
    store.apply([gone(&format!("shop/{HOST}")), gone_pod("a"), gone_pod("b"), gone("unknown"), gone("un/known")]);
    let world = store.load();
    assert_eq!((world.address_count(), world.services().count(), world.workloads().count()), (0, 0, 0));
    assert_eq!((world.staged().count(), world.local.len(), world.by_workload_hostname.len()), (0, 0, 0));
    assert!(world.with_cidrs.is_empty() && world.by_hostname.is_empty() && world.endpoints.is_empty());
}

#[test]
fn of_two_workloads_with_one_address_the_stronger_claim_wins() {
    let entry = |uid: &str, tunnel: wire::TunnelProtocol| {
        let named = wire::Workload { uid: uid.into(), tunnel_protocol: tunnel.into(), ..workload(uid, "10.0.0.1") };
        w(named)
    };
    use wire::TunnelProtocol::{Hbone, None};
    let store = store(vec![
        entry("k/networking.istio.io/WorkloadEntry/shop/e", None),
        entry("k/networking.istio.io/WorkloadEntry/shop/h", Hbone),
        entry("k//Pod/shop/plain", None),
        entry("k//Pod/shop/mesh", Hbone),
    ]);
    let order = [
        "k//Pod/shop/mesh",
        "k//Pod/shop/plain",
        "k/networking.istio.io/WorkloadEntry/shop/h",
        "k/networking.istio.io/WorkloadEntry/shop/e",
    ];
    for uid in order {
        assert_eq!(store.load().workload_by_ip(&at("10.0.0.1")).expect("known").uid.as_str(), uid);
        store.apply([gone(uid)]);
    }
    assert!(store.load().workload_by_ip(&at("10.0.0.1")).is_none());
}

#[test]
fn host_network_workloads_are_not_found_by_address() {
    let host = wire::Workload { network_mode: wire::NetworkMode::HostNetwork.into(), ..workload("a", "10.0.0.1") };
    assert!(store(vec![w(host)]).load().workload_by_ip(&at("10.0.0.1")).is_none());
}

#[test]
fn health_decides_and_a_loosened_policy_brings_endpoints_back() {
    let sick = |name: &str| {
        w(of_service(wire::Workload { status: wire::WorkloadStatus::Unhealthy.into(), ..workload(name, "10.0.0.1") }))
    };
    let open = wire::LoadBalancing { health_policy: 1, ..Default::default() };
    let store = store(vec![sick("a"), s(service("shop", &[]))]);
    assert!(endpoints(&store.load()).is_empty());
    store.apply([s(wire::Service { load_balancing: Some(open), ..service("shop", &[]) })]);
    assert_eq!(endpoints(&store.load()), ["a"], "ALLOW_ALL brings it back without a push of the workload");
    store.apply([s(service("shop", &[]))]);
    assert!(endpoints(&store.load()).is_empty());
    store.apply([w(of_service(workload("a", "10.0.0.1")))]);
    assert_eq!(endpoints(&store.load()), ["a"], "healthy again");
    store.apply([sick("a")]);
    assert!(endpoints(&store.load()).is_empty());
}

#[test]
fn a_batch_applies_in_order_and_at_once() {
    let store = store(vec![s(service("shop", &[]))]);
    let before = store.load();
    store.apply([w(of_service(workload("a", "10.0.0.1"))), gone_pod("a"), w(of_service(workload("b", "10.0.0.1")))]);
    assert!(endpoints(&before).is_empty(), "a snapshot never changes");
    assert_eq!(endpoints(&store.load()), ["b"]);
}

#[test]
fn a_shared_address_goes_to_the_callers_namespace_then_canonical_then_first() {
    let canonical = wire::Service { canonical: true, ..service("third", &["10.9.0.1"]) };
    let store = store(vec![s(service("first", &["10.9.0.1"])), s(service("second", &["10.9.0.1"]))]);
    assert_eq!(vip_namespace(&store.load(), "10.9.0.1", "second").as_deref(), Some("second"));
    assert_eq!(vip_namespace(&store.load(), "10.9.0.1", "other").as_deref(), Some("first"));
    store.apply([s(canonical)]);
    let world = store.load();
    assert_eq!(vip_namespace(&world, "10.9.0.1", "other").as_deref(), Some("third"));
    let named = |caller: &str, preferred: Option<&str>| {
        let preferred = preferred.map(Namespace::from);
        let found = world.service_by_hostname(&HOST.into(), &caller.into(), preferred.as_ref());
        found.expect("known").key.namespace.to_string()
    };
    assert_eq!(named("second", None), "second");
    assert_eq!(named("other", Some("first")), "third", "canonical goes before the preferred namespace");
    store.apply([s(service("third", &[]))]);
    let world = store.load();
    let preferred = world.service_by_hostname(&HOST.into(), &"other".into(), Some(&"second".into()));
    assert_eq!(preferred.expect("known").key.namespace.as_str(), "second");
}

#[test]
fn private_services_are_hidden_from_others() {
    let private = wire::Service { visibility: 1, ..service("shop", &["10.9.0.1"]) };
    let store = store(vec![s(private), s(service("wide", &["10.9.0.0/16"]))]);
    let world = store.load();
    assert_eq!(vip_namespace(&world, "10.9.0.1", "shop").as_deref(), Some("shop"));
    assert_eq!(vip_namespace(&world, "10.9.0.1", "other").as_deref(), Some("wide"), "it does not block the range");
    let hidden = world.service_by_hostname(&HOST.into(), &"other".into(), None);
    assert_eq!(hidden.expect("the public one").key.namespace.as_str(), "wide");
}

#[test]
fn ranges_match_by_namespace_then_length_and_never_beat_an_exact_address() {
    let store = store(vec![
        s(service("wide", &["10.0.0.0/8", "2001:db8::/32"])),
        s(service("narrow", &["10.9.0.0/16"])),
        s(service("exact", &["10.9.0.1"])),
        s(service("elsewhere", &["n2|10.9.1.0/24"])),
    ]);
    let world = store.load();
    let check = |ip: &str, caller: &str, expected: Option<&str>| {
        assert_eq!(vip_namespace(&world, ip, caller).as_deref(), expected, "{ip} from {caller}");
    };
    check("10.1.1.1", "x", Some("wide"));
    check("10.9.1.1", "x", Some("narrow"));
    check("10.9.1.1", "wide", Some("wide"));
    check("10.9.0.1", "wide", Some("exact"));
    check("2001:db8::1", "x", Some("wide"));
    check("2001:db9::1", "x", None);
    check("11.0.0.1", "x", None);
    let other = NetworkAddress { network: "n2".into(), ip: "10.9.1.1".parse().expect("valid") };
    assert_eq!(world.service_by_vip(&other, &"x".into()).expect("known").key.namespace.as_str(), "elsewhere");
    store.apply([gone(&format!("narrow/{HOST}"))]);
    assert_eq!(vip_namespace(&store.load(), "10.9.1.1", "x").as_deref(), Some("wide"));
}

#[test]
fn a_workload_goes_before_a_service_at_one_address() {
    let store = store(vec![w(workload("a", "10.9.0.1")), s(service("shop", &["10.9.0.1"]))]);
    let world = store.load();
    assert!(matches!(world.known_at(&at("10.9.0.1"), &"shop".into()), Some(Known::Workload(_))));
    store.apply([gone_pod("a")]);
    assert!(matches!(store.load().known_at(&at("10.9.0.1"), &"shop".into()), Some(Known::Service(_))));
}

fn policy(namespace: &str, name: &str, scope: security::Scope) -> Change {
    let message = security::Authorization {
        name: name.into(),
        namespace: namespace.into(),
        scope: scope.into(),
        ..Default::default()
    };
    decode::policy(&message.encode_to_vec()).expect("good")
}

fn names(world: &World, pod: &str) -> (Vec<String>, Vec<String>) {
    let uid = format!("Kubernetes//Pod/shop/{pod}");
    let found = world.policies_for(world.workload(&uid.as_str().into()).expect("known"));
    let known = found.known.iter().map(|policy| policy.key.to_string()).collect();
    (known, found.missing.iter().map(ToString::to_string).collect())
}

#[test]
fn policies_apply_by_scope_and_a_missing_one_is_reported() {
    use security::Scope::{Global, Namespace, WorkloadSelector};
    let named = wire::Workload {
        authorization_policies: vec!["shop/chosen".into(), "shop/later".into()],
        ..workload("a", "10.0.0.1")
    };
    let store = store(vec![
        w(named),
        policy("istio-system", "mesh", Global),
        policy("shop", "all", Namespace),
        policy("other", "not-ours", Namespace),
        policy("shop", "chosen", WorkloadSelector),
        policy("shop", "not-chosen", WorkloadSelector),
    ]);
    let (known, missing) = names(&store.load(), "a");
    assert_eq!(known, ["istio-system/mesh", "shop/all", "shop/chosen"]);
    assert_eq!(missing, ["shop/later"]);
    store.apply([policy("shop", "later", WorkloadSelector), Change::RemovePolicy("istio-system/mesh".into())]);
    let (known, missing) = names(&store.load(), "a");
    assert_eq!(known, ["shop/all", "shop/chosen", "shop/later"]);
    assert!(missing.is_empty());
}

#[test]
fn a_changed_scope_moves_the_policy() {
    use security::Scope::{Global, Namespace, WorkloadSelector};
    let store = store(vec![w(workload("a", "10.0.0.1")), policy("shop", "p", Global)]);
    for (scope, applies) in [(Namespace, true), (WorkloadSelector, false), (Global, true)] {
        store.apply([policy("shop", "p", scope)]);
        assert_eq!(!names(&store.load(), "a").0.is_empty(), applies, "{scope:?}");
    }
    store.apply([Change::RemovePolicy("shop/p".into())]);
    assert!(names(&store.load(), "a").0.is_empty());
}

#[test]
fn the_verdict_epoch_moves_with_policies_and_local_workloads_only() {
    let store = store(vec![w(workload("a", "10.0.0.1"))]);
    let epoch = || store.load().verdict_epoch();
    let start = epoch();
    store.apply([
        w(wire::Workload { node: "node-2".into(), ..workload("b", "10.0.0.2") }),
        w(workload("a", "10.0.0.1")),
    ]);
    assert_eq!(epoch(), start, "a remote workload, and a repeat, change no verdict here");
    store.apply([w(wire::Workload { authorization_policies: vec!["shop/p".into()], ..workload("a", "10.0.0.1") })]);
    let attached = epoch();
    assert_ne!(attached, start);
    store.apply([policy("shop", "p", security::Scope::WorkloadSelector)]);
    assert_ne!(epoch(), attached);
}

fn pod(name: &str) -> PodKey {
    PodKey { name: name.into(), namespace: "shop".into(), service_account: "default".into() }
}

#[tokio::test(start_paused = true)]
async fn waiting_for_a_workload_of_our_node() {
    let store = store(vec![w(workload("a", "10.0.0.1"))]);
    let long = Duration::from_secs(5);
    wait::local_workload(&store, &pod("a"), Duration::ZERO).await.expect("there already");
    wait::local_workload(&store, &pod("b"), long).await.expect_err("never comes");
    let wrong = PodKey { service_account: "other".into(), ..pod("a") };
    wait::local_workload(&store, &wrong, long).await.expect_err("another account");
    let later = store.clone();
    let arrive = async move {
        tokio::task::yield_now().await;
        later.apply([w(wire::Workload { node: "node-2".into(), ..workload("c", "10.0.0.3") })]);
        tokio::task::yield_now().await;
        later.apply([w(workload("c", "10.0.0.3"))]);
    };
    let key = pod("c");
    let (found, ()) = tokio::join!(wait::local_workload(&store, &key, long), arrive);
    assert_eq!(found.expect("comes").1.place.node.as_str(), "node-1", "the one of another node is not ours");
}

#[tokio::test(start_paused = true)]
async fn an_unknown_address_is_demanded_once_and_waited_for() {
    let store = WorldStore::new(None);
    let asked = wait::Asked::default();
    let (inbox, demands) = (asked.inbox().clone(), wait::Demands::On(asked.clone()));
    let answer = async {
        assert_eq!(inbox.drain().await, ["/10.0.0.1"]);
        store.apply([w(workload("a", "10.0.0.1"))]);
    };
    let wanted = at("10.0.0.1");
    let (world, ()) = tokio::join!(wait::address(&store, &demands, &wanted), answer);
    assert!(world.expect("answered").workload_by_ip(&wanted).is_some());
    let silence = wait::address(&store, &demands, &at("10.0.0.9")).await.expect_err("nobody answers");
    assert_eq!(
        (silence.address.as_str(), silence.after),
        ("/10.0.0.9", wait::DEMAND_TIMEOUT),
        "silence is no \"none\""
    );
    inbox.take();
    let nobody = async {
        assert_eq!(inbox.drain().await, ["/10.0.0.8"]);
        asked.answered(&["/10.0.0.7".to_owned()]);
        asked.answered(&["/10.0.0.8".to_owned()]);
    };
    let begun = tokio::time::Instant::now();
    let eighth = at("10.0.0.8");
    tokio::join!(wait::address(&store, &demands, &eighth), nobody).0.expect("\"there is none\" is an answer");
    assert!(begun.elapsed() < wait::DEMAND_TIMEOUT, "\"there is none\" ends the wait");
    let unasked = wait::address(&store, &wait::Demands::Off, &at("1.1.1.1")).await.expect("nobody is asked");
    assert!(Arc::ptr_eq(&unasked, &store.load()));
}

fn unusable(key: &str, claims: &[&str], claim: u8) -> Change {
    let mut one = crate::unusable::Unusable {
        key: key.into(),
        reason: "why".into(),
        addresses: Vec::new(),
        ranges: Vec::new(),
        only_for: None,
        claim,
    };
    for text in claims {
        match text.parse::<ipnet::IpNet>() {
            Ok(cidr) => one.ranges.push(crate::service::NetworkCidr { network: "".into(), cidr }),
            Err(_) => one.addresses.push(at(text)),
        }
    }
    Change::Unusable(Box::new(one))
}

#[test]
fn what_cannot_be_read_refuses_unless_something_better_is_known_there() {
    const SERVICE: &str = "shop/web.shop.svc.cluster.local";
    let check = |changes: Vec<Change>, ip: &str, expected: &str| {
        let store = store(changes);
        let got = match store.load().known_at(&at(ip), &"shop".into()) {
            Some(Known::Workload(_)) => "workload",
            Some(Known::Service(_)) => "service",
            Some(Known::Unusable(_)) => "unusable",
            None => "nothing",
        };
        assert_eq!(got, expected, "{ip}");
        assert!(store.load().holds(&at(ip)), "on demand nobody waits for what is known to be unusable");
    };
    check(vec![unusable("k//Pod/shop/x", &["10.0.0.1"], 3)], "10.0.0.1", "unusable");
    let held = || w(workload("a", "10.0.0.1"));
    check(vec![held(), unusable("Kubernetes//Pod/shop/a", &["10.0.0.1"], 3)], "10.0.0.1", "workload");
    check(vec![held(), unusable("k//Pod/shop/x", &["10.0.0.1"], 3)], "10.0.0.1", "unusable");
    check(vec![held(), unusable("k/WorkloadEntry/shop/x", &["10.0.0.1"], 1)], "10.0.0.1", "workload");
    check(vec![held(), unusable("other/host", &["10.0.0.1"], u8::MAX)], "10.0.0.1", "unusable");
    check(vec![held(), unusable("other/host", &["10.0.0.0/8"], u8::MAX)], "10.0.0.1", "workload");
    let vip = || s(service("shop", &["10.9.0.1"]));
    check(vec![vip(), unusable(SERVICE, &["10.9.0.1"], u8::MAX)], "10.9.0.1", "service");
    check(vec![vip(), unusable("k//Pod/shop/x", &["10.9.0.1"], 3)], "10.9.0.1", "unusable");
    check(vec![vip(), unusable("other/host", &["10.9.0.0/16"], u8::MAX)], "10.9.0.1", "service");
    check(vec![vip(), unusable("other/host", &["10.9.0.0/16"], u8::MAX)], "10.9.0.2", "unusable");
}

#[test]
fn an_unusable_resource_ends_with_a_good_version_a_removal_or_another_bad_one() {
    let bad = |ip: &str| unusable("Kubernetes//Pod/shop/a", &[ip], 3);
    let store = store(vec![bad("10.0.0.1")]);
    let is_refused = |ip: &str| matches!(store.load().known_at(&at(ip), &"shop".into()), Some(Known::Unusable(_)));
    store.apply([bad("10.0.0.2")]);
    assert!(!is_refused("10.0.0.1") && is_refused("10.0.0.2"));
    store.apply([w(workload("a", "10.0.0.3"))]);
    assert!(!is_refused("10.0.0.2"));
    store.apply([bad("10.0.0.2"), gone_pod("a")]);
    assert!(!is_refused("10.0.0.2"));
    store.apply([unusable(&format!("shop/{HOST}"), &["10.9.0.0/16"], u8::MAX)]);
    assert!(is_refused("10.9.3.4"));
    store.apply([s(service("shop", &[]))]);
    assert!(!is_refused("10.9.3.4"));
    assert_eq!(store.load().unusable_count(), 0);
}

#[test]
fn what_workloads_have_in_common_is_kept_once() {
    let reached = |name: &str, ip: &str| match w(of_service(workload(name, ip))) {
        Change::Workload(workload) => workload,
        other => panic!("{other:?}"),
    };
    let (one, two) = (reached("a", "10.0.0.1"), reached("b", "10.0.0.2"));
    assert!(Arc::ptr_eq(&one.template, &two.template) && Arc::ptr_eq(&one.place, &two.place));
    // With the count in front: one of 100,000 costs this, its name and its uid.
    assert!(size_of::<Workload>() <= 80, "{}", size_of::<Workload>());
    let name: Arc<str> = "Kubernetes//Pod/shop/a".into();
    let message = wire::Address { r#type: Some(wire::address::Type::Workload(workload("a", "10.0.0.1"))) };
    let Change::Workload(named) = decode::address_named(&name, &message.encode_to_vec()).expect("good") else {
        panic!("a workload");
    };
    assert_eq!(named.uid.as_str().as_ptr(), name.as_ptr(), "the name is not copied");
}
