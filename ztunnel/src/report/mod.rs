//! What is told about each connection: exactly one access record, and the traffic counters.
//!
//! In: who, where to, how it ended. Out: one record; opened and closed once each, bytes as they flow.
//! Absent on purpose: deciding anything.

mod handles;
mod labels;
mod party;
#[cfg(test)]
mod tests;

use std::{
    fmt::Display,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use lateen_net::splice::Meter;
use lateen_rt::drain::Drain;
use lateen_state::service::Service;
use lateen_telemetry::access::{self, Direction, Record, Traffic};
use metrics::{Counter, Gauge};
use tokio::time::Instant;

use handles::Handles;
use labels::Labelled;
pub use party::Party;

/// The response flag of the metrics: what went wrong, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flag {
    /// Nothing.
    None,
    /// Policy refused it, at the start or later.
    Deny,
    /// The far side cannot be connected to, or anything else.
    Connect,
    /// The TLS handshake failed.
    TlsFailure,
    /// The HTTP/2 handshake failed.
    H2Failure,
    /// Silence on port 15008, which is how a NetworkPolicy that blocks it looks.
    NetworkPolicy,
    /// We have no certificate to show.
    Identity,
}

impl Flag {
    /// The metric's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "-",
            Self::Deny => "DENY",
            Self::Connect => "CONNECT",
            Self::TlsFailure => "TLS_FAILURE",
            Self::H2Failure => "H2_HANDSHAKE_FAILURE",
            Self::NetworkPolicy => "NETWORK_POLICY",
            Self::Identity => "IDENTITY_ERROR",
        }
    }
}

/// What keeps a connection from strangers between our two ends of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Security {
    /// Mutual TLS proved both ends to each other, and hides the bytes.
    MutualTls,
    /// Both pods are served by this process: it knows both ends from the node's own state, and the bytes never leave its
    /// memory and the two pods' namespaces. There is no TLS, and the word does not claim any.
    SameNode,
    /// Nothing: the bytes go in plain.
    Unknown,
}

impl Security {
    /// The metric's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::MutualTls => "mutual_tls",
            Self::SameNode => "same_node",
            Self::Unknown => "unknown",
        }
    }
}

/// A connection whose way is chosen.
#[derive(Debug)]
pub struct Opening {
    /// Our side of the mesh.
    pub direction: Direction,
    /// The client's address.
    pub client: SocketAddr,
    /// The TCP next hop.
    pub hop: Option<SocketAddr>,
    /// The CONNECT authority of a tunnel.
    pub authority: Option<String>,
    /// The client.
    pub source: Party,
    /// The server.
    pub destination: Party,
    /// The service that was meant.
    pub service: Option<Arc<Service>>,
    /// What keeps the hop from strangers.
    pub security: Security,
    /// When it was accepted.
    pub began: Instant,
}

/// Bytes on their way into the counters. Flushed by a clock while the connection lives, and at its end.
#[derive(Debug)]
pub struct Flow {
    /// What `splice` counts into; shared where one copying has two reporters.
    pub meter: Arc<Meter>,
    handles: Arc<Handles>,
    received: Flushed,
    sent: Flushed,
}

/// How much of a direction is in its counter.
#[derive(Debug, Default)]
struct Flushed(AtomicU64);

impl Flushed {
    fn flush(&self, total: u64, counter: &Counter) {
        // Two flushes may meet; each adds only what the other has not.
        let before = self.0.fetch_max(total, Ordering::Relaxed);
        if total > before {
            counter.increment(total - before);
        }
    }
}

impl Flow {
    /// Adds to the counters what was moved since the last time.
    pub fn flush(&self) {
        self.received.flush(self.meter.from_source(), &self.handles.received);
        self.sent.flush(self.meter.from_destination(), &self.handles.sent);
    }
}

/// The guard of one connection: counted as opened when made, as closed exactly once.
#[derive(Debug)]
pub struct Report<'p> {
    // Boxed: a report is passed on by value while the connection begins, and each of those places keeps its room.
    opening: Box<Opening>,
    flow: Arc<Flow>,
    drain: &'p Drain,
    finished: bool,
}

impl<'p> Report<'p> {
    /// Counts the connection as opened. Whatever ends it once its pod's `drain` is forced, it was the drain: tunnels
    /// under a connection may break before its own task notices.
    pub fn open(opening: Opening, drain: &'p Drain) -> Self {
        Self::counting(opening, drain, Arc::default())
    }

    /// The same connection as its other end tells it: counted beside this report, with the same bytes.
    pub fn other_end<'o>(&self, opening: Opening, drain: &'o Drain) -> Report<'o> {
        Report::counting(opening, drain, self.flow.meter.clone())
    }

    fn counting(opening: Opening, drain: &'p Drain, meter: Arc<Meter>) -> Self {
        let handles = Handles::of(&opening.labelled());
        handles.opened.increment(1);
        if access::wants_opened() {
            opening.record(opening.authority.clone()).opened();
        }
        let flow = Arc::new(Flow { meter, handles, received: Flushed::default(), sent: Flushed::default() });
        Self { opening: Box::new(opening), flow, drain, finished: false }
    }

    /// The bytes of this connection.
    pub fn flow(&self) -> &Arc<Flow> {
        &self.flow
    }

    /// The connection ended well.
    pub fn complete(mut self) {
        self.end(Flag::None, None);
    }

    /// The connection ended badly.
    pub fn failed(mut self, flag: Flag, error: &dyn Display) {
        self.end(flag, Some(error));
    }

    fn end(&mut self, flag: Flag, error: Option<&dyn Display>) {
        self.finished = true;
        self.flow.flush();
        let (flag, error) =
            if self.drain.is_forced() { (Flag::Connect, Some(&DRAINED as &dyn Display)) } else { (flag, error) };
        if flag == Flag::None {
            self.flow.handles.closed.increment(1);
        } else {
            let labels = self.opening.labelled().labels(flag);
            metrics::counter!("istio_tcp_connections_failed", labels.clone()).increment(1);
            metrics::counter!("istio_tcp_connections_closed", labels).increment(1);
        }
        let (received, sent) = (self.flow.meter.from_source(), self.flow.meter.from_destination());
        let (bytes_sent, bytes_recv) = match self.opening.direction {
            Direction::Outbound => (received, sent),
            Direction::Inbound => (sent, received),
        };
        let traffic = Traffic { bytes_sent, bytes_recv, duration: self.opening.began.elapsed() };
        let authority = self.opening.authority.take();
        self.opening.record(authority).complete(traffic, error);
    }
}

impl Drop for Report<'_> {
    /// A task that was dropped where it stood: its pod is gone, or the process is ending.
    fn drop(&mut self) {
        if !self.finished {
            self.end(Flag::Connect, Some(&DRAINED));
        }
    }
}

/// What the record says when a connection is cut because its pod or this process ends.
pub const DRAINED: &str = "connection closed due to connection drain";

impl Opening {
    fn labelled(&self) -> Labelled<'_> {
        Labelled {
            reporter: match self.direction {
                Direction::Outbound => "source",
                Direction::Inbound => "destination",
            },
            source: &self.source,
            destination: &self.destination,
            service: self.service.as_ref(),
            security: self.security,
        }
    }

    fn record(&self, authority: Option<String>) -> Record {
        Record {
            direction: self.direction,
            src_addr: self.client,
            src: self.source.end(),
            dst_addr: self.hop,
            hbone_addr: authority,
            service: self.service.as_ref().map(|service| service.key.hostname.clone()),
            dst: self.destination.end(),
        }
    }
}

/// One accepted socket in the gauge of open ones.
#[derive(Debug)]
pub struct OpenSocket(Gauge);

thread_local! {
    /// Both gauges, named once for each thread: for outbound and for inbound sockets.
    static OPEN_SOCKETS: [Gauge; 2] = ["source", "destination"]
        .map(|reporter| metrics::gauge!("istio_tcp_sockets_open", "reporter" => reporter));
}

impl OpenSocket {
    /// Counts one more until dropped.
    pub fn new(direction: Direction) -> Self {
        let gauge = OPEN_SOCKETS.with(|[outbound, inbound]| match direction {
            Direction::Outbound => outbound.clone(),
            Direction::Inbound => inbound.clone(),
        });
        gauge.increment(1.0);
        Self(gauge)
    }
}

impl Drop for OpenSocket {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}
