//! The `kube` crate, unmodified, against the server.

mod support;

use std::{pin::pin, time::Duration};

use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::{
    api::{
        apps::v1::Deployment,
        authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec, TokenReview, TokenReviewSpec},
        core::v1::{ConfigMap, Namespace, Node, Pod, Service, ServiceAccount},
    },
    apimachinery::pkg::apis::meta::v1::OwnerReference,
};
use kube::{
    Api, Client, Error, ResourceExt as _,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
    runtime::watcher::{self, Event, watcher},
};
use lateen_embedded_api::Options;
use serde_json::{Value, json};
use support::Server;

const WAIT: Duration = Duration::from_secs(20);

fn of<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).expect("a well-formed object")
}

fn config_map(name: &str, value: &str) -> ConfigMap {
    of(json!({"metadata": {"name": name, "labels": {"v": value}}, "data": {"v": value}}))
}

fn pod(name: &str) -> Pod {
    of(json!({"metadata": {"name": name}, "spec": {"containers": [{"name": "c", "image": "echo"}]}}))
}

fn code(error: Error) -> u16 {
    match error {
        Error::Api(status) => status.code,
        other => panic!("no answer of the API: {other}"),
    }
}

/// Waits until `check` says yes.
async fn eventually<F: Future<Output = bool>>(what: &str, mut check: impl FnMut() -> F) {
    let wait = async {
        while !check().await {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(WAIT, wait).await.unwrap_or_else(|_| panic!("not within {WAIT:?}: {what}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_are_versioned_and_status_is_apart() {
    let server = Server::start(Options::default()).await;
    let client = server.client().await;
    let maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
    let first = maps.create(&PostParams::default(), &config_map("a", "1")).await.expect("created");
    assert_eq!(code(maps.create(&PostParams::default(), &config_map("a", "1")).await.expect_err("twice")), 409);
    let mut second = first.clone();
    second.data = None;
    maps.replace("a", &PostParams::default(), &second).await.expect("replaced");
    assert_eq!(code(maps.replace("a", &PostParams::default(), &second).await.expect_err("stale")), 409);
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    maps.create(&dry, &config_map("b", "1")).await.expect("a dry run");
    assert_eq!(code(maps.get("b").await.expect_err("a dry run writes nothing")), 404);

    let deployments: Api<Deployment> = Api::default_namespaced(client);
    let spec = json!({"replicas": 1, "selector": {"matchLabels": {"a": "b"}}, "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}});
    let made = deployments
        .create(&PostParams::default(), &of(json!({"metadata": {"name": "d"}, "spec": spec})))
        .await
        .expect("created");
    assert_eq!(made.metadata.generation, Some(1));
    let patch = Patch::Merge(json!({"status": {"readyReplicas": 1, "replicas": 1}, "spec": {"replicas": 9}}));
    let with_status = deployments.patch_status("d", &PatchParams::default(), &patch).await.expect("status");
    assert_eq!((with_status.metadata.generation, with_status.spec.and_then(|spec| spec.replicas)), (Some(1), Some(1)));
    let mark = Patch::Merge(json!({"metadata": {"annotations": {"seen": "yes"}}}));
    let marked = deployments.patch_status("d", &PatchParams::default(), &mark).await.expect("status");
    let annotations = marked.metadata.annotations.unwrap_or_default();
    assert_eq!(
        annotations.get("seen").map(String::as_str),
        Some("yes"),
        "status writes of built-in kinds may annotate"
    );
    let scaled = deployments
        .patch("d", &PatchParams::default(), &Patch::Merge(json!({"spec": {"replicas": 3}, "status": {"replicas": 7}})))
        .await
        .expect("scaled");
    assert_eq!((scaled.metadata.generation, scaled.status.and_then(|status| status.replicas)), (Some(2), Some(1)));
    let selector = Patch::Merge(json!({"spec": {"selector": {"matchLabels": {"x": "y"}}}}));
    let error = deployments.patch("d", &PatchParams::default(), &selector).await.expect_err("immutable");
    assert!(error.to_string().contains("field is immutable"), "{error}");
    server.handle.shutdown().await.expect("it ends");
}

/// Both ways in which the watcher starts: list then watch, and a streaming list.
#[tokio::test(flavor = "multi_thread")]
async fn a_watcher_sees_what_enters_changes_and_leaves_its_selection() {
    let server = Server::start(Options::default()).await;
    let client = server.client().await;
    for (name, config) in
        [("listed", watcher::Config::default()), ("streamed", watcher::Config::default().streaming_lists())]
    {
        let maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
        maps.create(&PostParams::default(), &config_map(&format!("{name}-1"), "in")).await.expect("created");
        maps.create(&PostParams::default(), &config_map(&format!("{name}-2"), "out")).await.expect("created");
        let mut events = pin!(watcher(maps.clone(), config.labels("v=in")));
        let mut next = async || {
            tokio::time::timeout(WAIT, events.try_next()).await.expect("in time").expect("no error").expect("an event")
        };
        assert!(matches!(next().await, Event::Init));
        assert!(matches!(next().await, Event::InitApply(map) if map.name_any() == format!("{name}-1")));
        assert!(matches!(next().await, Event::InitDone));
        let label = |value: &str| Patch::Merge(json!({"metadata": {"labels": {"v": value}}}));
        maps.patch(&format!("{name}-2"), &PatchParams::default(), &label("in")).await.expect("patched");
        assert!(matches!(next().await, Event::Apply(map) if map.name_any() == format!("{name}-2")));
        maps.patch(&format!("{name}-2"), &PatchParams::default(), &label("out")).await.expect("patched");
        assert!(matches!(next().await, Event::Delete(map) if map.name_any() == format!("{name}-2")));
        maps.delete(&format!("{name}-1"), &DeleteParams::default()).await.expect("deleted");
        assert!(matches!(next().await, Event::Delete(map) if map.name_any() == format!("{name}-1")));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn server_side_apply_creates_conflicts_and_forces() {
    let server = Server::start(Options::default()).await;
    let maps: Api<ConfigMap> = Api::default_namespaced(server.client().await);
    let said = |data: Value| {
        Patch::Apply(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}, "data": data}))
    };
    maps.patch("m", &PatchParams::apply("one"), &said(json!({"a": "1", "b": "1"}))).await.expect("created");
    let error = maps.patch("m", &PatchParams::apply("two"), &said(json!({"a": "2"}))).await.expect_err("a conflict");
    assert!(error.to_string().contains("conflict with \"one\": .data.a"), "{error}");
    maps.patch("m", &PatchParams::apply("two").force(), &said(json!({"a": "2"}))).await.expect("forced");
    let left = maps.patch("m", &PatchParams::apply("one"), &said(Value::Null)).await.expect("given up");
    assert_eq!(
        left.data.map(|data| data.into_iter().collect::<Vec<_>>()),
        Some(vec![("a".to_owned(), "2".to_owned())])
    );
    let managers = left.metadata.managed_fields.expect("recorded");
    assert_eq!(managers.iter().filter_map(|entry| entry.manager.as_deref()).collect::<Vec<_>>(), ["two"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_and_strategic_patches() {
    let server = Server::start(Options::default()).await;
    let client = server.client().await;
    let maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
    for number in 0..5 {
        maps.create(&PostParams::default(), &config_map(&format!("m{number}"), "x")).await.expect("created");
    }
    let page = maps.list(&ListParams::default().limit(4)).await.expect("a page");
    assert_eq!((page.items.len(), page.metadata.remaining_item_count), (4, Some(2)));
    let token = page.metadata.continue_.expect("more to come");
    let rest = maps.list(&ListParams::default().limit(4).continue_token(&token)).await.expect("the rest");
    assert_eq!((rest.items.len(), rest.metadata.continue_), (2, None));

    let services: Api<Service> = Api::default_namespaced(client);
    let service = of(
        json!({"metadata": {"name": "s"}, "spec": {"ipFamilyPolicy": "PreferDualStack", "ports": [{"name": "a", "port": 80}, {"name": "b", "port": 81}]}}),
    );
    let made = services.create(&PostParams::default(), &service).await.expect("created").spec.expect("a spec");
    assert_eq!(made.ip_families, Some(vec!["IPv4".to_owned(), "IPv6".to_owned()]));
    assert_eq!(made.cluster_ips.map(|ips| ips.len()), Some(2));
    let patch = Patch::Strategic(
        json!({"spec": {"ports": [{"port": 81, "$patch": "delete"}, {"port": 80, "targetPort": 8080}]}}),
    );
    let ports = services
        .patch("s", &PatchParams::default(), &patch)
        .await
        .expect("patched")
        .spec
        .and_then(|spec| spec.ports)
        .expect("ports");
    assert_eq!((ports.len(), ports[0].name.as_deref()), (1, Some("a")));
}

async fn review(client: &Client, token: &str, audience: &str) -> TokenReview {
    let reviews: Api<TokenReview> = Api::all(client.clone());
    let spec = TokenReviewSpec { token: Some(token.to_owned()), audiences: Some(vec![audience.to_owned()]) };
    reviews.create(&PostParams::default(), &TokenReview { spec, ..TokenReview::default() }).await.expect("reviewed")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pods_token_is_proven_until_the_pod_is_gone() {
    let server = Server::start(Options::default()).await;
    let client = server.client().await;
    let nodes: Api<Node> = Api::all(client.clone());
    nodes.create(&PostParams::default(), &of(json!({"metadata": {"name": "node-1"}}))).await.expect("created");
    let pods: Api<Pod> = Api::default_namespaced(client.clone());
    let mut wanted = pod("p");
    wanted.spec.get_or_insert_default().node_name = Some("node-1".to_owned());
    let made = pods.create(&PostParams::default(), &wanted).await.expect("created");
    let volumes = made.spec.as_ref().and_then(|spec| spec.volumes.clone()).unwrap_or_default();
    assert!(volumes.iter().any(|volume| volume.name.starts_with("kube-api-access-")), "{volumes:?}");
    let accounts: Api<ServiceAccount> = Api::default_namespaced(client.clone());
    let bound = BoundObjectReference {
        kind: Some("Pod".to_owned()),
        name: Some("p".to_owned()),
        uid: made.uid(),
        ..BoundObjectReference::default()
    };
    let request = |audiences| TokenRequest {
        spec: TokenRequestSpec { audiences, bound_object_ref: Some(bound.clone()), expiration_seconds: Some(600) },
        ..TokenRequest::default()
    };
    let post = PostParams::default();
    let issued =
        accounts.create_token_request("default", &post, &request(vec!["istio-ca".to_owned()])).await.expect("issued");
    let token = issued.status.expect("a token").token;
    let status = review(&client, &token, "istio-ca").await.status.expect("a status");
    let user = status.user.expect("a user");
    assert_eq!((status.authenticated, status.audiences), (Some(true), Some(vec!["istio-ca".to_owned()])));
    assert_eq!(user.username.as_deref(), Some("system:serviceaccount:default:default"));
    assert!(user.groups.unwrap_or_default().contains(&"system:serviceaccounts:default".to_owned()));
    let extra = user.extra.expect("where it is bound");
    assert_eq!(extra["authentication.kubernetes.io/pod-name"], ["p"]);
    assert_eq!(extra["authentication.kubernetes.io/pod-uid"], [made.uid().expect("a uid")]);
    assert_eq!(extra["authentication.kubernetes.io/node-name"], ["node-1"]);
    assert_ne!(review(&client, &token, "other").await.status.expect("a status").authenticated, Some(true));

    // A token for another audience opens nothing here; one for this server does.
    let stranger: Api<ConfigMap> = Api::default_namespaced(server.client_with(&token).await);
    assert_eq!(code(stranger.list(&ListParams::default()).await.expect_err("not for us")), 401);
    let ours = accounts
        .create_token_request("default", &post, &request(vec![]))
        .await
        .expect("issued")
        .status
        .expect("a token")
        .token;
    let inside: Api<ConfigMap> = Api::default_namespaced(server.client_with(&ours).await);
    inside.list(&ListParams::default()).await.expect("allowed");

    // The kubelet has the last word on a pod that is bound to a node.
    pods.delete("p", &DeleteParams::default()).await.expect("asked to go");
    let going = pods.get("p").await.expect("still there").metadata;
    assert_eq!(going.deletion_grace_period_seconds, Some(30));
    pods.delete("p", &DeleteParams::default().grace_period(0)).await.expect("gone");
    assert_eq!(code(pods.get("p").await.expect_err("gone")), 404);
    let status = review(&client, &token, "istio-ca").await.status.expect("a status");
    assert_ne!(status.authenticated, Some(true));
    assert!(status.error.unwrap_or_default().contains("has been deleted"));
}

#[tokio::test(flavor = "multi_thread")]
async fn dependents_and_namespaces_are_collected() {
    let server = Server::start(Options::default()).await;
    let client = server.client().await;
    let namespaces: Api<Namespace> = Api::all(client.clone());
    namespaces.create(&PostParams::default(), &of(json!({"metadata": {"name": "n"}}))).await.expect("created");
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "n");
    let accounts: Api<ServiceAccount> = Api::namespaced(client, "n");
    accounts.get("default").await.expect("each namespace has one");
    maps.get("kube-root-ca.crt").await.expect("each namespace has one");
    let owned = async |name: &str, by: &ConfigMap| {
        let mut map = config_map(name, "x");
        let owner = OwnerReference {
            api_version: "v1".to_owned(),
            kind: "ConfigMap".to_owned(),
            name: by.name_any(),
            uid: by.uid().expect("a uid"),
            controller: Some(true),
            block_owner_deletion: Some(true),
        };
        map.metadata.owner_references = Some(vec![owner]);
        maps.create(&PostParams::default(), &map).await.expect("created")
    };
    for (owner, params) in [("a", DeleteParams::background()), ("b", DeleteParams::foreground())] {
        let parent = maps.create(&PostParams::default(), &config_map(owner, "x")).await.expect("created");
        let child = owned(&format!("{owner}-child"), &parent).await;
        owned(&format!("{owner}-grandchild"), &child).await;
        maps.delete(owner, &params).await.expect("deleted");
        for name in [owner.to_owned(), format!("{owner}-child"), format!("{owner}-grandchild")] {
            eventually(&format!("{name} is collected"), || async {
                maps.get_opt(&name).await.expect("an answer").is_none()
            })
            .await;
        }
    }
    let parent = maps.create(&PostParams::default(), &config_map("c", "x")).await.expect("created");
    owned("c-child", &parent).await;
    maps.delete("c", &DeleteParams::orphan()).await.expect("deleted");
    assert_eq!(maps.get("c-child").await.expect("it stays").metadata.owner_references, None);

    let mut held = config_map("held", "x");
    held.metadata.finalizers = Some(vec!["example.io/hold".to_owned()]);
    maps.create(&PostParams::default(), &held).await.expect("created");
    namespaces.delete("n", &DeleteParams::default()).await.expect("asked to go");
    eventually("the rest is collected", || async { maps.get_opt("c-child").await.expect("an answer").is_none() }).await;
    let error = maps.create(&PostParams::default(), &config_map("late", "x")).await.expect_err("the namespace goes");
    assert_eq!(code(error), 403);
    assert!(namespaces.get_opt("n").await.expect("an answer").is_some(), "a finalizer holds it");
    maps.patch("held", &PatchParams::default(), &Patch::Merge(json!({"metadata": {"finalizers": null}})))
        .await
        .expect("let go");
    eventually("the namespace is gone", || async { namespaces.get_opt("n").await.expect("an answer").is_none() }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_watch_from_long_ago_is_told_so_and_many_watches_share_a_connection() {
    let server = Server::start(Options::default()).await;
    let maps: Api<ConfigMap> = Api::default_namespaced(server.client().await);
    let present =
        maps.list(&ListParams::default()).await.expect("a list").metadata.resource_version.expect("a version");
    let future = format!("{present}999");
    let mut events = pin!(maps.watch(&Default::default(), &future).await.expect("a watch").boxed());
    let event = tokio::time::timeout(WAIT, events.next()).await.expect("in time").expect("an event").expect("readable");
    assert!(matches!(event, kube::api::WatchEvent::Error(status) if status.code == 410));
    let mut watches = Vec::new();
    for _ in 0..50 {
        watches.push(maps.watch(&Default::default(), &present).await.expect("a watch").boxed());
    }
    maps.create(&PostParams::default(), &config_map("seen", "x")).await.expect("created");
    for watch in &mut watches {
        let event =
            tokio::time::timeout(WAIT, watch.next()).await.expect("in time").expect("an event").expect("readable");
        assert!(matches!(event, kube::api::WatchEvent::Added(map) if map.name_any() == "seen"));
    }
}
