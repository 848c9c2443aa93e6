//! Beginnings and ends: drains, restarts, a control plane or an agent that is gone, nothing known at all.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use futures::future::join_all;
use lateen_net::netns::Netns;
use lateen_tests::harness::{
    eventually,
    resources::pod,
    rig::Rig,
    traffic::{Manner, call, connect, ping, serve},
};
use lateen_wire::type_url;

const TO_D: &str = "10.77.0.21:8080";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_waits_for_connections_and_takes_no_new_ones() {
    let mut rig = Rig::start().await;
    let _server = serve(&rig.tasks, &rig.d, 8080, Manner::Echo);
    let mut live = connect(&rig.a, TO_D).await.expect("connected");
    ping(&mut live).await.expect("works");
    rig.nodes[0].ztunnel.terminate();
    eventually("new connections fail", || async {
        call(&rig.a, TO_D, "hello").await.unwrap_or_default().is_empty().then_some(())
    })
    .await;
    for _ in 0..10 {
        ping(&mut live).await.expect("an open connection goes on while draining");
    }
    drop(live);
    assert!(rig.nodes[0].ztunnel.ended().await, "it ends in good order once its last connection has");
}

/// The grace is far longer than the test waits: what ends the drain is that nobody needs the proxies any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_ends_at_once_when_only_idle_tunnels_are_left() {
    for draining in 0..2 {
        let mut rig = Rig::start_with(&[("CONNECTION_TERMINATION_DEADLINE", "600s")]).await;
        for node in &rig.nodes {
            node.settle().await;
        }
        let _server = serve(&rig.tasks, &rig.d, 8080, Manner::Echo);
        assert_eq!(call(&rig.a, TO_D, "hello").await.expect("answered"), "hello");
        rig.nodes[draining].ztunnel.terminate();
        assert!(rig.nodes[draining].ztunnel.ended().await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_ends_in_time_and_says_what_it_cut() {
    let mut rig = Rig::start_with(&[("CONNECTION_TERMINATION_DEADLINE", "1s")]).await;
    rig.nodes[0].settle().await;
    rig.nodes[1].settle().await;
    let _server = serve(&rig.tasks, &rig.d, 8080, Manner::Echo);
    let mut live = connect(&rig.a, TO_D).await.expect("connected");
    ping(&mut live).await.expect("works");
    rig.nodes[0].ztunnel.terminate();
    assert!(rig.nodes[0].ztunnel.ended().await);
    rig.nodes[0].ztunnel.record_after(0, &["connection closed due to connection drain"]).await;
    assert!(ping(&mut live).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_ztunnel_takes_over_from_an_old_one() {
    let mut rig = Rig::start().await;
    let _server = serve(&rig.tasks, &rig.d, 8080, Manner::Echo);
    let mut live = connect(&rig.a, TO_D).await.expect("connected");
    ping(&mut live).await.expect("works");
    let mut retired = Vec::new();
    // Either end of the calls changes hands in its turn, while several callers call without a pause.
    for node in 0..2 {
        let old = rig.nodes[node].replace_ztunnel().await;
        rig.nodes[node].settle().await;
        let served = AtomicUsize::new(0);
        let calling = join_all((0..CALLERS).map(|_| calls(&rig.a, &served)));
        let ending = async {
            eventually("calls before", || async { (served.load(Ordering::SeqCst) > CALLERS).then_some(()) }).await;
            old.terminate();
        };
        let (lost, ()) = tokio::join!(calling, ending);
        assert_eq!(lost.concat(), Vec::<String>::new(), "calls lost while node {node} changed hands");
        ping(&mut live).await.expect("the old connection goes on");
        retired.push(old);
    }
    drop(live);
    for mut old in retired {
        assert!(old.ended().await);
    }
    assert_eq!(call(&rig.a, TO_D, "hello").await.expect("answered"), "hello");
}

const CALLERS: usize = 8;
/// All of them stay below what the server can note of its clients.
const CALLS_EACH: usize = 50;

/// What went wrong first in so many calls, one after another.
async fn calls(from: &Netns, served: &AtomicUsize) -> Vec<String> {
    let mut lost = Vec::new();
    for turn in 0..CALLS_EACH {
        match call(from, TO_D, "hello").await {
            Ok(answer) if answer == "hello" => _ = served.fetch_add(1, Ordering::SeqCst),
            other => {
                lost.push(format!("call {turn}: {other:?}"));
                break;
            }
        }
    }
    lost
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_control_plane_everything_known_goes_on() {
    let mut rig = Rig::start().await;
    let _server = serve(&rig.tasks, &rig.d, 8080, Manner::Echo);
    let mut live = connect(&rig.a, TO_D).await.expect("connected");
    ping(&mut live).await.expect("works");
    let control = rig.control.clone();
    for node in &mut rig.nodes {
        node.lose_control();
    }
    ping(&mut live).await.expect("goes on");
    assert_eq!(call(&rig.a, TO_D, "hello").await.expect("answered"), "hello");
    // While it is away d leaves the picture; the proxies learn of it after it is back.
    control.remove(type_url::ADDRESS, "Kubernetes//Pod/default/d");
    control.workloads([pod("new", "node-2", &["10.77.0.99"])]);
    for node in &mut rig.nodes {
        node.regain_control(&control);
    }
    let seen = rig.nodes[0].ztunnel.records().len();
    eventually("the change is known", || async {
        let _either = call(&rig.a, TO_D, "hello").await;
        let plain = |line: &String| line.contains("dst.addr=10.77.0.21:8080") && line.contains("outbound");
        rig.nodes[0].ztunnel.records().into_iter().skip(seen).find(plain)
    })
    .await;
    ping(&mut live).await.expect("the live connection has survived all of it");
}

/// Nobody has called anybody: certificates wait for the first call, and go with the last pod of their identity.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_come_with_a_pod_and_go_with_the_last() {
    let rig = Rig::start().await;
    let ztunnel = &rig.nodes[0].ztunnel;
    let holds = async |name: &str| {
        let dump = ztunnel.get(15000, "/config_dump").await;
        let certificates = dump.split("\"certificates\"").nth(1).expect("certificates");
        certificates.contains(&format!("spiffe://cluster.local/ns/default/sa/{name}\""))
    };
    for name in ["a", "b"] {
        eventually("the certificate", || async { holds(name).await.then_some(()) }).await;
    }
    assert!(!holds("d").await, "a pod of another node");
    rig.control.remove(type_url::ADDRESS, "Kubernetes//Pod/default/a");
    eventually("the certificate is forgotten", || async { (!holds("a").await).then_some(()) }).await;
    assert!(holds("b").await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_agent_changes_nothing_and_a_deleted_pod_is_cut() {
    let mut rig = Rig::start().await;
    let _server = serve(&rig.tasks, &rig.d, 8080, Manner::Echo);
    let mut live = connect(&rig.a, TO_D).await.expect("connected");
    ping(&mut live).await.expect("works");
    rig.nodes[0].agent.hang_up();
    rig.nodes[0].agent.accept().await;
    eventually("not ready", || async { (!rig.nodes[0].ztunnel.is_ready().await).then_some(()) }).await;
    ping(&mut live).await.expect("goes on");
    assert_eq!(rig.nodes[0].agent.keep("a").await, "");
    assert_eq!(rig.nodes[0].agent.snapshot_sent().await, "");
    rig.nodes[0].settle().await;
    ping(&mut live).await.expect("kept");
    // b was not named again; a is deleted.
    assert_eq!(rig.nodes[0].agent.del("a").await, "");
    assert!(ping(&mut live).await.is_err(), "a deleted pod's connections are cut");
    rig.nodes[0].ztunnel.record_after(0, &["connection closed due to connection drain"]).await;
    for pod in [&rig.a, &rig.b] {
        assert_eq!(call(pod, TO_D, "hello").await.unwrap_or_default(), "", "redirected to nobody: refused");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_enrolled_pod_that_nobody_describes_is_refused_not_passed_in_plain() {
    let rig = Rig::start().await;
    let mut server = serve(&rig.tasks, &rig.c, 8080, Manner::Echo);
    for name in ["a", "b"] {
        rig.control.remove(type_url::ADDRESS, &format!("Kubernetes//Pod/default/{name}"));
    }
    eventually("the pods are forgotten", || async {
        let begun = tokio::time::Instant::now();
        let answer = call(&rig.a, "10.77.0.13:8080", "secret").await.unwrap_or_default();
        // The wait for the workload is 5 s; a call that takes that long met a world without it.
        (answer.is_empty() && begun.elapsed() >= Duration::from_secs(4)).then_some(())
    })
    .await;
    while server.peers.try_recv().is_ok() {}
    assert_eq!(call(&rig.a, "10.77.0.13:8080", "secret").await.unwrap_or_default(), "");
    assert!(server.peers.try_recv().is_err(), "nothing reached the plain server");
    rig.nodes[0].ztunnel.record_after(0, &["failed to fetch information about local workload", "\twarn\t"]).await;
}
