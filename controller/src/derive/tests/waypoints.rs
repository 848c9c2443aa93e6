//! Which waypoint somebody gets, and the ways into other networks.

use std::collections::BTreeMap;

use lateen_cluster::store::Key;
use lateen_types::label::Labels;
use lateen_wire::workload as wire;
use serde_json::{Value, json};

use super::{mesh, read_gateway};
use crate::{
    derive::{
        gateway,
        waypoint::{self, Asker, Found, Granted},
    },
    facts::{Asked, Canary, Gateway, GatewayClass, Namespace, Traffic, Wish},
};

/// A waypoint with an address, whose listener says `from`.
fn waypoint(labels: Value, annotations: Value, from: Value) -> Gateway {
    let listener = json!({"port": 15008, "protocol": "HBONE", "allowedRoutes": {"namespaces": from}});
    let spec = json!({"gatewayClassName": "istio-waypoint", "listeners": [listener]});
    let addresses = json!([{"type": "IPAddress", "value": "10.96.1.1"}, {"type": "Hostname", "value": "w.shop.svc"}]);
    read_gateway(labels, annotations, spec, addresses)
}

fn usual() -> Gateway {
    waypoint(json!({}), json!({}), json!({"from": "Same"}))
}

fn asks(name: &str) -> Wish {
    Wish { waypoint: Asked::Gateway(Key::new("shop", name)), ..Wish::default() }
}

/// A cluster of waypoints and one who asks.
struct Case {
    gateways: BTreeMap<Key, Gateway>,
    class: Option<GatewayClass>,
    namespace: &'static str,
    space: Namespace,
    wish: Wish,
    traffic: Traffic,
    is_private: bool,
    of_account: Option<Key>,
}

impl Case {
    /// A service of `shop` that asks for `w`, which is `gateway`.
    fn of(gateway: Gateway) -> Self {
        Self {
            gateways: [(Key::new("shop", "w"), gateway)].into(),
            class: None,
            namespace: "shop",
            space: Namespace::default(),
            wish: asks("w"),
            traffic: Traffic::Service,
            is_private: false,
            of_account: None,
        }
    }

    fn granted(&self) -> Granted {
        let asker = Asker {
            namespace: self.namespace,
            space: Some(&self.space),
            wish: &self.wish,
            traffic: self.traffic,
            network: "net1",
            is_private: self.is_private,
            of_account: self.of_account.as_ref(),
        };
        let find = |key: &Key| self.gateways.get(key).map(|gateway| Found { gateway, class: self.class.as_ref() });
        waypoint::resolve(asker, &find)
    }

    #[track_caller]
    fn check(&self, bound: Option<&str>, reason: Option<&str>) {
        let granted = self.granted();
        assert_eq!(granted.waypoint.map(|bound| bound.key.to_string()).as_deref(), bound);
        assert_eq!(granted.word.as_ref().map(|word| word.reason), reason, "{:?}", granted.word);
    }
}

#[test]
fn the_object_decides_then_its_namespace() {
    let mut case = Case::of(usual());
    case.check(Some("shop/w"), Some("WaypointAccepted"));
    case.space.wish = asks("absent");
    case.check(Some("shop/w"), Some("WaypointAccepted"));
    case.wish = asks("absent");
    case.space.wish = asks("w");
    case.check(None, Some("WaypointIsNotReady"));
    case.wish.waypoint = Asked::Declined;
    case.check(None, None);
    case.wish.waypoint = Asked::Unsaid;
    case.check(Some("shop/w"), Some("WaypointAccepted"));
    case.space.wish.waypoint = Asked::Declined;
    case.check(None, None);
    case.space.wish.waypoint = Asked::Unsaid;
    case.check(None, None);
}

#[test]
fn a_name_is_preferred_to_an_address_and_none_is_not_ready() {
    let address = Case::of(usual()).granted().waypoint.expect("bound").address;
    let hostname = wire::NamespacedHostname { namespace: "shop".to_owned(), hostname: "w.shop.svc".to_owned() };
    assert_eq!(address.destination, Some(wire::gateway_address::Destination::Hostname(hostname)));
    assert_eq!(address.hbone_mtls_port, 15008);
    let mut gateway = usual();
    gateway.places.truncate(1);
    let address = Case::of(gateway.clone()).granted().waypoint.expect("bound").address;
    let ip = wire::NetworkAddress { network: "net1".to_owned(), address: vec![10, 96, 1, 1], length: None };
    assert_eq!(address.destination, Some(wire::gateway_address::Destination::Address(ip)));
    gateway.places.clear();
    Case::of(gateway).check(None, Some("WaypointIsNotReady"));
}

#[test]
fn a_missing_waypoint_is_not_passed_by_unless_the_author_says_so() {
    let check = |case: &Case, refused: bool| {
        let granted = case.granted();
        assert_eq!(granted.word.as_ref().map(|word| word.reason), Some("WaypointIsNotReady"));
        let said = granted.word.as_ref().is_some_and(|word| word.message.contains("traffic is refused"));
        let nowhere = granted.must_pass().is_some_and(|address| match address.destination {
            Some(wire::gateway_address::Destination::Hostname(name)) => name.hostname.ends_with(".invalid"),
            Some(_) | None => false,
        });
        assert_eq!((nowhere, said), (refused, refused), "{granted:?}");
    };
    let mut case = Case { wish: asks("absent"), ..Case::of(usual()) };
    check(&case, true);
    case.wish.bypass = true;
    check(&case, false);
    case.wish = Wish::default();
    case.space.wish = asks("absent");
    check(&case, true);
    // A waypoint for services is the usual one: workloads wait for it only if they ask themselves.
    case.traffic = Traffic::Workload;
    check(&case, false);
    let mut all = waypoint(json!({"istio.io/waypoint-for": "all"}), json!({}), json!({}));
    all.places.clear();
    case.gateways.insert(Key::new("shop", "absent"), all);
    check(&case, true);
    case.space.wish.bypass = true;
    check(&case, false);
    let case = Case { wish: asks("absent"), traffic: Traffic::Workload, ..Case::of(usual()) };
    check(&case, true);
}

/// What a waypoint does not take, and whom it does not serve, goes no other way than what it would take.
#[test]
fn a_waypoint_that_is_there_and_not_granted_is_not_passed_by_either() {
    let elsewhere = || Case { namespace: "web", ..Case::of(usual()) };
    let for_workloads = || Case::of(waypoint(json!({"istio.io/waypoint-for": "workload"}), json!({}), json!({})));
    for (name, mut case, reason) in [
        ("a service the waypoint does not allow", elsewhere(), "AttachmentDenied"),
        ("a workload the same", Case { traffic: Traffic::Workload, ..elsewhere() }, "AttachmentDenied"),
        ("a service at a waypoint for workloads", for_workloads(), "UnsupportedTrafficType"),
        (
            "a workload at one for services",
            Case { traffic: Traffic::Workload, ..Case::of(usual()) },
            "UnsupportedTrafficType",
        ),
    ] {
        case.check(None, Some(reason));
        let granted = case.granted();
        assert!(granted.missing.is_some(), "{name}: {granted:?}");
        assert!(granted.word.expect("told").message.ends_with(waypoint::MEANWHILE), "{name}");
        case.wish.bypass = true;
        assert_eq!(case.granted().missing, None, "{name}");
        // The same by a label of the namespace, where a workload minds only a waypoint that is for workloads.
        let inherited = std::mem::take(&mut case.wish);
        case.space.wish = Wish { bypass: false, ..inherited };
        assert_eq!(case.granted().missing.is_some(), case.traffic == Traffic::Service, "{name}, inherited");
    }
}

#[test]
fn a_waypoint_for_an_account_comes_before_the_namespaces() {
    let for_account = || waypoint(json!({}), json!({"istio.io/for-service-account": "web"}), json!({}));
    assert_eq!(for_account().serves_account.as_deref(), Some("web"));
    for traffic in [Traffic::Service, Traffic::Workload] {
        let mut case = Case { wish: Wish::default(), traffic, ..Case::of(for_account()) };
        case.check(None, None);
        case.of_account = Some(Key::new("shop", "w"));
        case.space.wish = asks("absent");
        case.check(Some("shop/w"), Some("WaypointAccepted"));
        // Whoever says something of its own is heard.
        case.wish.waypoint = Asked::Declined;
        case.check(None, None);
        case.wish = asks("absent");
        case.check(None, Some("WaypointIsNotReady"));
        // A waypoint that is not ready is waited for.
        case.wish = Wish::default();
        case.gateways.values_mut().for_each(|gateway| gateway.places.clear());
        assert!(case.granted().missing.is_some());
    }
    // What the label says of traffic counts before what the annotation implies.
    let services = waypoint(
        json!({"istio.io/waypoint-for": "service"}),
        json!({"istio.io/for-service-account": "web"}),
        json!({}),
    );
    let of_account = Some(Key::new("shop", "w"));
    let case = Case { wish: Wish::default(), traffic: Traffic::Workload, of_account, ..Case::of(services) };
    case.check(None, Some("UnsupportedTrafficType"));
}

/// A waypoint elsewhere does not know what only its own namespace sees; to go around it would be to go unseen.
#[test]
fn what_others_do_not_see_has_no_waypoint_elsewhere() {
    let elsewhere = || Case {
        namespace: "web",
        is_private: true,
        ..Case::of(waypoint(json!({}), json!({}), json!({"from": "All"})))
    };
    let mut case = elsewhere();
    case.check(None, Some("CrossNamespaceWaypointForbidden"));
    assert!(case.granted().missing.is_some());
    case.wish.bypass = true;
    assert!(case.granted().missing.is_none());
    Case { is_private: false, ..elsewhere() }.check(Some("shop/w"), Some("WaypointAccepted"));
    Case { is_private: true, ..Case::of(usual()) }.check(Some("shop/w"), Some("WaypointAccepted"));
}

#[test]
fn the_listener_says_who_may_attach() {
    let selector = |word: &str| json!({"from": "Selector", "selector": {"matchLabels": {"team": word}}});
    let check = |from: Value, namespace: &'static str, bound: bool| {
        let labels: Labels = [("team".to_owned(), "a".to_owned())].into();
        let space = Namespace { labels, ..Namespace::default() };
        let case = Case { namespace, space, ..Case::of(waypoint(json!({}), json!({}), from)) };
        let reason = if bound { "WaypointAccepted" } else { "AttachmentDenied" };
        case.check(bound.then_some("shop/w"), Some(reason));
    };
    check(json!({"from": "Same"}), "shop", true);
    check(json!({"from": "Same"}), "web", false);
    check(json!({}), "web", false);
    check(json!({"from": "All"}), "web", true);
    check(selector("a"), "web", true);
    check(selector("b"), "web", false);
    check(selector("b"), "shop", false);
    // A word nobody knows, and a selector that is not there, open nothing.
    check(json!({"from": "Everyone"}), "web", false);
    check(json!({"from": "Selector"}), "web", false);
}

#[test]
fn a_waypoint_takes_the_traffic_it_is_for() {
    let check = |label: Option<&str>, class: Option<Traffic>, asked: Traffic, bound: bool| {
        let labels = label.map_or(json!({}), |label| json!({"istio.io/waypoint-for": label}));
        let class = class.map(|traffic| GatewayClass { traffic: Some(traffic), ..GatewayClass::default() });
        let case = Case { class, traffic: asked, ..Case::of(waypoint(labels, json!({}), json!({"from": "Same"}))) };
        let reason = if bound { "WaypointAccepted" } else { "UnsupportedTrafficType" };
        case.check(bound.then_some("shop/w"), Some(reason));
    };
    check(None, None, Traffic::Service, true);
    check(None, None, Traffic::Workload, false);
    check(None, Some(Traffic::All), Traffic::Workload, true);
    check(Some("workload"), Some(Traffic::Service), Traffic::Workload, true);
    check(Some("workload"), None, Traffic::Service, false);
    check(Some("all"), None, Traffic::Service, true);
    check(Some("none"), None, Traffic::Service, false);
    check(Some("everybody"), None, Traffic::Service, false);
}

#[test]
fn one_label_on_a_namespace_is_no_fault_of_its_workloads() {
    let mut case = Case { traffic: Traffic::Workload, ..Case::of(usual()) };
    case.check(None, Some("UnsupportedTrafficType"));
    case.wish = Wish::default();
    case.space.wish = asks("w");
    case.check(None, None);
}

#[test]
fn a_canary_has_its_share_or_is_told_why_not() {
    let check = |canary: &str, weight: Option<u32>, share: Option<u32>, part: &str| {
        let mut case = Case::of(usual());
        case.gateways.insert(Key::new("shop", "next"), usual());
        case.wish.canary = Some(Canary { gateway: Key::new("shop", canary), weight });
        let granted = case.granted();
        assert!(granted.waypoint.is_some(), "the first stays bound");
        let weights: Vec<u32> = waypoint::weighted(&granted).iter().map(|one| one.weight).collect();
        assert_eq!(weights, share.map_or(Vec::new(), |share| vec![100 - share, share]), "{canary} {weight:?}");
        let message = granted.word.expect("told").message;
        assert!(message.contains(part), "{part:?} is not in {message:?}");
        assert_eq!(granted.looked_at.len(), 2, "a change of either is noticed");
    };
    check("next", Some(10), Some(10), "10 % of the traffic");
    check("next", None, None, "CanaryInvalidWeight");
    check("w", Some(10), None, "CanarySameAsPrimary");
    check("absent", Some(10), None, "WaypointIsNotReady");
    let mut case = Case {
        traffic: Traffic::Workload,
        ..Case::of(waypoint(json!({"istio.io/waypoint-for": "all"}), json!({}), json!({})))
    };
    case.wish.canary = Some(Canary { gateway: Key::new("shop", "w2"), weight: Some(10) });
    assert_eq!(case.granted().canary, None, "workloads have no canary");
}

#[test]
fn ingress_passes_the_waypoint_where_it_is_asked() {
    let check = |own: Option<bool>, inherited: Option<bool>, expected: bool| {
        let mut case = Case::of(usual());
        case.wish.ingress = own;
        case.space.wish.ingress = inherited;
        assert_eq!(case.granted().ingress, expected, "{own:?} {inherited:?}");
    };
    check(None, None, false);
    check(None, Some(true), true);
    check(Some(false), Some(true), false);
    check(Some(true), None, true);
}

#[test]
fn how_the_pods_of_a_waypoint_take_connections() {
    use wire::application_tunnel::Protocol;
    let check = |annotation: &str, class: Option<GatewayClass>, expected: Option<(Protocol, u32)>| {
        let annotations = json!({"ambient.istio.io/waypoint-inbound-binding": annotation});
        let gateway = waypoint(json!({}), annotations, json!({}));
        let found = waypoint::tunnel_to_app(Found { gateway: &gateway, class: class.as_ref() });
        assert_eq!(found.map(|found| (found.protocol(), found.port)), expected, "{annotation}");
    };
    check("PROXY/15088", None, Some((Protocol::Proxy, 15088)));
    check("PROXY", None, Some((Protocol::Proxy, 0)));
    check("NONE/80", None, Some((Protocol::None, 80)));
    check("SOCKS", None, None);
    check("PROXY/x", None, None);
    let of_class =
        waypoint(json!({}), json!({"ambient.istio.io/waypoint-inbound-binding": "NONE/1"}), json!({})).binding;
    let class = GatewayClass { binding: of_class, ..GatewayClass::default() };
    check("SOCKS", Some(class.clone()), Some((Protocol::None, 1)));
    check("PROXY/2", Some(class), Some((Protocol::Proxy, 2)));
}

#[test]
fn gateways_of_other_networks_are_ways_into_them() {
    let gateway = |class: &str, network: &str, protocol: &str| {
        let spec = json!({"gatewayClassName": class, "listeners": [{"port": 15018, "protocol": protocol}],
            "addresses": [{"value": "192.0.2.7"}, {"type": "Hostname", "value": "gw.far"}]});
        read_gateway(json!({"topology.istio.io/network": network}), json!({}), spec, json!([]))
    };
    let ways =
        |gateway: &Gateway| gateway::ways(&mesh(), [(&Key::new("istio-gateways", "far-gw"), gateway)].into_iter());
    let found = ways(&gateway("istio-remote", "far", "HBONE"));
    let uids: Vec<&str> = found.iter().map(|way| way.workload.uid.as_str()).collect();
    assert_eq!(uids, ["NetworkGateway/far/192.0.2.7/15018", "NetworkGateway/far/gw.far/15018"]);
    assert_eq!(found[0].workload.service_account, "far-gw-istio-remote");
    assert_eq!(found[0].workload.tunnel_protocol(), wire::TunnelProtocol::Hbone);
    assert_eq!(found[0].address.hbone_mtls_port, 15018);
    for (class, network, protocol) in
        [("istio-waypoint", "far", "HBONE"), ("istio-remote", "", "HBONE"), ("istio-remote", "far", "TLS")]
    {
        assert!(ways(&gateway(class, network, protocol)).is_empty(), "{class} {network:?} {protocol}");
    }
}
