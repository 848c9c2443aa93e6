//! An address that passes from one pod to another: nobody is reached under the identity of the one who had it before.

use lateen_tests::harness::{
    eventually,
    resources::{behind, pod},
    rig::{Rig, WEB},
    traffic::{Manner, call, connect, ping, serve},
};
use lateen_wire::type_url;

const TO_D: &str = "10.77.0.21:8080";
const OLD: &str = "Kubernetes//Pod/default/d";

/// The callers' world is ahead of the node: the new pod is known, and the old one still answers there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_old_pod_is_not_reached_as_the_new_one() {
    let rig = Rig::start().await;
    let mut server = serve(&rig.tasks, &rig.d, 8080, Manner::Echo);
    // A tunnel is there that must not be used again.
    assert_eq!(call(&rig.a, TO_D, "hello").await.expect("answered"), "hello");
    let mut live = connect(&rig.a, TO_D).await.expect("connected");
    ping(&mut live).await.expect("works");

    rig.control.remove(type_url::ADDRESS, OLD);
    rig.control.workloads([behind(pod("e", "node-2", &["10.77.0.21", "fd00:77::21"]), WEB)]);
    let seen = rig.nodes[0].ztunnel.records().len();
    eventually("the new pod is known", || async {
        let _either = call(&rig.a, TO_D, "hello").await;
        let of_new = |line: &String| line.contains("\"outbound\"") && line.contains("dst.workload=\"e\"");
        rig.nodes[0].ztunnel.records().into_iter().skip(seen).find(of_new)
    })
    .await;
    while server.peers.try_recv().is_ok() {}
    for to in [TO_D, "[fd00:77::21]:8080"] {
        assert_eq!(call(&rig.a, to, "secret").await.unwrap_or_default(), "", "{to}");
    }
    assert!(server.peers.try_recv().is_err(), "nothing reached the old pod");
    let refused = ["reporter=\"source\"", "destination_workload=\"e\""];
    assert!(rig.nodes[0].ztunnel.metric("istio_tcp_connections_failed_total", &refused).await >= 1.0);
}

/// The node is ahead of the callers' world: the new pod answers there, and the old one is called.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_new_pod_is_not_reached_as_the_old_one() {
    let mut rig = Rig::start().await;
    let mut server = serve(&rig.tasks, &rig.d, 8080, Manner::Echo);
    assert_eq!(call(&rig.a, TO_D, "hello").await.expect("answered"), "hello");
    // Node 1 hears of nothing any more; on node 2 the pod's namespace is another pod's.
    let ended = "istio_xds_connection_terminations_total";
    let before = rig.nodes[0].ztunnel.metric(ended, &[]).await;
    rig.nodes[0].lose_control();
    // Nothing that is changed before it has noticed may be on its way to it.
    eventually("node 1 is on its own", || async {
        (rig.nodes[0].ztunnel.metric(ended, &[]).await > before).then_some(())
    })
    .await;
    rig.control.remove(type_url::ADDRESS, OLD);
    rig.control.workloads([behind(pod("e", "node-2", &["10.77.0.21", "fd00:77::21"]), WEB)]);
    assert_eq!(rig.nodes[1].agent.del("d").await, "");
    assert_eq!(rig.nodes[1].agent.add("e", &rig.d).await, "");
    while server.peers.try_recv().is_ok() {}
    assert_eq!(call(&rig.a, TO_D, "secret").await.unwrap_or_default(), "", "d is not there any more");
    assert!(server.peers.try_recv().is_err(), "nothing reached the new pod");

    // Once the callers know it, they reach it as what it is.
    let control = rig.control.clone();
    rig.nodes[0].regain_control(&control);
    eventually("the new pod is reached", || async {
        (call(&rig.a, TO_D, "hello").await.unwrap_or_default() == "hello").then_some(())
    })
    .await;
    rig.nodes[0]
        .ztunnel
        .record_after(0, &["\"outbound\"", "dst.identity=\"spiffe://cluster.local/ns/default/sa/e\""])
        .await;
}
