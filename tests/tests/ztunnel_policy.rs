//! Policy on new and on live connections, and refusing when something is not known.

use lateen_tests::harness::{
    eventually,
    resources::{from_principal, plain, pod, policy, service, to_port},
    rig::Rig,
    traffic::{Manner, call, connect, is_cut, is_reset, ping, serve},
};
use lateen_wire::{
    security::{Action, Scope},
    type_url,
    workload::Workload,
};

const TO_D: &str = "10.77.0.21:8080";
const SA_A: &str = "cluster.local/ns/default/sa/a";
const SA_B: &str = "cluster.local/ns/default/sa/b";

async fn refused_from_now_on(rig: &Rig, to: &str) {
    eventually("a refusal", || async { call(&rig.a, to, "hello").await.unwrap_or_default().is_empty().then_some(()) })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deny_policy_refuses_new_connections_and_cuts_live_ones() {
    let rig = Rig::start().await;
    let [near, far] = &rig.nodes;
    let _server = serve(&rig.tasks, &rig.d, 8080, Manner::Echo);
    let _other = serve(&rig.tasks, &rig.d, 9090, Manner::Echo);
    let mut live = connect(&rig.a, TO_D).await.expect("connected");
    let mut untouched = connect(&rig.a, "10.77.0.21:9090").await.expect("connected");
    ping(&mut live).await.expect("works");
    ping(&mut untouched).await.expect("works");

    rig.control.policies([policy("no-8080", Action::Deny, to_port(8080))]);
    is_cut(&mut live).await;
    far.ztunnel.record_after(0, &["direction=\"inbound\"", "connection closed due to policy change"]).await;
    refused_from_now_on(&rig, TO_D).await;
    far.ztunnel
        .record_after(0, &["connection closed due to policy rejection: explicitly denied by: default/no-8080"])
        .await;
    near.ztunnel.record_after(0, &["http status: 401"]).await;
    assert!(far.ztunnel.metric("istio_tcp_connections_failed_total", &["response_flags=\"DENY\""]).await >= 2.0);
    // Another port of the same pod, on the same tunnel connection, goes on.
    ping(&mut untouched).await.expect("a policy that does not concern it leaves it alone");

    rig.control.remove(type_url::AUTHORIZATION, "default/no-8080");
    eventually("the way is free again", || async {
        (call(&rig.a, TO_D, "hello").await.unwrap_or_default() == "hello").then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_allow_policy_admits_by_identity_and_never_plaintext() {
    let rig = Rig::start().await;
    let [near, far] = &rig.nodes;
    let _server = serve(&rig.tasks, &rig.d, 8080, Manner::Echo);
    let mut live = connect(&rig.a, TO_D).await.expect("connected");
    let mut plain = connect(&rig.c, TO_D).await.expect("connected");
    ping(&mut live).await.expect("works");
    ping(&mut plain).await.expect("works");

    rig.control.policies([policy("only-a", Action::Allow, from_principal(SA_A))]);
    is_cut(&mut plain).await;
    far.ztunnel.record_after(0, &["src.workload=\"c\"", "connection closed due to policy change"]).await;
    for _ in 0..20 {
        ping(&mut live).await.expect("a policy that still allows it leaves it alone");
    }
    assert_eq!(call(&rig.a, TO_D, "hello").await.expect("answered"), "hello");
    assert_eq!(call(&rig.b, TO_D, "hello").await.unwrap_or_default(), "");
    near.ztunnel.record_after(0, &["src.workload=\"b\"", "http status: 401"]).await;
    assert_eq!(call(&rig.c, TO_D, "hello").await.unwrap_or_default(), "");
    far.ztunnel.record_after(0, &["allow policies exist, but none allowed"]).await;

    rig.control.policies([policy("only-a", Action::Allow, from_principal(SA_B))]);
    is_cut(&mut live).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_attached_later_reaches_live_connections_and_a_missing_one_refuses() {
    let rig = Rig::start().await;
    let [_, far] = &rig.nodes;
    let _server = serve(&rig.tasks, &rig.d, 8080, Manner::Echo);
    let mut live = connect(&rig.a, TO_D).await.expect("connected");
    ping(&mut live).await.expect("works");
    let mut selected = policy("selected", Action::Deny, to_port(8080));
    selected.scope = Scope::WorkloadSelector.into();
    rig.control.policies([selected]);
    let named = |names: &[&str]| Workload {
        authorization_policies: names.iter().map(|name| (*name).to_owned()).collect(),
        ..pod("d", "node-2", &["10.77.0.21", "fd00:77::21"])
    };
    rig.control.workloads([named(&["default/selected"])]);
    is_cut(&mut live).await;
    refused_from_now_on(&rig, TO_D).await;

    // A policy the workload names that has not arrived: nobody knows what it forbids.
    let seen = far.ztunnel.records().len();
    rig.control.workloads([named(&["default/on-its-way"])]);
    eventually("the missing policy's refusal", || async {
        assert_eq!(call(&rig.a, TO_D, "hello").await.unwrap_or_default(), "");
        let says =
            |line: &String| line.contains("default/on-its-way is attached to the destination but has not arrived");
        far.ztunnel.records().into_iter().skip(seen).find(says)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_certificate_nothing_is_sent() {
    let rig = Rig::start().await;
    let [near, far] = &rig.nodes;
    let mut server = serve(&rig.tasks, &rig.d, 8080, Manner::Echo);
    assert_eq!(call(&rig.b, TO_D, "hello").await.expect("answered"), "hello");
    server.next_peer().await;
    rig.control.ca.refuse(true);
    // a gets a new identity, for which there is no certificate.
    let stranger = Workload { trust_domain: "other.domain".into(), ..pod("a", "node-1", &["10.77.0.11"]) };
    rig.control.workloads([stranger]);
    eventually("the refusal", || async {
        let _either = call(&rig.a, TO_D, "hello").await;
        let refused = |line: &String| line.contains("\"outbound\"") && line.contains("no certificate");
        near.ztunnel.records().into_iter().find(refused)
    })
    .await;
    assert!(near.ztunnel.metric("istio_tcp_connections_failed_total", &["IDENTITY_ERROR"]).await >= 1.0);
    while server.peers.try_recv().is_ok() {}
    let seen = far.ztunnel.records().len();
    assert_eq!(call(&rig.a, TO_D, "hello").await.unwrap_or_default(), "");
    is_reset(&rig.a, TO_D).await;
    assert!(server.peers.try_recv().is_err(), "nothing reaches the server");
    assert_eq!(far.ztunnel.records().len(), seen, "nor its node");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_read_is_refused_and_never_reached_in_plain() {
    let rig = Rig::start().await;
    let [near, far] = &rig.nodes;
    let mut server = serve(&rig.tasks, &rig.c, 8080, Manner::Echo);
    const TO_C: &str = "10.77.0.13:8080";
    assert_eq!(call(&rig.a, TO_C, "hello").await.expect("answered"), "hello", "c is known, and plain");
    server.next_peer().await;
    let mut live = connect(&rig.a, TO_C).await.expect("connected");
    ping(&mut live).await.expect("works");
    // The plain workload goes, and something at its address comes that no ztunnel can read.
    rig.control.workloads([Workload { tunnel_protocol: 9, ..pod("e", "node-1", &["10.77.0.13"]) }]);
    rig.control.remove(type_url::ADDRESS, "Kubernetes//Pod/default/c");
    let unusable = || async { (near.ztunnel.metric("istio_xds_unusable", &[]).await >= 1.0).then_some(()) };
    eventually("the stand-in", unusable).await;
    refused_from_now_on(&rig, TO_C).await;
    is_reset(&rig.a, TO_C).await;
    is_cut(&mut live).await;
    near.ztunnel.record_after(0, &["\"outbound\"", "connection closed: its destination belongs to"]).await;
    near.ztunnel.record_after(0, &["\"outbound\"", "belongs to Kubernetes//Pod/default/e, which cannot be used"]).await;
    assert!(near.ztunnel.metric("istio_outbound_refused", &["reason=\"unusable\""]).await >= 1.0);
    while server.peers.try_recv().is_ok() {}
    assert_eq!(call(&rig.a, TO_C, "hello").await.unwrap_or_default(), "");
    assert!(server.peers.try_recv().is_err(), "nothing reaches the server");

    // The same for a service: its virtual address is not passed through.
    let broken = lateen_wire::workload::Service {
        ip_families: 9,
        ..service("bad.default.svc.cluster.local", &["10.96.0.66"], &[(80, 8080)])
    };
    rig.control.services([broken]);
    for node in [near, far] {
        let unusable = || async { (node.ztunnel.metric("istio_xds_unusable", &[]).await >= 2.0).then_some(()) };
        eventually("the service's stand-in", unusable).await;
    }
    assert_eq!(call(&rig.a, "10.96.0.66:80", "hello").await.unwrap_or_default(), "");
    near.ztunnel.record_after(0, &["belongs to default/bad.default.svc.cluster.local, which cannot be used"]).await;

    // A good version ends it.
    rig.control.workloads([plain(pod("e", "node-1", &["10.77.0.13"]))]);
    eventually("the way is free again", || async {
        (call(&rig.a, TO_C, "hello").await.unwrap_or_default() == "hello").then_some(())
    })
    .await;

    // The other node has to hear of it as well, or what it counts below could be what was unusable before.
    eventually("the other node's count", || async {
        (far.ztunnel.metric("istio_xds_unusable", &[]).await == 1.0).then_some(())
    })
    .await;

    // A pod of this node that cannot be read: nobody reaches it.
    let _server = serve(&rig.tasks, &rig.d, 8080, Manner::Echo);
    rig.control.remove(type_url::ADDRESS, "Kubernetes//Pod/default/d");
    // Told together, the last good version would stay in force; so the removal has to arrive first.
    eventually("the pod is forgotten", || async {
        call(&rig.c, TO_D, "hello").await.unwrap_or_default().is_empty().then_some(())
    })
    .await;
    rig.control.workloads([Workload { tunnel_protocol: 9, ..pod("d", "node-2", &["10.77.0.21"]) }]);
    eventually("the pod's stand-in", || async {
        (far.ztunnel.metric("istio_xds_unusable", &[]).await >= 2.0).then_some(())
    })
    .await;
    let before = far.ztunnel.records().len();
    assert_eq!(call(&rig.c, TO_D, "hello").await.unwrap_or_default(), "");
    far.ztunnel
        .record_after(before, &["direction=\"inbound\"", "failed to fetch information about local workload"])
        .await;
}
