//! What one version of HTTP says in the words of the other.

use lateen_waypoint::book::Protocol;
use lateen_wire::proxy;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{
    endpoints::{Endpoint, raw},
    frames::{DATA, END_HEADERS, END_STREAM, HEADERS, Peer, block, frame, status},
    rig::{Rig, Service, soon},
};

/// An endpoint that agrees to a WebSocket, speaks first and repeats four bytes.
async fn socket(rig: &Rig) -> Endpoint {
    raw(rig, |mut stream| async move {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.expect("the head"));
        }
        let head = String::from_utf8(head).expect("text");
        assert!(head.starts_with("GET /ws HTTP/1.1\r\n") && head.contains("upgrade: websocket\r\n"), "{head}");
        // RFC 6455 wants one, and RFC 8441 has none.
        assert!(head.contains("sec-websocket-key: ") && head.contains("connection: Upgrade\r\n"), "{head}");
        let agreed = b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n\
                       sec-websocket-accept: xyz\r\n\r\nfirst";
        stream.write_all(agreed).await.expect("write");
        let mut bytes = [0; 4];
        stream.read_exact(&mut bytes).await.expect("the client's bytes");
        stream.write_all(&bytes).await.expect("write");
    })
    .await
}

/// RFC 8441.
#[tokio::test]
async fn a_websocket_of_http2_reaches_a_server_of_http1() {
    let rig = Rig::serving(Service::default(), &[]);
    let socket = socket(&rig).await;
    rig.endpoints(&[socket.addr]);
    let mut peer = Peer::begin(&rig).await;
    let asks = [
        (":method", "CONNECT"),
        (":protocol", "websocket"),
        (":scheme", "http"),
        (":authority", "a"),
        (":path", "/ws"),
        ("sec-websocket-version", "13"),
    ];
    peer.send(&frame(HEADERS, END_HEADERS, 1, &block(&asks))).await;
    peer.send(&frame(DATA, END_STREAM, 1, b"ping")).await;
    let (mut agreed, mut heard) = (None, Vec::new());
    while let Some((kind, flags, payload)) = peer.next().await {
        match kind {
            HEADERS => agreed = Some(status(&payload)),
            DATA => heard.extend(payload),
            _ => continue,
        }
        if flags & END_STREAM != 0 {
            break;
        }
    }
    assert_eq!((agreed.as_deref(), &heard[..]), (Some("200"), &b"firstping"[..]));
}

/// What names look like on the wire.
async fn names(options: proxy::Options) -> String {
    let rig = Rig::serving(Service { options, ..Service::default() }, &[]);
    let listens = raw(&rig, |mut stream| async move {
        let mut head = vec![0; 4096];
        let length = stream.read(&mut head).await.expect("the head");
        let text = String::from_utf8_lossy(&head[..length]).into_owned();
        let answer = format!("HTTP/1.1 200 OK\r\nX-Answer: 1\r\ncontent-length: {}\r\n\r\n{text}", text.len());
        stream.write_all(answer.as_bytes()).await.expect("write");
    })
    .await;
    rig.endpoints(&[listens.addr]);
    let mut client = rig.connect(Protocol::Http).await;
    let asks = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nX-CamelCase: 1\r\n\r\n";
    client.write_all(asks).await.expect("write");
    let mut answer = String::new();
    soon("the answer", client.read_to_string(&mut answer)).await.expect("an answer");
    answer
}

#[tokio::test]
async fn names_of_headers_keep_their_case_where_that_is_asked_for() {
    let usual = names(proxy::Options::default()).await;
    assert!(usual.contains("\r\nx-camelcase: 1\r\n") && usual.contains("\r\nx-answer: 1\r\n"), "{usual}");
    let kept = names(proxy::Options { preserve_header_case: true, ..Default::default() }).await;
    assert!(kept.contains("\r\nX-CamelCase: 1\r\n") && kept.contains("\r\nX-Answer: 1\r\n"), "{kept}");
}
