//! The installation: plain manifests, one command, and every part is where it should be.

use std::{
    io::Write as _,
    process::{Command, Stdio},
};

use super::{
    cases::{Case, cases},
    driver::{Cluster, SYSTEM, cluster, until},
    rows::{Rows, is_asked_about},
};

/// Installs the mesh as a user does, and waits for it.
pub fn mesh(cluster: &Cluster) {
    let manifests = cluster.kustomization();
    let directory = manifests.path().to_string_lossy().into_owned();
    cluster.kubectl(&["apply", "--server-side", "--force-conflicts", "-k", &directory]);
    for part in ["deploy/istiod", "ds/istio-cni-node", "ds/ztunnel"] {
        cluster.rolled_out(SYSTEM, part);
    }
}

/// A node's network configuration; known only where the node's disk is ours.
fn configuration(cluster: &Cluster, node: &str) -> Option<serde_json::Value> {
    let ours = cluster.ours.as_ref()?;
    let path = ours.directory.join(node).join("etc.upper/cni/net.d/10-pods.conflist");
    let text = std::fs::read_to_string(path).expect("the node's configuration");
    Some(serde_json::from_str(&text).expect("JSON"))
}

/// The types of plugins a node's runtime calls, in their order.
pub fn chain(cluster: &Cluster, node: &str) -> Option<Vec<String>> {
    let list = configuration(cluster, node)?;
    let plugins = list["plugins"].as_array().expect("a chain");
    Some(plugins.iter().map(|plugin| plugin["type"].as_str().expect("typed").to_owned()).collect())
}

#[test]
#[ignore = "needs a Kubernetes cluster: make cluster-up"]
fn every_part_is_ready_on_every_node() {
    let cluster = cluster();
    let nodes = cluster.kubectl(&["get", "nodes", "-o", "name"]).lines().count().to_string();
    for set in ["istio-cni-node", "ztunnel"] {
        let path = ".status['desiredNumberScheduled','numberReady']";
        let found = cluster.field(&["daemonset", "-n", SYSTEM, set], path);
        assert_eq!(found.split(' ').collect::<Vec<_>>(), [&nodes, &nodes], "{set}");
    }
    let replicas = cluster.field(&["deployment", "-n", SYSTEM, "istiod"], ".status['replicas','readyReplicas']");
    assert_eq!(replicas, "2 2");
    let restarts = cluster.field(&["pods", "-n", SYSTEM], ".items[*].status.containerStatuses[*].restartCount");
    assert!(restarts.split(' ').all(|count| count == "0"), "nothing had to be tried twice: {restarts}");
    println!("{}", cluster.kubectl(&["get", "pods", "-n", SYSTEM, "-o", "wide"]));
}

#[test]
#[ignore = "needs a Kubernetes cluster: make cluster-up"]
fn the_plugin_is_last_in_every_nodes_chain_and_comes_back() {
    let cluster = cluster();
    if cluster.ours.is_none() {
        println!("NOT LOOKED AT: the nodes' disks are not ours");
        return;
    }
    for node in &cluster.nodes {
        let chain = chain(cluster, node).expect("ours");
        assert_eq!(chain, ["bridge", "portmap", "lateen-cni"], "{node}");
    }
    // Another tool writes the file anew, as it was before us, in the node's own view of it.
    let node = &cluster.nodes[0];
    let mut list = configuration(cluster, node).expect("ours");
    let plugins = list["plugins"].as_array_mut().expect("a chain");
    plugins.retain(|plugin| plugin["type"] != "lateen-cni");
    let directory = &cluster.ours.as_ref().expect("ours").directory;
    let process = std::fs::read_to_string(directory.join(format!("{node}.pid"))).expect("the node's process");
    let mut tool = Command::new("nsenter");
    tool.args(["--target", process.trim(), "--mount", "sh", "-c"]).current_dir("/");
    tool.arg("cd /etc/cni/net.d && cat >new && mv new 10-pods.conflist").stdin(Stdio::piped());
    let mut tool = tool.spawn().expect("nsenter is installed");
    tool.stdin.take().expect("piped").write_all(list.to_string().as_bytes()).expect("written");
    assert!(tool.wait().expect("it ends").success(), "the file is rewritten");
    until("the plugin is last again", || {
        let chain = self::chain(cluster, node)?;
        (chain.last().map(String::as_str) == Some("lateen-cni")).then_some(())
    });
}

#[test]
#[ignore = "needs a Kubernetes cluster: make cluster-up"]
fn nonsense_is_refused_by_the_webhook() {
    let cluster = cluster();
    let policy = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n\
                  metadata: {name: nonsense, namespace: default}\n\
                  spec: {action: DENY, rules: [{from: [{source: {ipBlocks: [not-an-address]}}]}]}\n";
    let refusal = until("the webhook answers", || match cluster.try_apply(policy) {
        Err(refusal) => Some(refusal),
        Ok(_) => {
            cluster.kubectl(&["delete", "authorizationpolicy", "-n", "default", "nonsense"]);
            None
        }
    });
    println!("{refusal}");
    assert!(refusal.contains("ipBlocks") && refusal.contains("not-an-address"), "{refusal}");
}

/// Nothing of it is written: the API server asks the webhook all the same when it is only asked to try.
#[test]
#[ignore = "needs a Kubernetes cluster: make cluster-up"]
fn of_every_invalid_input_kubectl_says_what_lateen_validate_says() {
    let cluster = cluster();
    until("the webhook refuses by itself when nobody answers", || {
        let policies = ".items[*].webhooks[*].failurePolicy";
        let found = cluster.field(&["validatingwebhookconfigurations", "-l", "app=istiod"], policies);
        (!found.is_empty() && found.split_whitespace().all(|policy| policy == "Fail")).then_some(())
    });
    let _ = cluster.try_kubectl(&["create", "namespace", "shop"]);
    let folder = tempfile::tempdir().expect("a folder");
    let rows = Rows::write(folder.path(), cases().into_iter().filter(is_of_the_mesh));
    let said = match cluster.try_kubectl(&["apply", "--dry-run=server", "-f", rows.folder()]) {
        Ok(said) | Err(said) => said,
    };
    cluster.kubectl(&["delete", "namespace", "shop", "--wait=false"]);
    let wrong = rows.wrong(&said, "rev.validation.istio.io");
    assert!(wrong.is_empty(), "{}\nkubectl said:\n{said}", wrong.join("\n"));
}

/// The Gateway API's kinds come from elsewhere, with rules of their own that speak before ours.
fn is_of_the_mesh(case: &Case) -> bool {
    is_asked_about(case) && case.object()["apiVersion"].as_str().is_some_and(|version| version.contains("istio.io/"))
}

#[test]
#[ignore = "needs a Kubernetes cluster: make cluster-up"]
fn live_rules_are_the_intended_ones() {
    let app = super::app::App::start_enrolled("lateen-test-verify");
    let path = "jsonpath={.items[*].metadata.name}";
    let agents = app.cluster.kubectl(&["get", "pods", "-n", SYSTEM, "-l", "k8s-app=istio-cni-node", "-o", path]);
    let mut found = String::new();
    for agent in agents.split_whitespace() {
        found += &app.cluster.kubectl(&["exec", "-n", SYSTEM, agent, "--", "lateen-cni-agent", "verify"]);
    }
    println!("{found}");
    for name in ["client", "server"] {
        let pod = format!("{}/{name}-", app.namespace);
        assert!(found.lines().any(|line| line.starts_with(&pod) && line.ends_with(": as intended")), "{name}: {found}");
    }
    let settings = ["cat", "/proc/sys/net/ipv4/ip_local_reserved_ports", "/proc/sys/net/ipv4/tcp_migrate_req"];
    let settings = app.in_client(&settings).expect("readable");
    assert_eq!(settings.lines().collect::<Vec<_>>(), ["15001,15006,15008,15053", "1"], "settings of the pod's network");
}
