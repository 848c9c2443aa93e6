//! Which ports are bound follows the configuration, and no connection is lost by it.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use http_body_util::Empty;
use hyper::{Request, StatusCode, client::conn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use lateen_rt::ready::Readiness;
use lateen_waypoint::listen::{self, Binding};
use lateen_wire::proxy;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::{
    rig::{get, listens, plain},
    serving,
};
use crate::rig::{Rig, soon, until};

fn port(number: u16) -> proxy::Listener {
    proxy::Listener { bind_port: number.into(), ..plain(&["*"]) }
}

/// A gateway whose ports are bound at `ip`, which is no other test's.
async fn following(ip: &str, ports: &[u16]) -> (Rig, IpAddr) {
    following_within(100, ip, ports).await
}

/// The same, with so many connections at most.
async fn following_within(connections_max: usize, ip: &str, ports: &[u16]) -> (Rig, IpAddr) {
    let listeners = ports.iter().map(|number| port(*number)).collect();
    let rig = serving(listeners, proxy::Options::default()).await;
    let ip = ip.parse().expect("an address");
    let binding = Binding {
        ip,
        reserved: BTreeSet::from([15020]),
        connections_max,
        process: rig.drain.clone(),
        doors: rig.drain.child(),
    };
    let ready = Readiness::new();
    let opened = Arc::new(ready.condition("doors"));
    rig.tasks.spawn("ports", listen::follow(vec![rig.lane.clone()], binding, opened));
    until("everything was tried", || ready.pending().is_empty()).await;
    (rig, ip)
}

async fn is_open(ip: IpAddr, port: u16) -> bool {
    TcpStream::connect(SocketAddr::new(ip, port)).await.is_ok()
}

async fn closes(ip: IpAddr, port: u16) {
    let closing = async {
        while is_open(ip, port).await {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    };
    soon("the port is closed", closing).await;
}

async fn opens(ip: IpAddr, port: u16) {
    let opening = async {
        while !is_open(ip, port).await {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    };
    soon("the port is open", opening).await;
}

#[tokio::test]
async fn ports_open_and_close_with_the_configuration() {
    let (rig, ip) = following("127.77.1.1", &[8080, 15020]).await;
    assert!(is_open(ip, 8080).await);
    assert!(!is_open(ip, 15020).await, "a port of the proxy's own");
    let mut kept = TcpStream::connect(SocketAddr::new(ip, 8080)).await.expect("connect");
    listens(&rig, vec![port(8080), port(8081)], proxy::Options::default());
    opens(ip, 8081).await;
    // The port that stays was not touched.
    kept.write_all(&get("a", "/kept")).await.expect("write");
    let mut answer = String::new();
    soon("the answer", kept.read_to_string(&mut answer)).await.expect("an answer");
    assert!(answer.contains("GET /kept\n"), "{answer}");
    listens(&rig, vec![port(8081)], proxy::Options::default());
    closes(ip, 8080).await;
    assert!(is_open(ip, 8081).await);
    listens(&rig, vec![port(8080)], proxy::Options::default());
    opens(ip, 8080).await;
    closes(ip, 8081).await;
}

#[tokio::test]
async fn a_port_that_is_taken_keeps_nobody_from_the_others() {
    let taken = std::net::TcpListener::bind("127.77.1.2:8080").expect("an address of our own");
    let (rig, ip) = following("127.77.1.2", &[8080, 8081]).await;
    assert!(is_open(ip, 8081).await);
    drop(taken);
    // Any change is a reason to try again.
    listens(&rig, vec![port(8080), port(8081)], proxy::Options::default());
    opens(ip, 8080).await;
}

#[tokio::test]
async fn connections_of_a_port_that_closes_end_in_good_order() {
    let (rig, ip) = following("127.77.1.3", &[8080]).await;
    let at = SocketAddr::new(ip, 8080);
    let two = TcpStream::connect(at).await.expect("connect");
    let (mut sender, connection) =
        conn::http2::handshake(TokioExecutor::new(), TokioIo::new(two)).await.expect("HTTP/2");
    let ended = tokio::sync::oneshot::channel();
    rig.tasks.spawn("client", async move {
        let end = connection.await;
        ended.0.send(end.is_ok()).expect("the test waits");
    });
    let request = || Request::get("http://a/").body(Empty::<bytes::Bytes>::new()).expect("valid");
    assert_eq!(soon("the answer", sender.send_request(request())).await.expect("an answer").status(), StatusCode::OK);
    let mut one = TcpStream::connect(at).await.expect("connect");
    one.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.expect("write");
    let mut answer = vec![0; 4096];
    let length = soon("the answer", one.read(&mut answer)).await.expect("an answer");
    assert!(answer[..length].starts_with(b"HTTP/1.1 200 OK\r\n"));
    listens(&rig, vec![port(8081)], proxy::Options::default());
    assert!(soon("the end of HTTP/2's connection", ended.1).await.expect("told"), "it ended by GOAWAY");
    one.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.expect("write");
    let mut rest = String::new();
    soon("the end", one.read_to_string(&mut rest)).await.expect("an answer and an end");
    assert!(rest.starts_with("HTTP/1.1 404 ") && rest.contains("\r\nconnection: close\r\n"), "{rest}");
}

/// A port more is no room for more.
#[tokio::test]
async fn all_ports_have_one_limit_of_connections() {
    let (_rig, ip) = following_within(1, "127.77.1.4", &[8080, 8081]).await;
    let ask = |port: u16| async move {
        let mut client = TcpStream::connect(SocketAddr::new(ip, port)).await.expect("connect");
        client.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.expect("write");
        client
    };
    let mut first = ask(8080).await;
    let mut answer = vec![0; 4096];
    soon("the answer", first.read(&mut answer)).await.expect("an answer");
    let mut second = ask(8081).await;
    let early = tokio::time::timeout(std::time::Duration::from_millis(300), second.read(&mut answer)).await;
    assert!(early.is_err(), "served beside the only one there may be: {early:?}");
    drop(first);
    let length = soon("the answer", second.read(&mut answer)).await.expect("an answer");
    assert!(answer[..length].starts_with(b"HTTP/1.1 200 OK\r\n"));
}
