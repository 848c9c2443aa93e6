//! How connections of clients end: what follows an answer that came early is no request, and who has to begin anew is told.

use std::time::Duration;

use lateen_waypoint::book::Protocol;
use lateen_wire::proxy;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::mpsc,
};

use super::{
    endpoints::{Endpoint, raw},
    frames::{END_HEADERS, END_STREAM, HEADERS, RST_STREAM, SETTINGS, frame},
    rig::{Rig, Service, cluster, soon},
};

/// What must not be read as a request.
const HIDDEN: &[u8] = b"GET /hidden HTTP/1.1\r\nhost: a\r\n\r\n";

/// An endpoint of HTTP/2 that answers each request at once and whole, whatever is still to come of it. The kinds of the frames
/// that it hears are told, with their streams.
async fn hasty(rig: &Rig, settings: &'static [u8]) -> (Endpoint, mpsc::Receiver<(u8, u32)>) {
    let (tell, told) = mpsc::channel(64);
    let endpoint = raw(rig, move |mut stream| {
        let tell = tell.clone();
        async move {
            stream.read_exact(&mut [0; 24]).await.expect("the preface");
            stream.write_all(&frame(SETTINGS, 0, 0, settings)).await.expect("write");
            let mut head = [0; 9];
            while stream.read_exact(&mut head).await.is_ok() {
                let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
                stream.read_exact(&mut vec![0; length]).await.expect("a whole frame");
                let on = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
                if head[3] == HEADERS {
                    // 200, of the static table.
                    stream.write_all(&frame(HEADERS, END_HEADERS | END_STREAM, on, &[0x88])).await.expect("write");
                }
                tell.send((head[3], on)).await.ok();
            }
        }
    })
    .await;
    (endpoint, told)
}

async fn rig() -> Rig {
    let clusters = vec![cluster(proxy::Protocol::Http2, proxy::TrafficPolicy::default())];
    Rig::serving(Service { clusters, ..Service::default() }, &[])
}

/// A client that has its answer, and has sent some of the body that it promised.
async fn answered_early(rig: &Rig) -> TcpStream {
    let mut client = rig.connect(Protocol::Http).await;
    let head = format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n", 4 + HIDDEN.len());
    client.write_all(head.as_bytes()).await.expect("write");
    client.write_all(b"some").await.expect("write");
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(soon("the answer", client.read_u8()).await.expect("an answer"));
    }
    assert!(answer.starts_with(b"HTTP/1.1 200 OK\r\n"), "{}", String::from_utf8_lossy(&answer));
    client
}

#[tokio::test]
async fn an_early_answer_ends_the_endpoints_stream_and_the_clients_connection() {
    let rig = rig().await;
    let (endpoint, mut told) = hasty(&rig, &[]).await;
    rig.endpoints(&[endpoint.addr]);
    let mut client = answered_early(&rig).await;
    let mut rest = Vec::new();
    soon("the end", client.read_to_end(&mut rest)).await.ok();
    assert!(rest.is_empty(), "{}", String::from_utf8_lossy(&rest));
    let hearing = async {
        loop {
            match told.recv().await.expect("the endpoint goes on") {
                (RST_STREAM, 1) => return,
                (HEADERS, on) => assert_eq!(on, 1, "there was one request"),
                _ => {}
            }
        }
    };
    soon("the endpoint hears that no more comes", hearing).await;
}

/// The endpoint takes nothing of the body, so nobody asks for more of it: the connection waits in the middle of a body.
#[tokio::test]
async fn a_pause_within_a_body_makes_no_request_of_what_follows() {
    let rig = rig().await;
    // SETTINGS_INITIAL_WINDOW_SIZE: nothing.
    let (endpoint, mut told) = hasty(&rig, &[0, 4, 0, 0, 0, 0]).await;
    rig.endpoints(&[endpoint.addr]);
    let mut client = answered_early(&rig).await;
    tokio::time::pause();
    // Longer than it takes to put a quiet connection aside.
    tokio::time::sleep(Duration::from_secs(20)).await;
    client.write_all(HIDDEN).await.expect("write");
    let mut rest = Vec::new();
    let end = tokio::time::timeout(Duration::from_secs(3 * 3600), client.read_to_end(&mut rest)).await;
    assert!(rest.is_empty(), "{}", String::from_utf8_lossy(&rest));
    assert!(end.is_ok(), "it does not wait for ever");
    while let Ok((kind, on)) = told.try_recv() {
        assert!(kind != HEADERS || on == 1, "there was one request");
    }
}

#[tokio::test]
async fn a_websocket_comes_about_while_the_waypoint_is_leaving() {
    let rig = Rig::serving(Service::default(), &[]);
    let server = raw(&rig, |mut stream| async move {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.expect("the head"));
        }
        let agreed = b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n\r\nfirst";
        stream.write_all(agreed).await.expect("write");
    })
    .await;
    rig.endpoints(&[server.addr]);
    rig.shared.leaving.store(true, std::sync::atomic::Ordering::Relaxed);
    let asks = b"GET /ws HTTP/1.1\r\nhost: a\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n";
    let answer = rig.exchange(asks).await;
    assert!(answer.starts_with("HTTP/1.1 101 ") && answer.ends_with("\r\n\r\nfirst"), "{answer}");
    assert!(answer.contains("\r\nconnection: Upgrade\r\n"), "{answer}");
}
