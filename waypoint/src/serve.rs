//! What is spoken decides who serves an arrival.
//!
//! In: an [`Arrival`] and its bytes. Out: requests for `request`, or connections for `tcp`. Absent on purpose: both of these.

use std::{sync::Arc, time::Duration};

use lateen_hbone::server::Arrival as Tunnelled;
use lateen_net::splice::Duplex;
use lateen_rt::deadline::within;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::{
    arrival::{Arrival, Target},
    book::{Book, Protocol},
    http::{
        detect::{Spoken, detect},
        serve,
    },
    lane::Lane,
    rewound::Rewound,
    tcp,
};

/// How long a connection that is known to be HTTP may take to its first bytes, where no option says otherwise: as long as
/// one may be idle.
const FIRST_TIMEOUT: Duration = Duration::from_secs(3600);

/// Serves what came through a tunnel.
pub async fn tunnelled(lane: Arc<Lane>, arrival: Arrival, tunnelled: Tunnelled) {
    let (protocol, timeout) = protocol(&lane.shared.book.peek(), &arrival.target);
    if matches!(protocol, Protocol::Tcp | Protocol::Tls) {
        return tcp::tunnelled(&lane, arrival, tunnelled).await;
    }
    match tunnelled.accept(None) {
        Ok(tunnel) => stream(lane, arrival, tunnel, (protocol, timeout)).await,
        Err(error) => tracing::debug!(%error, "the client did not wait for its tunnel"),
    }
}

/// Serves a stream on which somebody speaks `protocol`.
pub async fn stream<S>(lane: Arc<Lane>, arrival: Arrival, stream: S, (protocol, timeout): (Protocol, Option<Duration>))
where
    S: Duplex + AsyncRead + AsyncWrite + Send + 'static,
{
    let mut stream = Rewound::new(stream);
    let is_declared = match protocol {
        Protocol::Auto => false,
        Protocol::Http | Protocol::Http2 | Protocol::Grpc | Protocol::GrpcWeb => true,
        Protocol::Tcp | Protocol::Tls => return Box::pin(tcp::stream(&lane, arrival, stream)).await,
    };
    let judge = |bytes: &[u8]| if is_declared { declared(bytes) } else { detect(bytes) };
    let waits = if is_declared { Some(FIRST_TIMEOUT) } else { timeout };
    let looked = match waits {
        Some(time) => within("the first bytes", time, stream.look(judge)).await,
        None => Ok(stream.look(judge).await),
    };
    let spoken = match looked {
        Ok(Ok(Some(spoken))) => spoken,
        // Nothing came at all: there is nobody to serve.
        Ok(Ok(None)) if stream.first().is_empty() => return,
        Ok(Ok(None)) => Spoken::Other,
        Ok(Err(error)) => return tracing::debug!(%error, "a connection ended before it began"),
        Err(_) if is_declared => return,
        // Perhaps the server speaks first.
        Err(_) => Spoken::Other,
    };
    match spoken {
        Spoken::Http1 | Spoken::Http2 => serve::run(lane, arrival, stream, spoken).await,
        // hyper refuses in words of HTTP what is none.
        Spoken::Other if is_declared => serve::run(lane, arrival, stream, Spoken::Http1).await,
        // Boxed, here and above: it has room for dialling, which a connection of HTTP would carry as long as it waits.
        Spoken::Other => Box::pin(tcp::stream(&lane, arrival, stream)).await,
    }
}

/// Where HTTP is declared only its version is open.
fn declared(bytes: &[u8]) -> Option<Spoken> {
    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let shared = bytes.len().min(PREFACE.len());
    match bytes[..shared] == PREFACE[..shared] {
        true => (shared == PREFACE.len()).then_some(Spoken::Http2),
        false => Some(Spoken::Http1),
    }
}

/// What the configuration says of a target.
pub fn protocol(book: &Book, target: &Target) -> (Protocol, Option<Duration>) {
    let timeout = book.proxy().and_then(|proxy| proxy.options.protocol_detection_timeout);
    let protocol = match target {
        Target::Service { key, port, .. } => {
            book.service(key).and_then(|service| service.port(*port)).map_or(Protocol::Auto, |port| port.protocol)
        }
        // Nobody says what a workload speaks.
        Target::Workload { .. } => Protocol::Auto,
        Target::Port { .. } => Protocol::Http,
    };
    (protocol, timeout)
}
