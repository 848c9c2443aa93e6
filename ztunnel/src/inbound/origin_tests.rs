//! Who may speak for whom.

use std::sync::Arc;

use lateen_wire::workload as wire;

use super::*;
use crate::fixtures::{HOST, behind, gateway, named_gateway, pod, service, world};

const WAYPOINTS: &str = "waypoint.shop.svc.cluster.local";
const PROXY: &str = "10.0.0.9";

/// What the control plane says.
struct Told {
    server: wire::Workload,
    web: wire::Service,
    proxy: wire::Workload,
}

/// A server behind a service whose waypoint is at `PROXY`, behind a service of its own.
fn told() -> Told {
    let extension = wire::Extension { name: "lateen.client_identity".into(), config: None };
    let server = behind(pod("server", &["10.0.0.2"]), HOST, &[]);
    Told {
        server: wire::Workload { extensions: vec![extension], ..server },
        web: service(HOST, &["10.9.0.1"], &[(80, 8080)]),
        proxy: behind(pod("waypoint", &[PROXY]), WAYPOINTS, &[]),
    }
}

fn id(account: &str) -> SpiffeId {
    format!("spiffe://cluster.local/ns/shop/sa/{account}").parse().expect("an identity")
}

fn speaks(told: &Told, peer: &str, from: &str) -> bool {
    let others = [told.server.clone(), told.proxy.clone(), pod("client", &["10.0.0.1"])];
    let waypoints = service(WAYPOINTS, &["10.9.0.9"], &[(15008, 15008)]);
    let world = world(&others, &[told.web.clone(), waypoints]).load();
    let at = |ip: &str| NetworkAddress { network: "".into(), ip: ip.parse().expect("an address") };
    let local: Arc<Workload> = world.workload_by_ip(&at("10.0.0.2")).expect("known").clone();
    may_speak(&world, (&id(peer), &at(from)), &local)
}

#[test]
fn a_waypoint_of_the_workload_or_of_its_service_may_speak() {
    for reference in [gateway("10.9.0.9:15008"), gateway("10.0.0.9:15008"), named_gateway(WAYPOINTS, 15008)] {
        let mut of_service = told();
        of_service.web.waypoint = reference.clone();
        assert!(speaks(&of_service, "waypoint", PROXY), "of its service, {reference:?}");
        let mut of_workload = told();
        of_workload.server.waypoint = reference.clone();
        assert!(speaks(&of_workload, "waypoint", PROXY), "of itself, {reference:?}");
        let mut canary = told();
        canary.web.weighted_waypoints = vec![wire::WeightedWaypoint { destination: reference.clone(), weight: 0 }];
        assert!(speaks(&canary, "waypoint", PROXY), "one of several, {reference:?}");
    }
}

#[test]
fn nobody_else_may() {
    let mut bound = told();
    bound.web.waypoint = gateway("10.9.0.9:15008");
    // Under its account but elsewhere, at its place but somebody else, anywhere as anybody.
    for (peer, from) in [
        ("waypoint", "10.0.0.1"),
        ("waypoint", "10.0.0.77"),
        ("client", PROXY),
        ("client", "10.0.0.1"),
        ("server", "10.0.0.2"),
    ] {
        assert!(!speaks(&bound, peer, from), "{peer} at {from}");
    }
    assert!(!speaks(&told(), "waypoint", PROXY), "a waypoint of others");
    let mut left = told();
    left.web.waypoint = gateway("10.9.0.9:15008");
    left.proxy.services.clear();
    assert!(!speaks(&left, "waypoint", PROXY), "a pod that is no endpoint of the waypoint");
    let mut apart = told();
    apart.web.waypoint = gateway("10.9.0.9:15008");
    apart.server.services.clear();
    assert!(!speaks(&apart, "waypoint", PROXY), "the waypoint of a service that the workload does not back");
}

/// Where not everything is pushed unasked, the way to the waypoints is asked for step by step.
#[test]
fn what_is_not_known_of_the_way_to_waypoints_is_asked_for() {
    let mut bound = told();
    bound.web.waypoint = named_gateway(WAYPOINTS, 15008);
    bound.server.waypoint = gateway("10.9.0.9:15008");
    let waypoints = service(WAYPOINTS, &["10.9.0.9"], &[(15008, 15008)]);
    let missing = |services: &[wire::Service]| {
        let world = world(std::slice::from_ref(&bound.server), services).load();
        let local = world.workloads().next().expect("known").clone();
        unknown(&world, &local)
    };
    assert_eq!(missing(&[]), [format!("shop/{HOST}"), "/10.9.0.9".to_owned()]);
    assert_eq!(missing(std::slice::from_ref(&bound.web)), ["/10.9.0.9".to_owned(), format!("shop/{WAYPOINTS}")]);
    assert!(missing(&[bound.web.clone(), waypoints]).is_empty());
}

#[test]
fn only_who_is_asked_for_is_heard() {
    let told = told();
    let local = |server: &wire::Workload| {
        let world = world(std::slice::from_ref(server), &[]).load();
        world.workloads().next().expect("known").clone()
    };
    let believing = local(&told.server);
    let other = local(&wire::Workload { extensions: Vec::new(), ..told.server.clone() });
    let said = |local: &Workload, named: &OnBehalf| named_client(local, &id("waypoint"), named);
    let client = OnBehalf::Client(id("client"));
    for named in [&OnBehalf::Itself, &OnBehalf::Unreadable, &client] {
        assert!(matches!(said(&other, named), Ok(None)), "{named:?} where nobody asks");
    }
    assert!(matches!(said(&believing, &OnBehalf::Itself), Ok(None)));
    assert!(matches!(said(&believing, &client), Ok(Some(found)) if found == id("client")));
    assert!(matches!(said(&believing, &OnBehalf::Unreadable), Err(OriginError::Unreadable)));
    let foreign = OnBehalf::Client("spiffe://other.org/ns/shop/sa/client".parse().expect("an identity"));
    assert!(matches!(said(&believing, &foreign), Err(OriginError::Foreign { .. })));
}
