//! The controller end to end: objects in an API server, a proxy's streams and certificates on real sockets.

mod admission;
mod failures;
mod gates;
mod gateways;
mod harness;
mod inputs;

use std::collections::BTreeMap;

use harness::{Cluster, Controller, eventually, refused};
use kube::Api;
use lateen_identity::{
    ca_client::{Asking, CaClient, Issuer as _},
    channel::ControlChannel,
};
use lateen_types::id::SpiffeId;
use lateen_wire::{
    core::Node,
    discovery::{
        DeltaDiscoveryRequest, DeltaDiscoveryResponse,
        aggregated_discovery_service_client::AggregatedDiscoveryServiceClient,
    },
    security, type_url, workload as wire,
};
use prost::Message as _;
use prost_types::{Struct, Value as ProtoValue, value::Kind};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tonic::Streaming;

fn pod(namespace: &str, name: &str, node: &str, account: &str, ip: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"namespace": namespace, "name": name, "labels": {"app": account},
            "annotations": {"ambient.istio.io/redirection": "enabled"}},
        "spec": {"nodeName": node, "serviceAccountName": account, "containers": [{"name": "c", "image": "echo"}]},
        "status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}],
            "conditions": [{"type": "Ready", "status": "True"}]}
    })
}

fn account(namespace: &str, name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"namespace": namespace, "name": name}})
}

fn namespace(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
}

/// Two nodes, a proxy on the first, `web` beside it and `db` on the other.
fn objects() -> Vec<Value> {
    let node = |name: &str| {
        json!({"apiVersion": "v1", "kind": "Node",
        "metadata": {"name": name, "labels": {"topology.kubernetes.io/zone": "z1"}}})
    };
    vec![
        namespace("istio-system"),
        namespace("shop"),
        node("n1"),
        node("n2"),
        account("istio-system", "ztunnel"),
        account("shop", "web"),
        account("shop", "db"),
        pod("istio-system", "ztunnel-1", "n1", "ztunnel", "10.0.0.1"),
        pod("shop", "web-1", "n1", "web", "10.0.0.2"),
        pod("shop", "db-1", "n2", "db", "10.0.0.3"),
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"namespace": "shop", "name": "web"},
            "spec": {"selector": {"app": "web"}, "ports": [{"name": "http", "port": 80, "targetPort": 8080}]}}),
    ]
}

/// One proxy's stream, and what it holds.
struct Proxy {
    requests: mpsc::Sender<DeltaDiscoveryRequest>,
    responses: Streaming<DeltaDiscoveryResponse>,
    addresses: BTreeMap<String, wire::Address>,
    policies: BTreeMap<String, security::Authorization>,
    /// Of everything above, by name.
    versions: BTreeMap<String, String>,
}

fn node(metadata: &[(&str, &str)]) -> Node {
    let value = |text: &str| ProtoValue { kind: Some(Kind::StringValue(text.to_owned())) };
    let fields = metadata.iter().map(|(key, text)| ((*key).to_owned(), value(text))).collect();
    let id = "ztunnel~10.0.0.1~ztunnel-1.istio-system~istio-system.svc.cluster.local".to_owned();
    Node { id, metadata: Some(Struct { fields }), ..Node::default() }
}

async fn open(channel: ControlChannel, node: Node) -> Result<Proxy, tonic::Status> {
    open_knowing(channel, node, None).await
}

/// A stream of a proxy that held something before.
async fn open_knowing(channel: ControlChannel, node: Node, before: Option<Proxy>) -> Result<Proxy, tonic::Status> {
    let (addresses, policies, versions) =
        before.map(|before| (before.addresses, before.policies, before.versions)).unwrap_or_default();
    let (requests, queue) = mpsc::channel(16);
    for kind in [type_url::ADDRESS, type_url::AUTHORIZATION] {
        let holds = |name: &String| {
            if kind == type_url::ADDRESS { addresses.contains_key(name) } else { policies.contains_key(name) }
        };
        let known = versions.iter().filter(|(name, _)| holds(name));
        let request = DeltaDiscoveryRequest {
            node: Some(node.clone()),
            type_url: kind.to_owned(),
            initial_resource_versions: known.map(|(name, version)| (name.clone(), version.clone())).collect(),
            ..Default::default()
        };
        requests.send(request).await.expect("room in the queue");
    }
    let mut client = AggregatedDiscoveryServiceClient::new(channel);
    let stream = tokio_stream::wrappers::ReceiverStream::new(queue);
    let responses = client.delta_aggregated_resources(stream).await?.into_inner();
    Ok(Proxy { requests, responses, addresses, policies, versions })
}

impl Proxy {
    /// Takes responses until `enough`.
    async fn until(&mut self, what: &str, enough: impl Fn(&Self) -> bool) {
        let receiving = async {
            while !enough(self) {
                let response = self.responses.message().await.expect("the stream lives").expect("the stream goes on");
                self.take(response).await;
            }
        };
        let waited = tokio::time::timeout(std::time::Duration::from_secs(20), receiving).await;
        assert!(waited.is_ok(), "{what} did not arrive");
    }

    async fn take(&mut self, response: DeltaDiscoveryResponse) {
        let acknowledge = self.hold(response);
        self.requests.send(acknowledge).await.expect("the stream lives");
    }

    /// Keeps what a response says; what would acknowledge it.
    fn hold(&mut self, response: DeltaDiscoveryResponse) -> DeltaDiscoveryRequest {
        for resource in response.resources {
            let body = resource.resource.expect("a body").value;
            self.versions.insert(resource.name.clone(), resource.version);
            if response.type_url == type_url::ADDRESS {
                self.addresses.insert(resource.name, wire::Address::decode(&*body).expect("an address"));
            } else {
                self.policies.insert(resource.name, security::Authorization::decode(&*body).expect("a policy"));
            }
        }
        for name in response.removed_resources {
            self.addresses.remove(&name);
            self.policies.remove(&name);
            self.versions.remove(&name);
        }
        DeltaDiscoveryRequest {
            type_url: response.type_url,
            response_nonce: response.nonce,
            ..DeltaDiscoveryRequest::default()
        }
    }

    fn workloads(&self) -> impl Iterator<Item = &wire::Workload> {
        self.addresses.values().filter_map(|address| match address.r#type.as_ref()? {
            wire::address::Type::Workload(workload) => Some(workload),
            wire::address::Type::Service(_) => None,
        })
    }

    fn workload(&self, name: &str) -> Option<&wire::Workload> {
        match self.addresses.get(&format!("Kubernetes//Pod/{name}"))?.r#type.as_ref()? {
            wire::address::Type::Workload(workload) => Some(workload),
            wire::address::Type::Service(_) => None,
        }
    }
}

async fn roots(cluster: &Cluster, namespace: &'static str) -> String {
    let client = cluster.client.clone();
    eventually("the trust anchors", move || {
        let api: Api<k8s_openapi::api::core::v1::ConfigMap> = Api::namespaced(client.clone(), namespace);
        Box::pin(async move { api.get_opt("istio-ca-root-cert").await.ok()??.data?.remove("root-cert.pem") })
    })
    .await
}

async fn started() -> (Cluster, Controller) {
    let cluster = Cluster::start().await;
    cluster.apply(objects()).await;
    let controller = cluster.controller().await;
    controller.until_ready().await;
    (cluster, controller)
}

const ZTUNNEL: (&str, &str) = ("istio-system", "ztunnel");

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_learns_the_mesh_and_what_changes() {
    let (cluster, controller) = started().await;
    let token = cluster.token(ZTUNNEL, Some("ztunnel-1"), "istio-ca").await;
    let channel = controller.channel(&roots(&cluster, "istio-system").await, &token);
    let metadata = [("NAMESPACE", "istio-system"), ("NODE_NAME", "n1")];
    let mut proxy = open(channel, node(&metadata)).await.expect("admitted");
    let service = "shop/web.shop.svc.cluster.local";
    proxy
        .until("the first picture", |proxy| {
            proxy.workload("shop/web-1").is_some() && proxy.workload("shop/db-1").is_some()
        })
        .await;
    assert!(proxy.addresses.contains_key(service));
    let web = proxy.workload("shop/web-1").expect("there");
    assert_eq!(web.tunnel_protocol, i32::from(wire::TunnelProtocol::Hbone));
    assert_eq!(web.services[service].ports[0].target_port, 8080);
    assert_eq!(web.locality.as_ref().expect("a zone").zone, "z1");

    // The kinds of our policies do not exist yet; they are followed once they do.
    cluster.define().await;
    let policy = json!({"apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
        "metadata": {"namespace": "shop", "name": "none"},
        "spec": {"action": "DENY", "selector": {"matchLabels": {"app": "web"}},
            "rules": [{"to": [{"operation": {"ports": ["80"], "methods": ["GET"]}}]}]}});
    cluster.apply([policy.clone()]).await;
    proxy
        .until("the policy", |proxy| {
            let named = proxy.workload("shop/web-1").is_some_and(|web| web.authorization_policies == ["shop/none"]);
            named && proxy.policies.contains_key("shop/none")
        })
        .await;
    assert_eq!(proxy.policies["shop/none"].action(), security::Action::Deny);

    cluster.until_told(&policy, "ZtunnelAccepted", ("True", "UnsupportedValue")).await;

    cluster.delete(&policy).await;
    proxy
        .until("the policy's end", |proxy| {
            proxy.policies.is_empty()
                && proxy.workload("shop/web-1").is_some_and(|web| web.authorization_policies.is_empty())
        })
        .await;
    cluster.delete(&pod("shop", "db-1", "n2", "db", "10.0.0.3")).await;
    proxy.until("the pod's end", |proxy| proxy.workload("shop/db-1").is_none()).await;
    controller.end().await;
    cluster.api.shutdown().await.expect("it ends");
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_are_for_proven_proxies_on_their_own_node() {
    let (cluster, controller) = started().await;
    let anchors = roots(&cluster, "istio-system").await;
    let token = cluster.token(ZTUNNEL, Some("ztunnel-1"), "istio-ca").await;
    let check = async |token: &str, metadata: &[(&str, &str)], code: tonic::Code| {
        let answer = match open(controller.channel(&anchors, token), node(metadata)).await {
            Ok(mut proxy) => proxy.responses.message().await.map(|_| ()),
            Err(status) => Err(status),
        };
        assert_eq!(refused(answer).code(), code, "{metadata:?}");
    };
    check(&token, &[("NAMESPACE", "shop")], tonic::Code::PermissionDenied).await;
    check(&token, &[("NAMESPACE", "istio-system"), ("NODE_NAME", "n2")], tonic::Code::PermissionDenied).await;
    check("nonsense", &[], tonic::Code::Unauthenticated).await;
    let other = cluster.token(ZTUNNEL, Some("ztunnel-1"), "https://kubernetes.default.svc").await;
    check(&other, &[], tonic::Code::Unauthenticated).await;
    controller.end().await;
    cluster.api.shutdown().await.expect("it ends");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_gets_the_certificates_of_its_own_pods() {
    let (cluster, controller) = started().await;
    let anchors = roots(&cluster, "shop").await;
    let lifetime = std::time::Duration::from_secs(3600);
    let token = cluster.token(ZTUNNEL, Some("ztunnel-1"), "istio-ca").await;
    let ca = CaClient::new(controller.channel(&anchors, &token), lifetime, Asking::ForOthers);
    let id = |text: &str| -> SpiffeId { text.parse().expect("a SPIFFE id") };
    let web = id("spiffe://cluster.local/ns/shop/sa/web");
    assert_eq!(ca.issue(&web).await.expect("issued").identity(), &web);
    for elsewhere in ["cluster.local/ns/shop/sa/db", "cluster.local/ns/shop/sa/admin", "other.org/ns/shop/sa/web"] {
        let error = ca.issue(&id(&format!("spiffe://{elsewhere}"))).await.expect_err("refused").to_string();
        assert!(error.contains("Unauthenticated"), "{elsewhere}: {error}");
    }
    // A workload may ask for itself, and for nobody else.
    let own = cluster.token(("shop", "web"), Some("web-1"), "istio-ca").await;
    let ca = CaClient::new(controller.channel(&anchors, &own), lifetime, Asking::ForOurselves);
    assert_eq!(ca.issue(&web).await.expect("issued").identity(), &web);
    let ca = CaClient::new(controller.channel(&anchors, &own), lifetime, Asking::ForOthers);
    assert!(ca.issue(&web).await.is_err(), "an untrusted account asked for another identity");
    controller.end().await;
    cluster.api.shutdown().await.expect("it ends");
}

#[tokio::test(flavor = "multi_thread")]
async fn trust_anchors_are_put_back_and_replicas_agree_on_them() {
    let cluster = Cluster::start().await;
    cluster.apply(objects()).await;
    let (first, second) = tokio::join!(cluster.controller(), cluster.controller());
    first.until_ready().await;
    second.until_ready().await;
    let anchors = roots(&cluster, "shop").await;
    let token = cluster.token(("shop", "web"), Some("web-1"), "istio-ca").await;
    let web: SpiffeId = "spiffe://cluster.local/ns/shop/sa/web".parse().expect("a SPIFFE id");
    for replica in [&first, &second] {
        // The channel trusts `anchors` only, so that both replicas have to serve with certificates of one root.
        let lifetime = std::time::Duration::from_secs(60);
        let ca = CaClient::new(replica.channel(&anchors, &token), lifetime, Asking::ForOurselves);
        ca.issue(&web).await.expect("issued");
    }
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"namespace": "shop", "name": "istio-ca-root-cert"}});
    cluster.delete(&map).await;
    assert_eq!(roots(&cluster, "shop").await, anchors);
    let mut edited = map.clone();
    edited["data"] = json!({"root-cert.pem": "somebody else's"});
    cluster.apply([edited]).await;
    let (client, wanted) = (cluster.client.clone(), anchors.clone());
    eventually("the edit being undone", move || {
        let api: Api<k8s_openapi::api::core::v1::ConfigMap> = Api::namespaced(client.clone(), "shop");
        let wanted = wanted.clone();
        Box::pin(async move {
            let found = api.get("istio-ca-root-cert").await.ok()?.data?.remove("root-cert.pem")?;
            (found == wanted).then_some(())
        })
    })
    .await;
    cluster.apply([namespace("later")]).await;
    assert_eq!(roots(&cluster, "later").await, anchors);
    first.end().await;
    second.end().await;
    cluster.api.shutdown().await.expect("it ends");
}
