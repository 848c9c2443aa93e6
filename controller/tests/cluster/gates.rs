//! Gateways with certificates: a Secret reaches the pods of the one Gateway that names it, and nobody else.

use lateen_wire::{discovery::DeltaDiscoveryRequest, proxy, type_url};
use prost::Message as _;
use serde_json::{Value, json};

use super::{
    Proxy, account,
    harness::{Cluster, Controller, eventually},
    namespace, node, open, pod, roots,
};

const GATEWAY: &str = "gateway.networking.k8s.io/v1";

fn gateway(name: &str) -> Value {
    json!({"apiVersion": GATEWAY, "kind": "Gateway", "metadata": {"namespace": "shop", "name": name},
        "spec": {"gatewayClassName": "istio", "listeners": [{"name": "https", "port": 443, "protocol": "HTTPS",
            "hostname": "a.example.com", "tls": {"certificateRefs": [{"name": format!("{name}-cert")}]}}]}})
}

fn secret(name: &str) -> Value {
    let made = rcgen::generate_simple_self_signed(vec!["a.example.com".to_owned()]).expect("a certificate");
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"namespace": "shop", "name": name},
        "type": "kubernetes.io/tls",
        "stringData": {"tls.crt": made.cert.pem(), "tls.key": made.signing_key.serialize_pem()}})
}

/// A pod of a Gateway.
fn instance(gateway: &str, ip: &str) -> Value {
    let mut pod = pod("shop", &format!("{gateway}-1"), "n1", gateway, ip);
    pod["metadata"]["labels"]["gateway.networking.k8s.io/gateway-name"] = json!(gateway);
    pod
}

async fn started() -> (Cluster, Controller) {
    let cluster = Cluster::start().await;
    cluster.define().await;
    let objects = [namespace("istio-system"), namespace("shop"), account("shop", "one"), account("shop", "two")];
    cluster.apply(objects).await;
    cluster.apply([instance("one", "10.0.0.1"), instance("two", "10.0.0.2"), gateway("one"), gateway("two")]).await;
    let controller = cluster.controller().await;
    controller.until_ready().await;
    (cluster, controller)
}

/// A stream of a Gateway's pod for the types of proxies.
async fn subscribed(cluster: &Cluster, controller: &Controller, gateway: &str) -> Proxy {
    let token = cluster.token(("shop", gateway), Some(&format!("{gateway}-1")), "istio-ca").await;
    let channel = controller.channel(&roots(cluster, "shop").await, &token);
    let mut node = node(&[("NAMESPACE", "shop")]);
    node.id = format!("gateway~10.0.0.1~{gateway}-1.shop~shop.svc.cluster.local");
    let proxy = open(channel, node.clone()).await.expect("admitted");
    for kind in [type_url::CREDENTIAL, type_url::PROXY] {
        let request = DeltaDiscoveryRequest { type_url: kind.to_owned(), ..Default::default() };
        proxy.requests.send(request).await.expect("the stream lives");
    }
    proxy
}

/// Takes responses until a resource of this name is there; its bytes.
async fn resource(proxy: &mut Proxy, (kind, name): (&str, &str), is: impl Fn(&[u8]) -> bool) -> Vec<u8> {
    let receiving = async {
        loop {
            let response = proxy.responses.message().await.expect("the stream lives").expect("it goes on");
            let acknowledge = DeltaDiscoveryRequest {
                type_url: response.type_url.clone(),
                response_nonce: response.nonce.clone(),
                ..Default::default()
            };
            proxy.requests.send(acknowledge).await.expect("the stream lives");
            for resource in response.resources.into_iter().filter(|_| response.type_url == kind) {
                assert!(resource.name.starts_with(name), "{} was sent to somebody else", resource.name);
                let bytes = resource.resource.expect("a body").value;
                if is(&bytes) {
                    return bytes.to_vec();
                }
            }
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), receiving).await.expect("it arrives")
}

/// Waits until a listener's condition has this status and reason.
async fn until_told(cluster: &Cluster, gateway: &str, condition: &'static str, (status, reason): (&str, &str)) {
    let wanted = [status, reason].map(str::to_owned);
    let (client, name) = (cluster.client.clone(), gateway.to_owned());
    eventually(&format!("{condition} {status} {reason} of {gateway}"), || {
        let (client, name, wanted) = (client.clone(), name.clone(), wanted.clone());
        Box::pin(async move {
            let kind = kube::api::GroupVersionKind::gvk("gateway.networking.k8s.io", "v1", "Gateway");
            let kind = kube::api::ApiResource::from_gvk(&kind);
            let api: kube::Api<kube::api::DynamicObject> = kube::Api::namespaced_with(client, "shop", &kind);
            let found = api.get_status(&name).await.ok()?;
            let all = found.data.pointer("/status/listeners/0/conditions")?.as_array()?.clone();
            let one = all.into_iter().find(|one| one["type"] == condition)?;
            ([one["status"].as_str()?, one["reason"].as_str()?] == wanted).then_some(())
        })
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_reaches_the_pods_of_the_gateway_that_names_it() {
    let (cluster, controller) = started().await;
    let mut one = subscribed(&cluster, &controller, "one").await;
    until_told(&cluster, "one", "ResolvedRefs", ("False", "InvalidCertificateRef")).await;
    until_told(&cluster, "one", "Accepted", ("True", "Accepted")).await;
    cluster.apply([secret("one-cert"), secret("two-cert"), secret("other")]).await;
    until_told(&cluster, "one", "Programmed", ("True", "Programmed")).await;
    let credential = (type_url::CREDENTIAL, "shop/one/secret/shop/one-cert");
    let bytes = resource(&mut one, credential, |_| true).await;
    let first = proxy::Credential::decode(&*bytes).expect("a credential");
    assert!(first.pairs[0].key_pem.contains("PRIVATE KEY"));
    // A new certificate follows by itself.
    cluster.apply([secret("one-cert")]).await;
    resource(&mut one, credential, |bytes| proxy::Credential::decode(bytes).expect("a credential") != first).await;

    // The other Gateway's pod is sent its own alone; that nothing else comes is asserted as each arrives.
    let mut two = subscribed(&cluster, &controller, "two").await;
    let credential = (type_url::CREDENTIAL, "shop/two/secret/shop/two-cert");
    let bytes = resource(&mut two, credential, |_| true).await;
    let before = proxy::Credential::decode(&*bytes).expect("a credential");
    // Nor does it later: what belongs to the other changes first, and only then its own.
    cluster.apply([secret("one-cert")]).await;
    resource(&mut one, (type_url::CREDENTIAL, "shop/one/secret/shop/one-cert"), |_| true).await;
    cluster.apply([secret("two-cert")]).await;
    resource(&mut two, credential, |bytes| proxy::Credential::decode(bytes).expect("a credential") != before).await;
    let open = |bytes: &[u8]| !proxy::Proxy::decode(bytes).expect("a proxy").listeners.is_empty();
    let mut again = subscribed(&cluster, &controller, "two").await;
    let bytes = resource(&mut again, (type_url::PROXY, "shop/two"), open).await;
    let listener = &proxy::Proxy::decode(&*bytes).expect("a proxy").listeners[0];
    assert_eq!((listener.port, listener.bind_port), (443, 443));
    controller.end().await;
    cluster.api.shutdown().await.expect("it ends");
}
