//! Calls to ztunnel's own ports, from pods of the mesh and from outside: nothing but probes and metrics answers, and these
//! through the mesh as well.

use std::{io, net::SocketAddr, time::Duration};

use lateen_net::netns::Netns;
use lateen_tests::harness::{eventually, resources::pod, rig::Rig, traffic::connect};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpSocket,
};

/// What comes of a call, in the checklist's letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// Nobody listens.
    X,
    /// It connects, and no answer comes.
    R,
    /// An HTTP server says 400.
    H,
}

/// Calls with something that no server understands.
async fn call(from: &Netns, to: SocketAddr) -> Outcome {
    let socket = from.run(TcpSocket::new_v4).expect("enter").expect("a socket");
    let mut answer = Vec::new();
    let calling = async {
        let mut stream = match socket.connect(to).await {
            Ok(stream) => stream,
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => return Outcome::X,
            // Accepted, and reset before we looked.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Outcome::R,
            Err(error) => panic!("{to}: {error}"),
        };
        // It may be refused already; then there is nothing to read either.
        drop(stream.write_all(b"what is this\r\n\r\n").await);
        drop(stream.read_to_end(&mut answer).await);
        if answer.starts_with(b"HTTP/1.1 400 ") { Outcome::H } else { Outcome::R }
    };
    let outcome = tokio::time::timeout(Duration::from_secs(20), calling).await.expect("an end within 20 s");
    // A TLS alert is no answer either.
    assert!(outcome == Outcome::H || answer.len() < 16, "{to} answers {answer:?}");
    outcome
}

/// With a name of its own ztunnel takes tunnels for itself too.
async fn start() -> Rig {
    let own = [("POD_NAME", "ztunnel"), ("POD_NAMESPACE", "default"), ("SERVICE_ACCOUNT", "ztunnel")];
    let rig = Rig::start_with(&own).await;
    for node in &rig.nodes {
        node.settle().await;
    }
    rig
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_are_read_through_the_mesh() {
    let rig = start().await;
    let [near, far] = &rig.nodes;
    rig.control.workloads([pod("ztunnel", "node-1", &["10.77.0.101"])]);
    eventually("a scrape through a tunnel", || async {
        let mut stream = connect(&rig.d, "10.77.0.101:15020").await.ok()?;
        stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: ztunnel\r\nconnection: close\r\n\r\n").await.ok()?;
        let mut answer = String::new();
        tokio::time::timeout(Duration::from_secs(10), stream.read_to_string(&mut answer)).await.ok()?.ok()?;
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("istio_xds_unusable"), "{answer}");
        // Before its ztunnel has heard of the workload a call still goes in plain.
        let tunnelled = |line: &String| line.contains("dst.hbone_addr=10.77.0.101:15020");
        far.ztunnel.records().into_iter().find(tunnelled)
    })
    .await;
    let proven = "src.identity=\"spiffe://cluster.local/ns/default/sa/d\"";
    near.ztunnel.record_after(0, &["direction=\"inbound\"", proven, "dst.workload=\"ztunnel\""]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_calls_get_nowhere() {
    use Outcome::{H, R, X};
    let rig = start().await;
    let (ztunnel, pod) = ("10.77.0.101", "10.77.0.11");
    // From a pod of the mesh to ztunnel, to itself, to its loopback; from outside to ztunnel, to the pod.
    for (port, expected) in [
        (15001, [R, R, R, X, R]),
        (15006, [R, R, R, X, R]),
        (15008, [R, R, R, R, R]),
        (15080, [R, X, X, X, R]),
        (15000, [R, X, X, X, R]),
        (15020, [H, X, X, H, R]),
        (15021, [H, X, X, H, R]),
    ] {
        let calls = [(&rig.a, ztunnel), (&rig.a, pod), (&rig.a, "127.0.0.1"), (&rig.c, ztunnel), (&rig.c, pod)];
        for ((from, to), expected) in calls.into_iter().zip(expected) {
            let to = SocketAddr::new(to.parse().expect("an address"), port);
            assert_eq!(call(from, to).await, expected, "{to}");
        }
    }
}
