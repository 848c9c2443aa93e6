//! Connections of clients on which nothing happens for a while.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use lateen_net::splice::Io;
use lateen_waypoint::{
    arrival::{Arrival, Target},
    http::{detect::Spoken, serve},
    rewound::Rewound,
};
use lateen_wire::proxy;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream, ReadBuf};

use super::rig::{HOST, PORT, Rig, Service, caller};

/// Longer than a connection may be quiet before only its stream is kept.
const QUIET: Duration = Duration::from_secs(20);
const REQUEST: &str = "GET /x HTTP/1.1\r\nhost: a\r\n\r\n";

/// A stream that remembers how much room its reader had at last.
struct Looked {
    stream: DuplexStream,
    room: Arc<AtomicUsize>,
}

impl AsyncRead for Looked {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.room.store(into.remaining(), Ordering::SeqCst);
        Pin::new(&mut self.stream).poll_read(context, into)
    }
}

impl AsyncWrite for Looked {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// A proxy that answers everything itself, a client's end of a connection to it, and the room its reader has. Nothing of it
/// leaves this process, so that time may stand still.
fn connected(room: usize) -> (Rig, DuplexStream, Arc<AtomicUsize>) {
    let direct = proxy::DirectResponse { status: 200, body: b"hello".to_vec() };
    let action = Some(proxy::http_route::Action::Direct(direct));
    let routes = vec![proxy::HttpRoute { action, ..proxy::HttpRoute::default() }];
    let rig = Rig::serving(Service { routes, ..Service::default() }, &[]);
    let addr = "127.0.0.1:1".parse().expect("an address");
    let caller = caller(None, addr, addr);
    let key = format!("shop/{HOST}").parse().expect("a key");
    let arrival = Arrival { caller: Arc::new(caller), target: Target::Service { key, port: PORT, dialled: None } };
    let (client, stream) = tokio::io::duplex(room);
    let seen = Arc::new(AtomicUsize::new(0));
    let stream = Rewound::new(Io(Looked { stream, room: seen.clone() }));
    rig.tasks.spawn("served", serve::run(rig.lane.clone(), arrival, stream, Spoken::Http1));
    (rig, client, seen)
}

/// Reads one whole answer.
async fn answer(client: &mut DuplexStream) -> String {
    let mut text = Vec::new();
    while !text.ends_with(b"hello") {
        let mut chunk = [0; 256];
        let length = client.read(&mut chunk).await.expect("open");
        assert!(length > 0, "closed after {:?}", String::from_utf8_lossy(&text));
        text.extend_from_slice(&chunk[..length]);
    }
    String::from_utf8(text).expect("text")
}

#[tokio::test(start_paused = true)]
async fn a_quiet_connection_keeps_its_stream_alone_and_goes_on() {
    let (_rig, mut client, room) = connected(4096);
    for _ in 0..3 {
        client.write_all(REQUEST.as_bytes()).await.expect("written");
        assert!(answer(&mut client).await.starts_with("HTTP/1.1 200 OK\r\n"));
        assert!(room.load(Ordering::SeqCst) > 1000, "a whole head may come");
        tokio::time::sleep(QUIET).await;
        assert_eq!(room.load(Ordering::SeqCst), 1, "nothing is kept for what may come");
    }
}

#[tokio::test(start_paused = true)]
async fn half_a_request_is_not_lost_while_it_is_quiet() {
    let (_rig, mut client, _) = connected(4096);
    for cut in [1, REQUEST.len() - 1] {
        let (one, other) = REQUEST.split_at(cut);
        client.write_all(one.as_bytes()).await.expect("written");
        tokio::time::sleep(QUIET).await;
        client.write_all(other.as_bytes()).await.expect("written");
        assert!(answer(&mut client).await.starts_with("HTTP/1.1 200 OK\r\n"), "{cut}");
        tokio::time::sleep(QUIET).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_nobody_reads_yet_is_kept() {
    // Room for a part of the answer only.
    let (_rig, mut client, _) = connected(64);
    client.write_all(REQUEST.as_bytes()).await.expect("written");
    tokio::time::sleep(QUIET).await;
    assert!(answer(&mut client).await.starts_with("HTTP/1.1 200 OK\r\n"));
}

#[tokio::test(start_paused = true)]
async fn who_leaves_while_it_is_quiet_is_noticed() {
    let (rig, mut client, room) = connected(4096);
    let before = rig.tasks.len();
    client.write_all(REQUEST.as_bytes()).await.expect("written");
    answer(&mut client).await;
    tokio::time::sleep(QUIET).await;
    assert_eq!(room.load(Ordering::SeqCst), 1);
    drop(client);
    tokio::time::sleep(QUIET).await;
    assert_eq!(rig.tasks.len(), before - 1, "its task has ended");
}

/// Everything that comes until the other end closes.
async fn rest(client: &mut DuplexStream) -> String {
    let mut text = Vec::new();
    tokio::time::timeout(Duration::from_secs(24 * 3600), client.read_to_end(&mut text)).await.expect("an end").ok();
    String::from_utf8_lossy(&text).into_owned()
}

#[tokio::test(start_paused = true)]
async fn half_a_head_is_not_waited_for_for_ever() {
    // At the beginning, and after a request.
    for served in [false, true] {
        let (_rig, mut client, _) = connected(4096);
        if served {
            client.write_all(REQUEST.as_bytes()).await.expect("written");
            answer(&mut client).await;
            // Longer than a head may take: the time runs from its first byte.
            tokio::time::sleep(Duration::from_secs(300)).await;
        }
        client.write_all(b"GET /x HT").await.expect("written");
        let began = tokio::time::Instant::now();
        let answer = rest(&mut client).await;
        assert!(answer.starts_with("HTTP/1.1 408 Request Timeout\r\n"), "{answer}");
        assert!(
            answer.contains("\r\nserver: istio-envoy\r\n") && answer.contains("\r\nconnection: close\r\n"),
            "{answer}"
        );
        assert!((60..90).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn a_head_that_drips_has_no_more_time() {
    let (_rig, client, _) = connected(4096);
    let (mut from, mut to) = tokio::io::split(client);
    let dripping = async {
        for byte in format!("GET /{} HTTP/1.1", "x".repeat(100)).bytes() {
            if to.write_all(&[byte]).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_secs(2)).await;
        }
    };
    let mut answer = Vec::new();
    let (_, read) = tokio::join!(dripping, from.read_to_end(&mut answer));
    read.expect("in good order");
    assert!(answer.starts_with(b"HTTP/1.1 408 "), "{}", String::from_utf8_lossy(&answer));
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_nobody_reads_is_not_kept_for_ever() {
    let (rig, mut client, _) = connected(64);
    let before = rig.tasks.len();
    client.write_all(REQUEST.as_bytes()).await.expect("written");
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(rig.tasks.len(), before - 1, "its task has ended");
}

#[tokio::test(start_paused = true)]
async fn a_connection_without_requests_ends_after_an_hour() {
    let (_rig, mut client, _) = connected(4096);
    client.write_all(REQUEST.as_bytes()).await.expect("written");
    answer(&mut client).await;
    let began = tokio::time::Instant::now();
    assert_eq!(rest(&mut client).await, "", "it is closed without a word");
    assert_eq!(began.elapsed().as_secs() / 60, 60, "{:?}", began.elapsed());
}
