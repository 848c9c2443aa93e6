//! Scripted endpoints.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{Request, Response, body::Incoming, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use lateen_hbone::{server, settings::Settings, stream::Tunnel};
use lateen_identity::handshake;
use lateen_rt::{drain::Drain, tasks::Tasks};
use lateen_types::id::SpiffeId;
use parking_lot::Mutex;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
};

use super::rig::Rig;

/// An endpoint and what it has seen.
pub struct Endpoint {
    pub addr: SocketAddr,
    pub connections: Arc<AtomicUsize>,
}

impl Endpoint {
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

/// An endpoint that does `serve` with each connection.
pub async fn raw<F>(rig: &Rig, serve: impl Fn(TcpStream) -> F + Send + Sync + 'static) -> Endpoint
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let addr = listener.local_addr().expect("bound");
    let connections = Arc::new(AtomicUsize::new(0));
    let (seen, tasks, drain) = (connections.clone(), rig.tasks.clone(), rig.drain.clone());
    rig.tasks.spawn("endpoint", async move {
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = drain.forced() => return,
            };
            let Ok((stream, _)) = accepted else { return };
            seen.fetch_add(1, Ordering::SeqCst);
            stream.set_nodelay(true).expect("no delay");
            let (serving, drain) = (serve(stream), drain.clone());
            tasks.spawn("endpoint-connection", async move {
                tokio::select! {
                    () = serving => {}
                    () = drain.forced() => {}
                }
            });
        }
    });
    Endpoint { addr, connections }
}

/// Answers with what was asked: method, path, headers by name, body.
pub async fn echo(request: Request<Incoming>) -> Response<Full<Bytes>> {
    let (parts, body) = request.into_parts();
    let mut text = format!("{:?} {} {}\n", parts.version, parts.method, parts.uri);
    for (name, value) in &parts.headers {
        text.push_str(&format!("{name}: {}\n", String::from_utf8_lossy(value.as_bytes())));
    }
    text.push('\n');
    let body = body.collect().await.expect("the whole body");
    let trailers = body.trailers().cloned();
    text.push_str(&String::from_utf8_lossy(&body.to_bytes()));
    for (name, value) in trailers.iter().flat_map(|trailers| trailers.iter()) {
        text.push_str(&format!("\n{name}: {value:?}"));
    }
    Response::new(Full::new(text.into()))
}

/// Serves HTTP of either version, whatever comes.
pub async fn http<S, F, B>(stream: S, answer: impl Fn(Request<Incoming>) -> F + Clone + Send + 'static)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    F: Future<Output = Response<B>> + Send + 'static,
    B: hyper::body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let service = service_fn(move |request| {
        let answering = answer(request);
        async move { Ok::<_, Infallible>(answering.await) }
    });
    let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
    builder.serve_connection_with_upgrades(TokioIo::new(stream), service).await.ok();
}

/// An endpoint that echoes requests.
pub async fn echoing(rig: &Rig) -> Endpoint {
    raw(rig, |stream| http(stream, echo)).await
}

/// An endpoint that answers with these words.
pub async fn saying(rig: &Rig, words: String) -> Endpoint {
    let answer = move |_request: Request<Incoming>| {
        let words = words.clone();
        async move { Response::new(Full::<Bytes>::new(words.into())) }
    };
    raw(rig, move |stream| http(stream, answer.clone())).await
}

/// What stands in for an endpoint's ztunnel: takes tunnels on port 15008 of `ip` as `identity`, and gives each to `serve`.
pub async fn tunnels<F>(rig: &Rig, ip: &str, identity: SpiffeId, serve: impl Fn(Tunnel) -> F + Send + Sync + 'static)
where
    F: Future<Output = ()> + Send + 'static,
{
    let accepted = move |arrival: server::Arrival| serve(arrival.accept(None).expect("the waypoint waits"));
    arrivals(rig, ip, identity, accepted).await;
}

/// The same, of tunnels that are not answered yet.
pub async fn arrivals<F>(
    rig: &Rig,
    ip: &str,
    identity: SpiffeId,
    serve: impl Fn(server::Arrival) -> F + Send + Sync + 'static,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind((ip, 15008)).await.expect("the tunnel port of an address of our own");
    let (ca, tasks, drain, serve) = (rig.ca.clone(), rig.tasks.clone(), rig.drain.clone(), Arc::new(serve));
    rig.tasks.spawn("ztunnel", async move {
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = drain.forced() => return,
            };
            let Ok((stream, _)) = accepted else { return };
            let ours = ca.leaf(&identity);
            let (serve, tasks, drain) = (serve.clone(), tasks.clone(), drain.clone());
            tasks.clone().spawn("ztunnel-connection", carry((stream, ours), serve, (tasks, drain)));
        }
    });
}

/// What tunnels asked for, in order.
pub type Asked = Arc<Mutex<Vec<String>>>;

/// The same, with an echo behind it; what each tunnel asked for.
pub async fn tunnels_asked(rig: &Rig, ip: &str, identity: SpiffeId) -> Asked {
    let asked = Asked::default();
    let noted = asked.clone();
    let serve = move |arrival: server::Arrival| {
        noted.lock().push(arrival.request.authority.to_string());
        http(arrival.accept(None).expect("the waypoint waits"), echo)
    };
    arrivals(rig, ip, identity, serve).await;
    asked
}

async fn carry<F>(
    (stream, ours): (TcpStream, lateen_identity::cert::WorkloadCertificate),
    serve: Arc<impl Fn(server::Arrival) -> F + Send + Sync + 'static>,
    (tasks, drain): (Tasks, Drain),
) where
    F: Future<Output = ()> + Send + 'static,
{
    let Ok(secured) = handshake::accept(stream, &ours, handshake::HANDSHAKE_TIMEOUT).await else { return };
    let take = |arrival: server::Arrival| {
        tasks.spawn("ztunnel-stream", serve(arrival));
    };
    server::serve(secured.stream, &Settings::default(), &drain, take).await.ok();
}
