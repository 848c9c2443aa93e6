//! Controllers, service rules and DNS together, over HTTPS against the embedded API; only kubelets are played.
//!
//! In: nodes, a Deployment and a Service as a user makes them. Out: bound pods, slices, rules, names; and their end.

use std::time::Duration;

use hickory_proto::{
    op::{Message, MessageType, OpCode, Query},
    rr::RecordType,
};
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{Node, Pod, Service},
    discovery::v1::EndpointSlice,
};
use kube::{
    Api, Client, ResourceExt as _,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use lateen_cluster::client::{Access, connect};
use lateen_embedded_api::{ApiHandle, ApiServer, Options};
use lateen_lab::{
    controllers,
    dns::{self, Sockets},
    services,
};
use lateen_net::{netns::Netns, nft};
use lateen_rt::tasks::Tasks;
use serde_json::{Value, json};
use tokio::net::{TcpListener, UdpSocket};

const WAIT: Duration = Duration::from_secs(60);

fn of<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).expect("a well-formed object")
}

/// Waits until `check` says yes; looks again after a short pause, because what it looks at is far away.
async fn eventually(what: &str, mut check: impl AsyncFnMut() -> bool) {
    let mut look = tokio::time::interval(Duration::from_millis(50));
    let wait = async {
        while !check().await {
            look.tick().await;
        }
    };
    tokio::time::timeout(WAIT, wait).await.unwrap_or_else(|_| panic!("not within {WAIT:?}: {what}"));
}

async fn api() -> (ApiHandle, Client, tempfile::TempDir) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let api = ApiServer::start(Options::default(), vec![listener]).await.expect("the API starts");
    let config = api.kubeconfig(&format!("https://{}", api.addresses()[0]), api.admin_token());
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("kubeconfig");
    std::fs::write(&file, config).expect("written");
    let client = connect(&Access::Kubeconfig(file)).await.expect("a client");
    (api, client, directory)
}

async fn add_node(client: &Client, name: &str) {
    let nodes: Api<Node> = Api::all(client.clone());
    nodes.create(&PostParams::default(), &of(json!({ "metadata": { "name": name } }))).await.expect("created");
    let ready = json!({ "status": { "conditions": [{ "type": "Ready", "status": "True" }] } });
    nodes.patch_status(name, &PatchParams::default(), &Patch::Merge(ready)).await.expect("ready");
}

/// Waits until the scheduler knows that `node` is ready: nodes and what is to run on them come by different watches.
async fn is_scheduled_to(pods: &Api<Pod>, node: &str) {
    let only = json!({ "key": "metadata.name", "operator": "In", "values": [node] });
    let term = json!({ "nodeSelectorTerms": [{ "matchFields": [only] }] });
    let scout: Pod = of(json!({
        "metadata": { "name": "scout" },
        "spec": {
            "containers": [{ "name": "c", "image": "echo" }],
            "affinity": { "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": term } },
        },
    }));
    pods.create(&PostParams::default(), &scout).await.expect("created");
    eventually("the scheduler sends a pod to the node", async || {
        pods.get("scout").await.expect("there").spec.and_then(|spec| spec.node_name).as_deref() == Some(node)
    })
    .await;
    pods.delete("scout", &DeleteParams::default().grace_period(0)).await.expect("deleted");
}

/// What a kubelet does: bound pods run and are ready, pods told to end are gone.
async fn play_kubelets(pods: &Api<Pod>) {
    for (at, pod) in pods.list(&ListParams::default()).await.expect("a list").into_iter().enumerate() {
        let bound = pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some());
        let started = pod.status.as_ref().is_some_and(|status| status.pod_ip.is_some());
        if pod.metadata.deletion_timestamp.is_some() {
            // It may be gone already.
            drop(pods.delete(&pod.name_any(), &DeleteParams::default().grace_period(0)).await);
        } else if bound && !started {
            let ip = format!("10.244.1.{}", at + 2);
            let status = json!({ "status": {
                "phase": "Running", "podIP": ip, "podIPs": [{ "ip": ip }],
                "conditions": [{ "type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z" }],
            } });
            pods.patch_status(&pod.name_any(), &PatchParams::default(), &Patch::Merge(status)).await.expect("running");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_and_its_service_come_to_life_and_go() {
    let (api, client, _kubeconfig) = api().await;
    let (tasks, netns) = (Tasks::new(), Netns::create().expect("namespaces can be made"));
    let udp = UdpSocket::bind("127.0.0.1:0").await.expect("bind");
    let server = udp.local_addr().expect("an address");
    controllers::run(client.clone(), &tasks);
    services::run(&client, netns.clone(), "n1".to_owned(), &tasks);
    dns::serve(&client, Sockets { udp: vec![udp], tcp: Vec::new() }, "cluster.local".to_owned(), &tasks);
    for node in ["n1", "n2"] {
        add_node(&client, node).await;
    }

    let deployments: Api<Deployment> = Api::default_namespaced(client.clone());
    let pods: Api<Pod> = Api::default_namespaced(client.clone());
    is_scheduled_to(&pods, "n2").await;
    let slices: Api<EndpointSlice> = Api::default_namespaced(client.clone());
    let wanted: Deployment = of(json!({
        "metadata": { "name": "web" },
        "spec": { "replicas": 2, "selector": { "matchLabels": { "app": "web" } }, "template": {
            "metadata": { "labels": { "app": "web" } },
            "spec": { "containers": [{ "name": "c", "image": "echo" }] } } },
    }));
    deployments.create(&PostParams::default(), &wanted).await.expect("created");
    let service: Service = of(json!({
        "metadata": { "name": "web" }, "spec": { "selector": { "app": "web" }, "ports": [{ "port": 80, "targetPort": 8080 }] },
    }));
    let service = Api::<Service>::default_namespaced(client.clone()).create(&PostParams::default(), &service).await;
    let cluster_ip = service.expect("created").spec.and_then(|spec| spec.cluster_ip).expect("a cluster IP");

    eventually("the deployment is available", async || {
        play_kubelets(&pods).await;
        let status = deployments.get("web").await.expect("there").status.unwrap_or_default();
        status.available_replicas == Some(2) && status.updated_replicas == Some(2)
    })
    .await;
    let list = pods.list(&ListParams::default()).await.expect("a list");
    let mut nodes: Vec<_> = list.iter().filter_map(|pod| pod.spec.as_ref()?.node_name.as_deref()).collect();
    nodes.sort_unstable();
    assert_eq!(nodes, ["n1", "n2"], "one pod on each node, and no third");

    let of_web = ListParams::default().labels("kubernetes.io/service-name=web");
    eventually("both pods are endpoints", async || {
        let slices = slices.list(&of_web).await.expect("a list");
        let ready = |slice: &EndpointSlice| {
            slice.endpoints.iter().filter(|one| one.conditions.as_ref().and_then(|all| all.ready) == Some(true)).count()
        };
        slices.iter().map(ready).sum::<usize>() == 2
    })
    .await;
    eventually("the node's rules lead from the cluster IP to both", async || {
        let table = nft::list(&netns, "lateen_services").await.expect("a list").unwrap_or_default();
        table.contains(&cluster_ip) && table.matches(". 8080").count() == 2
    })
    .await;
    eventually("the name leads to the cluster IP", async || {
        resolve(server, "web.default.svc.cluster.local.").await == [cluster_ip.clone()]
    })
    .await;

    deployments.delete("web", &DeleteParams::background()).await.expect("deleted");
    eventually("all pods are gone", async || {
        play_kubelets(&pods).await;
        pods.list(&ListParams::default()).await.expect("a list").items.is_empty()
    })
    .await;
    eventually("nobody is left behind the service", async || {
        slices.list(&of_web).await.expect("a list").iter().all(|slice| slice.endpoints.is_empty())
    })
    .await;
    api.shutdown().await.expect("the API ends");
}

async fn resolve(server: std::net::SocketAddr, name: &str) -> Vec<String> {
    let mut query = Message::new(7, MessageType::Query, OpCode::Query);
    query.add_query(Query::query(name.parse().expect("a name"), RecordType::A));
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("bind");
    socket.send_to(&query.to_vec().expect("bytes"), server).await.expect("sent");
    let mut bytes = [0; 1232];
    let received = tokio::time::timeout(Duration::from_secs(5), socket.recv(&mut bytes)).await.expect("in time");
    let reply = Message::from_vec(&bytes[..received.expect("received")]).expect("a message");
    reply.answers.iter().map(|record| record.data.to_string()).collect()
}
