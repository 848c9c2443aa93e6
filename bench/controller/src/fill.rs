//! Fills an empty cluster with the crowd.
//!
//! In: a client of the API, the crowd's size. Out: its objects, pods running and ready; a token for every proxy.

use anyhow::Context as _;
use serde_json::{Value, json};

use crate::{
    crowd::{self, ACCOUNT, SYSTEM, Size},
    rest::{Rest, Write},
};

/// Makes every object.
pub(crate) async fn fill(rest: &Rest, size: &Size) -> anyhow::Result<()> {
    let definitions =
        lateen_cluster::crds::all().into_iter().map(serde_json::to_value).collect::<Result<Vec<_>, _>>()?;
    let path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    rest.write_all(definitions.into_iter().map(|one| Write::create(path.to_owned(), definition(one)))).await?;
    rest.write_all((0..size.nodes).map(|node| Write::create("/api/v1/nodes".to_owned(), crowd::node(node)))).await?;
    let spaces = (0..size.namespaces()).map(|number| format!("shop-{number}")).chain([SYSTEM.to_owned()]);
    rest.write_all(spaces.map(|name| Write::create("/api/v1/namespaces".to_owned(), crowd::namespace(&name)))).await?;
    let accounts = (0..size.services).map(|service| (crowd::namespace_of(service), format!("svc-{service}")));
    let accounts = accounts.chain([(SYSTEM.to_owned(), ACCOUNT.to_owned())]);
    rest.write_all(
        accounts.map(|(space, name)| Write::create(core(&space, "serviceaccounts"), crowd::account(&space, &name))),
    )
    .await?;
    let services =
        (0..size.services).map(|one| Write::create(core(&crowd::namespace_of(one), "services"), crowd::service(one)));
    rest.write_all(services).await?;
    proxies(rest, size).await?;
    pods(rest, size).await?;
    let slices = (0..size.services).map(|one| {
        let path = format!("/apis/discovery.k8s.io/v1/namespaces/{}/endpointslices", crowd::namespace_of(one));
        let pods: Vec<usize> = (0..size.pods).filter(|pod| size.service_of(*pod) == one).collect();
        Write::create(path, crowd::slice(one, &pods, size))
    });
    rest.write_all(slices).await
}

async fn proxies(rest: &Rest, size: &Size) -> anyhow::Result<()> {
    let pods = core(SYSTEM, "pods");
    rest.write_all((0..size.nodes).map(|node| Write::create(pods.clone(), crowd::proxy(node)))).await?;
    let running = (0..size.nodes).map(|node| {
        let path = format!("{pods}/{}/status", crowd::proxy_name(node));
        Write::patch(path, crowd::running(crowd::proxy_address(node)))
    });
    rest.write_all(running).await
}

async fn pods(rest: &Rest, size: &Size) -> anyhow::Result<()> {
    rest.write_all((0..size.pods).map(|pod| new_pod(pod, size))).await?;
    rest.write_all((0..size.pods).map(|pod| now_running(pod, size))).await
}

/// A pod is made; nobody may talk to it yet.
pub(crate) fn new_pod(pod: usize, size: &Size) -> Write {
    Write::create(core(&crowd::namespace_of(size.service_of(pod)), "pods"), crowd::pod(pod, size))
}

/// It runs, has an address, and is ready.
pub(crate) fn now_running(pod: usize, size: &Size) -> Write {
    Write::patch(format!("{}/status", pod_path(pod, size)), crowd::running(crowd::address(pod)))
}

/// Where a pod is.
pub(crate) fn pod_path(pod: usize, size: &Size) -> String {
    format!("{}/{}", core(&crowd::namespace_of(size.service_of(pod)), "pods"), crowd::pod_name(pod))
}

/// A collection of the core group.
pub(crate) fn core(namespace: &str, resource: &str) -> String {
    format!("/api/v1/namespaces/{namespace}/{resource}")
}

fn definition(mut one: Value) -> Value {
    one["apiVersion"] = json!("apiextensions.k8s.io/v1");
    one["kind"] = json!("CustomResourceDefinition");
    one
}

/// A token of every node's proxy, bound to its pod, as a kubelet projects it.
pub(crate) async fn tokens(rest: &Rest, size: &Size) -> anyhow::Result<Vec<String>> {
    let path = format!("{}/{ACCOUNT}/token", core(SYSTEM, "serviceaccounts"));
    let request = |node: usize| {
        let bound = json!({"apiVersion": "v1", "kind": "Pod", "name": crowd::proxy_name(node)});
        let spec = json!({"audiences": ["istio-ca"], "expirationSeconds": 86_400, "boundObjectRef": bound});
        let body = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec});
        Write::create(path.clone(), body)
    };
    let answers = rest.answers((0..size.nodes).map(request)).await?;
    let token = |answer: Value| answer.pointer("/status/token").and_then(Value::as_str).map(str::to_owned);
    answers.into_iter().map(|answer| token(answer).context("a token request was answered without a token")).collect()
}
