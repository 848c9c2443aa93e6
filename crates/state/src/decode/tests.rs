use lateen_wire::{security, workload as wire};
use prost::Message as _;

use super::*;
use crate::{
    service::HealthPolicy,
    workload::{Health, Tunnel},
};

fn encode_workload(workload: wire::Workload) -> Vec<u8> {
    Address { r#type: Some(Type::Workload(workload)) }.encode_to_vec()
}

fn encode_service(service: wire::Service) -> Vec<u8> {
    Address { r#type: Some(Type::Service(service)) }.encode_to_vec()
}

fn pod() -> wire::Workload {
    wire::Workload {
        uid: "Kubernetes//Pod/shop/web".into(),
        name: "web".into(),
        namespace: "shop".into(),
        ..Default::default()
    }
}

fn refused(bytes: &[u8], words: &str) {
    let error = address(bytes).expect_err("accepted").to_string();
    assert!(error.contains(words), "{error:?} does not say {words:?}");
}

#[test]
fn what_the_wire_leaves_out_has_its_default() {
    let Ok(Change::Workload(workload)) = address(&encode_workload(pod())) else { panic!("refused") };
    assert_eq!(workload.identity.to_string(), "spiffe://cluster.local/ns/shop/sa/default");
    assert_eq!(workload.cluster.as_str(), "Kubernetes");
    assert_eq!((workload.capacity, workload.tunnel, workload.health), (1, Tunnel::None, Health::Healthy));
    assert!(workload.hostname.is_none() && workload.application_tunnel.is_none());
}

#[test]
fn whether_its_waypoint_is_believed_comes_in_an_extension_of_ours() {
    let with = |name: &str| {
        let extensions = vec![wire::Extension { name: name.into(), config: None }];
        match address(&encode_workload(wire::Workload { extensions, ..pod() })) {
            Ok(Change::Workload(workload)) => workload.believes_waypoint,
            other => panic!("{other:?} is no workload"),
        }
    };
    assert!(with("lateen.client_identity"));
    assert!(!with("lateen.client_identity.not") && !with("lateen.labels"));
}

#[test]
fn labels_come_in_an_extension_of_ours() {
    let extension = |name: &str, value: Vec<u8>| wire::Extension {
        name: name.into(),
        config: Some(prost_types::Any { type_url: lateen_wire::type_url::LABELS.into(), value }),
    };
    let labels = lateen_wire::proxy::Labels { labels: [("version".to_owned(), "v1".to_owned())].into() };
    let with = |extensions| encode_workload(wire::Workload { extensions, ..pod() });
    let read = |bytes: &[u8]| match address(bytes) {
        Ok(Change::Workload(workload)) => workload,
        other => panic!("{other:?} is no workload"),
    };
    let known = read(&with(vec![extension("other", vec![0xff]), extension("lateen.labels", labels.encode_to_vec())]));
    assert_eq!((known.labels.value("version"), known.labels.value("app")), (Some("v1"), None));
    assert_eq!(known.labels.iter().collect::<Vec<_>>(), [("version", "v1")]);
    assert_eq!(read(&with(vec![extension("other", vec![0xff])])).labels.iter().count(), 0);
    refused(&with(vec![extension("lateen.labels", vec![0xff])]), "extensions: lateen.labels");
}

#[test]
fn addresses_have_four_or_sixteen_bytes() {
    for length in [4, 16] {
        let bytes = encode_workload(wire::Workload { addresses: vec![vec![1; length]], ..pod() });
        assert!(address(&bytes).is_ok(), "{length} bytes were refused");
    }
    for length in [0, 3, 5, 15, 17] {
        let bytes = encode_workload(wire::Workload { addresses: vec![vec![1; length]], ..pod() });
        refused(&bytes, "addresses");
    }
}

#[test]
fn a_bad_workload_is_refused_with_the_field_named() {
    let check = |workload: wire::Workload, words: &str| refused(&encode_workload(workload), words);
    check(wire::Workload { uid: String::new(), ..pod() }, "uid");
    check(
        wire::Workload { tunnel_protocol: wire::TunnelProtocol::LegacyIstioMtls.into(), ..pod() },
        "LEGACY_ISTIO_MTLS",
    );
    check(wire::Workload { tunnel_protocol: 9, ..pod() }, "tunnel_protocol: 9");
    check(wire::Workload { status: 9, ..pod() }, "status");
    check(wire::Workload { network_mode: 9, ..pod() }, "network_mode");
    check(wire::Workload { services: [("nohost".to_owned(), wire::PortList::default())].into(), ..pod() }, "services");
    check(wire::Workload { waypoint: Some(wire::GatewayAddress::default()), ..pod() }, "waypoint");
    check(wire::Workload { authorization_policies: vec!["x".into()], ..pod() }, "authorization_policies");
    check(wire::Workload { service_account: "a/b".into(), ..pod() }, "service_account");
    refused(&[], "neither is set");
    refused(&[0xff, 0xff], "protobuf");
}

#[test]
fn a_full_length_range_is_a_host() {
    let at = |length| wire::NetworkAddress { network: String::new(), address: vec![10, 1, 2, 3], length };
    let service = |length| {
        let service = wire::Service { hostname: "h".into(), addresses: vec![at(length)], ..Default::default() };
        address(&encode_service(service))
    };
    for (length, hosts, ranges) in [(None, 1, 0), (Some(32), 1, 0), (Some(16), 0, 1), (Some(0), 0, 1)] {
        let Ok(Change::Service(service)) = service(length) else { panic!("{length:?} was refused") };
        assert_eq!((service.vips.len(), service.cidrs.len()), (hosts, ranges), "{length:?}");
    }
    assert!(service(Some(33)).is_err() && service(Some(300)).is_err());
}

#[test]
fn balancing_is_a_closed_set_and_visibility_is_not() {
    let service = |balancing: wire::LoadBalancing, visibility| {
        let service =
            wire::Service { hostname: "h".into(), load_balancing: Some(balancing), visibility, ..Default::default() };
        address(&encode_service(service))
    };
    let Ok(Change::Service(open)) = service(wire::LoadBalancing { health_policy: 1, ..Default::default() }, 7) else {
        panic!("refused")
    };
    assert_eq!((open.visibility, open.health_policy()), (crate::service::Visibility::Public, HealthPolicy::AllowAll));
    for bad in [
        wire::LoadBalancing { mode: 9, ..Default::default() },
        wire::LoadBalancing { health_policy: 9, ..Default::default() },
        wire::LoadBalancing { routing_preference: vec![0], ..Default::default() },
        wire::LoadBalancing { routing_preference: vec![9], ..Default::default() },
    ] {
        assert!(service(bad, 0).is_err());
    }
}

#[test]
fn names_that_are_no_identity_are_left_out() {
    let service = wire::Service {
        hostname: "h".into(),
        subject_alt_names: vec!["spiffe://td/ns/n/sa/s".into(), "h.example".into()],
        ..Default::default()
    };
    let Ok(Change::Service(service)) = address(&encode_service(service)) else { panic!("refused") };
    assert_eq!(service.subject_alt_names.len(), 1);
}

fn with_match(one: security::Match) -> Result<Change, DecodeError> {
    let clause = security::Clause { matches: vec![one] };
    let rule = security::Rule { clauses: vec![clause] };
    let message =
        security::Authorization { name: "p".into(), namespace: "shop".into(), rules: vec![rule], ..Default::default() };
    policy(&message.encode_to_vec())
}

#[test]
fn a_policy_part_that_cannot_be_read_refuses_the_policy() {
    let block = |address: Vec<u8>, length| security::Match {
        source_ips: vec![security::Address { address, length }],
        ..Default::default()
    };
    assert!(with_match(block(vec![10, 0, 0, 0], 8)).is_ok());
    assert!(with_match(block(vec![10, 0, 0], 8)).is_err());
    assert!(with_match(block(vec![10, 0, 0, 0], 33)).is_err());
    let untyped = security::Match { principals: vec![security::StringMatch::default()], ..Default::default() };
    assert!(with_match(untyped).is_err());
    let port = security::Match { destination_ports: vec![65_536], ..Default::default() };
    assert!(with_match(port).is_err());
}

#[test]
fn a_policy_needs_a_name_and_known_words() {
    let check = |message: security::Authorization, good: bool| {
        assert_eq!(policy(&message.encode_to_vec()).is_ok(), good, "{message:?}");
    };
    let named = security::Authorization { name: "p".into(), namespace: "shop".into(), ..Default::default() };
    check(named.clone(), true);
    check(security::Authorization { name: String::new(), ..named.clone() }, false);
    check(security::Authorization { scope: 9, ..named.clone() }, false);
    check(security::Authorization { action: 9, ..named }, false);
}

fn stand_in(bytes: &[u8], aliases: &[&str]) -> Option<crate::unusable::Unusable> {
    let aliases: Vec<String> = aliases.iter().map(|alias| (*alias).to_owned()).collect();
    match unreadable_address(&Refused { name: "the/name", aliases: &aliases, bytes, reason: "why" }) {
        Some(Change::Unusable(one)) => Some(*one),
        Some(other) => panic!("{other:?}"),
        None => None,
    }
}

fn claims(bytes: &[u8], aliases: &[&str]) -> (String, Vec<String>) {
    let one = stand_in(bytes, aliases).expect("a stand-in");
    let ranges = one.ranges.iter().map(|range| format!("{}/{}", range.network, range.cidr));
    (one.key.to_string(), one.addresses.iter().map(ToString::to_string).chain(ranges).collect())
}

#[test]
fn a_refused_resource_keeps_what_can_be_told_of_its_addresses() {
    const UID: &str = "Kubernetes//Pod/shop/web";
    let bad = wire::Workload {
        addresses: vec![vec![10, 0, 0, 1], vec![1, 2, 3], vec![10, 0, 0, 2]],
        network: "n".into(),
        tunnel_protocol: 9,
        ..pod()
    };
    let both = (UID.to_owned(), vec!["n/10.0.0.1".to_owned(), "n/10.0.0.2".to_owned()]);
    assert_eq!(claims(&encode_workload(bad.clone()), &[]), both);
    assert_eq!(claims(&encode_workload(bad.clone()), &["n/10.0.0.1", "shop/web.shop"]), both, "said twice counts once");
    // Text that is not text refuses the whole message; the other fields still stand on their own.
    let mut bytes = encode_workload(wire::Workload { canonical_name: "@@@@".into(), ..bad.clone() });
    let at = bytes.windows(4).position(|four| four == b"@@@@").expect("there");
    bytes[at..at + 4].fill(0xff);
    assert!(address(&bytes).is_err());
    assert_eq!(claims(&bytes, &[]), both);

    let host = wire::Workload { network_mode: wire::NetworkMode::HostNetwork.into(), ..bad };
    assert!(stand_in(&encode_workload(host), &["n/10.0.0.1"]).is_none(), "the node's address is not its own");

    let vip = |length| wire::NetworkAddress { network: String::new(), address: vec![10, 9, 0, 1], length };
    let service = wire::Service {
        namespace: "shop".into(),
        hostname: "h".into(),
        addresses: vec![vip(None), vip(Some(16)), vip(Some(99))],
        ip_families: 9,
        ..Default::default()
    };
    let expected = ("shop/h".to_owned(), vec!["/10.9.0.1".to_owned(), "/10.9.0.0/16".to_owned()]);
    assert_eq!(claims(&encode_service(service.clone()), &[]), expected);
    assert_eq!(stand_in(&encode_service(service.clone()), &[]).expect("one").only_for, None);
    let private = wire::Service { visibility: wire::service::Visibility::Namespace.into(), ..service };
    assert_eq!(stand_in(&encode_service(private), &[]).expect("one").only_for, Some("shop".into()));
}

#[test]
fn a_stand_in_is_made_of_any_bytes_without_panic() {
    let full = encode_workload(wire::Workload { addresses: vec![vec![10, 0, 0, 1]], tunnel_protocol: 9, ..pod() });
    for end in 0..full.len() {
        // Cut anywhere: an address that is there whole is kept, nothing else is made up.
        let told = stand_in(&full[..end], &[]).map(|one| one.addresses.len());
        assert!(told.is_none_or(|addresses| addresses == 1), "cut at {end}");
    }
    assert!(stand_in(&full[..full.len() - 1], &[]).is_some());
    for one in 0..=255_u8 {
        assert_eq!(claims(&[one; 7], &["n/10.0.0.9"]), ("the/name".to_owned(), vec!["n/10.0.0.9".to_owned()]));
        assert!(stand_in(&[one; 7], &["shop/web"]).is_none());
    }
}
