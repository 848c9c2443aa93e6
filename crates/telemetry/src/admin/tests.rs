//! Real connections to a real server.
use std::{net::SocketAddr, time::Duration};

use lateen_rt::{drain::Drain, ready::Readiness, tasks::Tasks};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use super::*;

struct Server {
    addr: SocketAddr,
    tasks: Tasks,
    drain: Drain,
}

async fn server(router: Router, limits: Limits) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let addr = listener.local_addr().expect("bound");
    let (tasks, drain) = (Tasks::new(), Drain::new());
    tasks.spawn("server", serve(listener, router, limits, (tasks.clone(), drain.clone())));
    Server { addr, tasks, drain }
}

async fn ask(addr: SocketAddr, head: &str) -> String {
    let mut stream = TcpStream::connect(addr).await.expect("connects");
    stream.write_all(format!("{head}\r\nhost: x\r\nconnection: close\r\n\r\n").as_bytes()).await.expect("writes");
    let mut text = String::new();
    let reading = stream.read_to_string(&mut text);
    tokio::time::timeout(Duration::from_secs(10), reading).await.expect("in time").expect("reads");
    text
}

#[tokio::test]
async fn routes_answer_and_the_rest_is_404() {
    let readiness = Readiness::new();
    let condition = readiness.condition("state manager");
    let _other = readiness.condition("proxy");
    let asked = readiness.clone();
    let router = Router::new()
        .route("/healthz/ready", move |request| ready(&asked, &request))
        .route_async("/slow", |_| async { std::future::pending().await });
    let limits = Limits { answer_timeout: Duration::from_millis(50), ..Limits::default() };
    let server = server(router, limits).await;
    let pending = ask(server.addr, "GET /healthz/ready HTTP/1.1").await;
    assert!(pending.starts_with("HTTP/1.1 500 "), "{pending}");
    assert!(pending.ends_with("\r\n\r\nnot ready, pending: proxy, state manager\n"), "{pending}");
    condition.set(true);
    _other.set(true);
    let ready = ask(server.addr, "GET /healthz/ready HTTP/1.1").await;
    assert!(ready.starts_with("HTTP/1.1 200 ") && ready.ends_with("\r\n\r\nready\n"), "{ready}");
    assert!(ask(server.addr, "POST /healthz/ready HTTP/1.1").await.starts_with("HTTP/1.1 405 "));
    assert!(ask(server.addr, "GET /healthz HTTP/1.1").await.starts_with("HTTP/1.1 404 "));
    assert!(ask(server.addr, "GET /slow HTTP/1.1").await.starts_with("HTTP/1.1 503 "));
    server.drain.start();
    server.tasks.join(Duration::from_secs(10)).await.expect("the server ends with the drain");
}

#[tokio::test]
async fn a_silent_client_is_cut_and_garbage_is_refused() {
    let limits = Limits { header_timeout: Duration::from_millis(50), ..Limits::default() };
    let server = server(Router::new(), limits).await;
    let mut silent = TcpStream::connect(server.addr).await.expect("connects");
    silent.write_all(b"GET / HT").await.expect("writes");
    let mut rest = Vec::new();
    let reading = silent.read_to_end(&mut rest);
    tokio::time::timeout(Duration::from_secs(10), reading).await.expect("the server closes").expect("reads");
    assert!(ask(server.addr, "\u{1}\u{2} nonsense").await.starts_with("HTTP/1.1 400 "));
    server.drain.start();
    server.tasks.join(Duration::from_secs(10)).await.expect("no connection is left");
}

#[test]
fn parameters_are_decoded() {
    let request = Request::test("POST", "/logging?level=a%3Ddebug,b=info&reset&x=%zz+y", &[]);
    let pairs: Vec<(String, String)> = request.parameters();
    let expected = [("level", "a=debug,b=info"), ("reset", ""), ("x", "%zz y")];
    assert_eq!(pairs, expected.map(|(key, value)| (key.to_owned(), value.to_owned())));
}
