//! One connection of HTTP/1. While nothing happens on it, nothing is kept but the stream: a gateway has thousands that wait.
//!
//! ```text
//! stream ─► hyper, its buffers, its state ── quiet for a while, nothing unsent ──► the stream alone, and one byte's room
//!             ▲                                                                       │ a byte, or the end
//!             └───────────────────────────────────────────────────────────────────────┘
//! ```
//! In: a stream, what its requests have in common. Out: each request to `request`; the connection's end. Absent on purpose:
//! limits of an idle connection's age beyond the one it has always had.

use std::{
    convert::Infallible,
    future::poll_fn,
    io,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::header::UPGRADE;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use jiff::{Timestamp, fmt::rfc2822::DateTimePrinter};
use lateen_net::splice::Duplex;
use lateen_rt::deadline::within;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf},
    time::Instant,
};

use super::{
    lingering::Lingering,
    serve::{Connection, IDLE_TIMEOUT},
    signed::Signed,
};
use crate::{
    lane::Lane,
    request::{self, Unreadable},
    rewound::Rewound,
    upstream::connection::HEADER_BYTES_MAX,
};

/// After so long without a request only the stream is kept. Short, as coming back costs a few allocations.
const QUIET: Duration = Duration::from_secs(5);
/// How long a head may take from its first byte on: the reference's number for gateways. Checked as often as a connection is
/// looked at, so it is late by [`QUIET`] at most.
const HEAD_TIMEOUT: Duration = Duration::from_secs(60);
/// How long an answer that is over for us may lie unread.
const UNREAD_TIMEOUT: Duration = Duration::from_secs(300);
/// How long a client that is told that it was too slow may take to hear it.
const TELLING_TIMEOUT: Duration = Duration::from_secs(5);
/// What one connection reads ahead: a whole head and some of its body.
const READ_MAX: usize = HEADER_BYTES_MAX + 4 * 1024;

/// What becomes of a connection that hyper has served for a while.
enum Then<S> {
    /// It is over.
    Over(hyper::Result<()>),
    /// It waits.
    Waits(Lingering<Rewound<S>>),
}

/// Serves `stream` until it ends.
pub(super) async fn run<S>(connection: &Arc<Connection>, stream: Rewound<S>) -> hyper::Result<()>
where
    S: AsyncRead + AsyncWrite + Duplex + Unpin + Send + 'static,
{
    let mut stream = Lingering::new(stream);
    // Half a head: when it was noticed, and since when there was no request.
    let mut half: Option<(Instant, Instant)> = None;
    loop {
        // Boxed, so that a connection that waits is no larger than that takes.
        match Box::pin(busy(connection, stream)).await {
            Then::Over(ended) => return ended,
            Then::Waits(quiet) => stream = quiet,
        }
        let idle_since = connection.idle_since();
        let has_begun = !stream.get_ref().first().is_empty();
        let known = half.filter(|(_, since)| *since == idle_since);
        half = has_begun.then(|| known.unwrap_or_else(|| (Instant::now(), idle_since)));
        if half.is_some_and(|(noticed, _)| noticed.elapsed() >= HEAD_TIMEOUT) {
            Box::pin(too_slow(connection, &mut stream)).await;
            return Ok(());
        }
        if !waited(connection, &mut stream).await {
            return Ok(());
        }
    }
}

/// Refuses whoever does not get to the end of a head.
async fn too_slow<S>(connection: &Arc<Connection>, stream: &mut Lingering<Rewound<S>>)
where
    S: AsyncRead + AsyncWrite + Duplex + Unpin,
{
    const BODY: &str = "request header timeout";
    let name = name(&connection.lane).map_or_else(String::new, |name| format!("server: {name}\r\n"));
    let date = DateTimePrinter::new().timestamp_to_rfc9110_string(&Timestamp::now()).unwrap_or_default();
    let answer = format!(
        "HTTP/1.1 408 Request Timeout\r\n{name}date: {date}\r\ncontent-type: text/plain\r\ncontent-length: {}\r\n\
         connection: close\r\n\r\n{BODY}",
        BODY.len()
    );
    request::unreadable(connection, Unreadable::TooSlow);
    let telling = async {
        stream.write_all(answer.as_bytes()).await?;
        stream.shutdown().await
    };
    match within("the answer to half a head", TELLING_TIMEOUT, telling).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a client did not hear that it was too slow"),
        Err(error) => tracing::debug!(%error, "a client did not hear that it was too slow"),
    }
}

/// Waits for a further request; false if there is none.
async fn waited<S>(connection: &Connection, stream: &mut Lingering<Rewound<S>>) -> bool
where
    S: AsyncRead + AsyncWrite + Duplex + Unpin,
{
    if !stream.get_ref().first().is_empty() {
        return true;
    }
    let mut byte = [0];
    tokio::select! {
        // A request that has come goes before an end.
        biased;
        read = stream.read(&mut byte) => match read {
            Ok(1) => {
                stream.get_mut().unread(Bytes::copy_from_slice(&byte));
                true
            }
            Ok(_) | Err(_) => false,
        },
        () = ends(connection) => {
            // Whoever is there no more does not hear it.
            stream.shutdown().await.ok();
            false
        }
    }
}

/// Until a connection without a request ends: after its time, or when others serve what it is for.
async fn ends(connection: &Connection) {
    tokio::select! {
        () = tokio::time::sleep_until(connection.idle_since() + IDLE_TIMEOUT) => {}
        () = connection.elsewhere() => {}
    }
}

/// Serves `stream` until it ends or is quiet.
async fn busy<S>(connection: &Arc<Connection>, stream: Lingering<Rewound<S>>) -> Then<S>
where
    S: AsyncRead + AsyncWrite + Duplex + Unpin + Send + 'static,
{
    let told = Arc::new(Told::default());
    let (on, asked) = (connection.clone(), told.clone());
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        if request.headers().contains_key(UPGRADE) {
            asked.upgrade.store(true, Ordering::Relaxed);
        }
        let on = on.clone();
        // Not boxed: hyper keeps a place for it as long as the connection is busy.
        async move { Ok::<_, Infallible>(request::handle(on, request).await) }
    });
    let stream = Signed::new(stream, name(&connection.lane));
    let stream = TokioIo::new(Watched { stream, told: told.clone() });
    let mut serving = builder(&connection.lane).serve_connection(stream, service);
    let mut quiet = pin!(tokio::time::sleep(QUIET));
    loop {
        let polled = poll_fn(|context| match Pin::new(&mut serving).poll(context) {
            Poll::Ready(ended) => Poll::Ready(Some(ended)),
            Poll::Pending if told.upgrade.load(Ordering::Relaxed) => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        });
        tokio::select! {
            // No dice for what is polled with every byte.
            biased;
            ended = polled => match ended {
                Some(ended) => return Then::Over(ended),
                // The answer may be a 101, which only this kind of connection can give; it is on its way at the earliest.
                None => return Then::Over(upgradeable(connection, serving.with_upgrades()).await),
            },
            () = &mut quiet => match due(connection, &told) {
                Due::Nothing(until) => quiet.as_mut().reset(until.max(Instant::now() + QUIET / 4)),
                Due::Quiet => {
                    let parts = serving.into_parts();
                    let mut stream = parts.io.into_inner().stream.into_inner();
                    stream.get_mut().unread(parts.read_buf);
                    return Then::Waits(stream);
                }
                Due::End => return Then::Over(Ok(())),
            },
        }
    }
}

/// What is to be done about a connection.
enum Due {
    /// Nothing before this.
    Nothing(Instant),
    /// Nothing is kept of it but its stream.
    Quiet,
    /// It ends: nobody reads the last answer, or its request goes on for ever.
    End,
}

/// Only between a request and the next one may hyper's state be forgotten: in the middle of a body what follows would be read
/// as a request, though it is none.
fn due(connection: &Connection, told: &Told) -> Due {
    let now = Instant::now();
    let Some(until) = connection.quiet_until(QUIET) else { return Due::Nothing(now + QUIET) };
    if until > now {
        return Due::Nothing(until);
    }
    let limit = match (told.unsent.load(Ordering::Relaxed), connection.is_receiving()) {
        (false, false) => return Due::Quiet,
        (true, _) => UNREAD_TIMEOUT,
        (false, true) => IDLE_TIMEOUT,
    };
    if connection.idle_since() + limit <= now { Due::End } else { Due::Nothing(now + QUIET) }
}

/// Serves until it ends, or becomes something else.
async fn upgradeable<S, E, B>(connection: &Connection, serving: http1::UpgradeableConnection<S, E>) -> hyper::Result<()>
where
    S: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
    E: hyper::service::HttpService<Incoming, ResBody = B>,
    E::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    B: hyper::body::Body + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let mut serving = pin!(serving);
    let mut idle = pin!(tokio::time::sleep(IDLE_TIMEOUT));
    loop {
        tokio::select! {
            ended = &mut serving => return ended,
            () = &mut idle => {
                let until = connection.quiet_until(IDLE_TIMEOUT).unwrap_or_else(|| Instant::now() + IDLE_TIMEOUT);
                if until <= Instant::now() {
                    serving.as_mut().graceful_shutdown();
                }
                idle.as_mut().reset(until.max(Instant::now() + QUIET));
            }
        }
    }
}

/// What we are called in answers.
fn name(lane: &Lane) -> Option<Arc<str>> {
    lane.shared.book.peek().proxy().and_then(|proxy| proxy.options.server_name.clone())
}

fn builder(lane: &Lane) -> http1::Builder {
    let options = lane.shared.book.peek();
    let keep_case = options.proxy().is_some_and(|proxy| proxy.options.preserve_header_case);
    let mut builder = http1::Builder::new();
    // A hundred headers are hyper's own limit; to say it costs a buffer that is filled for each request.
    builder
        .timer(TokioTimer::new())
        // Idle connections are ours to end, and the reference waits for heads as long.
        .header_read_timeout(None)
        .max_header_size(HEADER_BYTES_MAX)
        .max_buf_size(READ_MAX)
        .preserve_header_case(keep_case)
        .half_close(false);
    builder
}

/// What hyper does not tell of a connection.
#[derive(Debug, Default)]
struct Told {
    /// A request wants to become something else.
    upgrade: AtomicBool,
    /// hyper holds bytes that the stream has not taken.
    unsent: AtomicBool,
}

/// A stream that tells whether everything has left. hyper flushes once it has written all it holds, and only then.
struct Watched<S> {
    stream: S,
    told: Arc<Told>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, into)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.told.unsent.store(true, Ordering::Relaxed);
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.told.unsent.store(true, Ordering::Relaxed);
        Pin::new(&mut self.stream).poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_flush(context))?;
        self.told.unsent.store(false, Ordering::Relaxed);
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
