//! Gateways are run: what is made of them is there, comes back, changes with them, and leaves what is others' alone.

use kube::{
    Api,
    api::{ApiResource, DynamicObject, GroupVersionKind},
};
use serde_json::{Value, json};

use super::{
    harness::{Cluster, Controller, eventually},
    namespace,
};

const GATEWAY: &str = "gateway.networking.k8s.io/v1";

fn gateway(name: &str, annotations: Value, more: Value) -> Value {
    let mut spec = json!({"gatewayClassName": "istio-waypoint",
        "listeners": [{"name": "mesh", "port": 15008, "protocol": "HBONE"}]});
    for (key, value) in more.as_object().into_iter().flatten() {
        spec[key] = value.clone();
    }
    let metadata = json!({"namespace": "shop", "name": name, "annotations": annotations});
    json!({"apiVersion": GATEWAY, "kind": "Gateway", "metadata": metadata, "spec": spec})
}

fn named(api_version: &str, kind: &str, name: &str) -> Value {
    json!({"apiVersion": api_version, "kind": kind, "metadata": {"namespace": "shop", "name": name}})
}

/// Waits until an object of `shop` (or of the cluster) is as `is` says.
async fn until(cluster: &Cluster, what: &str, object: &Value, is: fn(&Value) -> bool) -> Value {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    let version = text("/apiVersion");
    let (group, version) = version.split_once('/').unwrap_or(("", version.as_str()));
    let kind = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, &text("/kind")));
    let (name, client) = (text("/metadata/name"), cluster.client.clone());
    let api: Api<DynamicObject> = match text("/metadata/namespace").as_str() {
        "" => Api::all_with(client, &kind),
        namespace => Api::namespaced_with(client, namespace, &kind),
    };
    eventually(what, || {
        let (api, name) = (api.clone(), name.clone());
        Box::pin(async move {
            let found = api.get_opt(&name).await.ok()?;
            let found = found.map_or(Value::Null, |found| serde_json::to_value(found).expect("serializable"));
            is(&found).then_some(found)
        })
    })
    .await
}

async fn started() -> (Cluster, Controller) {
    let cluster = Cluster::start().await;
    cluster.define().await;
    cluster.apply([namespace("istio-system"), namespace("shop")]).await;
    let controller = cluster.controller().await;
    controller.until_ready().await;
    (cluster, controller)
}

/// Does what the cluster's own controllers would: this API server has none.
async fn serve(cluster: &Cluster, deployment: &str, available: u32) {
    let mut status = named("apps/v1", "Deployment", deployment);
    status["status"] = json!({"replicas": available, "availableReplicas": available, "readyReplicas": available});
    let api: Api<k8s_openapi::api::apps::v1::Deployment> = Api::namespaced(cluster.client.clone(), "shop");
    let params = kube::api::PatchParams::apply("kubelet").force();
    api.patch_status(deployment, &params, &kube::api::Patch::Apply(&status)).await.expect("a status");
}

async fn end((cluster, controller): (Cluster, Controller)) {
    controller.end().await;
    cluster.api.shutdown().await.expect("it ends");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_waypoint_is_made_told_and_put_back() {
    let (cluster, controller) = started().await;
    for class in ["istio", "istio-waypoint", "lateen", "lateen-waypoint"] {
        let class = json!({"apiVersion": GATEWAY, "kind": "GatewayClass", "metadata": {"name": class}});
        cluster.until_told(&class, "Accepted", ("True", "Accepted")).await;
    }
    let waypoint = gateway("w", json!({}), json!({}));
    cluster.apply([waypoint.clone()]).await;
    let deployment = named("apps/v1", "Deployment", "w");
    let made = until(&cluster, "the Deployment", &deployment, |found| found["spec"]["replicas"] == 2).await;
    assert_eq!(made["metadata"]["ownerReferences"][0]["name"], "w");
    for (version, kind) in [("v1", "Service"), ("v1", "ServiceAccount"), ("policy/v1", "PodDisruptionBudget")] {
        until(&cluster, kind, &named(version, kind, "w"), Value::is_object).await;
    }
    cluster.until_told(&waypoint, "Accepted", ("True", "Accepted")).await;
    cluster.until_told(&waypoint, "Programmed", ("False", "Pending")).await;
    serve(&cluster, "w", 1).await;
    cluster.until_told(&waypoint, "Programmed", ("True", "Programmed")).await;
    let told = until(&cluster, "its addresses", &waypoint, |found| found["status"]["addresses"].is_array()).await;
    assert_eq!(told["status"]["addresses"][0], json!({"type": "Hostname", "value": "w.shop.svc.cluster.local"}));
    assert_eq!(told["status"]["addresses"][1]["type"], "IPAddress");

    // What is changed or deleted is put back.
    let mut edited = deployment.clone();
    edited["spec"] =
        json!({"replicas": 7, "selector": made["spec"]["selector"], "template": {"spec": {"hostNetwork": true}}});
    cluster.apply([edited]).await;
    until(&cluster, "the edit undone", &deployment, |found| found["spec"]["replicas"] == 2).await;
    let service = named("v1", "Service", "w");
    cluster.delete(&service).await;
    until(&cluster, "the Service again", &service, Value::is_object).await;
    let told = until(&cluster, "an address", &waypoint, |found| found["status"]["addresses"].is_array()).await;
    assert_eq!(told["status"]["conditions"].as_array().map(Vec::len), Some(2));

    // Nobody serves any more: the address stays, and it is told where people look.
    serve(&cluster, "w", 0).await;
    let client = cluster.client.clone();
    eventually("an Event", || {
        let api: Api<k8s_openapi::api::core::v1::Event> = Api::namespaced(client.clone(), "shop");
        Box::pin(async move {
            let all = api.list(&Default::default()).await.ok()?;
            let of_waypoint = |one: &&k8s_openapi::api::core::v1::Event| {
                one.involved_object.kind.as_deref() == Some("Gateway")
                    && one.reason.as_deref() == Some("WaypointNotReady")
            };
            all.items.iter().any(|one| of_waypoint(&one)).then_some(())
        })
    })
    .await;
    cluster.until_told(&waypoint, "Programmed", ("True", "Programmed")).await;

    cluster.delete(&waypoint).await;
    until(&cluster, "the Deployment's end", &deployment, Value::is_null).await;
    until(&cluster, "the Service's end", &service, Value::is_null).await;
    end((cluster, controller)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn overlays_are_merged_followed_and_judged() {
    let (cluster, controller) = started().await;
    let overlays = |data: Value| {
        let mut map = named("v1", "ConfigMap", "o");
        map["data"] = data;
        map
    };
    let parameters = json!({"infrastructure": {"parametersRef": {"group": "", "kind": "ConfigMap", "name": "o"}}});
    let waypoint = gateway("w", json!({}), parameters);
    cluster.apply([waypoint.clone()]).await;
    let told = cluster.until_told(&waypoint, "Accepted", ("False", "InvalidParameters")).await;
    assert!(told.contains("there is no ConfigMap shop/o"), "{told}");
    cluster
        .apply([overlays(
            json!({"deployment": "spec: {replicas: 3}", "horizontalPodAutoscaler": "spec: {maxReplicas: 9}"}),
        )])
        .await;
    // They are not watched; a word in the Gateway is, and is what people change to have it looked at.
    let touched = |text: &str| {
        let mut touched = waypoint.clone();
        touched["metadata"]["annotations"] = json!({"note": text});
        touched
    };
    cluster.apply([touched("1")]).await;
    let scaler = named("autoscaling/v2", "HorizontalPodAutoscaler", "w");
    until(&cluster, "the autoscaler", &scaler, |found| found["spec"]["maxReplicas"] == 9).await;
    let deployment = named("apps/v1", "Deployment", "w");
    until(&cluster, "the overlay", &deployment, |found| found["spec"]["replicas"] == 3).await;
    cluster.until_told(&waypoint, "Accepted", ("True", "Accepted")).await;
    // What is no longer asked for goes; what cannot be is named and changes nothing.
    cluster.apply([overlays(json!({"deployment": "spec: {replicas: 1}"})), touched("2")]).await;
    until(&cluster, "the autoscaler's end", &scaler, Value::is_null).await;
    until(&cluster, "the budget's end", &named("policy/v1", "PodDisruptionBudget", "w"), Value::is_null).await;
    cluster
        .apply([overlays(json!({"deployment": "spec: {template: {spec: {hostNetwork: true}}}"})), touched("3")])
        .await;
    let told = cluster.until_told(&waypoint, "Accepted", ("False", "InvalidParameters")).await;
    assert!(told.contains("hostNetwork"), "{told}");
    let kept = until(&cluster, "the Deployment", &deployment, Value::is_object).await;
    assert_eq!(kept["spec"]["replicas"], 1);
    end((cluster, controller)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_ours_is_left_alone() {
    let (cluster, controller) = started().await;
    let mut service = named("v1", "Service", "taken");
    service["spec"] = json!({"selector": {"app": "mine"}, "ports": [{"port": 80}]});
    cluster.apply([service.clone()]).await;
    let taken = gateway("taken", json!({}), json!({}));
    cluster.apply([taken.clone()]).await;
    let told = cluster.until_told(&taken, "Programmed", ("False", "Invalid")).await;
    assert!(told.contains("Service shop/taken exists already"), "{told}");
    let kept = until(&cluster, "the Service", &service, Value::is_object).await;
    assert_eq!(kept["spec"]["selector"], json!({"app": "mine"}));
    // Another revision's, and one that somebody runs by hand.
    let mut canary = gateway("canary", json!({}), json!({}));
    canary["metadata"]["labels"] = json!({"istio.io/rev": "canary"});
    let manual = gateway("manual", json!({}), json!({"addresses": [{"type": "Hostname", "value": "gw.example"}]}));
    let last = gateway("last", json!({}), json!({}));
    cluster.apply([canary, manual.clone(), last]).await;
    until(&cluster, "what comes after them", &named("apps/v1", "Deployment", "last"), Value::is_object).await;
    cluster.until_told(&manual, "Programmed", ("True", "Programmed")).await;
    for absent in ["canary", "manual"] {
        until(&cluster, "nothing", &named("apps/v1", "Deployment", absent), Value::is_null).await;
    }
    end((cluster, controller)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_whose_waypoint_refuses_it_is_told_by_an_event_too() {
    let (cluster, controller) = started().await;
    let mut service = named("v1", "Service", "web");
    service["metadata"]["labels"] = json!({"istio.io/use-waypoint": "absent"});
    service["spec"] = json!({"selector": {"app": "web"}, "ports": [{"port": 80}]});
    cluster.apply([service.clone()]).await;
    cluster.until_told(&service, "istio.io/WaypointBound", ("False", "WaypointIsNotReady")).await;
    let client = cluster.client.clone();
    let words = eventually("an Event", || {
        let api: Api<k8s_openapi::api::core::v1::Event> = Api::namespaced(client.clone(), "shop");
        Box::pin(async move {
            let all = api.list(&Default::default()).await.ok()?.items;
            let of_service = all.into_iter().find(|one| one.involved_object.name.as_deref() == Some("web"))?;
            (of_service.reason.as_deref() == Some("WaypointIsNotReady"))
                .then_some(of_service.message.unwrap_or_default())
        })
    })
    .await;
    assert!(words.contains("traffic is refused"), "{words}");
    end((cluster, controller)).await;
}
