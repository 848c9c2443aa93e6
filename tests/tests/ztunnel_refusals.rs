//! What a client sees of a connection that never begins: a reset, as where nobody listens, whatever the reason.

use lateen_tests::harness::{
    eventually,
    resources::{plain, pod, policy, service, to_port},
    rig::{Rig, SameNode},
    traffic::{Manner, call, is_reset, serve},
};
use lateen_wire::security::Action;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn policy_refuses_by_reset() {
    for same_node in SameNode::BOTH {
        let rig = Rig::start_in(same_node).await;
        let _servers = [&rig.b, &rig.d].map(|pod| serve(&rig.tasks, pod, 8080, Manner::ServerFirst));
        rig.control.policies([policy("no-8080", Action::Deny, to_port(8080))]);
        // By tunnel or beside it, in plain, and over either family.
        for (from, to) in [
            (&rig.a, "10.77.0.12:8080"),
            (&rig.a, "10.77.0.21:8080"),
            (&rig.a, "[fd00:77::21]:8080"),
            (&rig.a, "10.96.0.10:80"),
            (&rig.c, "10.77.0.21:8080"),
        ] {
            eventually("the policy", || async {
                call(from, to, "x").await.unwrap_or_default().is_empty().then_some(())
            })
            .await;
            is_reset(from, to).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_reached_is_refused_by_reset() {
    let rig = Rig::start().await;
    let ztunnel = &rig.nodes[0].ztunnel;
    // Nobody listens: through a tunnel, beside it, in plain from either side.
    for (from, to) in
        [(&rig.a, "10.77.0.21:9"), (&rig.a, "10.77.0.12:9"), (&rig.a, "10.77.0.13:9"), (&rig.c, "10.77.0.21:9")]
    {
        is_reset(from, to).await;
    }
    // Our own ports are not for anyone.
    is_reset(&rig.a, "10.77.0.21:15001").await;
    is_reset(&rig.c, "10.77.0.21:15006").await;

    // A service without anybody behind it, a workload without a ztunnel, and one where something else has its port.
    rig.control.services([service("empty.default.svc.cluster.local", &["10.96.0.77"], &[(80, 8080)])]);
    rig.control.workloads([pod("e", "node-3", &["10.77.0.13"]), plain(pod("f", "node-3", &["10.77.0.99"]))]);
    rig.control.remove(lateen_wire::type_url::ADDRESS, "Kubernetes//Pod/default/c");
    eventually("a tunnel to where no ztunnel is", || async {
        let _either = call(&rig.a, "10.77.0.13:9", "x").await;
        let tunnelled = |line: &String| line.contains("\"outbound\"") && line.contains("10.77.0.13:15008");
        ztunnel.records().into_iter().find(tunnelled)
    })
    .await;
    is_reset(&rig.a, "10.96.0.77:80").await;
    is_reset(&rig.a, "10.77.0.13:8080").await;
    let _impostor = serve(&rig.tasks, &rig.c, 15008, Manner::ServerFirst);
    is_reset(&rig.a, "10.77.0.13:8080").await;
    let failed = ["reporter=\"source\"", "response_flags=\"TLS_FAILURE\""];
    assert!(ztunnel.metric("istio_tcp_connections_failed_total", &failed).await >= 1.0);
}
