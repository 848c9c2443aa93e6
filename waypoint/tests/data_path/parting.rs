//! A service that comes to be served elsewhere, under connections that are here.

use bytes::Bytes;
use http_body_util::Empty;
use hyper::{Request, client::conn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use lateen_waypoint::book::{Change, Kind, Protocol, compile};
use lateen_wire::proxy;
use prost::Message as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::{
    endpoints::echoing,
    policies::policy,
    rig::{HOST, Rig, Service, soon},
};

async fn serving() -> Rig {
    let gets = policy(proxy::Action::Allow, &[(proxy::Attribute::Method, "GET")]);
    let rig = Rig::serving(Service { policies: vec![gets], ..Service::default() }, &[]);
    let echo = echoing(&rig).await;
    rig.endpoints(&[echo.addr]);
    rig
}

/// What the control plane says when the service is no longer this proxy's, in its order.
fn unbind(rig: &Rig) {
    let role = proxy::Role::Waypoint.into();
    let proxy =
        proxy::Proxy { namespace: "shop".into(), name: "w".into(), role, serves_services: true, ..Default::default() };
    let proxy = compile::resource(Kind::Proxy, &"shop/w".into(), &proxy.encode_to_vec()).expect("readable");
    rig.shared.book.apply([proxy]);
    let service = format!("shop/w/shop/{HOST}");
    for (kind, name) in
        [(Kind::Service, service.as_str()), (Kind::Destination, service.as_str()), (Kind::Policy, "shop/p")]
    {
        rig.shared.book.apply([Change::Removed { kind, name: name.into() }]);
    }
}

async fn ask(client: &mut TcpStream, method: &str) -> String {
    let text = format!("{method} / HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n");
    client.write_all(text.as_bytes()).await.expect("write");
    let mut answer = String::new();
    let whole = |answer: &str| {
        let Some((head, body)) = answer.split_once("\r\n\r\n") else { return false };
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        length.and_then(|length| length.parse().ok()).is_some_and(|length: usize| body.len() >= length)
    };
    while !whole(&answer) {
        let mut part = [0; 4096];
        let length = soon("the answer", client.read(&mut part)).await.expect("an answer");
        assert!(length > 0, "it ended after {answer}");
        answer.push_str(&String::from_utf8_lossy(&part[..length]));
    }
    answer
}

#[tokio::test]
async fn who_is_here_is_served_and_sent_elsewhere() {
    let rig = serving().await;
    let mut clients = Vec::new();
    for _ in 0..2 {
        let mut client = rig.connect(Protocol::Http).await;
        let answer = ask(&mut client, "GET").await;
        assert!(answer.starts_with("HTTP/1.1 200 ") && !answer.contains("connection: close"), "{answer}");
        clients.push(client);
    }
    unbind(&rig);
    for (client, (method, status)) in clients.iter_mut().zip([("GET", 200), ("POST", 403)]) {
        let answer = ask(client, method).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "by the policies it had: {answer}");
        assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");
    }
}

#[tokio::test]
async fn who_is_silent_is_not_kept() {
    let rig = serving().await;
    let mut client = rig.connect(Protocol::Http).await;
    assert!(ask(&mut client, "GET").await.starts_with("HTTP/1.1 200 "));
    unbind(&rig);
    let rest = soon("the end", client.read(&mut [0; 64])).await;
    assert_eq!(rest.ok(), Some(0), "in good order");
}

#[tokio::test]
async fn connections_of_http2_are_told_to_go() {
    let rig = serving().await;
    let stream = rig.connect(Protocol::Http2).await;
    let (mut sender, connection) =
        conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.expect("HTTP/2");
    let (ended, end) = tokio::sync::oneshot::channel();
    rig.tasks.spawn("client", async move {
        ended.send(connection.await.is_ok()).expect("the test waits");
    });
    let request = Request::get("http://a/").body(Empty::<Bytes>::new()).expect("valid");
    assert_eq!(soon("the answer", sender.send_request(request)).await.expect("an answer").status(), 200);
    unbind(&rig);
    assert!(soon("the end", end).await.expect("told"), "by GOAWAY");
}
