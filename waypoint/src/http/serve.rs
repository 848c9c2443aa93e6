//! One HTTP connection: hyper reads and writes it, every limit said out loud.
//!
//! In: a stream and what is spoken on it. Out: each request to `request`; the connection's end. Absent on purpose: what is
//! done with a request.

use std::{
    convert::Infallible,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use hyper::{body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use lateen_net::splice::Duplex;
use lateen_rt::drain::Drain;
use lateen_state::service::Service;
use parking_lot::Mutex;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::Notify,
    time::Instant,
};

use super::{body::Flow, detect::Spoken, lingering::Lingering, one};
use crate::{
    arrival::{Arrival, Target},
    lane::{Busy, Lane},
    report::Client,
    request::{self, Unreadable},
    rewound::Rewound,
    upstream::connection::{HEADER_BYTES_MAX, Spawn},
};

/// How long a connection may have no request.
pub(super) const IDLE_TIMEOUT: Duration = Duration::from_secs(3600);
/// How long an idle connection of HTTP/2 that was told to go may take for it.
const GOING_TIMEOUT: Duration = Duration::from_secs(60);
/// Requests of one HTTP/2 connection at a time.
const STREAMS_MAX: u32 = 100;
/// What one HTTP/2 stream may send ahead of its reader.
const STREAM_WINDOW: u32 = 256 * 1024;
/// What all streams together may send ahead of their readers.
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// What one stream keeps for sending before its writer waits.
const SEND_BUFFER_MAX: usize = 256 * 1024;
/// Streams reset by the client before they were accepted (rapid reset, CVE-2023-44487).
const PENDING_RESETS_MAX: usize = 20;
/// Streams reset because the client broke the protocol.
const ERROR_RESETS_MAX: usize = 1024;

/// What the requests of one connection have in common.
pub struct Connection {
    /// The thread.
    pub lane: Arc<Lane>,
    /// Who calls, and what for.
    pub arrival: Arrival,
    /// Who calls, as records and metrics have it.
    pub client: Arc<Client>,
    /// The service that is called.
    pub service: Option<Arc<Service>>,
    /// Requests under way.
    active: AtomicU32,
    idle_since: Mutex<Instant>,
    /// Told of requests while the client is to go elsewhere.
    asked: Notify,
    /// Ends with the answer that is under way.
    ending: AtomicBool,
    /// Told of it.
    ends: Notify,
    /// The body of the last request of HTTP/1 that had one, until it has ended.
    receiving: Mutex<Option<Arc<Flow>>>,
}

/// A request is under way.
pub struct Active {
    on: Arc<Connection>,
    _busy: Busy,
}

impl Connection {
    /// Counts a request until the guard is dropped.
    pub fn enter(self: &Arc<Self>) -> Active {
        self.active.fetch_add(1, Ordering::Relaxed);
        if self.is_leaving() {
            self.asked.notify_one();
        }
        Active { on: self.clone(), _busy: self.lane.busy() }
    }

    /// A request's body comes, or it has none: then that of the one before is over. Of HTTP/2 no request waits for another
    /// one's end.
    pub fn receives(&self, body: Option<&Arc<Flow>>) {
        *self.receiving.lock() = body.cloned();
    }

    /// Whether more of a body may come, so that what follows is no request yet.
    pub(super) fn is_receiving(&self) -> bool {
        let mut receiving = self.receiving.lock();
        if receiving.as_ref().is_some_and(|body| body.has_ended()) {
            *receiving = None;
        }
        receiving.is_some()
    }

    /// The connection must not be used any more: its client has to begin anew.
    pub fn end(&self) {
        self.ending.store(true, Ordering::Relaxed);
        self.ends.notify_one();
    }

    /// Whether this answer is its last.
    pub fn is_ending(&self) -> bool {
        self.is_leaving() || self.ending.load(Ordering::Relaxed)
    }

    /// What ends it: its port, where it came on one, or else the process.
    fn drain(&self) -> &Drain {
        self.arrival.caller.door.as_ref().unwrap_or(&self.lane.drain)
    }

    /// Whether the client is to go elsewhere with its next request.
    pub fn is_leaving(&self) -> bool {
        self.lane.is_leaving() || self.arrival.caller.door.as_ref().is_some_and(Drain::is_draining)
    }

    /// Until the client is to be told to go elsewhere. Whoever comes while others are already told so has not heard of us
    /// going, and has his first request on the way: told at once, some clients fail it without sending it anywhere.
    async fn leaving(&self) {
        if self.is_leaving() {
            self.asked.notified().await;
        }
        self.drain().draining().await;
    }

    /// Until the service that is called is no longer served here, or never where it is not from the beginning: who comes then
    /// has his first request on the way, and is told with its answer.
    async fn parted(&self) {
        match &self.arrival.target {
            Target::Service { key, .. } if self.lane.shared.book.peek().is_ours(key) => self.elsewhere().await,
            Target::Service { .. } | Target::Workload { .. } | Target::Port { .. } => std::future::pending().await,
        }
    }

    /// Until the service that is called is not served here.
    pub(super) async fn elsewhere(&self) {
        let Target::Service { key, .. } = &self.arrival.target else { return std::future::pending().await };
        let store = &self.lane.shared.book;
        let mut parted = store.parted();
        while store.peek().is_ours(key) {
            if parted.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }

    /// When the connection will have been idle for too long, if nothing happens; `None` while it is not idle.
    fn idle_until(&self) -> Option<Instant> {
        self.quiet_until(IDLE_TIMEOUT)
    }

    /// When the connection will have been idle for so long, if nothing happens; `None` while it is not idle.
    pub(super) fn quiet_until(&self, time: Duration) -> Option<Instant> {
        self.is_idle().then(|| self.idle_since() + time)
    }

    /// Whether no request is under way.
    fn is_idle(&self) -> bool {
        self.active.load(Ordering::Relaxed) == 0
    }

    /// Since when it is idle, where it is.
    pub(super) fn idle_since(&self) -> Instant {
        *self.idle_since.lock()
    }
}

impl std::fmt::Debug for Active {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Active")
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        *self.on.idle_since.lock() = Instant::now();
        self.on.active.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Serves `stream` until it ends.
pub async fn run<S>(lane: Arc<Lane>, arrival: Arrival, stream: Rewound<S>, spoken: Spoken)
where
    S: AsyncRead + AsyncWrite + Duplex + Unpin + Send + 'static,
{
    let connection = Arc::new(Connection {
        client: lane.client(&arrival),
        service: lane.service(&arrival),
        lane: lane.clone(),
        arrival,
        active: AtomicU32::new(0),
        idle_since: Mutex::new(Instant::now()),
        asked: Notify::new(),
        ending: AtomicBool::new(false),
        ends: Notify::new(),
        receiving: Mutex::new(None),
    });
    let ended = match spoken {
        Spoken::Http2 => Box::pin(two(&connection, stream)).await,
        Spoken::Http1 | Spoken::Other => one::run(&connection, stream).await,
    };
    if let Err(error) = ended {
        // What hyper cannot read it refuses by itself, before anybody else has seen a request.
        if error.is_parse() && !error.is_parse_version_h2() && connection.is_idle() {
            let why = if error.is_parse_too_large() { Unreadable::TooLarge } else { Unreadable::Malformed };
            request::unreadable(&connection, why);
        }
        tracing::debug!(client = %connection.arrival.caller.client, %error, "a connection ended early");
    }
}

/// Serves HTTP/2 until it ends. A connection of HTTP/1 is told of an end with its next answer (see `request`): to close an
/// idle one would lose the request that is on its way.
async fn two<S>(connection: &Arc<Connection>, stream: Rewound<S>) -> hyper::Result<()>
where
    S: AsyncRead + AsyncWrite + Duplex + Unpin + Send + 'static,
{
    let on = connection.clone();
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let on = on.clone();
        async move { Ok::<_, Infallible>(request::handle(on, request).await) }
    });
    let stream = TokioIo::new(Lingering::new(stream));
    let mut serving = pin!(builder(&connection.lane).serve_connection(stream, service));
    let mut leaving = pin!(connection.leaving());
    let mut parted = pin!(connection.parted());
    let mut ending = false;
    let mut idle = pin!(tokio::time::sleep(IDLE_TIMEOUT));
    loop {
        tokio::select! {
            ended = &mut serving => return ended,
            () = &mut leaving, if !ending => {
                ending = true;
                serving.as_mut().graceful_shutdown();
            }
            () = &mut parted, if !ending => {
                ending = true;
                serving.as_mut().graceful_shutdown();
            }
            () = connection.ends.notified(), if !ending => {
                ending = true;
                serving.as_mut().graceful_shutdown();
            }
            () = &mut idle => match connection.idle_until() {
                // It was told to go, and does not.
                Some(until) if until <= Instant::now() && ending => return Ok(()),
                Some(until) if until <= Instant::now() => {
                    ending = true;
                    serving.as_mut().graceful_shutdown();
                    idle.as_mut().reset(Instant::now() + GOING_TIMEOUT);
                }
                Some(until) => idle.as_mut().reset(until),
                None => idle.as_mut().reset(Instant::now() + IDLE_TIMEOUT),
            },
        }
    }
}

fn builder(lane: &Lane) -> http2::Builder<Spawn> {
    let mut builder = http2::Builder::new(Spawn(lane.tasks.clone()));
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER_MAX)
        .max_header_list_size(HEADER_BYTES_MAX as u32)
        .max_pending_accept_reset_streams(PENDING_RESETS_MAX)
        .max_local_error_reset_streams(ERROR_RESETS_MAX)
        .enable_connect_protocol();
    builder
}
