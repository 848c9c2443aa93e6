//! One connection that came in at a gateway's port.
//!
//! ```text
//! socket ─► PROXY header, where asked for ─► plain HTTP ─────────────────► serve
//!                                         ─► bytes ──────────────────────► tcp
//!                                         ─► ClientHello ─► its host ─► handshake ─► serve, or tcp
//!                                                                    └► passed on ─► tcp
//! ```
//! In: accepted sockets. Out: one [`Arrival`] for each that names something this gateway serves. The configuration is asked
//! when its answer is needed, and not held: a connection may last for days. Absent on purpose: what is done with an arrival.

use std::{net::SocketAddr, sync::Arc};

use lateen_net::{splice::Duplex, unbegun::Unbegun};
use lateen_rt::{
    deadline::{Elapsed, within},
    drain::Drain,
};
use lateen_telemetry::access::{self, Direction};
use lateen_types::addr::canonical;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
};

use super::{
    proxied::{self, Header},
    tls::{self, TlsError},
};
use crate::{
    arrival::{Arrival, Caller, Target},
    book::{
        Protocol,
        proxy::{ListenerKind, Role, Terms, TlsHost},
    },
    catalogue,
    greeting::{Greeter, Greeting, HELLO_TIMEOUT},
    lane::Lane,
    rewound::Rewound,
    serve, tcp,
};

/// One of a gateway's ports, on one thread.
#[derive(Debug, Clone)]
pub struct Door {
    /// What we are bound to.
    pub bind: u16,
    /// Begins when the port is no longer served, or the process ends.
    pub drain: Drain,
}

/// Why a connection is not served.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("nothing is served on this port any more")]
    NotServed,
    #[error("the PROXY header that this port demands did not come")]
    NotProxied,
    #[error("no TLS is spoken on a port for TLS")]
    NotTls,
    #[error("no host of this port is called {0:?}")]
    UnknownHost(String),
    #[error(transparent)]
    Timeout(#[from] Elapsed),
    #[error("the connection failed: {0}")]
    Connection(#[from] std::io::Error),
    #[error("TLS for {0:?} is refused: {1}")]
    Tls(String, TlsError),
}

impl Refused {
    fn reason(&self) -> &'static str {
        match self {
            Self::NotServed => "not_served",
            Self::NotProxied => "no_proxy_header",
            Self::NotTls => "no_tls",
            Self::UnknownHost(_) => "unknown_server_name",
            Self::Timeout(_) => "timeout",
            Self::Connection(_) => "connection",
            Self::Tls(_, error) => error.reason(),
        }
    }
}

/// Serves one connection until it ends, or the drain is forced.
pub async fn handle(lane: Arc<Lane>, door: Door, stream: Unbegun, peer: SocketAddr) {
    let drain = door.drain.clone();
    tokio::select! {
        () = admit(lane, door, stream, canonical(peer)) => {}
        () = drain.forced() => {}
    }
}

async fn admit(lane: Arc<Lane>, door: Door, stream: Unbegun, peer: SocketAddr) {
    let dialled = stream.stream().local_addr().map_or(peer, canonical);
    let reporting = lane.shared.reporting.clone();
    if let Err(refused) = enter(lane, door, stream, (peer, dialled)).await {
        metrics::counter!(catalogue::REFUSED, "reason" => refused.reason()).increment(1);
        match refused {
            // What is our own to mend is said, though not for every client that comes: what is wrong says nothing of him.
            Refused::Tls(_, ref error) if error.is_ours() => match reporting.seldom.again(&error.to_string()) {
                Some(more) => access::denied(peer, dialled, Direction::Inbound, &format_args!("{refused}{more}")),
                None => tracing::debug!(client = %peer, %dialled, %refused, "a connection was refused"),
            },
            // Anybody outside can cause the others, as often as he likes.
            refused => tracing::debug!(client = %peer, %dialled, %refused, "a connection was refused"),
        }
    }
}

/// What is done at a port.
enum Kind {
    Http,
    Bytes,
    Tls,
}

/// What the configuration says of the door now: what clients call the port, what is spoken, whether a PROXY header comes
/// first.
fn about(lane: &Lane, bind: u16) -> Result<(u16, Kind, bool), Refused> {
    let book = lane.shared.book.peek();
    let proxy = book.proxy().filter(|proxy| proxy.role == Role::Gateway).ok_or(Refused::NotServed)?;
    let listener = proxy.listener(bind).ok_or(Refused::NotServed)?;
    let kind = match &listener.kind {
        ListenerKind::Http(_) => Kind::Http,
        ListenerKind::Tcp(_) => Kind::Bytes,
        ListenerKind::Tls(_) => Kind::Tls,
    };
    Ok((listener.port, kind, proxy.options.proxy_protocol))
}

async fn enter(
    lane: Arc<Lane>,
    door: Door,
    stream: Unbegun,
    (peer, dialled): (SocketAddr, SocketAddr),
) -> Result<(), Refused> {
    let (port, kind, is_proxied) = about(&lane, door.bind)?;
    let mut stream = Rewound::new(stream.begin());
    // Boxed, as it is handed on from future to future, each of which has room for it as long as the connection lasts.
    let mut caller = Box::new(Caller {
        peer: None,
        client: peer,
        hop: peer,
        local: dialled,
        server_name: None,
        workload: None,
        baggage: Default::default(),
        tls: None,
        door: Some(door.drain),
    });
    if is_proxied {
        let header = within("the PROXY header", HELLO_TIMEOUT, stream.look(proxied::header)).await??;
        let Some(Header::Proxied { length, ends }) = header else {
            return Err(Refused::NotProxied);
        };
        stream.skip(length);
        if let Some(ends) = ends {
            (caller.client, caller.local) = (ends.client, ends.dialled);
        }
    }
    let entered = Entered { lane, caller, bind: door.bind, port };
    match kind {
        Kind::Http => entered.http(stream, None).await,
        // Boxed: both are many times larger than a connection of HTTP that waits.
        Kind::Bytes => Box::pin(entered.bytes(stream, None)).await,
        Kind::Tls => return Box::pin(entered.tls(stream)).await,
    }
    Ok(())
}

/// A connection of which it is known whose it is.
struct Entered {
    lane: Arc<Lane>,
    caller: Box<Caller>,
    bind: u16,
    port: u16,
}

/// What is done with TLS for one server name.
enum Then {
    Ends(Arc<Terms>),
    PassesOn,
}

impl Entered {
    async fn tls(mut self, mut stream: Rewound<TcpStream>) -> Result<(), Refused> {
        let mut greeter = Greeter::default();
        let greeting = within("the ClientHello", HELLO_TIMEOUT, stream.look(|bytes| greeter.read(bytes))).await??;
        let name = match greeting {
            Some(Greeting::Tls(name)) => name.unwrap_or_default(),
            Some(Greeting::Other | Greeting::Unreadable) => return Err(Refused::NotTls),
            // It left, or probed whether somebody is here.
            None => return Ok(()),
        };
        self.caller.server_name = (!name.is_empty()).then(|| name.as_str().into());
        match self.then(&name) {
            Ok(Then::PassesOn) => Box::pin(self.bytes(stream, None)).await,
            Ok(Then::Ends(terms)) => {
                // Boxed, as it is many times larger than what follows, which lasts.
                let opened = Box::pin(shake(&self.lane, &terms, (&name, stream))).await?;
                self.caller.peer = opened.peer;
                self.caller.tls = Some(Arc::new(opened.ended));
                match terms.is_http {
                    true => self.http(opened.stream, Some(name)).await,
                    false => Box::pin(self.bytes(Rewound::new(opened.stream), Some(name))).await,
                }
            }
            // Closed without a word, as by somebody who is not there: the reference does so, and the Gateway API's suite takes
            // an alert for a server that answers.
            Err(refused) => return Err(refused),
        }
        Ok(())
    }

    fn then(&self, name: &str) -> Result<Then, Refused> {
        let book = self.lane.shared.book.peek();
        let listener = book.proxy().and_then(|proxy| proxy.listener(self.bind)).ok_or(Refused::NotServed)?;
        let ListenerKind::Tls(hosts) = &listener.kind else { return Err(Refused::NotServed) };
        match hosts.find(name) {
            Some(TlsHost::Terminate(terminate)) => Ok(Then::Ends(terminate.terms.clone())),
            Some(TlsHost::Passthrough(_)) => Ok(Then::PassesOn),
            None => Err(Refused::UnknownHost(name.to_owned())),
        }
    }

    fn arrival(self, ended: Option<String>) -> (Arc<Lane>, Arrival) {
        let target = Target::Port { bind: self.bind, port: self.port, tls: ended.map(Into::into) };
        (self.lane, Arrival { caller: self.caller.into(), target })
    }

    async fn http<S>(self, stream: S, ended: Option<String>)
    where
        S: Duplex + AsyncRead + AsyncWrite + Send + 'static,
    {
        let (lane, arrival) = self.arrival(ended);
        serve::stream(lane, arrival, stream, (Protocol::Http, None)).await;
    }

    async fn bytes<S: Duplex>(self, stream: Rewound<S>, ended: Option<String>) {
        let (lane, arrival) = self.arrival(ended);
        tcp::stream(&lane, arrival, stream).await;
    }
}

async fn shake(
    lane: &Lane,
    terms: &Arc<Terms>,
    (name, stream): (&str, Rewound<TcpStream>),
) -> Result<tls::Opened, Refused> {
    let refused = |error| Refused::Tls(name.to_owned(), error);
    match lane.shared.tls.prepare(lane, terms).await {
        Ok(ready) => ready.shake(stream).await.map_err(refused),
        Err(error) => {
            refuse(stream).await;
            Err(refused(error))
        }
    }
}

/// Says before hands are shaken that it is our own fault (RFC 8446 §6), and ends the connection.
async fn refuse(mut stream: Rewound<TcpStream>) {
    const ALERT: u8 = 21;
    const FATAL: u8 = 2;
    const INTERNAL_ERROR: u8 = 80;
    let record = [ALERT, 3, 3, 0, 2, FATAL, INTERNAL_ERROR];
    let telling = async {
        stream.write_all(&record).await?;
        stream.shutdown().await
    };
    match within("the alert", HELLO_TIMEOUT, telling).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a client did not hear why it was refused"),
        Err(error) => tracing::debug!(%error, "a client did not hear why it was refused"),
    }
}
