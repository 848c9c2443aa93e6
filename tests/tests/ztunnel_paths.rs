//! Who reaches whom, how, and what is told about it: the real ztunnel, real rules, two nodes.

use lateen_tests::harness::{
    rig::{Rig, SameNode},
    traffic::{Manner, call, serve},
};

/// One call and everything that must be true afterwards.
struct Case {
    to: &'static str,
    /// Words of the client's record; empty when the client is outside the mesh.
    outbound: &'static [&'static str],
    /// Words of the server's record; empty when the server is outside the mesh.
    inbound: &'static [&'static str],
}

const A: &str = "10.77.0.11";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_pair_of_pods_reaches_each_other_as_it_should() {
    for same_node in SameNode::BOTH {
        every_pair(same_node).await;
    }
}

/// The same call to a pod of the same node, without a tunnel and with one.
fn to_b(same_node: SameNode, v6: bool) -> Case {
    const SOURCE: &str = "src.identity=\"spiffe://cluster.local/ns/default/sa/a\"";
    const DESTINATION: &str = "dst.identity=\"spiffe://cluster.local/ns/default/sa/b\"";
    match (same_node, v6) {
        (SameNode::Direct, false) => Case {
            to: "10.77.0.12:8080",
            outbound: &["dst.addr=10.77.0.12:8080", SOURCE, DESTINATION, "dst.workload=\"b\""],
            inbound: &["dst.addr=10.77.0.12:8080", SOURCE, DESTINATION, "src.workload=\"a\""],
        },
        (SameNode::Direct, true) => Case {
            to: "[fd00:77::12]:8080",
            outbound: &["dst.addr=[fd00:77::12]:8080", SOURCE, DESTINATION],
            inbound: &["dst.addr=[fd00:77::12]:8080", SOURCE, DESTINATION],
        },
        (SameNode::Hbone, false) => Case {
            to: "10.77.0.12:8080",
            outbound: &["dst.addr=10.77.0.12:15008", "dst.hbone_addr=10.77.0.12:8080", SOURCE, "dst.workload=\"b\""],
            inbound: &["dst.hbone_addr=10.77.0.12:8080", SOURCE],
        },
        (SameNode::Hbone, true) => Case {
            to: "[fd00:77::12]:8080",
            outbound: &["dst.addr=[fd00:77::12]:15008"],
            inbound: &["dst.hbone_addr=[fd00:77::12]:8080"],
        },
    }
}

async fn every_pair(same_node: SameNode) {
    let rig = Rig::start_in(same_node).await;
    let [near, far] = &rig.nodes;
    let mut servers = [&rig.a, &rig.b, &rig.c, &rig.d].map(|pod| serve(&rig.tasks, pod, 8080, Manner::Echo));

    // Same node, other node; both families; the client's address is kept.
    for (case, server, peer) in [(to_b(same_node, false), 1, A), (to_b(same_node, true), 1, "fd00:77::11")] {
        let seen = (near.ztunnel.records().len(), far.ztunnel.records().len());
        assert_eq!(call(&rig.a, case.to, "hello").await.expect("answered"), "hello", "{}", case.to);
        assert_eq!(servers[server].next_peer().await.to_string(), peer);
        let outbound =
            [case.outbound, &["direction=\"outbound\"", "bytes_sent=5", "bytes_recv=5", "\tinfo\t"]].concat();
        near.ztunnel.record_after(seen.0, &outbound).await;
        let inbound = [case.inbound, &["direction=\"inbound\"", "bytes_sent=5", "bytes_recv=5", "\tinfo\t"]].concat();
        near.ztunnel.record_after(seen.0, &inbound).await;
    }
    for (case, server, peer) in [
        (
            Case { to: "10.77.0.21:8080", outbound: &["dst.addr=10.77.0.21:15008"], inbound: &["src.workload=\"a\""] },
            3,
            A,
        ),
        (
            Case {
                to: "[fd00:77::21]:8080",
                outbound: &["dst.addr=[fd00:77::21]:15008"],
                inbound: &["src.workload=\"a\""],
            },
            3,
            "fd00:77::11",
        ),
    ] {
        let seen = (near.ztunnel.records().len(), far.ztunnel.records().len());
        assert_eq!(call(&rig.a, case.to, "hello").await.expect("answered"), "hello", "{}", case.to);
        assert_eq!(servers[server].next_peer().await.to_string(), peer);
        near.ztunnel.record_after(seen.0, case.outbound).await;
        far.ztunnel.record_after(seen.1, case.inbound).await;
    }
    // To a pod outside the mesh: plain, from the pod itself.
    let seen = near.ztunnel.records().len();
    assert_eq!(call(&rig.a, "10.77.0.13:8080", "hello").await.expect("answered"), "hello");
    assert_eq!(servers[2].next_peer().await.to_string(), A);
    let record = near.ztunnel.record_after(seen, &["dst.addr=10.77.0.13:8080", "dst.workload=\"c\""]).await;
    assert!(!record.contains("identity") && !record.contains("hbone_addr"), "{record}");
    // From a pod outside the mesh: plain, with its own address seen by the server.
    for (to, peer) in [("10.77.0.12:8080", "10.77.0.13"), ("[fd00:77::12]:8080", "fd00:77::13")] {
        let seen = near.ztunnel.records().len();
        assert_eq!(call(&rig.c, to, "hello").await.expect("answered"), "hello");
        assert_eq!(servers[1].next_peer().await.to_string(), peer);
        let record = near.ztunnel.record_after(seen, &["direction=\"inbound\"", "src.workload=\"c\""]).await;
        assert!(!record.contains("identity"), "{record}");
    }
    // Itself, by address (never captured) and through the service (a tunnel to itself).
    assert_eq!(call(&rig.b, "10.77.0.12:8080", "self").await.expect("answered"), "self");
    assert_eq!(servers[1].next_peer().await.to_string(), "10.77.0.12");
    for node in &rig.nodes {
        assert_balanced(&rig, node.name).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_reaches_all_its_endpoints_on_both_families() {
    for same_node in SameNode::BOTH {
        every_endpoint(same_node).await;
    }
}

async fn every_endpoint(same_node: SameNode) {
    let rig = Rig::start_in(same_node).await;
    let [near, _] = &rig.nodes;
    let _servers = [&rig.b, &rig.d].map(|pod| serve(&rig.tasks, pod, 8080, Manner::Echo));
    for vip in ["10.96.0.10:80", "[fd00:96::10]:80"] {
        let seen = near.ztunnel.records().len();
        for _ in 0..20 {
            assert_eq!(call(&rig.a, vip, "hello").await.expect("answered"), "hello");
        }
        for name in ["dst.workload=\"b\"", "dst.workload=\"d\""] {
            near.ztunnel
                .record_after(seen, &[name, "direction=\"outbound\"", "dst.service=\"web.default.svc.cluster.local\""])
                .await;
        }
    }
    // b calls the service it is an endpoint of: some calls end at itself.
    for _ in 0..20 {
        assert_eq!(call(&rig.b, "10.96.0.10:80", "hello").await.expect("answered"), "hello");
    }
    assert_balanced(&rig, "node-1").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_reached_ends_quickly_and_says_why() {
    let rig = Rig::start().await;
    let [near, far] = &rig.nodes;
    // Nobody listens on d:8080: 503 on the tunnel, a reset or an end for the client.
    let seen = (near.ztunnel.records().len(), far.ztunnel.records().len());
    assert_eq!(call(&rig.a, "10.77.0.21:8080", "hello").await.unwrap_or_default(), "");
    near.ztunnel.record_after(seen.0, &["http status: 503", "\terror\t"]).await;
    far.ztunnel
        .record_after(seen.1, &["direction=\"inbound\"", "cannot connect to 10.77.0.21:8080", "\terror\t"])
        .await;
    // A service's port that it does not define.
    assert_eq!(call(&rig.a, "10.96.0.10:81", "hello").await.unwrap_or_default(), "");
    near.ztunnel.record_after(seen.0, &["no healthy upstream"]).await;
    // Our own ports from outside lead to the plaintext port, and from there nowhere.
    for port in [15001, 15006] {
        assert_eq!(call(&rig.c, &format!("10.77.0.12:{port}"), "hello").await.unwrap_or_default(), "");
    }
    near.ztunnel.record_after(seen.0, &["attempted recursive call to ourselves"]).await;
    // The tunnel port wants TLS.
    let alert = call(&rig.c, "10.77.0.12:15008", "hello").await.unwrap_or_default();
    assert!(!alert.contains("hello"), "{alert:?}");
    near.ztunnel.record_after(seen.0, &["TLS handshake failed"]).await;
    assert_balanced(&rig, "node-1").await;
    assert_balanced(&rig, "node-2").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_whose_address_goes_to_another_is_not_reached_under_the_old_identity() {
    let rig = Rig::start().await;
    let [near, _] = &rig.nodes;
    let _server = serve(&rig.tasks, &rig.d, 8080, Manner::Echo);
    assert_eq!(call(&rig.a, "10.77.0.21:8080", "hello").await.expect("answered"), "hello");
    // The control plane now says that d's address is another workload's; d still proves to be d.
    let other = lateen_tests::harness::resources::pod("e", "node-2", &["10.77.0.21"]);
    rig.control.remove(lateen_wire::type_url::ADDRESS, "Kubernetes//Pod/default/d");
    rig.control.workloads([other]);
    let seen = near.ztunnel.records().len();
    // The far node may hear of it first and refuse; what counts is that the near one does, once it knows.
    lateen_tests::harness::eventually("the refusal of who is not e", || async {
        let answer = call(&rig.a, "10.77.0.21:8080", "hello").await.unwrap_or_default();
        let refused = |line: &String| {
            ["direction=\"outbound\"", "dst.workload=\"e\"", "error="].iter().all(|part| line.contains(part))
        };
        (answer.is_empty() && near.ztunnel.records().iter().skip(seen).any(refused)).then_some(())
    })
    .await;
}

/// Every connection that was opened is closed, exactly once, with one record each.
async fn assert_balanced(rig: &Rig, node: &str) {
    let node = rig.nodes.iter().find(|known| known.name == node).expect("known");
    lateen_tests::harness::eventually("opened equals closed", || async {
        let opened = node.ztunnel.metric("istio_tcp_connections_opened_total", &[]).await;
        let closed = node.ztunnel.metric("istio_tcp_connections_closed_total", &[]).await;
        let complete = node.ztunnel.records().iter().filter(|line| line.contains("connection complete")).count();
        #[allow(clippy::cast_precision_loss, reason = "a few dozen")]
        let same = opened == closed && closed == complete as f64 && opened > 0.0;
        same.then_some(())
    })
    .await;
}
