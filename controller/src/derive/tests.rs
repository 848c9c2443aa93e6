//! Golden tables: Kubernetes objects as users write them, and the messages they become.

mod entries;
mod l7_policies;
mod policies;
mod waypoints;

use std::collections::BTreeMap;

use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use lateen_cluster::{
    api::{AuthorizationPolicy as PolicyKind, PeerAuthentication as PeerKind},
    store::{Key, Reading},
};
use lateen_wire::workload as wire;
use serde_json::{Value, json};

use super::{Mesh, endpoint, entry::Behind, pod, service, waypoint::Granted};
use crate::facts;

pub(crate) fn mesh() -> Mesh {
    Mesh {
        cluster: "Kubernetes".to_owned(),
        domain: "cluster.local".to_owned(),
        trust_domain: "cluster.local".to_owned(),
        root_namespace: "istio-system".to_owned(),
        dry_run: false,
        sight: crate::derive::visible::Sight::default(),
        shown: crate::derive::Shown::default(),
        proxies: crate::derive::proxy::Defaults::default(),
        confines_servers: false,
        sessions: Key::new("istio-system", "lateen-session-secret"),
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

fn networking_object(kind: &str, name: &str, data: Value) -> DynamicObject {
    let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("networking.istio.io", "v1", kind));
    let meta = data.get("metadata").cloned().unwrap_or(json!({}));
    let mut object = DynamicObject::new(name, &kind).within("shop").data(data);
    object.metadata.labels = serde_json::from_value(meta["labels"].clone()).expect("labels");
    object.metadata.annotations = serde_json::from_value(meta["annotations"].clone()).expect("annotations");
    object
}

pub(crate) fn read_entry(name: &str, created: Option<&str>, spec: Value, status: Value) -> facts::ServiceEntry {
    let labels = spec.get("labels").cloned().unwrap_or_default();
    let data = json!({"metadata": {"labels": labels}, "spec": spec, "status": status});
    let mut object = networking_object("ServiceEntry", name, data);
    object.metadata.creation_timestamp = created.map(|text| serde_json::from_value(json!(text)).expect("a time"));
    value(facts::ServiceEntry::read(&object))
}

fn created(kind: &str, name: &str, created: &str, spec: Value) -> DynamicObject {
    let mut object = networking_object(kind, name, json!({"spec": spec}));
    object.metadata.creation_timestamp = Some(serde_json::from_value(json!(created)).expect("a time"));
    object
}

pub(crate) fn read_routes(name: &str, at: &str, spec: Value) -> facts::VirtualService {
    value(facts::VirtualService::read(&created("VirtualService", name, at, spec)))
}

pub(crate) fn read_route(kind: facts::RouteKind, at: &str, spec: Value) -> facts::Route {
    value(facts::Route::read(kind, &created(kind.as_str(), "r", at, spec)))
}

pub(crate) fn read_servers(at: &str, spec: Value) -> facts::Servers {
    value(facts::Servers::read(&created("Gateway", "g", at, spec)))
}

pub(crate) fn read_backing(at: &str, spec: Value) -> facts::BackendTls {
    value(facts::BackendTls::read(&created("BackendTLSPolicy", "b", at, spec)))
}

pub(crate) fn read_rule(name: &str, at: &str, spec: Value) -> facts::DestinationRule {
    value(facts::DestinationRule::read(&created("DestinationRule", name, at, spec)))
}

pub(crate) fn read_external(name: &str, labels: Value, spec: Value) -> facts::WorkloadEntry {
    let object = networking_object("WorkloadEntry", name, json!({"metadata": {"labels": labels}, "spec": spec}));
    value(facts::WorkloadEntry::read(&object))
}

pub(crate) fn read_gateway(labels: Value, annotations: Value, spec: Value, addresses: Value) -> facts::Gateway {
    let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("gateway.networking.k8s.io", "v1", "Gateway"));
    let mut object = DynamicObject::new("g", &kind).data(json!({"spec": spec, "status": {"addresses": addresses}}));
    object.metadata.labels = serde_json::from_value(labels).expect("labels");
    object.metadata.annotations = serde_json::from_value(annotations).expect("annotations");
    value(facts::Gateway::read(&object))
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
        services: vec![Behind::Service(&service_key, &behind)],
        policies: vec!["shop/b".to_owned(), "istio-system/a".to_owned(), "shop/b".to_owned()],
        ..pod::Surroundings::default()
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
    let granted = Granted::default();
    let around = service::Around { network: "", space: namespace, granted: &granted };
    service::derive(&mesh(), &Key::new("shop", "web"), &read_service(written), around)
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
