//! Golden tables: Kubernetes objects as users write them, and the messages they become.

use std::collections::BTreeMap;

use kube::core::{ApiResource, DynamicObject};
use lateen_cluster::{
    api::{AuthorizationPolicy as PolicyKind, PeerAuthentication as PeerKind},
    store::{Key, Reading},
};
use lateen_wire::{security, workload as wire};
use serde_json::{Value, json};

use super::{Mesh, authorization, endpoint, peer, pod, service};
use crate::facts;

pub(crate) fn mesh() -> Mesh {
    Mesh {
        cluster: "Kubernetes".to_owned(),
        domain: "cluster.local".to_owned(),
        trust_domain: "cluster.local".to_owned(),
        root_namespace: "istio-system".to_owned(),
        dry_run: false,
    }
}

fn value<V>(reading: Reading<V>) -> V {
    match reading {
        Reading::Value(value) => value,
        Reading::Nothing => panic!("the object was skipped"),
        Reading::Unreadable(reason) => panic!("the object is unreadable: {reason}"),
    }
}

fn read_pod(written: Value) -> facts::Pod {
    value(facts::Pod::read(serde_json::from_value(written).expect("a pod")))
}

fn read_service(written: Value) -> facts::Service {
    value(facts::Service::read(serde_json::from_value(written).expect("a service")))
}

fn policy_object(spec: Value, annotations: Value) -> DynamicObject {
    let mut object = DynamicObject::new("p", &ApiResource::erase::<PolicyKind>(&())).data(json!({"spec": spec}));
    object.metadata.annotations = serde_json::from_value(annotations).expect("annotations");
    object.metadata.generation = Some(3);
    object
}

pub(crate) fn read_policy(spec: Value) -> facts::AuthorizationPolicy {
    value(facts::AuthorizationPolicy::read(&policy_object(spec, json!({}))))
}

pub(crate) fn read_peer(name: &str, created: Option<&str>, spec: Value) -> facts::PeerAuthentication {
    let mut object = DynamicObject::new(name, &ApiResource::erase::<PeerKind>(&())).data(json!({"spec": spec}));
    object.metadata.creation_timestamp = created.map(|text| serde_json::from_value(json!(text)).expect("a time"));
    value(facts::PeerAuthentication::read(&object))
}

/// A running pod behind a Deployment, redirected, in `shop`.
fn usual_pod() -> Value {
    json!({
        "metadata": {
            "name": "web-7d4b9-x2x", "namespace": "shop", "uid": "u1", "generateName": "web-7d4b9-",
            "labels": {"app": "web", "version": "v2", "pod-template-hash": "7d4b9"},
            "annotations": {"ambient.istio.io/redirection": "enabled"},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-7d4b9", "uid": "r", "controller": true}],
            "managedFields": [{"manager": "kubelet"}]
        },
        "spec": {
            "nodeName": "n1", "serviceAccountName": "front",
            "containers": [{"name": "c", "ports": [{"name": "http", "containerPort": 8080}, {"name": "dns", "containerPort": 53, "protocol": "UDP"}]}],
            "initContainers": [
                {"name": "side", "restartPolicy": "Always", "ports": [{"name": "stats", "containerPort": 9000}]},
                {"name": "once", "ports": [{"name": "once", "containerPort": 1}]}
            ]
        },
        "status": {
            "phase": "Running", "podIP": "10.0.0.9", "podIPs": [{"ip": "10.0.0.9"}, {"ip": "fd00::9"}],
            "conditions": [{"type": "Ready", "status": "True"}]
        }
    })
}

/// `usual_pod` with `patch` merged in.
fn changed_pod(patch: Value) -> facts::Pod {
    let mut written = usual_pod();
    merge(&mut written, patch);
    read_pod(written)
}

fn merge(base: &mut Value, patch: Value) {
    match (base, patch) {
        (Value::Object(base), Value::Object(patch)) => {
            for (key, value) in patch {
                if value.is_null() {
                    base.remove(&key);
                } else {
                    merge(base.entry(key).or_insert(Value::Null), value);
                }
            }
        }
        (base, patch) => *base = patch,
    }
}

fn pod_key() -> Key {
    Key::new("shop", "web-7d4b9-x2x")
}

fn derived(pod: &facts::Pod) -> wire::Workload {
    pod::derive(&mesh(), &pod_key(), pod, pod::Surroundings::default()).expect("a workload")
}

#[test]
fn a_pod_becomes_a_workload() {
    let node: facts::Node = value(facts::Node::read(
        serde_json::from_value(json!({"metadata": {"labels": {
            "topology.kubernetes.io/region": "r", "topology.kubernetes.io/zone": "z"}}}))
        .expect("a node"),
    ));
    let behind = read_service(json!({"spec": {"clusterIP": "10.96.0.1", "selector": {"app": "web"}, "ports": [
        {"name": "http", "port": 80, "targetPort": "http"},
        {"name": "stats", "port": 81, "targetPort": "stats"},
        {"name": "plain", "port": 82},
        {"name": "absent", "port": 83, "targetPort": "absent"},
        {"name": "once", "port": 84, "targetPort": "once"}]}}));
    let service_key = Key::new("shop", "web");
    let around = pod::Surroundings {
        network: "net1",
        node: Some(&node),
        services: vec![(&service_key, &behind)],
        policies: vec!["shop/b".to_owned(), "istio-system/a".to_owned(), "shop/b".to_owned()],
    };
    let workload = pod::derive(&mesh(), &pod_key(), &read_pod(usual_pod()), around).expect("a workload");
    let port = |from, to| wire::Port { service_port: from, target_port: to, app_protocol: 0 };
    let ports = wire::PortList { ports: vec![port(80, 8080), port(81, 9000), port(82, 82)] };
    let mut second = vec![0; 16];
    (second[0], second[15]) = (0xfd, 9);
    let expected = wire::Workload {
        uid: "Kubernetes//Pod/shop/web-7d4b9-x2x".to_owned(),
        name: "web-7d4b9-x2x".to_owned(),
        namespace: "shop".to_owned(),
        addresses: vec![vec![10, 0, 0, 9], second],
        network: "net1".to_owned(),
        tunnel_protocol: wire::TunnelProtocol::Hbone.into(),
        service_account: "front".to_owned(),
        node: "n1".to_owned(),
        canonical_name: "web".to_owned(),
        canonical_revision: "v2".to_owned(),
        workload_type: wire::WorkloadType::Pod.into(),
        workload_name: "web".to_owned(),
        authorization_policies: vec!["istio-system/a".to_owned(), "shop/b".to_owned()],
        status: wire::WorkloadStatus::Healthy.into(),
        cluster_id: "Kubernetes".to_owned(),
        services: BTreeMap::from([("shop/web.shop.svc.cluster.local".to_owned(), ports)]),
        locality: Some(wire::Locality { region: "r".into(), zone: "z".into(), subzone: String::new() }),
        ..wire::Workload::default()
    };
    assert_eq!(workload, expected);
}

#[test]
fn pods_that_have_ended_or_have_no_address_are_left_out() {
    for status in [json!({"phase": "Succeeded"}), json!({"phase": "Failed"}), json!({"podIP": null, "podIPs": null})] {
        let pod = changed_pod(json!({"status": status}));
        assert_eq!(pod::derive(&mesh(), &pod_key(), &pod, pod::Surroundings::default()), None, "{pod:?}");
    }
    // Init containers need the mesh too.
    let pending = derived(&changed_pod(json!({"status": {"phase": "Pending", "conditions": []}})));
    assert_eq!(pending.status, i32::from(wire::WorkloadStatus::Unhealthy));
}

#[test]
fn the_details_of_a_pod() {
    let deleting = changed_pod(json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}));
    assert_eq!(derived(&deleting).status, i32::from(wire::WorkloadStatus::Unhealthy));
    let plain = derived(&changed_pod(json!({"metadata": {"annotations": null}})));
    assert_eq!((plain.tunnel_protocol, plain.native_tunnel), (0, false));
    let pending = json!({"metadata": {"annotations": {"ambient.istio.io/redirection": "pending"}}});
    assert_eq!(derived(&changed_pod(pending)).tunnel_protocol, 0);
    let native = json!({"metadata": {"annotations": null, "labels": {"networking.istio.io/tunnel": "x, http"}}});
    let native = derived(&changed_pod(native));
    assert_eq!((native.tunnel_protocol, native.native_tunnel), (wire::TunnelProtocol::Hbone.into(), true));
    let host = derived(&changed_pod(json!({"spec": {"hostNetwork": true}})));
    assert_eq!(host.network_mode, i32::from(wire::NetworkMode::HostNetwork));
    let first = derived(&changed_pod(json!({"status": {"podIPs": null}})));
    assert_eq!(first.addresses, [vec![10, 0, 0, 9]]);
    let foreign = Mesh { trust_domain: "td.example".to_owned(), ..mesh() };
    let workload = pod::derive(&foreign, &pod_key(), &read_pod(usual_pod()), pod::Surroundings::default());
    assert_eq!(workload.expect("a workload").trust_domain, "td.example");
}

#[test]
fn a_workload_is_called_what_its_owner_is_called() {
    let owner = |kind: &str, name: &str| json!([{"apiVersion": "v1", "kind": kind, "name": name, "uid": "r", "controller": true}]);
    let check = |patch: Value, name: &str, canonical: &str, revision: &str| {
        let workload = derived(&changed_pod(json!({"metadata": patch})));
        let found = (workload.workload_name, workload.canonical_name, workload.canonical_revision);
        assert_eq!(found, (name.to_owned(), canonical.to_owned(), revision.to_owned()), "{patch}");
    };
    check(json!({}), "web", "web", "v2");
    let rollout = json!({"pod-template-hash": null, "rollouts-pod-template-hash": "7d4b9"});
    check(json!({"labels": rollout}), "web", "web", "v2");
    check(json!({"labels": {"pod-template-hash": null, "app": null}}), "web-7d4b9", "web-7d4b9", "v2");
    check(json!({"ownerReferences": owner("Job", "report-28193440")}), "report", "web", "v2");
    check(json!({"ownerReferences": owner("Job", "report-28")}), "report-28", "web", "v2");
    check(json!({"ownerReferences": owner("StatefulSet", "db")}), "db", "web", "v2");
    let config =
        json!({"labels": {"deploymentconfig": "dc"}, "ownerReferences": owner("ReplicationController", "dc-1")});
    check(config, "dc", "web", "v2");
    check(json!({"generateName": null}), "web-7d4b9-x2x", "web", "v2");
    check(json!({"ownerReferences": null}), "web-7d4b9-x2x", "web", "v2");
    let named = json!({"labels": {"service.istio.io/workload-name": "w", "service.istio.io/canonical-name": "c",
        "service.istio.io/canonical-revision": "r"}});
    check(named, "w", "c", "r");
    let recommended = json!({"labels": {"app.kubernetes.io/name": "n", "app.kubernetes.io/version": "9"}});
    check(recommended, "web", "n", "9");
    check(json!({"labels": {"version": null}}), "web", "web", "latest");
}

fn derived_service(written: Value, namespace: Option<&facts::Namespace>) -> wire::Service {
    service::derive(&mesh(), "", &Key::new("shop", "web"), &read_service(written), namespace)
}

#[test]
fn a_service_becomes_a_service() {
    let found = derived_service(
        json!({"spec": {"clusterIP": "10.96.0.5", "clusterIPs": ["10.96.0.5", "fd00::5"], "ipFamilies": ["IPv4", "IPv6"],
            "ports": [{"name": "http", "port": 80, "targetPort": 8080}, {"name": "x", "port": 81, "targetPort": "named"}]}}),
        None,
    );
    let mut second = vec![0; 16];
    (second[0], second[15]) = (0xfd, 5);
    let address = |address| wire::NetworkAddress { network: String::new(), address, length: None };
    let expected = wire::Service {
        name: "web".to_owned(),
        namespace: "shop".to_owned(),
        hostname: "web.shop.svc.cluster.local".to_owned(),
        addresses: vec![address(vec![10, 96, 0, 5]), address(second)],
        ports: vec![
            wire::Port { service_port: 80, target_port: 8080, app_protocol: wire::AppProtocol::Http11.into() },
            wire::Port { service_port: 81, target_port: 0, app_protocol: wire::AppProtocol::Unknown.into() },
        ],
        ip_families: wire::IpFamilies::Dual.into(),
        canonical: true,
        ..wire::Service::default()
    };
    assert_eq!(found, expected);
}

#[test]
fn services_that_are_none_are_skipped_and_headless_ones_have_no_address() {
    let read = |spec: Value| facts::Service::read(serde_json::from_value(json!({"spec": spec})).expect("a service"));
    assert_eq!(read(json!({"type": "ExternalName", "externalName": "x"})), Reading::Nothing);
    assert_eq!(read(json!({"clusterIP": "nonsense"})), Reading::Nothing);
    assert!(derived_service(json!({"spec": {"clusterIP": "None"}}), None).addresses.is_empty());
}

#[test]
fn the_protocol_of_a_port_is_guessed_in_order() {
    let check = |port: Value, expected: wire::AppProtocol| {
        let found = derived_service(json!({"spec": {"ports": [port.clone()]}}), None);
        assert_eq!(found.ports[0].app_protocol, i32::from(expected), "{port}");
    };
    check(json!({"port": 1, "appProtocol": "kubernetes.io/h2c", "name": "http"}), wire::AppProtocol::Http2);
    check(json!({"port": 1, "appProtocol": "HTTPS", "name": "http"}), wire::AppProtocol::Tls);
    check(json!({"port": 1, "appProtocol": "kubernetes.io/ws"}), wire::AppProtocol::Http11);
    check(json!({"port": 1, "name": "grpc-api"}), wire::AppProtocol::Grpc);
    check(json!({"port": 1, "name": "grpc-web"}), wire::AppProtocol::Unknown);
    check(json!({"port": 1, "name": "tcp-x"}), wire::AppProtocol::Tcp);
    check(json!({"port": 1, "name": "httpx"}), wire::AppProtocol::Unknown);
    check(json!({"port": 3306}), wire::AppProtocol::Tcp);
    check(json!({"port": 53, "name": "tcp-dns", "protocol": "UDP"}), wire::AppProtocol::Unknown);
}

#[test]
fn load_balancing_has_one_source() {
    use wire::load_balancing::{HealthPolicy, Mode, Scope};
    let namespace = |text: &str| facts::Namespace {
        distribution: Some(facts::Distribution::annotated(text)),
        ..facts::Namespace::default()
    };
    let check =
        |written: Value, namespace: Option<&facts::Namespace>, expected: Option<(&[Scope], Mode, HealthPolicy)>| {
            let found = derived_service(written.clone(), namespace).load_balancing.map(|one| {
                let scopes: Vec<Scope> = one.routing_preference().collect();
                (scopes, one.mode(), one.health_policy())
            });
            let expected = expected.map(|(scopes, mode, health)| (scopes.to_vec(), mode, health));
            assert_eq!(found, expected, "{written}");
        };
    let annotated = |text: &str| json!({"metadata": {"annotations": {"networking.istio.io/traffic-distribution": text}}, "spec": {}});
    let close: &[Scope] = &[Scope::Network, Scope::Region, Scope::Zone];
    let node: &[Scope] = &[Scope::Network, Scope::Region, Scope::Zone, Scope::Subzone, Scope::Node];
    let healthy = HealthPolicy::OnlyHealthy;
    check(json!({"spec": {}}), None, None);
    let local = json!({"spec": {"internalTrafficPolicy": "Local", "trafficDistribution": "PreferClose"}});
    check(local, None, Some((&[Scope::Node], Mode::Strict, healthy)));
    check(json!({"spec": {"trafficDistribution": "PreferClose"}}), None, Some((close, Mode::Failover, healthy)));
    check(json!({"spec": {"trafficDistribution": "PreferSameZone"}}), None, Some((close, Mode::Failover, healthy)));
    check(json!({"spec": {"trafficDistribution": "PreferSameNode"}}), None, Some((node, Mode::Failover, healthy)));
    check(annotated("preferclose"), None, Some((close, Mode::Failover, healthy)));
    check(json!({"spec": {}}), Some(&namespace("PreferSameNode")), Some((node, Mode::Failover, healthy)));
    check(annotated("Any"), Some(&namespace("PreferClose")), None);
    check(annotated("nonsense"), Some(&namespace("PreferClose")), None);
    let all = json!({"spec": {"publishNotReadyAddresses": true}});
    check(all, None, Some((&[], Mode::UnspecifiedMode, HealthPolicy::AllowAll)));
}

#[test]
fn endpoints_without_pods_become_workloads() {
    let slice = value(facts::EndpointSlice::read(
        serde_json::from_value(json!({
            "metadata": {"namespace": "shop", "name": "db-1", "labels": {"kubernetes.io/service-name": "db"}},
            "addressType": "IPv4",
            "ports": [{"name": "pg", "port": 5432}, {"name": "udp", "port": 1, "protocol": "UDP"}],
            "endpoints": [
                {"addresses": ["192.0.2.1"]},
                {"addresses": ["192.0.2.2"], "conditions": {"ready": false}},
                {"addresses": ["10.0.0.9"], "targetRef": {"kind": "Pod", "name": "web", "namespace": "shop", "uid": "u1"}}
            ]
        }))
        .expect("a slice"),
    ));
    let service = read_service(json!({"spec": {"clusterIP": "10.96.0.7", "ports": [
        {"name": "pg", "port": 15432}, {"name": "udp", "port": 1}, {"name": "other", "port": 2}]}}));
    let found = endpoint::derive(&mesh(), "", &Key::new("shop", "db-1"), &slice, &service);
    assert_eq!(found.len(), 2);
    let first = &found[0];
    assert_eq!(first.uid, "Kubernetes/discovery.k8s.io/EndpointSlice/shop/db-1/192.0.2.1");
    assert_eq!(first.network_mode, i32::from(wire::NetworkMode::HostNetwork));
    let ports = &first.services["shop/db.shop.svc.cluster.local"].ports;
    assert_eq!(ports.iter().map(|port| (port.service_port, port.target_port)).collect::<Vec<_>>(), [(15432, 5432)]);
    assert_eq!(found[1].status, i32::from(wire::WorkloadStatus::Unhealthy));
}

#[test]
fn a_policy_has_scope_action_and_condition() {
    let check = |namespace: &str, spec: Value, expected: Option<(security::Scope, security::Action)>| {
        let made = authorization::derive(&mesh(), &Key::new(namespace, "p"), &read_policy(spec.clone()));
        let found = made.policy.map(|policy| (policy.scope(), policy.action()));
        assert_eq!(found, expected, "{namespace}: {spec}");
    };
    use security::{Action, Scope};
    check("shop", json!({}), Some((Scope::Namespace, Action::Allow)));
    check("shop", json!({"selector": {"matchLabels": {"a": "b"}}}), Some((Scope::WorkloadSelector, Action::Allow)));
    check("shop", json!({"selector": {}}), Some((Scope::WorkloadSelector, Action::Allow)));
    check("istio-system", json!({"action": "DENY"}), Some((Scope::Global, Action::Deny)));
    check("shop", json!({"action": "AUDIT"}), None);
    check("shop", json!({"action": "CUSTOM", "provider": {"name": "x"}}), None);
    check("shop", json!({"targetRefs": [{"kind": "Service", "name": "web"}]}), None);
    check("shop", json!({"targetRef": {"kind": "Service", "name": "web"}}), None);
}

#[test]
fn dry_run_policies_are_held_back_unless_proxies_understand_them() {
    let object = policy_object(json!({"action": "DENY"}), json!({"istio.io/dry-run": "true"}));
    let policy = value(facts::AuthorizationPolicy::read(&object));
    let key = Key::new("shop", "p");
    let held = authorization::derive(&mesh(), &key, &policy);
    assert!(held.policy.is_none() && held.condition.is_some_and(|condition| !condition.accepted));
    let enabled = Mesh { dry_run: true, ..mesh() };
    assert!(authorization::derive(&enabled, &key, &policy).policy.expect("sent").dry_run);
}

/// The rules as JSON-like text is long; this names each match by its fields.
fn rules_of(spec: Value) -> Vec<security::Rule> {
    authorization::derive(&mesh(), &Key::new("shop", "p"), &read_policy(spec)).policy.expect("sent").rules
}

fn exact(text: &str) -> security::StringMatch {
    super::matching::string(text)
}

fn clause(matches: Vec<security::Match>) -> security::Clause {
    security::Clause { matches }
}

#[test]
fn a_rule_is_clauses_of_to_from_and_each_when() {
    let rules = rules_of(json!({"rules": [{
        "from": [{"source": {"namespaces": ["web"], "notPrincipals": ["*"], "serviceAccounts": ["sa", "other/sa"]}},
                 {"source": {"ipBlocks": ["10.1.0.0/16", "10.2.0.1"]}}],
        "to": [{"operation": {"ports": ["80"], "notPorts": ["81"]}}],
        "when": [{"key": "destination.port", "notValues": ["22"]}, {"key": "source.principal", "values": ["*/sa/x", "td/*"]}]
    }, {}]}));
    let account =
        |namespace: &str| security::ServiceAccountMatch { namespace: namespace.into(), service_account: "sa".into() };
    let address = |bytes: [u8; 4], length| security::Address { address: bytes.to_vec(), length };
    let default = security::Match::default;
    let to = security::Match { destination_ports: vec![80], not_destination_ports: vec![81], ..default() };
    let identity = security::Match {
        namespaces: vec![exact("web")],
        not_principals: vec![super::matching::presence()],
        service_accounts: vec![account("shop"), account("other")],
        ..default()
    };
    let source_ips = vec![address([10, 1, 0, 0], 16), address([10, 2, 0, 1], 32)];
    let place = security::Match { source_ips, ..default() };
    let port = security::Match { not_destination_ports: vec![22], ..default() };
    use security::string_match::MatchType;
    let suffix = security::StringMatch { match_type: Some(MatchType::Suffix("/sa/x".into())) };
    let prefix = security::StringMatch { match_type: Some(MatchType::Prefix("td/".into())) };
    let principal = security::Match { principals: vec![suffix, prefix], ..default() };
    let clauses = vec![clause(vec![to]), clause(vec![identity, place]), clause(vec![port]), clause(vec![principal])];
    assert_eq!(rules, [security::Rule { clauses }, security::Rule::default()]);
}

#[test]
fn an_allow_rule_with_http_is_left_out_whole() {
    let allowed = json!({"rules": [
        {"to": [{"operation": {"ports": ["80"]}}]},
        {"to": [{"operation": {"ports": ["81"], "methods": ["GET"]}}]},
        {"when": [{"key": "request.headers[x]", "values": ["y"]}]},
        {"from": [{"source": {"requestPrincipals": ["*"]}}]},
        {"from": [{"source": {"trustDomains": ["td"]}}]},
        {"from": [{"source": {"namespaces": ["web"], "ipBlocks": ["nonsense"]}}]}]});
    let only = clause(vec![security::Match { destination_ports: vec![80], ..security::Match::default() }]);
    assert_eq!(rules_of(allowed.clone()), [security::Rule { clauses: vec![only] }]);
    let told = authorization::derive(&mesh(), &Key::new("shop", "p"), &read_policy(allowed)).condition.expect("told");
    assert!(told.accepted);
    assert_eq!(told.reason.as_str(), "UnsupportedValue");
    for word in ["methods", "request.headers[x]", "requestPrincipals", "trustDomains", "nonsense", "more restrictive"] {
        assert!(told.message.contains(word), "{word} is not in {}", told.message);
    }
}

#[test]
fn a_deny_rule_loses_only_its_http_parts() {
    let told = |spec: Value| {
        let made = authorization::derive(&mesh(), &Key::new("shop", "p"), &read_policy(spec));
        (made.policy.expect("sent").rules, made.condition.expect("told").message)
    };
    let port = security::Match { destination_ports: vec![80], ..security::Match::default() };
    let (rules, message) =
        told(json!({"action": "DENY", "rules": [{"to": [{"operation": {"ports": ["80"], "methods": ["POST"]}}]}]}));
    assert_eq!(rules, [security::Rule { clauses: vec![clause(vec![port])] }]);
    assert!(message.contains("more restrictive") && !message.contains("less"), "{message}");
    // A clause with nothing left never matches, so neither does the rule.
    let empty = clause(vec![security::Match::default()]);
    let (rules, message) = told(json!({"action": "DENY", "rules": [{"to": [{"operation": {"paths": ["/a"]}}]}]}));
    assert_eq!(rules, [security::Rule { clauses: vec![empty.clone()] }]);
    assert!(message.contains("no effect"), "{message}");
    let (rules, message) = told(json!({"action": "DENY", "rules": [
        {"from": [{"source": {"namespaces": ["web"]}}], "to": [{"operation": {"paths": ["/a"]}}]},
        {"to": [{"operation": {"ports": ["80"], "paths": ["/a"]}}]}]}));
    let web = security::Match { namespaces: vec![exact("web")], ..security::Match::default() };
    assert_eq!(rules[0], security::Rule { clauses: vec![empty, clause(vec![web])] });
    assert!(message.contains("less restrictive"), "{message}");
    let (_, message) = told(json!({"action": "DENY", "rules": [{"to": [{"operation": {"ports": ["80"]}}]}]}));
    assert_eq!(message, "attached to ztunnel");
}

const UNKNOWN_NAMES: [&str; 0] = [];

/// Parent mode, workload mode, ports → what the workload names: `static`, `ports` or nothing.
fn check_peer(parent: &str, own: Option<Value>, expected: &[&str]) {
    let parent = read_peer("default", Some("2026-01-01T00:00:00Z"), json!({"mtls": {"mode": parent}}));
    let levels = peer::Levels { mesh: None, namespace: Some(&parent) };
    let key = Key::new("shop", "own");
    let own = own.map(|mut spec| {
        spec["selector"] = json!({"matchLabels": {"app": "web"}});
        read_peer("own", Some("2026-01-01T00:00:00Z"), spec)
    });
    let labels = [("app".to_owned(), "web".to_owned())].into();
    let found = peer::names(&mesh(), levels, own.iter().map(|one| (&key, one)), &labels);
    let expected: Vec<&str> = expected
        .iter()
        .map(|short| match *short {
            "static" => "istio-system/istio_converted_static_strict",
            "ports" => "shop/converted_peer_authentication_own",
            other => panic!("{other}"),
        })
        .collect();
    assert_eq!(found, expected, "{own:?} under {parent:?}");
    let emitted = own.and_then(|own| peer::ports(&key, &own, levels.strict()));
    assert_eq!(emitted.is_some(), expected.iter().any(|name| name.contains("converted_peer")));
}

#[test]
fn which_peer_policies_a_workload_names() {
    let own = |mode: &str, port: &str| Some(json!({"mtls": {"mode": mode}, "portLevelMtls": {"9090": {"mode": port}}}));
    check_peer("STRICT", None, &["static"]);
    check_peer("PERMISSIVE", None, &UNKNOWN_NAMES);
    check_peer("DISABLE", None, &UNKNOWN_NAMES);
    check_peer("UNSET", None, &UNKNOWN_NAMES);
    check_peer("PERMISSIVE", own("STRICT", "PERMISSIVE"), &["ports"]);
    check_peer("PERMISSIVE", own("STRICT", "DISABLE"), &["ports"]);
    check_peer("PERMISSIVE", own("STRICT", "STRICT"), &["static"]);
    check_peer("STRICT", own("PERMISSIVE", "STRICT"), &["ports"]);
    check_peer("STRICT", own("PERMISSIVE", "PERMISSIVE"), &UNKNOWN_NAMES);
    check_peer("STRICT", own("UNSET", "PERMISSIVE"), &["ports"]);
    check_peer("STRICT", own("UNSET", "DISABLE"), &["ports"]);
    check_peer("STRICT", own("UNSET", "UNSET"), &["static"]);
    check_peer("UNSET", own("UNSET", "STRICT"), &["ports"]);
    check_peer("UNSET", own("UNSET", "PERMISSIVE"), &UNKNOWN_NAMES);
}

#[test]
fn the_older_and_the_nearer_policy_wins() {
    let strict = |name: &str, created: &str| read_peer(name, Some(created), json!({"mtls": {"mode": "STRICT"}}));
    let permissive =
        |name: &str, created: &str| read_peer(name, Some(created), json!({"mtls": {"mode": "PERMISSIVE"}}));
    let all = [
        permissive("b", "2026-02-01T00:00:00Z"),
        strict("z", "2026-01-01T00:00:00Z"),
        strict("c", "2026-03-01T00:00:00Z"),
    ];
    let (place, _) = peer::oldest(all.iter().enumerate()).expect("one");
    assert_eq!(place, 1);
    let (near, far) = (permissive("n", "2026-01-01T00:00:00Z"), strict("m", "2026-01-01T00:00:00Z"));
    assert!(!peer::Levels { mesh: Some(&far), namespace: Some(&near) }.strict());
    let unset = read_peer("u", None, json!({}));
    assert!(peer::Levels { mesh: Some(&far), namespace: Some(&unset) }.strict());
}

#[test]
fn the_worked_examples_of_port_policies() {
    let key = Key::new("shop", "own");
    let ports = |spec: Value, parent_strict: bool| {
        peer::ports(&key, &read_peer("own", None, spec), parent_strict).expect("a policy").rules
    };
    let one = |matches: security::Match| clause(vec![matches]);
    let unknown =
        || security::Match { not_principals: vec![super::matching::presence()], ..security::Match::default() };
    let rules = ports(json!({"mtls": {"mode": "STRICT"}, "portLevelMtls": {"8080": {"mode": "PERMISSIVE"}}}), false);
    let other = security::Match { not_destination_ports: vec![8080], ..security::Match::default() };
    assert_eq!(rules, [security::Rule { clauses: vec![one(unknown()), one(other)] }]);
    let rules = ports(json!({"mtls": {"mode": "PERMISSIVE"}, "portLevelMtls": {"9000": {"mode": "STRICT"}}}), false);
    let at = security::Match { destination_ports: vec![9000], ..unknown() };
    assert_eq!(rules, [security::Rule { clauses: vec![one(at)] }]);
}

#[test]
fn a_port_that_is_none_makes_the_object_unreadable() {
    let object = DynamicObject::new("p", &ApiResource::erase::<PeerKind>(&()))
        .data(json!({"spec": {"portLevelMtls": {"http": {"mode": "STRICT"}}}}));
    assert!(matches!(facts::PeerAuthentication::read(&object), Reading::Unreadable(reason) if reason.contains("http")));
}
