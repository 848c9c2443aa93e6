//! Cases of the behaviour checklist, by id: OUT-xx and the load balancing table.

use std::collections::BTreeSet;

use lateen_state::{
    decode::{self, Refused},
    world::WorldStore,
};
use lateen_wire::workload::{self as wire, load_balancing as lb};
use prost::Message as _;
use rand::{SeedableRng as _, rngs::StdRng};

use super::*;
use crate::fixtures::{HOST, behind, gateway, named_gateway, plain, pod, service, world};
use crate::near::neighbours::Nobody;

const SOURCE: &str = "10.0.0.1";

fn source() -> wire::Workload {
    pod("client", &[SOURCE])
}

fn plan_from(store: &WorldStore, source: &str, dialled: &str, seed: u64) -> Result<Plan, PlanError> {
    let world = store.load();
    let source = world.workload(&format!("Kubernetes//Pod/shop/{source}").as_str().into()).expect("known").clone();
    let ask = Ask {
        world: &world,
        own_network: &source.network,
        source: &source,
        dialled: dialled.parse().expect("an address"),
        illegal_ports: &[15001, 15006, 15008],
        client: source.addresses.first().copied().unwrap_or([192, 0, 2, 1].into()),
        neighbours: &Nobody,
    };
    plan(&ask, &mut StdRng::seed_from_u64(seed))
}

/// The route as one line: `tcp A`, `hbone A authority`, `double A authority`, or `refused`; then ` -> workload`.
fn route(store: &WorldStore, dialled: &str) -> String {
    line(plan_from(store, "client", dialled, 1))
}

fn line(plan: Result<Plan, PlanError>) -> String {
    let plan = match plan {
        Ok(plan) => plan,
        Err(error) => return format!("refused: {error}"),
    };
    let to = |to: &To| match to {
        To::Addr(addr) => addr.to_string(),
        To::Host { hostname, port, .. } => format!("{hostname}:{port}"),
    };
    let authority = |authority: &Authority| match authority {
        Authority::Addr(addr) => addr.to_string(),
        Authority::Host(host, port) => format!("{host}:{port}"),
        Authority::Resolved(port) => format!("resolved:{port}"),
    };
    let route = match &plan.route {
        Route::Plain(at) => format!("tcp {}", to(at)),
        Route::Tunnel(hop) => format!("hbone {} {}", to(&hop.to), authority(&hop.authority)),
        Route::Near(near) => format!("near {}", near.to),
        Route::Double { outer, .. } => format!("double {} {}", to(&outer.to), authority(&outer.authority)),
    };
    let name = plan.destination.map_or("nobody".to_owned(), |workload| workload.name.to_string());
    format!("{route} -> {name}")
}

fn check(store: &WorldStore, dialled: &str, expected: &str) {
    let got = route(store, dialled);
    let same = if expected == "refused" { got.starts_with("refused") } else { got == expected };
    assert!(same, "dialled {dialled}: {got:?}, not {expected:?}");
}

#[test]
fn out_01_unknown_destinations_pass_in_plain() {
    check(&world(&[source()], &[]), "1.2.3.4:80", "tcp 1.2.3.4:80 -> nobody");
}

#[test]
fn out_02_03_a_workload_is_reached_as_it_says_on_any_node() {
    for node in ["node-1", "node-2"] {
        let server = wire::Workload { node: node.into(), ..pod("server", &["10.0.0.2"]) };
        check(&world(&[source(), plain(server.clone())], &[]), "10.0.0.2:80", "tcp 10.0.0.2:80 -> server");
        check(&world(&[source(), server], &[]), "10.0.0.2:80", "hbone 10.0.0.2:15008 10.0.0.2:80 -> server");
    }
}

#[test]
fn out_04_the_callers_own_waypoint_does_not_matter() {
    let source = wire::Workload { waypoint: gateway("10.0.0.9:15008"), ..source() };
    let store = world(&[source, pod("server", &["10.0.0.2"]), pod("wp", &["10.0.0.9"])], &[]);
    check(&store, "10.0.0.2:80", "hbone 10.0.0.2:15008 10.0.0.2:80 -> server");
}

#[test]
fn out_05_06_a_workloads_waypoint_is_passed() {
    let server = wire::Workload { waypoint: gateway("10.0.0.9:15008"), ..pod("server", &["10.0.0.2", "fd00::2"]) };
    let store = world(&[source(), server.clone(), pod("wp", &["10.0.0.9"])], &[]);
    check(&store, "10.0.0.2:80", "hbone 10.0.0.9:15008 10.0.0.2:80 -> wp");
    check(&store, "[fd00::2]:80", "hbone 10.0.0.9:15008 [fd00::2]:80 -> wp");
    // Also towards a plain workload, and when the waypoint is not there it is refused, not gone around.
    let store = world(&[source(), plain(server.clone()), pod("wp", &["10.0.0.9"])], &[]);
    check(&store, "10.0.0.2:80", "hbone 10.0.0.9:15008 10.0.0.2:80 -> wp");
    check(&world(&[source(), server], &[]), "10.0.0.2:80", "refused");
}

#[test]
fn out_07_08_a_services_waypoint_needs_no_endpoints_and_a_service_without_both_is_refused() {
    let web = service(HOST, &["10.9.0.1"], &[(80, 8080)]);
    let waypoint = wire::Service { waypoint: gateway("10.0.0.9:15008"), ..web.clone() };
    let store = world(&[source(), pod("wp", &["10.0.0.9"])], std::slice::from_ref(&waypoint));
    check(&store, "10.9.0.1:80", "hbone 10.0.0.9:15008 10.9.0.1:80 -> wp");
    // The service's port is not checked on the way to a waypoint.
    check(&store, "10.9.0.1:81", "hbone 10.0.0.9:15008 10.9.0.1:81 -> wp");
    check(&world(&[source()], &[web]), "10.9.0.1:80", "refused");
    // The waypoint is missing although endpoints are there.
    let server = behind(pod("server", &["10.0.0.2"]), HOST, &[]);
    check(&world(&[source(), server], &[waypoint]), "10.9.0.1:80", "refused");
}

#[test]
fn out_09_a_services_port_is_mapped() {
    let web = service(HOST, &["10.9.0.1"], &[(80, 8080)]);
    let server = behind(pod("server", &["10.0.0.2"]), HOST, &[]);
    let store = world(&[source(), server], &[web]);
    check(&store, "10.9.0.1:80", "hbone 10.0.0.2:15008 10.0.0.2:8080 -> server");
    check(&store, "10.9.0.1:81", "refused");
}

#[test]
fn out_10_a_named_port_needs_the_endpoints_mapping() {
    let web = service(HOST, &["10.9.0.1"], &[(80, 0), (8080, 0)]);
    let a = behind(pod("a", &["10.0.0.2"]), HOST, &[(80, 1234)]);
    let b = behind(pod("b", &["10.0.0.3"]), HOST, &[(8080, 9999)]);
    let store = world(&[source(), a, b], &[web]);
    for seed in 0..50 {
        assert_eq!(line(plan_from(&store, "client", "10.9.0.1:80", seed)), "hbone 10.0.0.2:15008 10.0.0.2:1234 -> a");
    }
}

#[test]
fn out_11_12_host_network_workloads_are_found_by_uid_only() {
    let host = |name| wire::Workload {
        network_mode: wire::NetworkMode::HostNetwork.into(),
        ..plain(pod(name, &["10.0.0.100"]))
    };
    let web = service(HOST, &["10.9.0.1"], &[(80, 8080)]);
    let store = world(&[source(), host("one"), behind(host("two"), HOST, &[])], &[web]);
    check(&store, "10.9.0.1:80", "tcp 10.0.0.100:8080 -> two");
    check(&store, "10.0.0.100:80", "tcp 10.0.0.100:80 -> nobody");
}

#[test]
fn out_13_to_16_address_families() {
    let server = behind(pod("server", &["10.0.0.2", "fd00::2"]), HOST, &[]);
    let store = world(&[source(), server.clone()], &[]);
    check(&store, "10.0.0.2:80", "hbone 10.0.0.2:15008 10.0.0.2:80 -> server");
    check(&store, "[fd00::2]:80", "hbone [fd00::2]:15008 [fd00::2]:80 -> server");
    for (families, dialled, expected) in [
        (wire::IpFamilies::Ipv6Only, "10.9.0.1:80", "hbone [fd00::2]:15008 [fd00::2]:80 -> server"),
        (wire::IpFamilies::Ipv4Only, "[fd00::9]:80", "hbone 10.0.0.2:15008 10.0.0.2:80 -> server"),
        (wire::IpFamilies::Dual, "10.9.0.1:80", "hbone 10.0.0.2:15008 10.0.0.2:80 -> server"),
        (wire::IpFamilies::Dual, "[fd00::9]:80", "hbone [fd00::2]:15008 [fd00::2]:80 -> server"),
        (wire::IpFamilies::Automatic, "[fd00::9]:80", "hbone [fd00::2]:15008 [fd00::2]:80 -> server"),
    ] {
        let web = service(HOST, &["10.9.0.1", "fd00::9"], &[(80, 80)]);
        let web = wire::Service { ip_families: families.into(), ..web };
        check(&world(&[source(), server.clone()], &[web]), dialled, expected);
    }
}

#[test]
fn out_17_18_passthrough_services() {
    let mode = wire::LoadBalancing { mode: lb::Mode::Passthrough.into(), ..Default::default() };
    let web = wire::Service { load_balancing: Some(mode), ..service(HOST, &["10.9.0.1"], &[(80, 80)]) };
    check(&world(&[source()], std::slice::from_ref(&web)), "10.9.0.1:80", "tcp 10.9.0.1:80 -> nobody");
    let web = wire::Service { waypoint: gateway("10.0.0.9:15008"), ..web };
    let store = world(&[source(), pod("wp", &["10.0.0.9"])], &[web]);
    check(&store, "10.9.0.1:80", "hbone 10.0.0.9:15008 10.9.0.1:80 -> wp");
}

fn remote(name: &str, gateway: Option<wire::GatewayAddress>) -> wire::Workload {
    wire::Workload { network: "n2".into(), network_gateway: gateway, ..pod(name, &[]) }
}

fn with_names(service: wire::Service) -> wire::Service {
    wire::Service { subject_alt_names: vec!["spiffe://cluster.local/ns/shop/sa/far".into()], ..service }
}

#[test]
fn out_19_20_21_other_networks_need_a_gateway() {
    let web = with_names(service(HOST, &["10.9.0.1"], &[(80, 80)]));
    let far = |gateway| behind(remote("far", gateway), HOST, &[]);
    check(&world(&[source(), far(None)], std::slice::from_ref(&web)), "10.9.0.1:80", "refused");

    let by_ip = wire::Workload { network: "n2".into(), ..pod("gw", &["10.50.0.1"]) };
    let store = world(&[source(), far(gateway("n2|10.50.0.1:15009")), by_ip], std::slice::from_ref(&web));
    let expected = format!("double 10.50.0.1:15009 {HOST}:80 -> far");
    check(&store, "10.9.0.1:80", &expected);
    let without_names = wire::Service { subject_alt_names: vec![], ..web.clone() };
    let store = world(&[source(), far(gateway("n2|10.50.0.1:15009"))], &[without_names]);
    check(&store, "10.9.0.1:80", "refused");

    let gateways = service("gw.shop", &[], &[(15009, 15008)]);
    let member = behind(pod("gwpod", &["10.0.0.50"]), "gw.shop", &[]);
    let store = world(&[source(), far(named_gateway("gw.shop", 15009)), member], &[web, gateways]);
    check(&store, "10.9.0.1:80", &format!("double 10.0.0.50:15008 {HOST}:80 -> far"));
}

#[test]
fn out_22_a_remote_waypoint_is_reached_for_the_original_service() {
    let web = service(HOST, &["10.9.0.1"], &[(80, 80)]);
    let web = wire::Service { waypoint: named_gateway("wp.shop", 15008), ..web };
    let waypoints = with_names(service("wp.shop", &["10.9.0.2"], &[(15008, 15008)]));
    let far = behind(remote("wp", gateway("n2|10.50.0.1:15009")), "wp.shop", &[]);
    let gw = wire::Workload { network: "n2".into(), ..pod("gw", &["10.50.0.1"]) };
    let store = world(&[source(), far, gw], &[web, waypoints]);
    check(&store, "10.9.0.1:80", &format!("double 10.50.0.1:15009 {HOST}:80 -> wp"));
    let Ok(Plan { route: Route::Double { inner_accepted, .. }, .. }) = plan_from(&store, "client", "10.9.0.1:80", 1)
    else {
        panic!("not double")
    };
    assert_eq!(inner_accepted[0].to_string(), "spiffe://cluster.local/ns/shop/sa/far", "the waypoint service's names");
}

#[test]
fn out_23_24_failover_prefers_the_own_network_while_it_is_healthy() {
    let balancing = wire::LoadBalancing {
        mode: lb::Mode::Failover.into(),
        routing_preference: vec![lb::Scope::Network.into()],
        ..Default::default()
    };
    let web = with_names(service(HOST, &["10.9.0.1"], &[(80, 80)]));
    let web = wire::Service { load_balancing: Some(balancing), ..web };
    let near = behind(pod("near", &["10.0.0.2"]), HOST, &[]);
    let far = behind(remote("far", gateway("n2|10.50.0.1:15009")), HOST, &[]);
    let gw = wire::Workload { network: "n2".into(), ..pod("gw", &["10.50.0.1"]) };
    let store = world(&[source(), near.clone(), far.clone(), gw.clone()], std::slice::from_ref(&web));
    for seed in 0..30 {
        assert!(line(plan_from(&store, "client", "10.9.0.1:80", seed)).ends_with("near"));
    }
    let sick = wire::Workload { status: wire::WorkloadStatus::Unhealthy.into(), ..near };
    check(
        &world(&[source(), sick, far, gw], &[web]),
        "10.9.0.1:80",
        &format!("double 10.50.0.1:15009 {HOST}:80 -> far"),
    );
}

#[test]
fn a_waypoint_reaches_its_own_backends_directly_and_nobody_else_does() {
    let server = wire::Workload { waypoint: named_gateway("wp.shop", 15008), ..pod("server", &["10.0.0.2"]) };
    let waypoints = service("wp.shop", &["10.9.0.2"], &[(15008, 15008)]);
    let wp = behind(pod("wp", &["10.0.0.9"]), "wp.shop", &[]);
    let twin = wire::Workload { service_account: "wp".into(), ..pod("twin", &["10.0.0.10"]) };
    let store = world(&[source(), server, wp, twin], &[waypoints]);
    let from = |source| line(plan_from(&store, source, "10.0.0.2:80", 1));
    assert_eq!(from("wp"), "hbone 10.0.0.2:15008 10.0.0.2:80 -> server");
    assert_eq!(from("client"), "hbone 10.0.0.9:15008 10.0.0.2:80 -> wp");
    assert_eq!(from("twin"), "hbone 10.0.0.9:15008 10.0.0.2:80 -> wp", "the same account alone is no exemption");
}

#[test]
fn our_own_ports_on_loopback_are_refused() {
    let store = world(&[source()], &[]);
    for port in [15001, 15006, 15008] {
        check(&store, &format!("127.0.0.1:{port}"), "refused: attempted recursive call to ourselves");
    }
    check(&store, "127.0.0.1:80", "tcp 127.0.0.1:80 -> nobody");
}

#[test]
fn a_workload_known_by_name_is_resolved() {
    let web = service(HOST, &["10.9.0.1"], &[(80, 8080)]);
    let named = wire::Workload { hostname: "db.example".into(), ..pod("db", &[]) };
    let store = world(&[source(), behind(plain(named.clone()), HOST, &[])], std::slice::from_ref(&web));
    check(&store, "10.9.0.1:80", "tcp db.example:8080 -> db");
    let store = world(&[source(), behind(named, HOST, &[])], &[web]);
    check(&store, "10.9.0.1:80", "hbone db.example:15008 resolved:8080 -> db");
}

#[test]
fn the_far_end_must_be_the_workload_or_one_of_the_services_names() {
    let web = with_names(service(HOST, &["10.9.0.1"], &[(80, 80)]));
    let store = world(&[source(), behind(pod("server", &["10.0.0.2"]), HOST, &[])], &[web]);
    let accepted = |dialled| match plan_from(&store, "client", dialled, 1).expect("a plan").route {
        Route::Tunnel(hop) => hop.accepted.iter().map(|id| id.service_account().to_string()).collect::<Vec<_>>(),
        other => panic!("{other:?}"),
    };
    assert_eq!(accepted("10.9.0.1:80"), ["far", "server"]);
    assert_eq!(accepted("10.0.0.2:80"), ["server"]);
}

/// The set of endpoints a caller at `network/region/zone` reaches in 200 tries.
fn reached(mode: lb::Mode, caller: (&str, &str, &str)) -> String {
    let place = |name: &str, ips: &[&str], (network, region, zone): (&str, &str, &str)| {
        let locality = wire::Locality { region: region.into(), zone: zone.into(), subzone: String::new() };
        let gateway = (network != caller.0 && !ips.is_empty()).then(|| gateway("gwnet|10.50.0.1:15009")).flatten();
        wire::Workload { network: network.into(), locality: Some(locality), network_gateway: gateway, ..pod(name, ips) }
    };
    let balancing = wire::LoadBalancing {
        mode: mode.into(),
        routing_preference: vec![lb::Scope::Network.into(), lb::Scope::Region.into(), lb::Scope::Zone.into()],
        ..Default::default()
    };
    let mut web = with_names(service(HOST, &[], &[(80, 80)]));
    web.addresses = vec![wire::NetworkAddress {
        network: caller.0.into(),
        address: crate::fixtures::bytes("10.9.0.1"),
        length: None,
    }];
    web.load_balancing = Some(balancing);
    let member = |name, ips: &[&str], at| behind(place(name, ips, at), HOST, &[]);
    let store = world(
        &[
            place("client", &[SOURCE], caller),
            member("A", &["10.0.0.2"], ("n", "r", "z")),
            member("B", &["10.0.0.3"], ("n", "r", "z2")),
            member("C", &["10.0.0.4"], ("n", "-", "-")),
            member("D", &["10.0.0.5"], ("n2", "r", "z")),
            member("E", &[], ("n", "r", "z")),
            wire::Workload { network: "gwnet".into(), ..pod("gw", &["10.50.0.1"]) },
        ],
        &[web],
    );
    let names: BTreeSet<String> = (0..200)
        .filter_map(|seed| plan_from(&store, "client", "10.9.0.1:80", seed).ok()?.destination)
        .map(|workload| workload.name.to_string())
        .collect();
    names.into_iter().collect()
}

#[test]
fn load_balancing_reaches_exactly_the_right_set() {
    use lb::Mode::{Failover, Strict};
    for (mode, caller, expected) in [
        (Strict, ("x", "x", "x"), ""),
        (Strict, ("n", "r", "z"), "A"),
        (Failover, ("x", "x", "x"), "ABCD"),
        (Failover, ("n", "r", "z"), "A"),
        (Failover, ("n", "r", ""), "AB"),
        (Failover, ("n", "other", "other"), "ABC"),
        (Failover, ("n3", "r", "z"), "AD"),
    ] {
        assert_eq!(reached(mode, caller), expected, "{mode:?} from {caller:?}");
    }
}

#[test]
fn capacity_weighs_and_zero_is_never_chosen() {
    let web = service(HOST, &["10.9.0.1"], &[(80, 80)]);
    let member = |name: &str, ip: &str, capacity| {
        behind(wire::Workload { capacity: Some(capacity), ..pod(name, &[ip]) }, HOST, &[])
    };
    let store = world(
        &[source(), member("zero", "10.0.0.2", 0), member("one", "10.0.0.3", 1), member("nine", "10.0.0.4", 9)],
        std::slice::from_ref(&web),
    );
    let mut hits = std::collections::BTreeMap::new();
    for seed in 0..1000 {
        let chosen = plan_from(&store, "client", "10.9.0.1:80", seed).expect("a plan").destination.expect("known");
        *hits.entry(chosen.name.to_string()).or_insert(0) += 1;
    }
    assert!(!hits.contains_key("zero"));
    assert!((50..200).contains(&hits["one"]), "{hits:?}");
    check(&world(&[source(), member("zero", "10.0.0.2", 0)], &[web]), "10.9.0.1:80", "refused");
}

/// One draw for many endpoints gives each the share its capacity has, wherever it stands among them.
#[test]
fn shares_follow_capacity_in_any_order() {
    const CALLS: u32 = 10_000;
    let web = service(HOST, &["10.9.0.1"], &[(80, 80)]);
    for capacities in [[1, 2, 3, 4], [4, 3, 2, 1], [1, 7, 1, 1]] {
        let member = |(at, capacity): (usize, &u32)| {
            let one = pod(&format!("w{at}"), &[&format!("10.0.1.{at}")]);
            behind(wire::Workload { capacity: Some(*capacity), ..one }, HOST, &[])
        };
        let members = capacities.iter().enumerate().map(member);
        let all: Vec<_> = std::iter::once(source()).chain(members).collect();
        let store = world(&all, std::slice::from_ref(&web));
        let mut hits = [0_u32; 4];
        for seed in 0..CALLS {
            let chosen = plan_from(&store, "client", "10.9.0.1:80", seed.into()).expect("a plan").destination;
            let name = chosen.expect("known").name.clone();
            hits[name.strip_prefix('w').and_then(|at| at.parse::<usize>().ok()).expect("one of them")] += 1;
        }
        for (hits, capacity) in hits.iter().zip(capacities) {
            // Far beyond chance: five standard deviations.
            assert!(hits.abs_diff(capacity * CALLS / 10) < 250, "{hits} for {capacity} of {capacities:?}");
        }
    }
}

#[test]
fn weighted_waypoints_share_by_weight_and_fall_back_when_all_are_zero() {
    let entry = |ip: &str, weight| wire::WeightedWaypoint { destination: gateway(&format!("{ip}:15008")), weight };
    let pods = [source(), pod("one", &["10.0.0.8"]), pod("two", &["10.0.0.9"]), pod("single", &["10.0.0.7"])];
    for (weights, expected) in
        [(vec![(100, 0)], "one"), (vec![(0, 100)], "two"), (vec![(0, 0)], "single"), (vec![], "single")]
    {
        let entries = weights.iter().flat_map(|(a, b)| [entry("10.0.0.8", *a), entry("10.0.0.9", *b)]).collect();
        let web = service(HOST, &["10.9.0.1"], &[(80, 80)]);
        let web = wire::Service { weighted_waypoints: entries, waypoint: gateway("10.0.0.7:15008"), ..web };
        let store = world(&pods, &[web]);
        for seed in 0..20 {
            assert!(line(plan_from(&store, "client", "10.9.0.1:80", seed)).ends_with(expected), "{weights:?}");
        }
    }
}

#[test]
fn a_tunnelled_destination_is_never_planned_in_plain() {
    // Random small worlds: whatever the plan, plain TCP never goes to an address of an HBONE workload.
    use rand::RngExt as _;
    for seed in 0..2000 {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut any = |list: &[&str]| list[rng.random_range(0..list.len())].to_owned();
        let mut server = behind(pod("server", &["10.0.0.2"]), HOST, &[]);
        server.network = any(&["", "", "n2"]);
        if any(&["y", "n"]) == "y" {
            server.waypoint = gateway(&format!("{}:15008", any(&["10.0.0.9", "10.0.0.77", "10.9.0.1"])));
        }
        server.hostname = any(&["", "db.example"]);
        let mut web = service(HOST, &[&any(&["10.9.0.1", "10.0.0.2"])], &[(80, 80)]);
        if any(&["y", "n"]) == "y" {
            web.waypoint = gateway(&format!("{}:15008", any(&["10.0.0.9", "10.0.0.77"])));
        }
        let store = world(&[source(), server, pod("wp", &["10.0.0.9"])], &[web]);
        for dialled in ["10.0.0.2:80", "10.9.0.1:80", "10.0.0.2:81"] {
            if let Ok(Plan { route: Route::Plain(To::Addr(to)), .. }) = plan_from(&store, "client", dialled, seed) {
                let target = key(&"".into(), to.ip());
                let hit = store.load().workload_by_ip(&target).is_some_and(|workload| workload.tunnel == Tunnel::Hbone);
                assert!(!hit, "seed {seed}: {dialled} went to {to} in plain");
            }
        }
    }
}

#[test]
fn what_cannot_be_read_is_refused_by_address_and_as_a_waypoint() {
    let store =
        world(&[source(), wire::Workload { waypoint: gateway("10.0.0.9:15008"), ..pod("server", &["10.0.0.2"]) }], &[]);
    let bad = wire::Workload { tunnel_protocol: 9, ..pod("bad", &["10.0.0.9"]) };
    let bytes = wire::Address { r#type: Some(wire::address::Type::Workload(bad)) }.encode_to_vec();
    let refused =
        Refused { name: "Kubernetes//Pod/shop/bad", aliases: &[], bytes: &bytes, reason: "tunnel_protocol: 9" };
    store.apply(decode::unreadable_address(&refused));
    let expected = "refused: 10.0.0.9:80 belongs to Kubernetes//Pod/shop/bad, which cannot be used: tunnel_protocol: 9";
    check(&store, "10.0.0.9:80", expected);
    check(&store, "10.0.0.2:80", "refused");
}
