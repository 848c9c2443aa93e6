//! The mesh goes: nodes are as they were, and pods start without it.

use super::{
    app::App,
    driver::until,
    install::{chain, mesh},
};

#[test]
#[ignore = "needs a Kubernetes cluster: make cluster-up"]
fn removal_leaves_nodes_that_start_pods() {
    let app = App::start_enrolled("lateen-test-removal");
    app.cluster.kubectl(&["label", "namespace", app.namespace, "istio.io/dataplane-mode-"]);
    app.enrolled(0);
    let manifests = app.cluster.kustomization();
    let directory = manifests.path().to_string_lossy().into_owned();
    app.cluster.kubectl(&["delete", "-k", &directory, "--ignore-not-found", "--timeout=120s"]);
    for node in &app.cluster.nodes {
        let Some(_) = chain(app.cluster, node) else {
            println!("NOT LOOKED AT: the nodes' disks are not ours");
            break;
        };
        until("the plugin is gone", || {
            let chain = chain(app.cluster, node)?;
            (chain == ["bridge", "portmap"]).then_some(())
        });
        let ours = app.cluster.ours.as_ref().expect("looked at");
        let binary = ours.directory.join(node).join("opt.upper/cni/bin/lateen-cni");
        until("its program is gone", || (!binary.exists()).then_some(()));
    }
    app.cluster.kubectl(&["rollout", "restart", "-n", app.namespace, "deploy/server", "deploy/client"]);
    for name in ["deploy/server", "deploy/client"] {
        app.cluster.rolled_out(app.namespace, name);
    }
    until("new pods reach each other", || app.call().ok());
    println!("removed; and installed once more:");
    mesh(app.cluster);
    app.label();
}
