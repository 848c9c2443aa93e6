//! ServiceEntry and WorkloadEntry objects, and the messages they become.

use lateen_cluster::store::{Key, Reading};
use lateen_wire::workload::{self as wire, load_balancing as balancing};
use serde_json::{Value, json};

use super::{mesh, networking_object, read_entry, read_external, value};
use crate::{
    derive::{
        entry::{self, Around, Behind, HostAround},
        visible::Visible,
        waypoint::Granted,
    },
    facts,
};

fn key() -> Key {
    Key::new("shop", "db")
}

fn service(entry: &facts::ServiceEntry, host: &str, space: Option<&facts::Namespace>) -> wire::Service {
    let granted = Granted::default();
    let around = HostAround { network: "net1", space, granted: &granted, canonical: true, visible: Visible::Public };
    entry::service(&key(), entry, host, around)
}

fn at(address: Vec<u8>, length: Option<u32>) -> wire::NetworkAddress {
    wire::NetworkAddress { network: "net1".to_owned(), address, length }
}

fn ports(pairs: &[(u32, u32)]) -> wire::PortList {
    let port = |(from, to): &(u32, u32)| wire::Port { service_port: *from, target_port: *to, app_protocol: 0 };
    wire::PortList { ports: pairs.iter().map(port).collect() }
}

#[test]
fn an_entry_becomes_a_service_for_its_host() {
    let entry = read_entry(
        "db",
        None,
        json!({"hosts": ["db.example"], "addresses": ["10.1.2.3/16", "240.0.0.1"], "resolution": "STATIC",
            "subjectAltNames": ["spiffe://td/ns/db/sa/db"],
            "ports": [{"name": "pg", "number": 5432, "protocol": "TCP", "targetPort": 15432},
                {"name": "web", "number": 80, "protocol": "HTTP"}]}),
        json!({}),
    );
    let port = |from, to, protocol: wire::AppProtocol| wire::Port {
        service_port: from,
        target_port: to,
        app_protocol: protocol.into(),
    };
    let expected = wire::Service {
        name: "db".to_owned(),
        namespace: "shop".to_owned(),
        hostname: "db.example".to_owned(),
        addresses: vec![at(vec![10, 1, 0, 0], Some(16)), at(vec![240, 0, 0, 1], None)],
        ports: vec![port(5432, 15432, wire::AppProtocol::Tcp), port(80, 80, wire::AppProtocol::Http11)],
        subject_alt_names: vec!["spiffe://td/ns/db/sa/db".to_owned()],
        canonical: true,
        ..wire::Service::default()
    };
    assert_eq!(service(&entry, "db.example", None), expected);
}

#[test]
fn addresses_given_out_are_of_their_host_only() {
    let given = json!({"conditions": "of somebody else's shape", "addresses": [
        {"host": "a.example", "value": "240.240.0.1"}, {"host": "*.b.example", "value": "240.240.0.2"}]});
    let check = |resolution: &str, addresses: Value, host: &str, expected: &[[u8; 4]]| {
        let spec = json!({"hosts": ["a.example", "*.b.example", "c.example"], "resolution": resolution,
            "addresses": addresses});
        let made = service(&read_entry("db", None, spec, given.clone()), host, None);
        let found: Vec<Vec<u8>> = made.addresses.into_iter().map(|one| one.address).collect();
        assert_eq!(found, expected, "{resolution} {host}");
    };
    check("DNS", json!([]), "a.example", &[[240, 240, 0, 1]]);
    check("DNS", json!(["10.0.0.1"]), "a.example", &[[10, 0, 0, 1]]);
    check("DNS", json!([]), "c.example", &[]);
    check("DNS", json!([]), "*.b.example", &[]);
    check("DYNAMIC_DNS", json!([]), "*.b.example", &[[240, 240, 0, 2]]);
    check("NONE", json!([]), "a.example", &[]);
}

#[test]
fn what_an_entry_prefers() {
    let space = facts::Namespace { distribution: Some(facts::Distribution::PreferSameNode), ..Default::default() };
    let check = |resolution: &str, annotation: Option<&str>, expected: Option<(balancing::Mode, usize)>| {
        let mut object =
            networking_object("ServiceEntry", "db", json!({"spec": {"hosts": ["a.b"], "resolution": resolution}}));
        let pair = |text: &str| ("networking.istio.io/traffic-distribution".to_owned(), text.to_owned());
        object.metadata.annotations = annotation.map(|text| [pair(text)].into());
        let made = service(&value(facts::ServiceEntry::read(&object)), "a.b", Some(&space)).load_balancing;
        let found = made.map(|made| (made.mode(), made.routing_preference.len()));
        assert_eq!(found, expected, "{resolution} {annotation:?}");
    };
    check("STATIC", None, Some((balancing::Mode::Failover, 5)));
    check("STATIC", Some("preferclose"), Some((balancing::Mode::Failover, 3)));
    check("STATIC", Some("whatever"), None);
    // The address that was called is the endpoint, healthy or not.
    check("NONE", Some("PreferClose"), Some((balancing::Mode::Passthrough, 0)));
}

#[test]
fn endpoints_written_in_an_entry_become_workloads() {
    let entry = read_entry(
        "db",
        None,
        json!({"hosts": ["db.example"], "resolution": "STATIC",
            "ports": [{"name": "pg", "number": 5432, "targetPort": 15432}, {"name": "web", "number": 80}],
            "endpoints": [{"address": "192.0.2.1", "ports": {"pg": 6432}, "labels": {"app": "pg", "version": "v2"},
                "locality": "r/z/s", "weight": 3, "serviceAccount": "db"},
                {"address": "host.example", "network": "far"}, {"address": "unix:///run/db"}]}),
        json!({}),
    );
    let db = key();
    let around = |policies: &[&str]| Around {
        network: "net1",
        behind: vec![Behind::Host(&db, &entry, "db.example")],
        policies: policies.iter().map(|one| (*one).to_owned()).collect(),
        ..Around::default()
    };
    let made =
        |number: usize, policies: &[&str]| entry::inline(&mesh(), &db, &entry.endpoints[number], around(policies));
    let expected = wire::Workload {
        uid: "Kubernetes/networking.istio.io/ServiceEntry/shop/db/192.0.2.1".to_owned(),
        name: "db".to_owned(),
        namespace: "shop".to_owned(),
        addresses: vec![vec![192, 0, 2, 1]],
        network: "net1".to_owned(),
        service_account: "db".to_owned(),
        canonical_name: "pg".to_owned(),
        canonical_revision: "v2".to_owned(),
        workload_type: wire::WorkloadType::Pod.into(),
        workload_name: "db".to_owned(),
        authorization_policies: vec!["shop/a".to_owned(), "shop/b".to_owned()],
        cluster_id: "Kubernetes".to_owned(),
        services: [("shop/db.example".to_owned(), ports(&[(5432, 6432), (80, 80)]))].into(),
        locality: Some(wire::Locality { region: "r".into(), zone: "z".into(), subzone: "s".into() }),
        capacity: Some(3),
        ..wire::Workload::default()
    };
    assert_eq!(made(0, &["shop/b", "shop/a", "shop/b"]), Some(expected));
    let named = made(1, &[]).expect("a workload");
    assert_eq!((named.hostname.as_str(), named.network.as_str(), named.addresses.len()), ("host.example", "far", 0));
    assert_eq!(made(2, &[]), None, "a socket is no place on a network");
}

#[test]
fn a_host_without_endpoints_is_found_by_its_name() {
    let spec = json!({"hosts": ["db.example"], "resolution": "DNS", "ports": [{"name": "pg", "number": 5432}]});
    let made = entry::implicit(&mesh(), &key(), &read_entry("db", None, spec, json!({})), "db.example", "net1");
    assert_eq!(made.uid, "Kubernetes/networking.istio.io/ServiceEntry/shop/db/db.example");
    assert_eq!((made.hostname.as_str(), made.addresses.len()), ("db.example", 0));
    assert_eq!(made.services, [("shop/db.example".to_owned(), ports(&[(5432, 5432)]))].into());
}

#[test]
fn a_workload_entry_becomes_a_workload() {
    let named =
        json!({"address": "192.0.2.8", "serviceAccount": "vm", "labels": {"app": "of-the-spec", "version": "v1"}});
    let made = |labels: Value, spec: Value| {
        entry::workload(
            &mesh(),
            &key(),
            &read_external("db", labels, spec),
            Around { network: "net1", ..Around::default() },
        )
    };
    let found = made(json!({"app": "of-the-object"}), named).expect("a workload");
    assert_eq!(found.uid, "Kubernetes/networking.istio.io/WorkloadEntry/shop/db");
    assert_eq!((found.canonical_name.as_str(), found.canonical_revision.as_str()), ("of-the-object", "v1"));
    assert_eq!((found.service_account.as_str(), found.tunnel_protocol), ("vm", 0));
    assert_eq!((found.workload_name.as_str(), found.network.as_str()), ("db", "net1"));
    let native = made(json!({"networking.istio.io/tunnel": "http"}), json!({"address": "192.0.2.8"}));
    assert!(native.expect("a workload").native_tunnel);
    assert!(made(json!({}), json!({"network": "far"})).is_some(), "its network's gateway knows it");
    assert_eq!(made(json!({}), json!({})), None);
}

#[test]
fn the_ports_of_services_at_workload_entries() {
    let target = |name: &str, number: u16, target: facts::TargetPort| facts::ServicePort {
        name: name.to_owned(),
        number,
        target,
        protocol: wire::AppProtocol::Unknown,
        spoken: None,
    };
    let mut kubernetes = super::read_service(json!({"spec": {"selector": {"a": "b"}}}));
    kubernetes.ports = vec![
        target("pg", 1, facts::TargetPort::Number(10)),
        target("own", 2, facts::TargetPort::Number(20)),
        target("x", 3, facts::TargetPort::Name("named".to_owned())),
        target("y", 4, facts::TargetPort::Name("absent".to_owned())),
    ];
    let spec = json!({"address": "192.0.2.8", "ports": {"own": 21, "named": 30}});
    let external = read_external("vm", json!({}), spec).external;
    let found = Behind::Service(&key(), &kubernetes).at_external(&external);
    assert_eq!(found, ports(&[(1, 10), (2, 21), (3, 30)]));
}

#[test]
fn what_cannot_be_read_is_named() {
    let check = |kind: &str, spec: Value, expected: &str| {
        let object = networking_object(kind, "db", json!({"spec": spec.clone()}));
        let reason = match kind {
            "ServiceEntry" => match facts::ServiceEntry::read(&object) {
                Reading::Unreadable(reason) => reason,
                other => panic!("{spec} is {other:?}"),
            },
            _ => match facts::WorkloadEntry::read(&object) {
                Reading::Unreadable(reason) => reason,
                other => panic!("{spec} is {other:?}"),
            },
        };
        assert!(reason.starts_with(expected), "{reason}");
    };
    check("ServiceEntry", json!({"addresses": ["10.0.0.1", "x"]}), "spec.addresses[1]: ");
    check("ServiceEntry", json!({"ports": [{"name": "a", "number": 70000}]}), "spec.ports[0].number: ");
    check("ServiceEntry", json!({"endpoints": [{"ports": {"a": 70000}}]}), "spec.endpoints[0].ports[\"a\"]: ");
    check("ServiceEntry", json!({"resolution": "MAGIC"}), "spec: ");
    check("WorkloadEntry", json!({"ports": {"a": 70000}}), "spec.ports[\"a\"]: ");
}

#[test]
fn what_only_a_waypoint_does_is_told() {
    let check = |host: &str, races: bool, bound: bool, expected: Option<&str>| {
        let mut entry = read_entry("db", None, json!({"hosts": [host]}), json!({}));
        entry.races_connects = races;
        let address = wire::GatewayAddress::default();
        let bound = bound.then(|| crate::derive::waypoint::Bound { key: Key::new("shop", "w"), address });
        let granted = Granted { waypoint: bound, ..Granted::default() };
        assert_eq!(entry::missing(&entry, &granted).map(|word| word.reason), expected, "{host} {races}");
    };
    check("a.b", false, false, None);
    check("*.b", false, false, Some("NoWaypointForWildcardService"));
    check("*.b", false, true, None);
    check("a.b", true, false, Some("NoWaypointForRacingConnectStrategy"));
}

#[test]
fn the_settings_decide_who_sees_an_entry_and_then_the_entry() {
    let entry = |export: Value| {
        read_entry("db", None, json!({"hosts": ["x.example"], "resolution": "DNS", "exportTo": export}), json!({}))
    };
    let space = |team: &str| facts::Namespace {
        labels: [("team".to_owned(), team.to_owned())].into(),
        ..facts::Namespace::default()
    };
    let settings =
        |text: &str| crate::settings::Settings::usual(mesh(), "istio-system").with(text).expect("valid").mesh.sight;
    let check = |text: &str, export: Value, team: &str, (visible, reason): (Visible, Option<&str>)| {
        let sight = settings(text);
        let found = sight.of(&entry(export.clone()), Some(&space(team)));
        assert_eq!(found, visible, "{text} {export} {team}");
        assert_eq!(sight.word(found).map(|word| word.reason), reason, "{text} {export} {team}");
    };
    check("", json!(null), "a", (Visible::Public, None));
    check("", json!(["*"]), "a", (Visible::Public, None));
    check("", json!(["."]), "a", (Visible::Namespace, Some("Namespace")));
    check("", json!(["shop"]), "a", (Visible::Namespace, Some("Namespace")));
    check("", json!(["~"]), "a", (Visible::Nowhere, Some("None")));
    check("", json!(["other"]), "a", (Visible::Public, None));
    let own = "defaultServiceExportTo: ['.']";
    check(own, json!(null), "a", (Visible::Namespace, Some("Namespace")));
    check(own, json!(["*"]), "a", (Visible::Public, None));
    let text = "serviceEntryVisibility:\n  defaultVisibility: NAMESPACE\n  policies:\n  - visibility: PUBLIC\n    \
                matchingRules: [{namespaceSelector: {matchLabels: {team: a}}}]\n  - visibility: NONE\n    \
                matchingRules: [{namespaceSelector: {matchLabels: {team: b}}}]\n";
    check(text, json!(["~"]), "a", (Visible::Public, Some("Public")));
    check(text, json!(["*"]), "b", (Visible::Nowhere, Some("None")));
    check(text, json!(["*"]), "c", (Visible::Namespace, Some("Namespace")));
}
