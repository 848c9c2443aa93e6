//! The server the lab offers as image `echo`: says who it is and what it was told.
//!
//! In: `[--server-first] [--http PORT]… [--tcp PORT]…` (by default HTTP on 8080 and TCP on 9000); its version is the
//! image's tag or `VERSION`. Out: on HTTP a few lines, on TCP every line back behind our name.
//! Told to end, it serves on for a moment, as whoever calls it learns only by and by that it goes.
//! With `--server-first` the TCP side greets before it reads, as databases and mail servers do.

use std::{
    net::SocketAddr,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, bail};
use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use lateen_rt::tasks::Tasks;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    signal::unix::{SignalKind, signal},
    sync::Semaphore,
};

use crate::config::variable;

/// How many connections are served at once; more wait.
const CONNECTIONS_MAX: usize = 10_000;
/// The longest line and the largest HTTP body that are echoed.
const LINE_MAX: u64 = 1 << 20;
const BODY_MAX: usize = 16 << 20;
/// How long a server goes on after SIGTERM. Its answers say that they are their connection's last.
const LEAVING_TIME: Duration = Duration::from_secs(2);
static LEAVING: AtomicBool = AtomicBool::new(false);
/// After a failed accept (no descriptors left), this long nothing is accepted.
pub(crate) const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What the server says of itself, and how.
#[derive(Debug)]
struct Echo {
    host: String,
    version: String,
    server_first: bool,
}

/// Serves until SIGTERM.
pub(crate) fn run(arguments: &[String]) -> anyhow::Result<ExitCode> {
    let (mut http, mut tcp, mut server_first) = (Vec::new(), Vec::new(), false);
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        let mut port =
            || words.next().and_then(|text| text.parse::<u16>().ok()).context(format!("{word} needs a port"));
        match word.as_str() {
            "--server-first" => server_first = true,
            "--http" => http.push(port()?),
            "--tcp" => tcp.push(port()?),
            other => bail!("{other:?} is not known; use --server-first, --http PORT, --tcp PORT"),
        }
    }
    if http.is_empty() && tcp.is_empty() {
        (http, tcp) = (vec![8080], vec![9000]);
    }
    let host = nix::unistd::gethostname().context("our host name")?.to_string_lossy().into_owned();
    let version = variable("VERSION").or_else(|| variable("LATEEN_IMAGE_TAG")).unwrap_or_else(|| "latest".into());
    let echo = Arc::new(Echo { host, version, server_first });
    started(serve(echo, http, tcp))
}

/// Runs one of the offered servers.
pub(crate) fn started(work: impl Future<Output = anyhow::Result<ExitCode>>) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting")?;
    runtime.block_on(work)
}

/// Does nothing until SIGTERM: the image `pause`.
pub(crate) fn pause() -> anyhow::Result<ExitCode> {
    started(end())
}

/// Ends a moment after SIGTERM: what servers do.
pub(crate) async fn leave() -> anyhow::Result<ExitCode> {
    let code = end().await?;
    LEAVING.store(true, Ordering::Relaxed);
    tokio::time::sleep(LEAVING_TIME).await;
    Ok(code)
}

/// An answer, which is its connection's last if the server is about to end.
pub(crate) fn answering(status: StatusCode) -> http::response::Builder {
    let response = Response::builder().status(status);
    match LEAVING.load(Ordering::Relaxed) {
        true => response.header(header::CONNECTION, "close"),
        false => response,
    }
}

/// Ends at SIGTERM.
pub(crate) async fn end() -> anyhow::Result<ExitCode> {
    let mut term = signal(SignalKind::terminate()).context("waiting for SIGTERM")?;
    let mut int = signal(SignalKind::interrupt()).context("waiting for SIGINT")?;
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
    Ok(ExitCode::SUCCESS)
}

#[derive(Debug, Clone, Copy)]
enum Speaks {
    Http,
    Lines,
}

async fn serve(echo: Arc<Echo>, http: Vec<u16>, tcp: Vec<u16>) -> anyhow::Result<ExitCode> {
    let tasks = Tasks::new();
    let ports =
        http.into_iter().map(|port| (port, Speaks::Http)).chain(tcp.into_iter().map(|port| (port, Speaks::Lines)));
    for (port, speaks) in ports {
        let listener = listen(port).await.with_context(|| format!("listening on port {port}"))?;
        tasks.spawn("echo accept", accept(echo.clone(), listener, speaks, tasks.clone()));
    }
    leave().await
}

/// Both families where the kernel has both.
pub(crate) async fn listen(port: u16) -> std::io::Result<TcpListener> {
    match TcpListener::bind(("::", port)).await {
        Ok(listener) => Ok(listener),
        Err(_) => TcpListener::bind(("0.0.0.0", port)).await,
    }
}

async fn accept(echo: Arc<Echo>, listener: TcpListener, speaks: Speaks, tasks: Tasks) {
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    while let Ok(permit) = permits.clone().acquire_owned().await {
        let Ok((stream, peer)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let echo = echo.clone();
        tasks.spawn("echo connection", async move {
            // A client that goes away is its own business.
            let result = match speaks {
                Speaks::Http => echo.http(stream, peer).await,
                Speaks::Lines => echo.lines(stream, peer).await,
            };
            if let Err(error) = result {
                tracing::debug!(%peer, %error, "a connection ended with an error");
            }
            drop(permit);
        });
    }
}

impl Echo {
    fn name(&self, peer: SocketAddr) -> String {
        format!("hostname={} version={} peer={}", self.host, self.version, plain(peer))
    }

    async fn http(self: Arc<Self>, stream: TcpStream, peer: SocketAddr) -> anyhow::Result<()> {
        let service = service_fn(move |request| {
            let echo = self.clone();
            async move { echo.answer(request, peer).await }
        });
        Ok(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await?)
    }

    async fn answer(&self, request: Request<Incoming>, peer: SocketAddr) -> http::Result<Response<Full<Bytes>>> {
        let (head, body) = request.into_parts();
        let mut text = format!("Hostname: {}\nVersion: {}\nPeer: {}\n", self.host, self.version, plain(peer));
        text += &format!("{} {} {:?}\n", head.method, head.uri, head.version);
        for (name, value) in &head.headers {
            text += &format!("{name}: {}\n", String::from_utf8_lossy(value.as_bytes()));
        }
        let status = match Limited::new(body, BODY_MAX).collect().await {
            Ok(body) => {
                let body = body.to_bytes();
                text += &format!("\n{}", String::from_utf8_lossy(&body));
                StatusCode::OK
            }
            Err(error) if error.is::<LengthLimitError>() => StatusCode::PAYLOAD_TOO_LARGE,
            Err(_) => StatusCode::BAD_REQUEST,
        };
        answering(status).header(header::CONTENT_TYPE, "text/plain; charset=utf-8").body(Full::from(text))
    }

    async fn lines(&self, stream: TcpStream, peer: SocketAddr) -> anyhow::Result<()> {
        let (read, mut write) = stream.into_split();
        if self.server_first {
            write.write_all(format!("220 {}\n", self.name(peer)).as_bytes()).await?;
        }
        let mut read = BufReader::new(read);
        let mut line = Vec::new();
        loop {
            line.clear();
            if (&mut read).take(LINE_MAX).read_until(b'\n', &mut line).await? == 0 {
                return Ok(());
            }
            let mut answer = format!("{} ", self.name(peer)).into_bytes();
            answer.extend_from_slice(&line);
            write.write_all(&answer).await?;
        }
    }
}

/// An IPv4 peer of a dual-stack socket as IPv4.
fn plain(peer: SocketAddr) -> SocketAddr {
    SocketAddr::new(peer.ip().to_canonical(), peer.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_come_back_behind_a_greeting() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("its address");
        let echo = Arc::new(Echo { host: "pod".into(), version: "v2".into(), server_first: true });
        let tasks = Tasks::new();
        let work = accept(echo, listener, Speaks::Lines, tasks.clone());
        let accepting = tasks.spawn("accept", work);
        let mut stream = BufReader::new(TcpStream::connect(address).await.expect("connected"));
        let mut text = String::new();
        stream.read_line(&mut text).await.expect("a greeting before we spoke");
        assert!(text.starts_with("220 hostname=pod version=v2 peer=127.0.0.1:"), "{text}");
        stream.write_all(b"hello\n").await.expect("sent");
        text.clear();
        stream.read_line(&mut text).await.expect("an echo");
        assert!(text.ends_with(" hello\n"), "{text}");
        stream.shutdown().await.expect("half closed");
        text.clear();
        assert_eq!(stream.read_line(&mut text).await.expect("the other half"), 0);
        accepting.abort();
    }
}
