//! What lasts longer than a request: connections and upgrades that policy comes to refuse, proxies on the way, silence.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::{Either, Empty};
use hyper::{Method, Request, Response, body::Incoming, client::conn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use lateen_net::splice::Duplex;
use lateen_rt::tasks::Tasks;
use lateen_waypoint::book::Protocol;
use lateen_wire::proxy;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::Semaphore,
};

use crate::{
    endpoints::{echoing, http, raw},
    policies::policy,
    rig::{Rig, Service, cluster, endpoint, forward, id, soon, until},
};

const FORMAT: &str = "%RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS%";
const DENIED: &str = "rbac_access_denied_matched_policy[ns[shop]-policy[p]-rule[0]]";

fn options() -> proxy::Options {
    let encoding = proxy::access_log::Encoding::Text.into();
    let access_log = Some(proxy::AccessLog { encoding, format: FORMAT.to_owned() });
    proxy::Options { access_log, ..proxy::Options::default() }
}

fn opaque(policies: Vec<proxy::Policy>, policy: proxy::TrafficPolicy) -> Service {
    let clusters = vec![cluster(proxy::Protocol::Tcp, policy)];
    Service { protocol: proxy::Protocol::Tcp, policies, clusters, options: options(), ..Service::default() }
}

/// Sends back what comes.
async fn reflect(mut stream: TcpStream) {
    let (mut from, mut to) = stream.split();
    tokio::io::copy(&mut from, &mut to).await.ok();
}

async fn ping(client: &mut TcpStream) {
    client.write_all(b"ping").await.expect("write");
    let mut back = [0; 4];
    soon("the bytes", client.read_exact(&mut back)).await.expect("the bytes come back");
    assert_eq!(&back, b"ping");
}

#[tokio::test]
async fn a_connection_is_cut_when_policy_comes_to_refuse_it_and_no_other() {
    use proxy::{Action, Attribute};
    let rig = Rig::serving(opaque(Vec::new(), proxy::TrafficPolicy::default()), &[]);
    let server = raw(&rig, reflect).await;
    rig.endpoints(&[server.addr]);
    let mut bad = rig.connect_as(Protocol::Tcp, Some(id("bad"))).await;
    let mut good = rig.connect_as(Protocol::Tcp, Some(id("good"))).await;
    ping(&mut bad).await;
    ping(&mut good).await;
    let principal = id("bad").principal().as_str().to_owned();
    let denies = policy(Action::Deny, &[(Attribute::Principal, &principal)]);
    rig.configure(opaque(vec![denies], proxy::TrafficPolicy::default()));
    let end = soon("the cut", bad.read(&mut [0; 1])).await;
    assert!(end.is_err(), "a reset, so that nobody takes it for all: {end:?}");
    assert_eq!(rig.record().await, format!("0 - - {DENIED}\n"));
    ping(&mut good).await;
}

#[tokio::test]
async fn an_upgrade_is_cut_when_policy_comes_to_refuse_its_request() {
    use proxy::{Action, Attribute};
    let serving = |policies| Service { policies, options: options(), ..Service::default() };
    let rig = Rig::serving(serving(Vec::new()), &[]);
    let server = raw(&rig, |mut stream: TcpStream| async move {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.expect("the head"));
        }
        let agreed = b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n\r\n";
        stream.write_all(agreed).await.expect("write");
        reflect(stream).await;
    })
    .await;
    rig.endpoints(&[server.addr]);
    let mut clients = Vec::new();
    for path in ["/a", "/b"] {
        let mut client = rig.connect(Protocol::Http).await;
        let asks = format!("GET {path} HTTP/1.1\r\nhost: a\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n");
        client.write_all(asks.as_bytes()).await.expect("write");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(soon("the head", client.read_u8()).await.expect("the head"));
        }
        assert!(head.starts_with(b"HTTP/1.1 101 "));
        ping(&mut client).await;
        clients.push(client);
    }
    rig.configure(serving(vec![policy(Action::Deny, &[(Attribute::Path, "/a")])]));
    let mut rest = Vec::new();
    let _end = soon("the cut", clients[0].read_to_end(&mut rest)).await;
    assert!(rest.is_empty());
    assert_eq!(rig.record().await, format!("101 - {DENIED} -\n"));
    ping(&mut clients[1]).await;
}

/// A proxy that connects to itself: what goes in comes back.
async fn proxied(tasks: Tasks, request: Request<Incoming>) -> Response<Either<Empty<Bytes>, Incoming>> {
    match *request.method() {
        Method::CONNECT => {
            assert_eq!(request.uri().authority().map(|to| to.as_str()), Some("db.example.com:5432"));
            tasks.spawn("proxied", async move {
                let upgraded = hyper::upgrade::on(request).await.expect("both agree");
                let (mut from, mut to) = tokio::io::split(TokioIo::new(upgraded));
                tokio::io::copy(&mut from, &mut to).await.ok();
                to.shutdown().await.ok();
            });
            Response::new(Either::Left(Empty::new()))
        }
        Method::POST => Response::new(Either::Right(request.into_body())),
        _ => panic!("neither CONNECT nor POST"),
    }
}

#[tokio::test]
async fn bytes_go_through_the_proxy_that_is_asked_for() {
    for (protocol, post) in [
        (proxy::Protocol::Tcp, false),
        (proxy::Protocol::Tcp, true),
        (proxy::Protocol::Http2, false),
        (proxy::Protocol::Http2, true),
    ] {
        let tunnel = proxy::ConnectTunnel { post, host: "db.example.com".to_owned(), port: 5432 };
        let policy = proxy::TrafficPolicy { tunnel: Some(tunnel), ..Default::default() };
        let mut service = opaque(Vec::new(), proxy::TrafficPolicy::default());
        service.clusters = vec![cluster(protocol, policy)];
        let rig = Rig::serving(service, &[]);
        let tasks = rig.tasks.clone();
        let server = raw(&rig, move |stream| {
            let tasks = tasks.clone();
            http(stream, move |request| proxied(tasks.clone(), request))
        })
        .await;
        rig.endpoints(&[server.addr]);
        let mut client = rig.connect(Protocol::Tcp).await;
        ping(&mut client).await;
        ping(&mut client).await;
        client.shutdown().await.expect("half-close");
        let mut rest = Vec::new();
        soon("the end", client.read_to_end(&mut rest)).await.expect("in good order");
        assert!(rest.is_empty(), "{protocol:?} {post}");
    }
}

#[tokio::test]
async fn a_proxy_that_refuses_is_no_way() {
    let tunnel = proxy::ConnectTunnel { post: false, host: "db.example.com".to_owned(), port: 5432 };
    let policy = proxy::TrafficPolicy { tunnel: Some(tunnel), ..Default::default() };
    let rig = Rig::serving(opaque(Vec::new(), policy), &[]);
    let refuses = |_| async {
        let mut response = Response::new(Empty::<Bytes>::new());
        *response.status_mut() = hyper::StatusCode::FORBIDDEN;
        response
    };
    let server = raw(&rig, move |stream| http(stream, refuses)).await;
    rig.endpoints(&[server.addr]);
    let mut client = rig.connect(Protocol::Tcp).await;
    let end = soon("the end", client.read(&mut [0; 1])).await;
    assert!(!matches!(end, Ok(1..)), "{end:?}");
    assert!(rig.record().await.starts_with("0 UF "));
}

/// An endpoint that takes everything and says nothing.
async fn silent(rig: &Rig) -> crate::endpoints::Endpoint {
    raw(rig, |mut stream: TcpStream| async move { while matches!(stream.read(&mut [0; 4096]).await, Ok(1..)) {} }).await
}

#[tokio::test]
async fn silence_ends_a_request_where_that_is_configured() {
    let idle = prost_types::Duration { seconds: 0, nanos: 50_000_000 };
    let options = proxy::Options { stream_idle_timeout: Some(idle), ..options() };
    let rig = Rig::serving(Service { options, ..Service::default() }, &[]);
    let server = silent(&rig).await;
    rig.endpoints(&[server.addr]);
    let whole = b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    let half = b"POST / HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 10\r\n\r\nabc";
    for (request, status) in [(&whole[..], 504), (half, 408)] {
        let answer = rig.exchange(request).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")) && answer.ends_with("stream timeout"), "{answer}");
        assert_eq!(rig.record().await, format!("{status} SI stream_idle_timeout -\n"));
    }
}

/// An endpoint whose answer never ends; it tells when it is left.
async fn endless(rig: &Rig) -> (crate::endpoints::Endpoint, Arc<Semaphore>) {
    let left = Arc::new(Semaphore::new(0));
    let told = left.clone();
    let endpoint = raw(rig, move |mut stream: TcpStream| {
        let told = told.clone();
        async move {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.expect("the head"));
            }
            stream.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n").await.expect("write");
            while stream.write_all(&[b'x'; 0x10000]).await.is_ok() {}
            told.add_permits(1);
        }
    });
    (endpoint.await, left)
}

/// hyper asks for no more of an answer then, and looks at nothing.
#[tokio::test]
async fn limits_hold_for_clients_that_do_not_read() {
    let short = || prost_types::Duration { seconds: 2, nanos: 0 };
    let timed = || vec![forward(proxy::Forward { timeout: Some(short()), ..proxy::Forward::default() })];
    let silent = || proxy::Options { stream_idle_timeout: Some(short()), ..options() };
    for (routes, options, record) in
        [(timed(), options(), "200 UT response_timeout -\n"), (vec![], silent(), "200 SI stream_idle_timeout -\n")]
    {
        let rig = Rig::serving(Service { routes, options, ..Service::default() }, &[]);
        let (endpoint, left) = endless(&rig).await;
        rig.endpoints(&[endpoint.addr]);
        let mut client = rig.connect(Protocol::Http).await;
        client.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.expect("write");
        soon("the endpoint is let go of", left.acquire()).await.expect("open").forget();
        assert_eq!(rig.record().await, record);
        assert_eq!(rig.lane.active(), 0);
        // Whoever reads at last hears that it was not all.
        let mut rest = Vec::new();
        let end = soon("the end", client.read_to_end(&mut rest)).await;
        assert!(rest.starts_with(b"HTTP/1.1 200 ") && !rest.ends_with(b"\r\n0\r\n\r\n"), "{end:?}");
    }
}

/// The same on a stream of HTTP/2: others of its connection go on.
#[tokio::test]
async fn limits_hold_for_streams_that_are_not_read() {
    let short = || prost_types::Duration { seconds: 2, nanos: 0 };
    let routes = vec![forward(proxy::Forward { timeout: Some(short()), ..proxy::Forward::default() })];
    let rig = Rig::serving(Service { routes, options: options(), ..Service::default() }, &[]);
    let (endpoint, left) = endless(&rig).await;
    rig.endpoints(&[endpoint.addr]);
    let stream = rig.connect(Protocol::Http2).await;
    let (mut sender, connection) =
        conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.expect("HTTP/2");
    rig.tasks.spawn("client", async move { drop(connection.await) });
    let request = || Request::get("http://a/").body(Empty::<Bytes>::new()).expect("valid");
    let unread = soon("the answer", sender.send_request(request())).await.expect("an answer");
    soon("the endpoint is let go of", left.acquire()).await.expect("open").forget();
    assert_eq!(rig.record().await, "200 UT response_timeout -\n");
    let other = soon("another answer", sender.send_request(request())).await.expect("an answer");
    assert_eq!(other.status(), 200);
    let whole = soon("the end", http_body_util::BodyExt::collect(unread.into_body())).await;
    assert!(whole.is_err(), "a reset, so that nobody takes it for all");
}

/// Through a tunnel its proxy says so (see `mesh`).
#[tokio::test]
async fn who_resets_while_its_body_is_not_taken_is_missed() {
    let rig = Rig::serving(Service::default(), &[]);
    let deaf = raw(&rig, |stream: TcpStream| async move {
        let _kept = stream;
        std::future::pending::<()>().await;
    });
    rig.endpoints(&[deaf.await.addr]);
    let mut client = rig.connect(Protocol::Http).await;
    client.write_all(b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n").await.expect("write");
    let chunk = [&b"10000\r\n"[..], &[b'x'; 0x10000], b"\r\n"].concat();
    // Until nobody takes more.
    while tokio::time::timeout(Duration::from_secs(1), client.write_all(&chunk)).await.is_ok() {}
    assert_eq!(rig.lane.active(), 1);
    Duplex::abort(&mut client);
    drop(client);
    until("nothing is under way", || rig.lane.active() == 0).await;
}

#[tokio::test]
async fn silence_ends_an_upgrade_where_that_is_configured() {
    let idle = prost_types::Duration { seconds: 0, nanos: 50_000_000 };
    let options = proxy::Options { stream_idle_timeout: Some(idle), ..options() };
    let rig = Rig::serving(Service { options, ..Service::default() }, &[]);
    let server = raw(&rig, |mut stream: TcpStream| async move {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.expect("the head"));
        }
        let agreed = b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n\r\n";
        stream.write_all(agreed).await.expect("write");
        reflect(stream).await;
    })
    .await;
    rig.endpoints(&[server.addr]);
    let answer = rig.exchange(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    assert_eq!(rig.record().await, "101 SI stream_idle_timeout -\n");
}

/// However busily its bytes trickle in.
#[tokio::test]
async fn a_request_that_takes_too_long_to_come_is_ended_where_that_is_configured() {
    let time = prost_types::Duration { seconds: 0, nanos: 50_000_000 };
    let options = proxy::Options { request_timeout: Some(time), ..options() };
    let rig = Rig::serving(Service { options, ..Service::default() }, &[]);
    let server = silent(&rig).await;
    rig.endpoints(&[server.addr]);
    let half = b"POST / HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 10\r\n\r\nabc";
    let answer = rig.exchange(half).await;
    assert!(answer.starts_with("HTTP/1.1 408 ") && answer.ends_with("request timeout"), "{answer}");
    assert_eq!(rig.record().await, "408 - request_overall_timeout -\n");
}

#[tokio::test]
async fn clients_of_the_mesh_say_how_long_they_wait_and_nobody_else_does() {
    let ask = b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\nx-envoy-upstream-rq-timeout-ms: 60000\r\n\r\n";
    let rig = Rig::serving(Service::default(), &[]);
    let echo = echoing(&rig).await;
    rig.endpoints(&[echo.addr]);
    for (peer, told) in [(Some(id("client")), true), (None, false)] {
        let mut client = rig.connect_as(Protocol::Http, peer).await;
        client.write_all(ask).await.expect("write");
        let mut answer = String::new();
        soon("the answer", client.read_to_string(&mut answer)).await.expect("in good order");
        assert_eq!(answer.contains("x-envoy-expected-rq-timeout-ms: 60000\n"), told, "{answer}");
        assert!(!answer.contains("x-envoy-upstream-rq-timeout-ms"), "{answer}");
    }
    let server = silent(&rig).await;
    rig.endpoints(&[server.addr]);
    let mut client = rig.connect_as(Protocol::Http, Some(id("client"))).await;
    let ask = b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\nx-envoy-upstream-rq-timeout-ms: 20\r\n\r\n";
    client.write_all(ask).await.expect("write");
    let mut answer = String::new();
    soon("the answer", client.read_to_string(&mut answer)).await.expect("in good order");
    assert!(answer.starts_with("HTTP/1.1 504 ") && answer.ends_with("upstream request timeout"), "{answer}");
}

#[tokio::test]
async fn endpoints_that_come_just_after_their_service_are_waited_for() {
    let rig = Rig::new();
    rig.configure(Service { routes: vec![forward(proxy::Forward::default())], ..Service::default() });
    let echo = echoing(&rig).await;
    let mut client = rig.connect(Protocol::Http).await;
    client.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await.expect("write");
    until("the request is under way", || rig.lane.active() == 1).await;
    assert!(rig.shared.world.load().workloads().next().is_none());
    rig.workloads(vec![endpoint(echo.addr)]);
    let mut answer = String::new();
    soon("the answer", client.read_to_string(&mut answer)).await.expect("in good order");
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

#[tokio::test]
async fn names_that_clients_bring_do_not_lead_to_ourselves() {
    let resolution = proxy::Resolution::RequestHost.into();
    let clusters =
        vec![proxy::Cluster { resolution, ..cluster(proxy::Protocol::Http, proxy::TrafficPolicy::default()) }];
    let rig = Rig::serving(Service { clusters, options: options(), ..Service::default() }, &[]);
    let ask = |host: &str| format!("GET / HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n").into_bytes();
    let answer = rig.exchange(&ask("localhost")).await;
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.ends_with("dns resolution failure"), "{answer}");
    assert!(rig.record().await.contains("DF"));
    // An address names nobody.
    let answer = rig.exchange(&ask("127.0.0.1")).await;
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.ends_with("no healthy upstream"), "{answer}");
}
