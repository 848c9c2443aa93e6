//! What endpoints say, and how much of it is believed (§2, §3).

use std::convert::Infallible;

use bytes::Bytes;
use http_body_util::StreamBody;
use hyper::body::Frame;

use super::*;

/// One endpoint's bytes, and what comes of them.
struct Row {
    what: &'static str,
    asks: &'static [u8],
    says: &'static [u8],
    closes: bool,
    begins: &'static str,
    ends: &'static str,
}

const GET: &[u8] = b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
const HEAD: &[u8] = b"HEAD / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
const WITH_TRAILERS: &[u8] = b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\nte: trailers\r\n\r\n";
const CHUNKS: &[u8] =
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n2\r\nok\r\n0\r\nx-sum: 9\r\n\r\n";

fn row(what: &'static str, says: &'static [u8], begins: &'static str, ends: &'static str) -> Row {
    Row { what, asks: GET, says, closes: true, begins, ends }
}

async fn check(rows: Vec<Row>) {
    let mut wrong = Vec::new();
    for Row { what, asks, says, closes, begins, ends } in rows {
        let rig = Rig::serving(Service::default(), &[]);
        let endpoint = saying(&rig, says, closes).await;
        rig.endpoints(&[endpoint.addr]);
        let answer = rig.exchange(asks).await;
        if !answer.starts_with(begins) || !answer.ends_with(ends) {
            wrong.push(format!("{what}: {answer}"));
        }
        until("nothing is under way", || rig.lane.active() == 0).await;
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[tokio::test]
async fn answers_without_a_body_have_none() {
    let none = "\r\n\r\n";
    check(vec![
        row("204", b"HTTP/1.1 204 No Content\r\n\r\n", "HTTP/1.1 204 ", none),
        row("304", b"HTTP/1.1 304 Not Modified\r\ncontent-length: 9\r\n\r\n", "HTTP/1.1 304 ", none),
        Row { asks: HEAD, ..row("HEAD", b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n", "HTTP/1.1 200 ", none) },
        row(
            "an interim answer before",
            b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
            "HTTP/1.1 200 ",
            "ok",
        ),
        row(
            "an early 100",
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
            "HTTP/1.1 200 ",
            "ok",
        ),
    ])
    .await;
}

#[tokio::test]
async fn bodies_have_an_end_that_can_be_told_from_a_failure() {
    check(vec![
        row(
            "until it closes",
            b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nok",
            "HTTP/1.1 200 ",
            "2\r\nok\r\n0\r\n\r\n",
        ),
        row("HTTP/1.0", b"HTTP/1.0 200 OK\r\n\r\nok", "HTTP/1.1 200 ", "2\r\nok\r\n0\r\n\r\n"),
        row("less than its length", b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nok", "HTTP/1.1 200 ", "\r\n\r\nok"),
        row(
            "chunks without their end",
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n",
            "HTTP/1.1 200 ",
            "2\r\nok\r\n",
        ),
        row(
            "a chunk that is none",
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\nzz\r\n",
            "HTTP/1.1 200 ",
            "2\r\nok\r\n",
        ),
        row("trailers for somebody who wants none", CHUNKS, "HTTP/1.1 200 ", "2\r\nok\r\n0\r\n\r\n"),
        Row { asks: WITH_TRAILERS, ..row("trailers", CHUNKS, "HTTP/1.1 200 ", "2\r\nok\r\n0\r\nx-sum: 9\r\n\r\n") },
    ])
    .await;
}

#[tokio::test]
async fn what_is_no_answer_is_a_502_and_nothing_of_it_passes() {
    let refused = |what, says| row(what, says, "HTTP/1.1 502 ", "reset reason: protocol error");
    check(vec![
        refused(
            "length and coding",
            b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        ),
        refused("two lengths", b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nok!"),
        refused("a length that is none", b"HTTP/1.1 200 OK\r\ncontent-length: -2\r\n\r\nok"),
        refused("a name that is none", b"HTTP/1.1 200 OK\r\nx a: 1\r\ncontent-length: 0\r\n\r\n"),
        refused("a folded header", b"HTTP/1.1 200 OK\r\nx-a: 1\r\n 2\r\ncontent-length: 0\r\n\r\n"),
        refused("a NUL", b"HTTP/1.1 200 OK\r\nx-a: 1\0\r\ncontent-length: 0\r\n\r\n"),
        refused("a status that is none", b"HTTP/1.1 99 What\r\ncontent-length: 0\r\n\r\n"),
        refused("another protocol", b"SSH-2.0-x\r\n\r\n"),
        refused("a version that is none", b"HTTP/3.7 200 OK\r\ncontent-length: 0\r\n\r\n"),
        refused("HTTP/2", b"\0\0\0\x04\0\0\0\0\0\0\0\x08\x06\0\0\0\0\x0012345678"),
    ])
    .await;
}

#[tokio::test]
async fn an_upgrade_that_nobody_asked_for_is_none() {
    let says =
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n\r\nHTTP/1.1 200 OK\r\n\r\n";
    let rig = Rig::serving(Service::default(), &[]);
    let endpoint = saying(&rig, says, true).await;
    rig.endpoints(&[endpoint.addr]);
    let answer = rig.exchange(GET).await;
    assert!(answer.starts_with("HTTP/1.1 50"), "{answer}");
}

#[tokio::test]
async fn heads_of_answers_have_limits() {
    for (what, head) in [
        ("too long", format!("x-a: {}\r\n", "x".repeat(70 * 1024))),
        ("too many", (0..120).map(|number| format!("x-{number}: 1\r\n")).collect()),
    ] {
        let rig = Rig::serving(Service::default(), &[]);
        let says = format!("HTTP/1.1 200 OK\r\n{head}content-length: 2\r\n\r\nok").into_bytes();
        let endpoint = raw(&rig, move |mut stream| {
            let says = says.clone();
            async move {
                super::head(&mut stream).await;
                stream.write_all(&says).await.ok();
            }
        })
        .await;
        rig.endpoints(&[endpoint.addr]);
        let answer = rig.exchange(GET).await;
        assert!(answer.starts_with("HTTP/1.1 502 ") && answer.ends_with("protocol error"), "{what}: {answer}");
    }
}

/// What comes after an answer is no answer to the next request.
#[tokio::test]
async fn bytes_that_nobody_asked_for_end_their_connection() {
    let rig = Rig::serving(Service::default(), &[]);
    let says = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\npoison";
    let endpoint = saying(&rig, says, false).await;
    rig.endpoints(&[endpoint.addr]);
    for round in 1..=3 {
        let answer = rig.exchange(GET).await;
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("\r\n\r\nok"), "{answer}");
        assert_eq!(endpoint.connections(), round, "each has a connection of its own");
    }
}

/// Trailers of HTTP/2's answers reach clients of both versions.
#[tokio::test]
async fn trailers_of_answers_pass() {
    let clusters = vec![cluster(proxy::Protocol::Http2, proxy::TrafficPolicy::default())];
    let rig = Rig::serving(Service { clusters, ..Service::default() }, &[]);
    let answer = |_| async {
        let trailers = http::HeaderMap::from_iter([("x-sum".parse().expect("a name"), "9".parse().expect("a value"))]);
        let frames = [Frame::data(Bytes::from("ok")), Frame::trailers(trailers)].map(Ok::<_, Infallible>);
        let mut response = hyper::Response::new(StreamBody::new(futures::stream::iter(frames)));
        // HTTP/1 wants their names first.
        response.headers_mut().insert("trailer", http::HeaderValue::from_static("x-sum"));
        response
    };
    let endpoint = raw(&rig, move |stream| http(stream, answer)).await;
    rig.endpoints(&[endpoint.addr]);
    let one = rig.exchange(WITH_TRAILERS).await;
    assert!(one.ends_with("2\r\nok\r\n0\r\nx-sum: 9\r\n\r\n"), "{one}");
    let one = rig.exchange(GET).await;
    assert!(one.ends_with("2\r\nok\r\n0\r\n\r\n"), "who does not know trailers gets none: {one}");
    let mut peer = Peer::begin(&rig).await;
    peer.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &block(&[&LINE[..], &[("te", "trailers")]].concat()))).await;
    let mut kinds = Vec::new();
    while let Some((kind, flags, _)) = peer.next().await {
        if matches!(kind, DATA | HEADERS) {
            kinds.push(kind);
        }
        if flags & END_STREAM != 0 && kind == HEADERS {
            break;
        }
    }
    assert_eq!(kinds, [HEADERS, DATA, HEADERS]);
}
