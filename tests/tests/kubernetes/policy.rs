//! A policy, from `kubectl apply` to the refusal and the word in its status.

use super::{
    app::App,
    driver::{SYSTEM, until},
};

fn deny(namespace: &str) -> String {
    format!(
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: deny-client, namespace: {namespace}}}\n\
         spec:\n  selector: {{matchLabels: {{app: server}}}}\n  action: DENY\n  \
         rules: [{{from: [{{source: {{principals: [cluster.local/ns/{namespace}/sa/client]}}}}]}}]\n"
    )
}

#[test]
#[ignore = "needs a Kubernetes cluster: make cluster-up"]
fn a_policy_denies_says_so_and_its_removal_allows() {
    let app = App::start_enrolled("lateen-test-policy");
    app.cluster.apply(&deny(app.namespace));
    let refusal = until("the call is refused", || app.call().err());
    println!("the client sees: {refusal}");
    let object = ["authorizationpolicy", "-n", app.namespace, "deny-client"];
    for condition in ["ZtunnelAccepted", "Enforced"] {
        let wait = format!("--for=condition={condition}");
        app.cluster.kubectl(&["wait", &wait, object[0], "-n", app.namespace, object[3], "--timeout=100s"]);
    }
    let path = r#"jsonpath={range .status.conditions[*]}{.type}={.status} {.reason}: {.message}{"\n"}{end}"#;
    let conditions = app.cluster.kubectl(&[&["get"], &object[..], &["-o", path]].concat());
    println!("{conditions}");
    // Of every node, whichever controller its proxy is connected to.
    let nodes = app.cluster.field(&["ds", "-n", SYSTEM, "ztunnel"], ".status.desiredNumberScheduled");
    let everywhere = format!("InForce: in force at {nodes} of {nodes} connected proxies");
    assert!(conditions.contains(&everywhere), "{conditions}");
    let record = until("the refusal is on record", || {
        let logs = app.cluster.kubectl(&["logs", "-n", SYSTEM, "-l", "app=ztunnel", "--tail=300"]);
        let why = format!("explicitly denied by: {}/deny-client", app.namespace);
        logs.lines().rfind(|line| line.contains(&why)).map(str::to_owned)
    });
    println!("{record}");

    app.cluster.kubectl(&["delete", "authorizationpolicy", "-n", app.namespace, "deny-client"]);
    until("the call is allowed again", || app.call().ok());
}

#[test]
#[ignore = "needs a Kubernetes cluster: make cluster-up"]
fn strict_refuses_who_is_outside_and_no_probe() {
    let inside = App::start_enrolled("lateen-test-strict");
    let outside = App::start("lateen-test-outside");
    let url = format!("http://server.{}.svc.cluster.local/", inside.namespace);
    let from_outside = || outside.in_client(&["timeout", "5", "wget", "-q", "-O", "-", &url]);
    until("plain text is let in", || from_outside().ok());
    inside.cluster.apply(&format!(
        "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {{name: default, namespace: {}}}\n\
         spec: {{mtls: {{mode: STRICT}}}}\n",
        inside.namespace
    ));
    until("plain text is refused", || from_outside().err());
    inside.call().expect("who is in the mesh is let in");
    // The kubelet's probes go on, and new pods become ready by them.
    inside.cluster.kubectl(&["rollout", "restart", "-n", inside.namespace, "deploy/server"]);
    inside.cluster.rolled_out(inside.namespace, "deploy/server");
    inside.enrolled(2);
    until("the new server is reached", || inside.call().ok());
    from_outside().expect_err("plain text stays refused");
}
