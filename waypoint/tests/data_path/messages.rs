//! What passes of a message and what does not.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::Response;
use lateen_waypoint::book::Protocol;
use lateen_wire::proxy;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::{
    endpoints::{echo, echoing, http, raw},
    rig::{Rig, Service, cluster, forward, soon, until, upstream},
};

/// Reads until `end` has come.
async fn read_until(stream: &mut TcpStream, end: &str) -> String {
    let mut text = Vec::new();
    let reading = async {
        while !String::from_utf8_lossy(&text).contains(end) {
            let mut chunk = [0; 4096];
            match stream.read(&mut chunk).await.expect("open") {
                0 => break,
                length => text.extend_from_slice(&chunk[..length]),
            }
        }
    };
    soon("the answer", reading).await;
    String::from_utf8_lossy(&text).into_owned()
}

#[tokio::test]
async fn hop_by_hop_headers_do_not_pass() {
    let rig = Rig::serving(Service::default(), &[]);
    let echo = echoing(&rig).await;
    rig.endpoints(&[echo.addr]);
    let answer = rig
        .exchange(
            b"GET /x HTTP/1.1\r\nHost: a.example\r\nConnection: close, X-Mine\r\nX-Mine: 1\r\nKeep-Alive: 5\r\n\
              Proxy-Connection: x\r\nTE: gzip\r\nUpgrade: h2c\r\nHTTP2-Settings: AAA\r\nX-Other: 2\r\n\r\n",
        )
        .await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.contains("host: a.example\n") && answer.contains("x-other: 2\n"), "{answer}");
    for gone in ["x-mine", "keep-alive", "proxy-connection", "te:", "upgrade:", "http2-settings"] {
        assert!(!answer.contains(&format!("\n{gone}")), "{gone} in {answer}");
    }
    assert!(answer.contains("\r\nserver: istio-envoy\r\n"), "{answer}");
    assert!(answer.contains("\r\nx-envoy-upstream-service-time: "), "{answer}");
}

#[tokio::test]
async fn connections_to_endpoints_are_used_again() {
    let rig = Rig::serving(Service::default(), &[]);
    let echo = echoing(&rig).await;
    rig.endpoints(&[echo.addr]);
    let mut client = rig.connect(Protocol::Http).await;
    for number in 0..10 {
        let request = format!("POST /{number} HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhello");
        client.write_all(request.as_bytes()).await.expect("write");
        let answer = read_until(&mut client, "\n\nhello").await;
        assert!(answer.contains(&format!("POST /{number}\n")), "{answer}");
    }
    assert_eq!(echo.connections(), 1);
}

#[tokio::test]
async fn an_absent_route_and_a_missing_endpoint_are_answered_as_the_reference_does() {
    let only = proxy::HttpMatch {
        path: Some(proxy::PathMatch {
            kind: Some(proxy::path_match::Kind::Exact("/there".into())),
            ..Default::default()
        }),
        ..Default::default()
    };
    let route = proxy::HttpRoute { r#match: Some(only), ..forward(proxy::Forward::default()) };
    let rig = Rig::serving(Service { routes: vec![route], ..Service::default() }, &[]);
    let answer = rig.exchange(b"GET /here HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 404 Not Found\r\n") && answer.ends_with("\r\n\r\n"), "{answer}");
    let answer = rig.exchange(b"GET /there HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{answer}");
    assert!(answer.ends_with("\r\n\r\nno healthy upstream"), "{answer}");
    let answer = rig
        .exchange(b"POST /there HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-type: application/grpc\r\n\r\n")
        .await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.contains("\r\ngrpc-status: 14\r\n"), "{answer}");
    assert!(answer.contains("\r\ngrpc-message: no healthy upstream\r\n"), "{answer}");
}

#[tokio::test]
async fn a_refused_connection_is_a_503_and_is_tried_elsewhere_where_the_route_says_so() {
    let retry = proxy::Retry {
        attempts: 2,
        on: Some(proxy::RetryOn { connect_failure: true, ..Default::default() }),
        avoid_previous: true,
        ..Default::default()
    };
    let gone = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bind").local_addr().expect("bound");
    let rig = Rig::serving(Service::default(), &[gone]);
    let answer = rig.exchange(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(answer.contains("reset reason: remote connection failure, transport failure reason"), "{answer}");
    let routes = vec![forward(proxy::Forward { retry: Some(retry), ..Default::default() })];
    rig.configure(Service { routes, ..Service::default() });
    let echo = echoing(&rig).await;
    rig.endpoints(&[gone, echo.addr]);
    for _ in 0..8 {
        let answer =
            rig.exchange(b"POST / HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 4\r\n\r\nbody").await;
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("body"), "{answer}");
    }
}

#[tokio::test]
async fn a_body_is_sent_again_with_the_retry() {
    let retry = proxy::Retry {
        attempts: 3,
        on: Some(proxy::RetryOn { server_error: true, ..Default::default() }),
        backoff: Some(prost_types::Duration { seconds: 0, nanos: 1_000_000 }),
        ..Default::default()
    };
    let routes = vec![forward(proxy::Forward { retry: Some(retry), ..Default::default() })];
    let rig = Rig::serving(Service { routes, ..Service::default() }, &[]);
    let tries = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let seen = tries.clone();
    let answer = move |request| {
        let seen = seen.clone();
        async move {
            let mut response = echo(request).await;
            if seen.fetch_add(1, std::sync::atomic::Ordering::SeqCst) < 2 {
                *response.status_mut() = hyper::StatusCode::BAD_GATEWAY;
            }
            response
        }
    };
    let flaky = raw(&rig, move |stream| http(stream, answer.clone())).await;
    rig.endpoints(&[flaky.addr]);
    let answer = rig
        .exchange(b"POST / HTTP/1.1\r\nhost: a\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n")
        .await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("onetwo"), "{answer}");
    assert_eq!(tries.load(std::sync::atomic::Ordering::SeqCst), 3);
}

#[tokio::test]
async fn a_silent_endpoint_is_a_504_after_the_routes_timeout() {
    let timeout = Some(prost_types::Duration { seconds: 0, nanos: 50_000_000 });
    let routes = vec![forward(proxy::Forward { timeout, ..Default::default() })];
    let rig = Rig::serving(Service { routes, ..Service::default() }, &[]);
    let silent = raw(&rig, |stream| async move {
        let _open = stream;
        std::future::pending::<()>().await;
    })
    .await;
    rig.endpoints(&[silent.addr]);
    let answer = rig.exchange(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 504 ") && answer.ends_with("upstream request timeout"), "{answer}");
}

#[tokio::test]
async fn what_an_endpoint_breaks_off_is_told_apart() {
    let rig = Rig::serving(Service::default(), &[]);
    let closes = raw(&rig, |mut stream| async move {
        read_until(&mut stream, "\r\n\r\n").await;
    })
    .await;
    rig.endpoints(&[closes.addr]);
    let answer = rig.exchange(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
    assert!(
        answer.starts_with("HTTP/1.1 503 ") && answer.ends_with("reset reason: connection termination"),
        "{answer}"
    );
    let babbles = raw(&rig, |mut stream| async move {
        read_until(&mut stream, "\r\n\r\n").await;
        stream.write_all(b"220 smtp.example ESMTP\r\n\r\n").await.expect("write");
    })
    .await;
    rig.endpoints(&[babbles.addr]);
    let answer = rig.exchange(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 502 ") && answer.ends_with("reset reason: protocol error"), "{answer}");
}

#[tokio::test]
async fn a_websocket_is_joined_and_its_bytes_pass_both_ways() {
    let rig = Rig::serving(Service::default(), &[]);
    let server = raw(&rig, |mut stream| async move {
        let head = read_until(&mut stream, "\r\n\r\n").await;
        assert!(head.contains("upgrade: websocket\r\n") && head.contains("sec-websocket-key: abc\r\n"), "{head}");
        let agreed = b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n\
                       sec-websocket-accept: xyz\r\n\r\nfirst";
        stream.write_all(agreed).await.expect("write");
        let mut bytes = [0; 4];
        stream.read_exact(&mut bytes).await.expect("the client's bytes");
        stream.write_all(&bytes).await.expect("write");
    })
    .await;
    rig.endpoints(&[server.addr]);
    let answer = rig
        .exchange(b"GET /ws HTTP/1.1\r\nhost: a\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-key: abc\r\n\r\nping")
        .await;
    assert!(answer.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{answer}");
    assert!(answer.contains("\r\nsec-websocket-accept: xyz\r\n") && answer.ends_with("\r\n\r\nfirstping"), "{answer}");
}

#[tokio::test]
async fn an_upgrade_that_is_declined_is_an_ordinary_answer() {
    let rig = Rig::serving(Service::default(), &[]);
    let declines = raw(&rig, |stream| http(stream, |_| async { Response::new(Full::new(Bytes::from("no"))) })).await;
    rig.endpoints(&[declines.addr]);
    let mut client = rig.connect(Protocol::Http).await;
    let asks = b"GET /ws HTTP/1.1\r\nhost: a\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n";
    client.write_all(asks).await.expect("write");
    let answer = read_until(&mut client, "\r\n\r\nno").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
}

#[tokio::test]
async fn the_endpoint_says_when_it_wants_an_announced_body() {
    let rig = Rig::serving(Service::default(), &[]);
    let server = raw(&rig, |mut stream| async move {
        let head = read_until(&mut stream, "\r\n\r\n").await;
        assert!(head.contains("expect: 100-continue\r\n") && head.ends_with("\r\n\r\n"), "{head}");
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.expect("write");
        let mut body = [0; 5];
        stream.read_exact(&mut body).await.expect("the body");
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n").await.expect("write");
        stream.write_all(&body).await.expect("write");
    })
    .await;
    rig.endpoints(&[server.addr]);
    let mut client = rig.connect(Protocol::Http).await;
    let head = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\nexpect: 100-continue\r\n\r\n";
    client.write_all(head).await.expect("write");
    let interim = read_until(&mut client, "\r\n\r\n").await;
    assert_eq!(interim, "HTTP/1.1 100 Continue\r\n\r\n");
    client.write_all(b"hello").await.expect("write");
    assert!(read_until(&mut client, "\r\n\r\nhello").await.starts_with("HTTP/1.1 200 OK\r\n"));
}

#[tokio::test]
async fn an_announced_body_that_is_not_wanted_is_not_asked_for() {
    let rig = Rig::serving(Service::default(), &[]);
    let server = raw(&rig, |mut stream| async move {
        read_until(&mut stream, "\r\n\r\n").await;
        stream.write_all(b"HTTP/1.1 413 Payload Too Large\r\ncontent-length: 0\r\n\r\n").await.expect("write");
        // Kept open: the waypoint must not wait for its end.
        std::future::pending::<()>().await;
    })
    .await;
    rig.endpoints(&[server.addr]);
    let answer = rig.exchange(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\nexpect: 100-continue\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 413 Payload Too Large\r\n"), "{answer}");
}

#[tokio::test]
async fn trailers_pass_between_http1_and_http2() {
    let clusters = vec![cluster(proxy::Protocol::Http2, proxy::TrafficPolicy::default())];
    let rig = Rig::serving(Service { clusters, ..Service::default() }, &[]);
    let echo = echoing(&rig).await;
    rig.endpoints(&[echo.addr]);
    let answer = rig
        .exchange(
            b"POST /t HTTP/1.1\r\nhost: a\r\nconnection: close\r\nte: trailers\r\ntrailer: x-sum\r\n\
              transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nx-sum: 9\r\n\r\n",
        )
        .await;
    assert!(answer.contains("HTTP/2.0 POST http://a/t\n"), "{answer}");
    assert!(answer.ends_with("abc\nx-sum: \"9\""), "{answer}");
}

#[tokio::test]
async fn an_answer_that_comes_early_ends_its_connection() {
    let rig = Rig::serving(Service::default(), &[]);
    let early = raw(&rig, |mut stream| async move {
        read_until(&mut stream, "\r\n\r\n").await;
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.expect("write");
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).await.ok();
    })
    .await;
    rig.endpoints(&[early.addr]);
    for round in 1..=2 {
        let mut client = rig.connect(Protocol::Http).await;
        let head = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 100\r\n\r\nonly some";
        client.write_all(head).await.expect("write");
        assert!(read_until(&mut client, "\r\n\r\nok").await.starts_with("HTTP/1.1 200 OK\r\n"));
        drop(client);
        assert_eq!(early.connections(), round, "what is left of a request must not be taken for the next one");
    }
}

#[tokio::test]
async fn a_client_that_leaves_takes_its_request_with_it() {
    let rig = Rig::serving(Service::default(), &[]);
    let (tell, mut told) = tokio::sync::mpsc::channel(1);
    let server = raw(&rig, move |mut stream| {
        let tell = tell.clone();
        async move {
            read_until(&mut stream, "\r\n\r\n").await;
            let mut rest = Vec::new();
            // The end of the connection is what is waited for.
            stream.read_to_end(&mut rest).await.ok();
            tell.send(()).await.expect("the test waits");
        }
    })
    .await;
    rig.endpoints(&[server.addr]);
    let mut client = rig.connect(Protocol::Http).await;
    client.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.expect("write");
    until("the request is under way", || server.connections() == 1).await;
    drop(client);
    soon("the endpoint hears of it", told.recv()).await.expect("told");
    until("nothing is under way", || rig.lane.active() == 0).await;
}

#[tokio::test]
async fn a_leaving_waypoint_tells_its_clients_with_their_next_answer() {
    let rig = Rig::serving(Service::default(), &[]);
    let echo = echoing(&rig).await;
    rig.endpoints(&[echo.addr]);
    let mut client = rig.connect(Protocol::Http).await;
    client.write_all(b"GET /1 HTTP/1.1\r\nhost: a\r\n\r\n").await.expect("write");
    assert!(!read_until(&mut client, "GET /1\n").await.contains("connection: close"));
    rig.shared.leaving.store(true, std::sync::atomic::Ordering::Relaxed);
    rig.drain.start();
    client.write_all(b"GET /2 HTTP/1.1\r\nhost: a\r\n\r\n").await.expect("still served");
    let mut rest = Vec::new();
    soon("the end", tokio::time::timeout(Duration::from_secs(30), client.read_to_end(&mut rest)))
        .await
        .expect("the connection ends")
        .expect("in good order");
    let answer = String::from_utf8_lossy(&rest).into_owned();
    assert!(answer.contains("connection: close\r\n") && answer.contains("GET /2\n"), "{answer}");
}

/// Reads frames of HTTP/2 (RFC 9113 §4.1) until one of type `last`, or the end; their types.
async fn frames_until(stream: &mut TcpStream, last: u8) -> Vec<u8> {
    let mut kinds = Vec::new();
    let reading = async {
        loop {
            let mut head = [0; 9];
            if stream.read_exact(&mut head).await.is_err() {
                return;
            }
            let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
            stream.read_exact(&mut vec![0; length]).await.expect("a whole frame");
            kinds.push(head[3]);
            if head[3] == last {
                return;
            }
        }
    };
    soon("frames", reading).await;
    kinds
}

#[tokio::test]
async fn who_comes_to_a_leaving_waypoint_is_told_with_its_first_request() {
    const HEADERS: u8 = 1;
    const SETTINGS: u8 = 4;
    const PING: u8 = 6;
    const GOAWAY: u8 = 7;
    let rig = Rig::serving(Service::default(), &[]);
    let echo = echoing(&rig).await;
    rig.endpoints(&[echo.addr]);
    rig.shared.leaving.store(true, std::sync::atomic::Ordering::Relaxed);
    rig.drain.start();
    let mut client = rig.connect(Protocol::Http2).await;
    client.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.expect("the preface");
    assert_eq!(frames_until(&mut client, SETTINGS).await, [SETTINGS]);
    client.write_all(b"\0\0\x08\x06\0\0\0\0\x00answered").await.expect("a ping");
    let frames = frames_until(&mut client, PING).await;
    assert!(frames.contains(&PING) && !frames.contains(&GOAWAY), "told before it asked: {frames:?}");
    // GET http://a/ on stream 1, of the static table (RFC 7541, appendix A).
    client.write_all(b"\0\0\x06\x01\x05\0\0\0\x01\x82\x86\x84\x41\x01a").await.expect("a request");
    let frames = frames_until(&mut client, HEADERS).await;
    assert!(frames.contains(&GOAWAY) && frames.contains(&HEADERS), "{frames:?}");
}

#[tokio::test]
async fn a_mirror_gets_a_copy_and_nobody_waits_for_it() {
    let (told, mut tell) = tokio::sync::mpsc::channel(4);
    let rig = Rig::new();
    let main = echoing(&rig).await;
    let seen = raw(&rig, move |mut stream| {
        let told = told.clone();
        async move {
            let head = read_until(&mut stream, "copied body").await;
            told.send(head).await.expect("the test waits");
            std::future::pending::<()>().await;
        }
    })
    .await;
    // The mirror is a subset of the same service: whoever is its endpoint gets requests and copies alike.
    let mirror =
        proxy::Mirror { to: Some(proxy::Upstream { subset: "copy".into(), ..upstream() }), per_million: 1_000_000 };
    let routes = vec![forward(proxy::Forward { mirrors: vec![mirror], ..Default::default() })];
    let copy =
        proxy::Cluster { subset: "copy".into(), ..cluster(proxy::Protocol::Http, proxy::TrafficPolicy::default()) };
    let clusters = vec![cluster(proxy::Protocol::Http, proxy::TrafficPolicy::default()), copy];
    let options = proxy::Options { mirror_shadow_suffix: true, ..Default::default() };
    rig.configure(Service { routes, clusters, options, ..Service::default() });
    rig.endpoints(&[main.addr]);
    let mut client = rig.connect(Protocol::Http).await;
    let request = b"POST /m HTTP/1.1\r\nhost: a:80\r\ncontent-length: 11\r\n\r\ncopied body";
    client.write_all(request).await.expect("write");
    assert!(read_until(&mut client, "\n\ncopied body").await.contains("host: a:80\n"));
    // From now on an endpoint that never answers gets both.
    rig.endpoints(&[seen.addr]);
    client.write_all(request).await.expect("write");
    let head = soon("the request", tell.recv()).await.expect("told");
    assert!(head.starts_with("POST /m HTTP/1.1\r\n"), "{head}");
    drop(client);
    until("both copies were sent", || main.connections() + seen.connections() >= 3).await;
}
