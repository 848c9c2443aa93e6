//! Which pods stand behind a Service.

use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde_json::{Value, json};

use super::cluster::Cluster;
use crate::controllers::action::Kind;

fn pod(name: &str, port: i32) -> Value {
    json!({
        "metadata": { "name": name, "namespace": "shop", "labels": { "app": "web" } },
        "spec": {
            "nodeName": "n1",
            "containers": [{ "name": "c", "ports": [{ "name": "http", "containerPort": port }] }],
        },
    })
}

fn service(spec: Value) -> Value {
    let mut service = json!({
        "metadata": { "name": "web", "namespace": "shop", "uid": "svc-1", "labels": { "team": "a" } },
        "spec": { "selector": { "app": "web" }, "clusterIP": "10.96.0.5", "ports": [{ "port": 80, "targetPort": 8080 }] },
    });
    for (field, value) in spec.as_object().into_iter().flatten() {
        service["spec"][field.as_str()] = value.clone();
    }
    service
}

/// A cluster with two ready pods, `w1` and `w2`, behind the service.
fn cluster(spec: Value) -> Cluster {
    let mut cluster = Cluster::with_nodes(&["n1"]);
    cluster.put(Kind::Pod, pod("w1", 8080));
    cluster.put(Kind::Pod, pod("w2", 8080));
    cluster.add_service(service(spec));
    cluster.run();
    cluster
}

fn slices(cluster: &Cluster) -> Vec<&EndpointSlice> {
    cluster.board.slices.all().collect()
}

/// Name, ready, serving and terminating of every endpoint.
fn states(cluster: &Cluster) -> Vec<(String, bool, bool, bool)> {
    let mut states: Vec<_> = slices(cluster)
        .iter()
        .flat_map(|slice| &slice.endpoints)
        .map(|endpoint| {
            let name = endpoint.target_ref.as_ref().and_then(|target| target.name.clone()).unwrap_or_default();
            let conditions = endpoint.conditions.clone().unwrap_or_default();
            let is = |value: Option<bool>| value == Some(true);
            (name, is(conditions.ready), is(conditions.serving), is(conditions.terminating))
        })
        .collect();
    states.sort();
    states
}

fn state(name: &str, ready: bool, serving: bool, terminating: bool) -> (String, bool, bool, bool) {
    (name.to_owned(), ready, serving, terminating)
}

#[test]
fn a_slice_names_ready_pods_with_their_place() {
    let cluster = cluster(json!({}));
    let [slice] = slices(&cluster)[..] else { panic!("one slice") };
    assert_eq!(slice.address_type, "IPv4");
    let labels = slice.metadata.labels.clone().expect("labels");
    assert_eq!((labels["kubernetes.io/service-name"].as_str(), labels["team"].as_str()), ("web", "a"));
    assert_eq!(slice.ports.as_ref().expect("ports")[0].port, Some(8080));
    let endpoint = &slice.endpoints[0];
    assert_eq!((endpoint.node_name.as_deref(), endpoint.zone.as_deref()), (Some("n1"), Some("zone-n1")));
    assert_eq!(states(&cluster), [state("w1", true, true, false), state("w2", true, true, false)]);
    let subsets = cluster.board.endpoints.find("shop", "web").and_then(|one| one.subsets.clone()).expect("subsets");
    assert_eq!(subsets[0].addresses.as_ref().map(Vec::len), Some(2));
}

#[test]
fn readiness_and_ending_are_told_apart() {
    let mut cluster = cluster(json!({}));
    let (w1, w2) = (cluster.pod_named("w1"), cluster.pod_named("w2"));
    cluster.set_ready(&w1, false);
    cluster.merge(&w2, &json!({ "metadata": { "deletionTimestamp": "2026-01-01T00:00:00Z" } }));
    cluster.settle();
    assert_eq!(states(&cluster), [state("w1", false, false, false), state("w2", false, true, true)]);
    let subsets = cluster.board.endpoints.find("shop", "web").and_then(|one| one.subsets.clone()).expect("subsets");
    assert_eq!((subsets[0].addresses.as_ref(), subsets[0].not_ready_addresses.as_ref().map(Vec::len)), (None, Some(2)));
    cluster.remove(&w2);
    cluster.merge(&w1, &json!({ "status": { "phase": "Failed" } }));
    cluster.settle();
    assert_eq!(states(&cluster), []);
    assert_eq!(slices(&cluster).len(), 1, "an empty slice says that there is nobody");
}

#[test]
fn unready_pods_are_published_where_asked() {
    let mut cluster = cluster(json!({ "publishNotReadyAddresses": true }));
    let w1 = cluster.pod_named("w1");
    cluster.set_ready(&w1, false);
    cluster.settle();
    assert_eq!(states(&cluster), [state("w1", true, false, false), state("w2", true, true, false)]);
}

#[test]
fn each_family_has_its_slice() {
    let cluster = cluster(json!({ "ipFamilies": ["IPv4", "IPv6"] }));
    let mut families: Vec<_> = slices(&cluster).iter().map(|slice| slice.address_type.as_str()).collect();
    families.sort_unstable();
    assert_eq!(families, ["IPv4", "IPv6"]);
    for slice in slices(&cluster) {
        let is_v6 = slice.address_type == "IPv6";
        assert!(slice.endpoints.iter().all(|endpoint| endpoint.addresses[0].contains(':') == is_v6), "{slice:?}");
    }
}

#[test]
fn a_named_port_may_have_another_number_in_each_pod() {
    let named =
        json!([{ "name": "http", "port": 80, "targetPort": "http" }, { "name": "no", "port": 81, "targetPort": "no" }]);
    let mut cluster = cluster(json!({ "ports": named }));
    cluster.put(Kind::Pod, pod("w3", 9090));
    cluster.run();
    let mut found: Vec<_> = slices(&cluster)
        .iter()
        .map(|slice| (slice.ports.as_ref().expect("ports")[0].port, slice.endpoints.len()))
        .collect();
    found.sort_unstable();
    assert_eq!(found, [(Some(8080), 2), (Some(9090), 1)]);
    assert!(
        slices(&cluster).iter().all(|slice| slice.ports.as_ref().expect("ports").len() == 1),
        "no pod has port `no`"
    );
}

#[test]
fn a_headless_service_names_its_pods() {
    let mut cluster = cluster(json!({ "clusterIP": "None" }));
    let mut named = pod("w3", 8080);
    named["spec"]["hostname"] = "three".into();
    named["spec"]["subdomain"] = "web".into();
    cluster.put(Kind::Pod, named);
    cluster.run();
    let [slice] = slices(&cluster)[..] else { panic!("one slice") };
    assert!(slice.metadata.labels.as_ref().expect("labels").contains_key("service.kubernetes.io/headless"));
    let names: Vec<_> = slice.endpoints.iter().map(|endpoint| endpoint.hostname.as_deref()).collect();
    assert_eq!(names, [None, None, Some("three")]);
}

#[test]
fn slices_go_with_their_service_and_others_slices_stay() {
    let mut cluster = cluster(json!({}));
    cluster.put(
        Kind::EndpointSlice,
        json!({ "metadata": { "name": "mine", "namespace": "shop" }, "addressType": "IPv4", "endpoints": [] }),
    );
    cluster.board.services.forget("shop", "web");
    cluster.run();
    assert_eq!(slices(&cluster).iter().map(|slice| slice.metadata.name.as_deref()).collect::<Vec<_>>(), [Some("mine")]);
    assert!(cluster.board.endpoints.find("shop", "web").is_none());
}
