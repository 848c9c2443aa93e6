//! A node that loses its power and comes back.

use std::process::Command;

use super::{
    app::{App, SECRET},
    driver::{SYSTEM, printed, until},
    traffic::assert_tunnelled,
    wire::Capture,
};

#[test]
#[ignore = "needs a Kubernetes cluster: make cluster-up"]
fn a_node_that_is_rebooted_comes_back_into_the_mesh() {
    let app = App::start_enrolled("lateen-test-reboot");
    let Some(ours) = &app.cluster.ours else {
        println!("NOT DONE: the nodes of this cluster are not ours to reboot");
        return;
    };
    let node = &app.cluster.nodes[1];
    let before = app.address("server");
    // The client asks all the time; nothing of it may be readable, whoever answers or not.
    let ask = format!(
        "rm -f /tmp/enough; (until [ -e /tmp/enough ]; do timeout 5 wget -q -O /dev/null 'http://server/pay?{SECRET}'; done) >/dev/null 2>&1 &"
    );
    app.in_client(&["sh", "-c", &ask]).expect("begun");
    let capture = Capture::begin(app.cluster, ours);
    let begun = tokio::time::Instant::now();
    let rebooted = Command::new(ours.scripts.join("reboot")).arg(node).output().expect("the script runs");
    printed(rebooted).expect("the node is started again");
    until("a call is answered by the node's new pod", || {
        let answer = app.call().ok()?;
        let address = app.address("server");
        (answer.contains("Hostname: server-") && !address.is_empty() && address != before).then_some(())
    });
    println!("{} s after {node} lost its power a call is answered", begun.elapsed().as_secs());
    app.in_client(&["touch", "/tmp/enough"]).expect("told");
    for part in ["ds/istio-cni-node", "ds/ztunnel"] {
        app.cluster.rolled_out(SYSTEM, part);
    }
    app.enrolled(2);
    assert_tunnelled(&capture.finish());
    let chain = super::install::chain(app.cluster, node).expect("ours");
    assert_eq!(chain.last().map(String::as_str), Some("lateen-cni"), "the plugin outlived the reboot");
}
