//! A new connection to an endpoint: through the mesh or straight.
//!
//! In: an endpoint, on which terms, and on whose behalf. Out: a [`Wire`]. Absent on purpose: what the terms are made of (see
//! `terms` and `tls`), where a name leads (see `resolve`), keeping connections (see `pool`).

use std::{net::SocketAddr, sync::Arc, time::Duration};

use http::StatusCode;
use lateen_hbone::{
    client::{self, Client, ConnectError, OpenError},
    pool::PoolError,
    request::{Connect, Forwarded, TraceParent},
};
use lateen_identity::{
    handshake::{self, HANDSHAKE_TIMEOUT, HandshakeError},
    keeper::KeeperError,
};
use lateen_net::dial::{self, DialOptions};
use lateen_rt::deadline::{Elapsed, within};
use lateen_types::{
    id::SpiffeId,
    name::{Hostname, WorkloadUid},
};
use tokio::io::AsyncWriteExt as _;

use super::{
    announce,
    connection::Speak,
    endpoint::{Endpoint, Way},
    resolve,
    terms::Terms,
    wire::{Carrier, Wire},
};
use crate::lane::Lane;

/// Where tunnels are taken.
const HBONE_PORT: u16 = 15008;

/// What tells the connections that carry tunnels apart.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HopKey {
    to: SocketAddr,
    workload: Option<WorkloadUid>,
    accepted: Vec<SpiffeId>,
}

/// Who is at the other end of a connection that carries tunnels.
#[derive(Debug, Clone)]
pub struct Met {
    /// Its proven identity.
    pub peer: SpiffeId,
}

/// Why there is no connection.
#[derive(Debug, Clone, thiserror::Error)]
pub enum DialError {
    /// We cannot prove who we are.
    #[error("no certificate: {0}")]
    Certificate(#[from] KeeperError),
    /// TCP.
    #[error("{0}")]
    Tcp(Arc<dial::DialError>),
    /// TLS with the endpoint's ztunnel, or with the endpoint.
    #[error("{0}")]
    Tls(Arc<HandshakeError>),
    /// HTTP/2 of the connection that carries tunnels.
    #[error("{0}")]
    Http(Arc<OpenError>),
    /// The tunnel was not opened.
    #[error("{0}")]
    Connect(Arc<ConnectError>),
    /// A name is not known.
    #[error("{name} has no address: {reason}")]
    Name {
        /// The name.
        name: Hostname,
        /// What the resolver says.
        reason: Arc<str>,
    },
    /// Something took too long.
    #[error(transparent)]
    Timeout(#[from] Elapsed),
    /// There are too many connections that carry tunnels.
    #[error("no more than {0} tunnel connections are kept, and all are in use")]
    Full(usize),
    /// The destination's own TLS did not come about.
    #[error("TLS of the destination: {0}")]
    Destination(Arc<str>),
    /// The proxy on the way does not connect.
    #[error("the proxy did not connect: {0}")]
    Proxy(Arc<str>),
    /// The endpoint speaks no HTTP.
    #[error("the connection could not be begun: {0}")]
    Begin(Arc<str>),
}

impl DialError {
    /// Whether it was only too slow.
    pub fn is_timeout(&self) -> bool {
        match self {
            Self::Timeout(_) => true,
            Self::Tcp(error) => matches!(**error, dial::DialError::Timeout { .. }),
            Self::Connect(error) => matches!(**error, ConnectError::Timeout(_)),
            Self::Tls(error) => matches!(**error, HandshakeError::Timeout(_)),
            Self::Http(error) => matches!(**error, OpenError::Timeout(_)),
            Self::Certificate(_)
            | Self::Name { .. }
            | Self::Full(_)
            | Self::Destination(_)
            | Self::Proxy(_)
            | Self::Begin(_) => false,
        }
    }

    /// Whether the endpoint's ztunnel is there and refuses by policy.
    pub fn is_denied(&self) -> bool {
        matches!(self, Self::Connect(error) if matches!(**error, ConnectError::Status(StatusCode::UNAUTHORIZED)))
    }
}

impl From<PoolError<DialError>> for DialError {
    fn from(error: PoolError<DialError>) -> Self {
        match error {
            PoolError::Dial(error) => (*error).clone(),
            PoolError::Full(max) => Self::Full(max),
            PoolError::Connect(error) => Self::Connect(Arc::new(error)),
        }
    }
}

/// On whose behalf a connection is opened.
#[derive(Debug, Clone, Copy)]
pub struct For {
    /// The client whose request needs it first.
    pub client: SocketAddr,
    /// How long it may take altogether.
    pub timeout: Duration,
    /// TCP keepalive of plain connections.
    pub keepalive: Option<lateen_net::options::Keepalive>,
}

/// What is connected to, and how.
#[derive(Clone, Copy)]
pub struct To<'a> {
    /// The endpoint.
    pub endpoint: &'a Endpoint,
    /// On which terms; `None`: in clear.
    pub terms: Option<&'a Terms>,
    /// What of HTTP will be spoken, if that is what will be.
    pub speak: Option<Speak>,
}

/// A connection. Dropping the future gives it up.
pub async fn wire(lane: &Lane, to: To<'_>, by: &For) -> Result<Wire, DialError> {
    let connecting = async {
        let carrier = carrier(lane, to, by).await?;
        match to.terms {
            None => Ok(Wire::Clear(carrier)),
            Some(terms) => agree(carrier, terms, to.speak).await,
        }
    };
    within("connecting to the endpoint", by.timeout, connecting).await?
}

async fn carrier(lane: &Lane, to: To<'_>, by: &For) -> Result<Carrier, DialError> {
    let addr = resolve::address(&lane.shared, to.endpoint).await?;
    match to.endpoint.way() {
        Way::Plain => Ok(Carrier::Plain(plain(addr, by).await?)),
        Way::Tunnel => tunnel(lane, to, addr, by).await,
    }
}

/// The terms, in their order: whom it is for, then TLS.
async fn agree(mut carrier: Carrier, terms: &Terms, speak: Option<Speak>) -> Result<Wire, DialError> {
    if let Some(announced) = &terms.announced {
        let told = async {
            carrier.write_all(&announce::header(announced)).await?;
            carrier.flush().await
        };
        told.await.map_err(|error| DialError::Begin(error.to_string().into()))?;
    }
    match &terms.seal {
        None => Ok(Wire::Clear(carrier)),
        Some(seal) => match seal.begin(carrier, speak).await {
            Ok(sealed) => Ok(Wire::Sealed(Box::new(sealed))),
            Err(error) => Err(DialError::Destination(error.to_string().into())),
        },
    }
}

async fn plain(addr: SocketAddr, by: &For) -> Result<tokio::net::TcpStream, DialError> {
    let options = DialOptions { keepalive: by.keepalive, timeout: by.timeout, ..DialOptions::default() };
    dial::tcp(addr, &options).await.map_err(|error| DialError::Tcp(Arc::new(error)))
}

async fn tunnel(lane: &Lane, to: To<'_>, addr: SocketAddr, by: &For) -> Result<Carrier, DialError> {
    let endpoint = to.endpoint;
    let key = HopKey {
        to: SocketAddr::new(addr.ip(), HBONE_PORT),
        workload: endpoint.key.workload.clone(),
        accepted: endpoint.accepted(),
    };
    let connect = Connect {
        authority: endpoint.asked_for.unwrap_or(addr).into(),
        baggage: lane.shared.own.baggage.clone(),
        forwarded: Forwarded {
            client: by.client,
            host: endpoint.service.as_ref().map(|service| service.key.hostname.clone()),
        },
        traceparent: TraceParent::random(),
        network: None,
        client: to.terms.and_then(|terms| terms.on_behalf_of.clone()),
    };
    Ok(Carrier::Tunnel(lane.tunnels.connect(&key, &connect, || secure(lane, &key)).await?.tunnel))
}

/// A new connection for tunnels: TCP, mutual TLS, HTTP/2.
async fn secure(lane: &Lane, key: &HopKey) -> Result<(Client, Met), DialError> {
    let shared = &lane.shared;
    // First, so that nothing is sent while we cannot prove who we are.
    let ours = shared.keeper.certificate(&shared.own.identity).await?;
    let stream = dial::tcp(key.to, &DialOptions::default()).await.map_err(|error| DialError::Tcp(Arc::new(error)))?;
    let accepted = key.accepted.iter().cloned().collect();
    let secured = handshake::connect(stream, &ours, accepted, HANDSHAKE_TIMEOUT).await;
    let secured = secured.map_err(|error| DialError::Tls(Arc::new(error)))?;
    let client = client::open(secured.stream, &shared.hbone, &lane.tasks, &lane.drain).await;
    Ok((client.map_err(|error| DialError::Http(Arc::new(error)))?, Met { peer: secured.peer }))
}
