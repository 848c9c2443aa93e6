//! What fails around and within the control plane, and that every proxy ends up with the same picture all the same.

use futures::{StreamExt as _, TryStreamExt as _};
use kube::{
    Api,
    api::{WatchEvent, WatchParams},
};
use lateen_embedded_api::Options;
use lateen_wire::{type_url, workload as wire};
use serde_json::{Value, json};

use super::{
    Proxy, ZTUNNEL,
    harness::{Cluster, Controller, Gate},
    node, objects, open, open_knowing, pod, roots, started,
};

const NODE: [(&str, &str); 2] = [("NAMESPACE", "istio-system"), ("NODE_NAME", "n1")];

async fn proxy_of(cluster: &Cluster, controller: &Controller, before: Option<Proxy>) -> Proxy {
    let token = cluster.token(ZTUNNEL, Some("ztunnel-1"), "istio-ca").await;
    let channel = controller.channel(&roots(cluster, "istio-system").await, &token);
    open_knowing(channel, node(&NODE), before).await.expect("admitted")
}

/// The same pod under another canonical revision, so that its workload differs.
fn revised(mut pod: Value, turn: usize) -> Value {
    pod["metadata"]["labels"]["version"] = json!(format!("v{turn}"));
    pod
}

fn revision(proxy: &Proxy, name: &str) -> Option<String> {
    proxy.workload(name).map(|workload| workload.canonical_revision.clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_server_goes_away_and_forgets_and_what_changed_meanwhile_is_learnt() {
    let cluster = Cluster::start_with(Options { history_max: 8, ..Options::default() }).await;
    cluster.apply(objects()).await;
    let gate = Gate::before(&cluster).await;
    let controller = cluster.controller_behind(&gate).await;
    controller.until_ready().await;
    let mut proxy = proxy_of(&cluster, &controller, None).await;
    proxy.until("the first picture", |proxy| proxy.workload("shop/db-1").is_some()).await;

    let pods: Api<k8s_openapi::api::core::v1::Pod> = Api::all(cluster.client.clone());
    let before = pods.list(&Default::default()).await.expect("listed").metadata.resource_version.expect("a version");
    gate.set_open(false);
    cluster.delete(&pod("shop", "db-1", "n2", "db", "10.0.0.3")).await;
    cluster.apply([pod("shop", "web-2", "n2", "web", "10.0.0.4")]).await;
    for turn in 0..20 {
        cluster.apply([revised(pod("shop", "web-1", "n1", "web", "10.0.0.2"), turn)]).await;
    }
    // Nobody can continue from there any more.
    let watched = pods.watch(&WatchParams::default(), &before).await.expect("a stream").boxed().try_next().await;
    assert!(matches!(watched, Ok(Some(WatchEvent::Error(ref status))) if status.code == 410), "{watched:?}");

    gate.set_open(true);
    proxy
        .until("what changed while the server was away", |proxy| {
            let new = proxy.workload("shop/web-2").is_some() && proxy.workload("shop/db-1").is_none();
            new && revision(proxy, "shop/web-1").as_deref() == Some("v19")
        })
        .await;
    // And watching goes on.
    cluster.apply([revised(pod("shop", "web-1", "n1", "web", "10.0.0.2"), 20)]).await;
    proxy.until("a later change", |proxy| revision(proxy, "shop/web-1").as_deref() == Some("v20")).await;
    controller.end().await;
    cluster.api.shutdown().await.expect("it ends");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_controller_is_replaced_by_any_other_and_all_tell_the_same() {
    let cluster = Cluster::start().await;
    cluster.apply(objects()).await;
    let (first, second) = tokio::join!(cluster.controller(), cluster.controller());
    first.until_ready().await;
    second.until_ready().await;
    let mut proxy = proxy_of(&cluster, &first, None).await;
    proxy.until("the first picture", |proxy| proxy.workload("shop/db-1").is_some()).await;

    // Killed in the middle of changes; what it had not told yet, the other one tells.
    cluster.apply([revised(pod("shop", "web-1", "n1", "web", "10.0.0.2"), 1)]).await;
    cluster.delete(&pod("shop", "db-1", "n2", "db", "10.0.0.3")).await;
    first.kill().await;
    cluster.apply([pod("shop", "web-2", "n2", "web", "10.0.0.3")]).await;
    let settled = |proxy: &Proxy| {
        let gone = proxy.workload("shop/db-1").is_none() && proxy.workload("shop/web-2").is_some();
        gone && revision(proxy, "shop/web-1").as_deref() == Some("v1")
    };
    let mut fresh = proxy_of(&cluster, &second, None).await;
    fresh.until("the picture of who knew nothing", settled).await;
    let mut moved = proxy_of(&cluster, &second, Some(proxy)).await;
    moved.until("the picture of who came from the other", settled).await;
    assert_eq!((&moved.addresses, &moved.versions), (&fresh.addresses, &fresh.versions));

    // A new one begins with the same picture, down to the versions, so that nobody is sent anything twice.
    let third = cluster.controller().await;
    third.until_ready().await;
    let mut newest = proxy_of(&cluster, &third, None).await;
    newest.until("the picture of the new one", settled).await;
    assert_eq!((&newest.addresses, &newest.versions), (&fresh.addresses, &fresh.versions));
    second.end().await;
    third.end().await;
    cluster.api.shutdown().await.expect("it ends");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_is_stuck_is_owed_one_answer_and_learns_the_end_of_it() {
    let (cluster, controller) = started().await;
    let mut stuck = proxy_of(&cluster, &controller, None).await;
    let mut proxy = proxy_of(&cluster, &controller, None).await;
    proxy.until("the first picture", |proxy| proxy.workload("shop/web-1").is_some()).await;
    // It takes its first picture, and does not say so.
    let owed = loop {
        let response = stuck.responses.message().await.expect("the stream lives").expect("it goes on");
        let is_address = response.type_url == type_url::ADDRESS;
        let acknowledge = stuck.hold(response);
        if is_address {
            break acknowledge;
        }
        stuck.requests.send(acknowledge).await.expect("the stream lives");
    };
    for turn in 0..50 {
        let change = revised(pod("shop", "web-1", "n1", "web", "10.0.0.2"), turn);
        cluster.apply([change]).await;
        let wanted = format!("v{turn}");
        proxy.until("each change", |proxy| revision(proxy, "shop/web-1").as_ref() == Some(&wanted)).await;
    }
    assert_eq!(revision(&stuck, "shop/web-1").as_deref(), Some("latest"));
    // What it is sent next is the end of it, at once: nothing of the way there was kept for it.
    stuck.requests.send(owed).await.expect("the stream lives");
    let next = stuck.responses.message().await.expect("the stream lives").expect("it goes on");
    assert_eq!((next.type_url.as_str(), next.resources.len()), (type_url::ADDRESS, 1));
    let acknowledge = stuck.hold(next);
    assert_eq!(revision(&stuck, "shop/web-1").as_deref(), Some("v49"));
    stuck.requests.send(acknowledge).await.expect("the stream lives");
    cluster.apply([pod("shop", "web-2", "n1", "web", "10.0.0.9")]).await;
    let next = stuck.responses.message().await.expect("the stream lives").expect("it goes on");
    let named: Vec<&str> = next.resources.iter().map(|resource| resource.name.as_str()).collect();
    assert_eq!(named, ["Kubernetes//Pod/shop/web-2"]);
    controller.end().await;
    cluster.api.shutdown().await.expect("it ends");
}

/// The address of a pod that ended is another's within the same moment: no picture has both, and the last has the new one.
#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_changes_hands_is_never_of_two_identities() {
    let (cluster, controller) = started().await;
    let token = cluster.token(ZTUNNEL, Some("ztunnel-1"), "istio-ca").await;
    let channel = controller.channel(&roots(&cluster, "istio-system").await, &token);
    let mut proxy = open(channel, node(&NODE)).await.expect("admitted");
    proxy.until("the first picture", |proxy| proxy.workload("shop/db-1").is_some()).await;
    let (mut last, ip) = (pod("shop", "db-1", "n2", "db", "10.0.0.3"), vec![10, 0, 0, 3]);
    for turn in 0..10 {
        let account = ["web", "db"][turn % 2];
        cluster.delete(&last).await;
        last = pod("shop", &format!("next-{turn}"), "n2", account, "10.0.0.3");
        cluster.apply([last.clone()]).await;
        let name = format!("shop/next-{turn}");
        proxy
            .until("the new owner", |proxy| {
                let owners: Vec<&wire::Workload> =
                    proxy.workloads().filter(|one| one.addresses.contains(&ip)).collect();
                assert!(owners.len() <= 1, "{owners:?}");
                owners.first().is_some_and(|one| format!("shop/{}", one.name) == name && one.service_account == account)
            })
            .await;
    }
    controller.end().await;
    cluster.api.shutdown().await.expect("it ends");
}
