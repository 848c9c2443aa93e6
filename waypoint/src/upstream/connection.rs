//! One HTTP connection to an endpoint, and the task that drives it.
//!
//! In: a connected [`Wire`]. Out: a sender of requests that knows its age and use. Absent on purpose: who gets it (see
//! `pool`).

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use lateen_rt::{drain::Drain, tasks::Tasks};
use parking_lot::Mutex;
use tokio::{task::AbortHandle, time::Instant};

use super::{dial::DialError, pool::Permit, wire::Wire};
use crate::{book::cluster::ConnectionPool, http::body::RequestBody};

/// Header bytes of a response, as of a request (the reference's default).
pub const HEADER_BYTES_MAX: usize = 60 * 1024;
/// Headers of a message; hyper's own limit, too, so that it is said to nobody who is asked for each request.
pub const HEADERS_MAX: usize = 100;
/// What one HTTP/2 stream may send ahead of its reader.
const STREAM_WINDOW: u32 = 1024 * 1024;
/// What all streams of a connection may send ahead of their readers.
const CONNECTION_WINDOW: u32 = 8 * 1024 * 1024;
/// What one stream keeps for sending before its writer waits.
const SEND_BUFFER_MAX: usize = 256 * 1024;
/// Streams on one connection unless the endpoint or the configuration says fewer; then another is opened.
const STREAMS_MAX: u32 = 100;

/// What is spoken to an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Speak {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
}

/// What is known of a connection whatever is spoken on it.
#[derive(Debug)]
pub struct About {
    /// The thread that drives it.
    pub lane: usize,
    opened: Instant,
    driver: AbortHandle,
    used: AtomicU32,
}

impl About {
    /// Whether it may carry a further request.
    fn is_fresh(&self, limits: &ConnectionPool) -> bool {
        self.used.load(Ordering::Relaxed) < limits.requests_per_connection_max
            && limits.connection_duration_max.is_none_or(|max| self.opened.elapsed() < max)
    }

    /// Ends it at once, whatever is on it.
    fn cut(&self) {
        self.driver.abort();
    }
}

/// An HTTP/1 connection: one request at a time, so it has one holder.
#[derive(Debug)]
pub struct One {
    /// To send with.
    pub sender: http1::SendRequest<RequestBody>,
    about: Arc<About>,
    idle_since: Instant,
}

impl One {
    /// Whether it is open, waits for a request, and may carry one.
    pub fn is_ready(&self, limits: &ConnectionPool) -> bool {
        self.sender.is_ready() && self.about.is_fresh(limits)
    }

    /// Whether nothing may be sent on it any more.
    pub fn is_over(&self, limits: &ConnectionPool) -> bool {
        self.sender.is_closed() || !self.about.is_fresh(limits)
    }

    /// The thread that drives it.
    pub fn lane(&self) -> usize {
        self.about.lane
    }

    /// Counts a request.
    pub fn begin(&self) -> bool {
        self.about.used.fetch_add(1, Ordering::Relaxed) > 0
    }

    /// The request is over.
    pub fn rest(&mut self) {
        self.idle_since = Instant::now();
    }

    /// Whether it has had no request for `time`.
    pub fn idle_for(&self, time: Duration) -> bool {
        self.idle_since.elapsed() >= time
    }

    /// Ends it, in the middle of whatever is on it.
    pub fn cut(self) {
        self.about.cut();
    }
}

/// An HTTP/2 connection, shared by its requests.
#[derive(Debug)]
pub struct Many {
    sender: http2::SendRequest<RequestBody>,
    about: Arc<About>,
    streams: AtomicU32,
    idle_since: Mutex<Instant>,
}

impl Many {
    /// A place for a request, unless all are taken or the connection is over.
    pub fn enter(self: &Arc<Self>, limits: &ConnectionPool) -> Option<Stream> {
        if self.sender.is_closed() || !self.about.is_fresh(limits) {
            return None;
        }
        let max = limits.streams_max.clamp(1, STREAMS_MAX);
        let next = |now: u32| (now < max).then_some(now + 1);
        self.streams.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).ok()?;
        Some(Stream { of: self.clone() })
    }

    /// Whether it is closed, or may carry no further request.
    pub fn is_over(&self, limits: &ConnectionPool) -> bool {
        self.sender.is_closed() || !self.about.is_fresh(limits)
    }

    /// The thread that drives it.
    pub fn lane(&self) -> usize {
        self.about.lane
    }

    /// Whether it has had no request for `time`.
    pub fn idle_for(&self, time: Duration) -> bool {
        self.streams.load(Ordering::Relaxed) == 0 && self.idle_since.lock().elapsed() >= time
    }
}

/// A place on an HTTP/2 connection; dropping it gives it back.
#[derive(Debug)]
pub struct Stream {
    of: Arc<Many>,
}

impl Stream {
    /// To send with. Counts a request; true if it is not the first.
    pub fn begin(&self) -> (http2::SendRequest<RequestBody>, bool) {
        (self.of.sender.clone(), self.of.about.used.fetch_add(1, Ordering::Relaxed) > 0)
    }

    /// The thread that drives it.
    pub fn lane(&self) -> usize {
        self.of.about.lane
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if self.of.streams.fetch_sub(1, Ordering::Relaxed) == 1 {
            *self.of.idle_since.lock() = Instant::now();
        }
    }
}

/// The owner of a connection's driver.
#[derive(Debug, Clone)]
pub struct Driver {
    /// The thread's number.
    pub lane: usize,
    /// Owns the task.
    pub tasks: Tasks,
    /// Ends it.
    pub drain: Drain,
}

impl Driver {
    /// Begins HTTP/1 on `wire`. `permit` is held as long as the connection is open.
    pub async fn one(&self, wire: Wire, permit: Permit, keep_case: bool) -> Result<One, DialError> {
        let mut builder = http1::Builder::new();
        // A hundred headers are hyper's own limit; to say it costs a buffer that is filled for each answer.
        builder.max_header_size(HEADER_BYTES_MAX).preserve_header_case(keep_case);
        let begun = builder.handshake::<_, RequestBody>(TokioIo::new(wire)).await;
        let (sender, connection) = begun.map_err(|error| DialError::Begin(error.to_string().into()))?;
        let about = self.drive(connection.with_upgrades(), permit);
        Ok(One { sender, about, idle_since: Instant::now() })
    }

    /// Begins HTTP/2 on `wire`.
    pub async fn many(&self, wire: Wire, permit: Permit, limits: &ConnectionPool) -> Result<Arc<Many>, DialError> {
        let mut builder = http2::Builder::new(Spawn(self.tasks.clone()));
        builder
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(HEADER_BYTES_MAX as u32)
            .max_send_buf_size(SEND_BUFFER_MAX);
        if let Some(ping) = &limits.ping {
            builder.keep_alive_interval(ping.interval).keep_alive_timeout(ping.timeout).keep_alive_while_idle(true);
        }
        let begun = builder.handshake::<_, RequestBody>(TokioIo::new(wire)).await;
        let (sender, connection) = begun.map_err(|error| DialError::Begin(error.to_string().into()))?;
        let about = self.drive(connection, permit);
        Ok(Arc::new(Many { sender, about, streams: AtomicU32::new(0), idle_since: Mutex::new(Instant::now()) }))
    }

    fn drive(
        &self,
        connection: impl Future<Output = hyper::Result<()>> + Send + 'static,
        permit: Permit,
    ) -> Arc<About> {
        let drain = self.drain.clone();
        let driver = self.tasks.spawn("upstream", async move {
            let _open = permit;
            tokio::select! {
                // No dice for what is polled with every byte.
                biased;
                ended = connection => {
                    if let Err(error) = ended {
                        tracing::debug!(%error, "a connection to an endpoint ended");
                    }
                }
                () = drain.forced() => {}
            }
        });
        Arc::new(About { lane: self.lane, opened: Instant::now(), driver, used: AtomicU32::new(0) })
    }
}

/// Starts hyper's own tasks under our owner.
#[derive(Debug, Clone)]
pub struct Spawn(pub Tasks);

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Spawn {
    fn execute(&self, work: F) {
        self.0.spawn("http2-stream", work);
    }
}
