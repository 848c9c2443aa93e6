//! The webhook as users meet it: `kubectl apply` against a real API, and our words in its answer.

#[path = "../../../crates/cluster/src/validate/tests/cases.rs"]
mod cases;
#[path = "../../../crates/cluster/src/validate/tests/rows.rs"]
mod rows;

use std::{
    path::Path,
    process::{Command, Output},
};

use cases::cases;
use kube::{Api, api::DynamicObject};
use rows::{Rows, is_asked_about};
use serde_json::{Value, json};

use super::{
    harness::{Cluster, Controller, eventually},
    objects,
};

const WEBHOOK: &str = "rev.validation.istio.io";

/// A cluster whose API server asks the controller, as the lab's manifest says, and fails closed.
async fn guarded() -> (Cluster, Controller) {
    let cluster = Cluster::start().await;
    cluster.define().await;
    cluster.apply(objects()).await;
    let controller = cluster.controller().await;
    controller.until_ready().await;
    let meta = json!({"namespace": "istio-system", "name": "istiod"});
    let port = json!({"name": "https-webhook", "port": 443, "targetPort": 15017});
    let mut labelled = meta.clone();
    labelled["labels"] = json!({"kubernetes.io/service-name": "istiod"});
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": {"ports": [port]}});
    let slice = json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": labelled,
        "addressType": "IPv4", "ports": [{"name": "https-webhook", "port": controller.admission}],
        "endpoints": [{"addresses": ["127.0.0.1"], "conditions": {"ready": true}}]});
    let text = include_str!("../../../deploy/lab/50-webhook.yaml");
    let configuration: Value = serde_saphyr::from_str(text).expect("a manifest");
    assert_eq!(configuration["webhooks"][0]["failurePolicy"], "Ignore");
    cluster.apply([service, slice, configuration.clone()]).await;
    let client = cluster.client.clone();
    eventually("failing closed", move || {
        let kind =
            kube::api::GroupVersionKind::gvk("admissionregistration.k8s.io", "v1", "ValidatingWebhookConfiguration");
        let api: Api<DynamicObject> = Api::all_with(client.clone(), &kube::api::ApiResource::from_gvk(&kind));
        let name = configuration["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        Box::pin(async move {
            let found = api.get(&name).await.ok()?;
            (found.data["webhooks"][0]["failurePolicy"] == "Fail").then_some(())
        })
    })
    .await;
    (cluster, controller)
}

async fn kubectl(cluster: &Cluster, home: &Path, arguments: &[&str]) -> (Output, String) {
    let mut command = Command::new("kubectl");
    // A home of its own: its discovery cache must not see other servers.
    command.args(arguments).env("KUBECONFIG", cluster.kubeconfig()).env("HOME", home);
    let ran = tokio::task::spawn_blocking(move || command.output()).await.expect("no panic");
    let ran = ran.expect("kubectl is missing: install it (Debian: kubernetes-client), this test cannot be skipped");
    let said = String::from_utf8_lossy(&ran.stderr).into_owned();
    (ran, said)
}

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_says_of_every_row_what_lateen_validate_says() {
    let (cluster, controller) = guarded().await;
    let (folder, home) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let rows = Rows::write(folder.path(), cases().into_iter().filter(is_asked_about));
    let (ran, said) = kubectl(&cluster, home.path(), &["apply", "-f", rows.folder()]).await;
    assert!(!ran.status.success());
    let wrong = rows.wrong(&said, WEBHOOK);
    assert!(wrong.is_empty(), "{}\nkubectl said:\n{said}", wrong.join("\n"));
    controller.end().await;
    cluster.api.shutdown().await.expect("it ends");
}

#[tokio::test(flavor = "multi_thread")]
async fn updates_are_judged_deletions_are_not_and_without_the_controller_nothing_is_written() {
    let (cluster, controller) = guarded().await;
    let (folder, home) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let file = folder.path().join("p.json");
    let policy = json!({"apiVersion": "security.istio.io/v1beta1", "kind": "AuthorizationPolicy",
        "metadata": {"namespace": "shop", "name": "p"}, "spec": {"rules": [{}]}});
    std::fs::write(&file, policy.to_string()).expect("writable");
    let file = file.to_str().expect("text");
    let (ran, said) = kubectl(&cluster, home.path(), &["apply", "-f", file]).await;
    assert!(ran.status.success(), "{said}");
    let patch = ["patch", "-n", "shop", "authorizationpolicy/p", "--type=merge", "-p"];
    let (ran, said) =
        kubectl(&cluster, home.path(), &[&patch[..], &[r#"{"spec": {"action": "DENY", "rules": null}}"#]].concat())
            .await;
    assert!(
        !ran.status.success() && said.contains("a DENY policy without rules refuses nothing; add a rule"),
        "{said}"
    );
    let finalizer = r#"{"metadata": {"finalizers": ["example.com/x"]}}"#;
    let (ran, said) = kubectl(&cluster, home.path(), &[&patch[..], &[finalizer]].concat()).await;
    assert!(ran.status.success(), "{said}");
    let (_, _) =
        kubectl(&cluster, home.path(), &[&patch[..], &[r#"{"metadata": {"finalizers": null}}"#]].concat()).await;

    controller.end().await;
    let (ran, said) =
        kubectl(&cluster, home.path(), &[&patch[..], &[r#"{"spec": {"action": "ALLOW"}}"#]].concat()).await;
    assert!(!ran.status.success() && said.contains(&format!("failed calling webhook {WEBHOOK:?}")), "{said}");
    let (ran, said) = kubectl(&cluster, home.path(), &["delete", "-f", file]).await;
    assert!(ran.status.success(), "{said}");
    cluster.api.shutdown().await.expect("it ends");
}
