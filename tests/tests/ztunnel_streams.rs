//! Bytes and ends: what an application sees must be what it would see without us.

use std::time::Duration;

use lateen_net::netns::Netns;
use lateen_tests::harness::{
    eventually,
    rig::{Rig, SameNode},
    traffic::{self, BEFORE_RESET, Manner, call, connect, ping, serve},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

/// Through a tunnel to another node, to a pod of the same node, in plain to a pod outside the mesh, in plain from one.
async fn ways(rig: &Rig, port: u16) -> Vec<(&'static str, TcpStream)> {
    let mut ways = Vec::new();
    for (name, from, to) in [
        ("tunnel", &rig.a, "10.77.0.21"),
        ("same node", &rig.a, "10.77.0.12"),
        ("same node by IPv6", &rig.a, "[fd00:77::12]"),
        ("passthrough", &rig.a, "10.77.0.13"),
        ("plain in", &rig.c, "10.77.0.12"),
    ] {
        ways.push((name, connect(from, &format!("{to}:{port}")).await.expect("connected")));
    }
    ways
}

fn serve_everywhere(rig: &Rig, port: u16, manner: Manner) -> Vec<traffic::Server> {
    [&rig.b, &rig.c, &rig.d].map(|pod| serve(&rig.tasks, pod, port, manner)).into()
}

const SOON: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_server_may_speak_first() {
    for same_node in SameNode::BOTH {
        the_server_may_speak_first_in(same_node).await;
    }
}

async fn the_server_may_speak_first_in(same_node: SameNode) {
    let rig = Rig::start_in(same_node).await;
    let _servers = serve_everywhere(&rig, 8080, Manner::ServerFirst);
    for (way, mut stream) in ways(&rig, 8080).await {
        let mut greeting = [0; 21];
        timeout(SOON, stream.read_exact(&mut greeting)).await.expect(way).expect(way);
        assert_eq!(&greeting, b"hello from the server", "{way}");
        ping(&mut stream).await.expect(way);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn either_side_may_close_its_half() {
    for same_node in SameNode::BOTH {
        either_side_may_close_its_half_in(same_node).await;
    }
}

async fn either_side_may_close_its_half_in(same_node: SameNode) {
    let rig = Rig::start_in(same_node).await;
    let _servers = serve_everywhere(&rig, 8080, Manner::Count);
    for (way, mut stream) in ways(&rig, 8080).await {
        // The client ends first; the answer comes after that.
        stream.write_all(&[7; 1000]).await.expect(way);
        stream.shutdown().await.expect(way);
        let mut answer = String::new();
        timeout(SOON, stream.read_to_string(&mut answer)).await.expect(way).expect(way);
        assert_eq!(answer, "1000", "{way}");
    }
    for (pod, to) in [(&rig.d, "10.77.0.21:9090"), (&rig.b, "10.77.0.12:9090")] {
        the_server_closes_first(&rig, pod, to).await;
    }
}

/// The server ends first; the client goes on sending.
async fn the_server_closes_first(rig: &Rig, pod: &Netns, to: &str) {
    let listener = traffic::listener(pod, 9090);
    let mut client = connect(&rig.a, to).await.expect("connected");
    let (mut server, _) = timeout(SOON, listener.accept()).await.expect("in time").expect("accepted");
    server.write_all(b"bye").await.expect("sent");
    server.shutdown().await.expect("half closed");
    let mut farewell = String::new();
    timeout(SOON, client.read_to_string(&mut farewell)).await.expect("in time").expect("read");
    assert_eq!(farewell, "bye");
    client.write_all(b"still here").await.expect("sent");
    client.shutdown().await.expect("closed");
    let mut rest = String::new();
    timeout(SOON, server.read_to_string(&mut rest)).await.expect("in time").expect("read");
    assert_eq!(rest, "still here");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reset_ends_the_other_side_too() {
    for same_node in SameNode::BOTH {
        a_reset_ends_the_other_side_too_in(same_node).await;
    }
}

async fn a_reset_ends_the_other_side_too_in(same_node: SameNode) {
    let rig = Rig::start_in(same_node).await;
    let _servers = serve_everywhere(&rig, 8080, Manner::Reset);
    for (way, mut stream) in ways(&rig, 8080).await {
        stream.write_all(b"reset me").await.expect(way);
        let mut answer = vec![0; BEFORE_RESET.len()];
        timeout(SOON, stream.read_exact(&mut answer)).await.expect(way).expect(way);
        assert_eq!(answer, BEFORE_RESET, "{way}");
        is_reset(way, &mut stream).await;
    }
    // The client vanishes: the server hears of it, also while it is sending and after the client was done.
    for (pod, to) in [(&rig.d, "10.77.0.21"), (&rig.b, "10.77.0.12"), (&rig.c, "10.77.0.13")] {
        let listener = traffic::listener(pod, 9090);
        let mut client = connect(&rig.a, &format!("{to}:9090")).await.expect("connected");
        let (mut server, _) = timeout(SOON, listener.accept()).await.expect("in time").expect("accepted");
        client.write_all(b"half").await.expect(to);
        let mut half = [0; 4];
        timeout(SOON, server.read_exact(&mut half)).await.expect(to).expect(to);
        client.set_zero_linger().expect("linger");
        drop(client);
        is_reset(to, &mut server).await;

        let mut client = connect(&rig.a, &format!("{to}:9090")).await.expect("connected");
        let (mut server, _) = timeout(SOON, listener.accept()).await.expect("in time").expect("accepted");
        client.shutdown().await.expect("half closed");
        assert_eq!(timeout(SOON, server.read(&mut half)).await.expect(to).expect(to), 0, "{to}");
        client.set_zero_linger().expect("linger");
        drop(client);
        let writing = async { while server.write_all(&[0; 1024]).await.is_ok() {} };
        timeout(SOON, writing).await.expect(to);
    }
}

/// What is heard next is a reset and not an end.
async fn is_reset(way: &str, stream: &mut TcpStream) {
    let error = timeout(SOON, stream.read(&mut [0])).await.expect(way).expect_err(way);
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{way}");
}

const TOTAL: usize = 100 * 1024 * 1024;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_megabytes_each_way_arrive_whole_and_are_counted() {
    let rig = Rig::start().await;
    let _server = serve(&rig.tasks, &rig.d, 8080, Manner::Echo);
    a_hundred_megabytes(&rig, "10.77.0.21:8080", [0, 1]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_megabytes_each_way_on_one_node() {
    for same_node in SameNode::BOTH {
        let rig = Rig::start_in(same_node).await;
        let _server = serve(&rig.tasks, &rig.b, 8080, Manner::Echo);
        a_hundred_megabytes(&rig, "10.77.0.12:8080", [0, 0]).await;
    }
}

/// There and back through an echo, checked byte by byte, and in the records and counters of both ends' nodes.
async fn a_hundred_megabytes(rig: &Rig, to: &str, [near, far]: [usize; 2]) {
    let stream = connect(&rig.a, to).await.expect("connected");
    let (mut read, mut write) = stream.into_split();
    rig.tasks.spawn("writer", async move {
        let block: Vec<u8> = (0..64 * 1024).map(|at: u32| u8::try_from(at % 251).expect("small")).collect();
        for _ in 0..TOTAL / block.len() {
            write.write_all(&block).await.expect("written");
        }
        write.shutdown().await.expect("closed");
    });
    let (mut total, mut buffer) = (0, vec![0; 64 * 1024]);
    loop {
        let got = timeout(Duration::from_secs(60), read.read(&mut buffer)).await.expect("goes on").expect("read");
        if got == 0 {
            break;
        }
        for (at, byte) in buffer[..got].iter().enumerate() {
            assert_eq!(usize::from(*byte), (total + at) % (64 * 1024) % 251, "at {}", total + at);
        }
        total += got;
    }
    assert_eq!(total, TOTAL);
    let bytes = format!("bytes_sent={TOTAL} bytes_recv={TOTAL}");
    let (near, far) = (&rig.nodes[near].ztunnel, &rig.nodes[far].ztunnel);
    near.record_after(0, &["direction=\"outbound\"", &bytes]).await;
    far.record_after(0, &["direction=\"inbound\"", &bytes]).await;
    #[allow(clippy::cast_precision_loss, reason = "well below 2^52")]
    for (ztunnel, reporter) in [(near, "reporter=\"source\""), (far, "reporter=\"destination\"")] {
        for metric in ["istio_tcp_received_bytes_total", "istio_tcp_sent_bytes_total"] {
            assert_eq!(ztunnel.metric(metric, &[reporter]).await, TOTAL as f64, "{metric} {reporter}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn single_bytes_and_many_connections_at_once() {
    let rig = Rig::start().await;
    let _servers = serve_everywhere(&rig, 8080, Manner::Echo);
    let mut stream = connect(&rig.a, "10.77.0.21:8080").await.expect("connected");
    for at in 0..500_u32 {
        let byte = [u8::try_from(at % 256).expect("small")];
        stream.write_all(&byte).await.expect("written");
        let mut back = [0];
        timeout(SOON, stream.read_exact(&mut back)).await.expect("in time").expect("read");
        assert_eq!(back, byte);
    }
    let calls = (0..200).map(|at| {
        let (from, text) = (rig.a.clone(), format!("call {at}"));
        async move { assert_eq!(call(&from, "10.77.0.21:8080", &text).await.expect("answered"), text) }
    });
    futures::future::join_all(calls).await;
    drop(stream);
    // Two hundred tunnels need three connections, not two hundred; afterwards no socket is left open.
    let [near, far] = &rig.nodes;
    eventually("all sockets closed", || async {
        (near.ztunnel.metric("istio_tcp_sockets_open", &["source"]).await == 0.0).then_some(())
    })
    .await;
    assert!(far.ztunnel.metric("istio_tcp_sockets_open", &["destination"]).await <= 4.0);
}
