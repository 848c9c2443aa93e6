//! Entries, waypoints, settings and what their authors are told, on a real API.

use lateen_wire::workload::{self as wire, gateway_address::Destination};
use serde_json::{Value, json};

use super::{Proxy, ZTUNNEL, harness::Cluster, node, objects, open, roots};
use crate::harness::Controller;

/// A cluster with all kinds and one proxy that holds its first picture.
async fn meshed() -> (Cluster, Controller, Proxy) {
    let cluster = Cluster::start().await;
    cluster.define().await;
    cluster.apply(objects()).await;
    let controller = cluster.controller().await;
    controller.until_ready().await;
    let token = cluster.token(ZTUNNEL, Some("ztunnel-1"), "istio-ca").await;
    let channel = controller.channel(&roots(&cluster, "istio-system").await, &token);
    let mut proxy = open(channel, node(&[("NAMESPACE", "istio-system"), ("NODE_NAME", "n1")])).await.expect("admitted");
    proxy.until("the first picture", |proxy| proxy.workload("shop/web-1").is_some()).await;
    (cluster, controller, proxy)
}

fn service<'a>(proxy: &'a Proxy, name: &str) -> Option<&'a wire::Service> {
    match proxy.addresses.get(name)?.r#type.as_ref()? {
        wire::address::Type::Service(service) => Some(service),
        wire::address::Type::Workload(_) => None,
    }
}

fn networking(kind: &str, name: &str, spec: Value) -> Value {
    let metadata = json!({"namespace": "shop", "name": name});
    json!({"apiVersion": "networking.istio.io/v1", "kind": kind, "metadata": metadata, "spec": spec})
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_are_given_addresses_and_workloads_stand_behind_them() {
    let (cluster, controller, mut proxy) = meshed().await;
    let ports = json!([{"name": "pg", "number": 5432, "protocol": "TCP"}]);
    let spec = json!({"hosts": ["db.example"], "resolution": "STATIC", "ports": ports,
        "workloadSelector": {"labels": {"app": "db"}}});
    let outside = json!({"address": "192.0.2.8", "labels": {"app": "db"}});
    cluster.apply([networking("ServiceEntry", "db", spec), networking("WorkloadEntry", "vm", outside)]).await;
    let behind = |workload: &wire::Workload| workload.services.contains_key("shop/db.example");
    let vm = "Kubernetes/networking.istio.io/WorkloadEntry/shop/vm";
    proxy
        .until("the entry with addresses, its pod and its workload entry", |proxy| {
            let given = service(proxy, "shop/db.example").is_some_and(|service| service.addresses.len() == 2);
            let outside = proxy.addresses.get(vm).and_then(|one| one.r#type.as_ref());
            let outside = matches!(outside, Some(wire::address::Type::Workload(workload)) if behind(workload));
            given && outside && proxy.workload("shop/db-1").is_some_and(behind)
        })
        .await;
    assert_eq!(service(&proxy, "shop/db.example").expect("there").addresses[0].address[..2], [240, 240]);
    controller.end().await;
    cluster.api.shutdown().await.expect("it ends");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_is_bound_while_its_waypoint_is_there() {
    let (cluster, controller, mut proxy) = meshed().await;
    let mut web = objects().pop().expect("the service");
    web["metadata"]["labels"] = json!({"istio.io/use-waypoint": "w"});
    cluster.apply([web.clone()]).await;
    let told = cluster.until_told(&web, "istio.io/WaypointBound", ("False", "WaypointIsNotReady")).await;
    assert!(told.contains("shop/w"), "{told}");
    let gateway = json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway",
        "metadata": {"namespace": "shop", "name": "w"},
        "spec": {"gatewayClassName": "istio-waypoint",
            "listeners": [{"name": "mesh", "port": 15008, "protocol": "HBONE"}]},
        "status": {"addresses": [{"type": "Hostname", "value": "w.shop.svc.cluster.local"}]}});
    cluster.apply([gateway.clone()]).await;
    let waypoint =
        |proxy: &Proxy| match service(proxy, "shop/web.shop.svc.cluster.local")?.waypoint.clone()?.destination? {
            Destination::Hostname(name) => Some(name.hostname),
            Destination::Address(_) => None,
        };
    let bound = Some("w.shop.svc.cluster.local".to_owned());
    proxy.until("the binding", |proxy| waypoint(proxy) == bound).await;
    cluster.until_told(&web, "istio.io/WaypointBound", ("True", "WaypointAccepted")).await;
    cluster.delete(&gateway).await;
    let nowhere = Some("w.shop.missing-waypoint.invalid".to_owned());
    proxy.until("its end, which lets nothing pass by", |proxy| waypoint(proxy) == nowhere).await;
    cluster.until_told(&web, "istio.io/WaypointBound", ("False", "WaypointIsNotReady")).await;
    controller.end().await;
    cluster.api.shutdown().await.expect("it ends");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_is_in_force_once_the_proxy_holds_it() {
    let (cluster, controller, mut proxy) = meshed().await;
    let policy = json!({"apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
        "metadata": {"namespace": "shop", "name": "p"},
        "spec": {"selector": {"matchLabels": {"app": "web"}}, "rules": [{"to": [{"operation": {"ports": ["80"]}}]}]}});
    cluster.apply([policy.clone()]).await;
    proxy
        .until("the policy", |proxy| {
            let named = proxy.workload("shop/web-1").is_some_and(|web| web.authorization_policies == ["shop/p"]);
            named && proxy.policies.contains_key("shop/p")
        })
        .await;
    let told = cluster.until_told(&policy, "Enforced", ("True", "InForce")).await;
    assert_eq!(told, "in force at 1 of 1 connected proxies");
    let mut other = policy.clone();
    other["spec"] = json!({"action": "AUDIT"});
    cluster.apply([other]).await;
    let told = cluster.until_told(&policy, "Enforced", ("False", "NotEnforceable")).await;
    assert!(told.contains("spec.action"), "{told}");
    controller.end().await;
    cluster.api.shutdown().await.expect("it ends");
}

/// Whichever of them leads tells of all.
#[tokio::test(flavor = "multi_thread")]
async fn the_proxies_of_two_controllers_are_counted_together() {
    let (cluster, first, mut one) = meshed().await;
    let second = cluster.controller().await;
    second.until_ready().await;
    let token = cluster.token(ZTUNNEL, Some("ztunnel-1"), "istio-ca").await;
    let channel = second.channel(&roots(&cluster, "istio-system").await, &token);
    let mut other = open(channel, node(&[("NAMESPACE", "istio-system"), ("NODE_NAME", "n1")])).await.expect("admitted");
    // The leader hears of the other's proxies every two seconds, so a policy that is too early for that is followed by another.
    let mut told = String::new();
    let until = tokio::time::Instant::now() + std::time::Duration::from_secs(20);
    for number in 0.. {
        assert!(tokio::time::Instant::now() < until, "the last of {number} policies is {told}");
        let name = format!("p{number}");
        let policy = json!({"apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
            "metadata": {"namespace": "shop", "name": name},
            "spec": {"selector": {"matchLabels": {"app": "web"}}, "rules": [{"to": [{"operation": {"ports": ["80"]}}]}]}});
        cluster.apply([policy.clone()]).await;
        for proxy in [&mut one, &mut other] {
            let named = |proxy: &Proxy| {
                let web = proxy.workload("shop/web-1");
                web.is_some_and(|web| web.authorization_policies.contains(&format!("shop/{name}")))
            };
            proxy.until("the policy", named).await;
        }
        told = cluster.until_told(&policy, "Enforced", ("True", "InForce")).await;
        if told == "in force at 2 of 2 connected proxies" {
            break;
        }
    }
    first.end().await;
    second.end().await;
    cluster.api.shutdown().await.expect("it ends");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_discovered_leaves_the_mesh_and_bad_settings_change_nothing() {
    let (cluster, controller, mut proxy) = meshed().await;
    let settings = |mesh: &str| {
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"namespace": "istio-system", "name": "istio"},
            "data": {"mesh": mesh}})
    };
    let labelled = |word: &str| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop", "labels": {"mesh": word}}});
    let selecting = "discoverySelectors: [{matchLabels: {mesh: 'yes'}}]";
    cluster.apply([labelled("yes"), settings(selecting), labelled("no")]).await;
    proxy.until("the end of shop", |proxy| proxy.workload("shop/web-1").is_none()).await;
    assert!(proxy.workload("istio-system/ztunnel-1").is_some(), "the root namespace stays");
    cluster.apply([settings("discoverySelectors: [{labels: {}}]"), labelled("yes")]).await;
    proxy.until("shop again", |proxy| proxy.workload("shop/web-1").is_some()).await;
    cluster.apply([labelled("no")]).await;
    proxy.until("the old selectors at work", |proxy| proxy.workload("shop/web-1").is_none()).await;
    controller.end().await;
    cluster.api.shutdown().await.expect("it ends");
}

/// The taint that holds pods back until the agent is there.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_is_freed_once_its_agent_is_ready() {
    let (cluster, controller, _proxy) = meshed().await;
    let taint = |key: &str| json!({"key": key, "effect": "NoSchedule"});
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "fresh"},
        "spec": {"taints": [taint("mine"), taint("cni.istio.io/not-ready")]}});
    cluster.apply([node]).await;
    let agent = |ready: &str| {
        json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"namespace": "istio-system", "name": "agent", "labels": {"k8s-app": "istio-cni-node"}},
            "spec": {"nodeName": "fresh", "containers": [{"name": "c", "image": "i"}]},
            "status": {"conditions": [{"type": "Ready", "status": ready}]}})
    };
    cluster.apply([agent("False"), agent("True")]).await;
    let nodes: kube::Api<k8s_openapi::api::core::v1::Node> = kube::Api::all(cluster.client.clone());
    let left = crate::harness::eventually("the node is free", || {
        let nodes = nodes.clone();
        Box::pin(async move {
            let taints = nodes.get("fresh").await.ok()?.spec?.taints.unwrap_or_default();
            let keys: Vec<String> = taints.into_iter().map(|taint| taint.key).collect();
            (!keys.iter().any(|key| key.starts_with("cni."))).then_some(keys)
        })
    })
    .await;
    assert_eq!(left, ["mine"]);
    controller.end().await;
    cluster.api.shutdown().await.expect("it ends");
}
