//! Carries a plan out: connects to where it says.
//!
//! In: a pod and a plan. Out: a connected stream or tunnel. Absent on purpose: choosing, retrying (the pool alone takes
//! another connection when one turns out to be closing).

use std::{net::SocketAddr, sync::Arc};

use lateen_hbone::{
    client::{self, Client, ConnectError, OpenError},
    pool::PoolError,
    request::{self, Baggage, Connect, Forwarded, TraceParent},
    stream::Tunnel,
};
use lateen_identity::{
    handshake::{self, HANDSHAKE_TIMEOUT, HandshakeError},
    keeper::KeeperError,
};
use lateen_net::dial::{self, DialError, Source};
use lateen_state::workload::Workload;
use lateen_types::{
    id::SpiffeId,
    name::{Hostname, NetworkId, WorkloadUid},
};
use tokio::net::TcpStream;

use super::{
    plan::{Authority, HBONE_PORT, Hop, To},
    resolve::{NameError, address_of},
};
use crate::{pod::Pod, report::Flag};

/// What tells tunnel connections apart. The workload's uid is in it because addresses are reused: a new pod at an old
/// address is never reached on a connection that was proven to be another.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HopKey {
    source: SpiffeId,
    to: SocketAddr,
    workload: WorkloadUid,
    accepted: Vec<SpiffeId>,
}

/// Who is at the other end of a tunnel connection.
#[derive(Debug, Clone)]
pub struct Met {
    /// Its proven identity.
    pub peer: SpiffeId,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum TunnelError {
    /// We cannot prove who we are.
    #[error("no certificate: {0}")]
    Certificate(#[from] KeeperError),
    /// TCP.
    #[error("{}", tcp_text(.0))]
    Tcp(#[from] DialError),
    /// TLS.
    #[error(transparent)]
    Tls(#[from] HandshakeError),
    /// HTTP/2.
    #[error(transparent)]
    Http(#[from] OpenError),
    /// CONNECT.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// A name.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The pod has too many tunnel connections.
    #[error("no more than {0} tunnel connections are kept for one pod, and all are in use")]
    Full(usize),
    /// Somebody else's dial, which we waited for, failed.
    #[error("{0}")]
    Shared(Arc<TunnelError>),
}

fn tcp_text(error: &DialError) -> String {
    match error {
        DialError::Timeout { to, .. } if to.port() == HBONE_PORT => {
            format!("connection timed out, maybe a NetworkPolicy is blocking HBONE port 15008: {error}")
        }
        error => error.to_string(),
    }
}

impl TunnelError {
    /// The metrics' word.
    pub fn flag(&self) -> Flag {
        match self {
            Self::Certificate(_) => Flag::Identity,
            Self::Tcp(DialError::Timeout { to, .. }) if to.port() == HBONE_PORT => Flag::NetworkPolicy,
            Self::Tls(_) => Flag::TlsFailure,
            Self::Http(_) => Flag::H2Failure,
            Self::Tcp(_) | Self::Connect(_) | Self::Name(_) | Self::Full(_) => Flag::Connect,
            Self::Shared(error) => error.flag(),
        }
    }
}

impl From<PoolError<TunnelError>> for TunnelError {
    fn from(error: PoolError<TunnelError>) -> Self {
        match error {
            PoolError::Dial(error) => Arc::try_unwrap(error).unwrap_or_else(Self::Shared),
            PoolError::Full(max) => Self::Full(max),
            PoolError::Connect(error) => Self::Connect(error),
        }
    }
}

/// The address a plan's first hop has.
pub async fn place(to: &To) -> Result<SocketAddr, TunnelError> {
    match to {
        To::Addr(addr) => Ok(*addr),
        To::Host { hostname, port, near } => Ok(SocketAddr::new(address_of(hostname, near.ip()).await?, *port)),
    }
}

/// Plain TCP from the pod.
pub async fn plain(pod: &Pod, to: SocketAddr) -> Result<TcpStream, TunnelError> {
    Ok(dial::tcp(to, &pod.dial_options(Source::Any)).await?)
}

/// Whom a tunnel is opened for.
#[derive(Debug, Clone)]
pub struct For<'a> {
    /// The calling workload.
    pub source: &'a Arc<Workload>,
    /// Its socket's address.
    pub client: SocketAddr,
    /// The service that was dialled.
    pub service: Option<&'a Hostname>,
    /// Ties the records of both ends together.
    pub trace: TraceParent,
}

/// An open tunnel.
#[derive(Debug)]
pub struct Opened {
    /// The tunnel.
    pub tunnel: Tunnel,
    /// Who is at its end.
    pub peer: SpiffeId,
    /// Who the destination says it is.
    pub baggage: Baggage,
}

/// The authority a hop's CONNECT asks for once the hop's address is known.
pub fn authority(hop: &Hop, to: SocketAddr) -> request::Authority {
    match &hop.authority {
        Authority::Addr(addr) => (*addr).into(),
        Authority::Host(name, port) => request::Authority::Host { name: name.clone(), port: *port },
        Authority::Resolved(port) => SocketAddr::new(to.ip(), *port).into(),
    }
}

/// One tunnel, on a shared connection.
pub async fn tunnel(
    pod: &Pod,
    hop: &Hop,
    (to, workload): (SocketAddr, &WorkloadUid),
    by: &For<'_>,
) -> Result<Opened, TunnelError> {
    let source = by.source.identity.clone();
    let key = HopKey { source, to, workload: workload.clone(), accepted: hop.accepted.clone() };
    let connect = connect(pod, by, authority(hop, to), None);
    let opened = pod.pool.connect(&key, &connect, || secure(pod, &key)).await?;
    Ok(Opened { tunnel: opened.tunnel, peer: opened.about.peer, baggage: opened.answer.baggage })
}

/// A tunnel within a tunnel: the gateway between carries bytes it cannot read. The inner one is never shared.
pub async fn double(
    pod: &Pod,
    (outer, to, gateway): (&Hop, SocketAddr, &WorkloadUid),
    accepted: &[SpiffeId],
    by: &For<'_>,
) -> Result<Opened, TunnelError> {
    let carrier = tunnel(pod, outer, (to, gateway), by).await?.tunnel;
    let ours = pod.shared.keeper.certificate(&by.source.identity).await?;
    let accepted = accepted.iter().cloned().collect();
    let secured = handshake::connect(carrier, &ours, accepted, HANDSHAKE_TIMEOUT).await?;
    let client = client::open(secured.stream, &pod.shared.settings.hbone, &pod.tasks, &pod.drain).await?;
    let network = pod.shared.settings.network.clone();
    let (tunnel, answer) = client.connect(&connect(pod, by, authority(outer, to), Some(network))).await?;
    Ok(Opened { tunnel, peer: secured.peer, baggage: answer.baggage })
}

fn connect(pod: &Pod, by: &For<'_>, authority: request::Authority, network: Option<NetworkId>) -> Connect {
    Connect {
        authority,
        baggage: pod.baggage(by.source),
        forwarded: Forwarded { client: by.client, host: by.service.cloned() },
        traceparent: by.trace,
        network,
        // A pod's ztunnel calls for the pod it has the certificate of, and for nobody else.
        client: None,
    }
}

/// A new connection: TCP from the pod, mutual TLS, HTTP/2.
async fn secure(pod: &Pod, key: &HopKey) -> Result<(Client, Met), TunnelError> {
    // First, so that nothing is sent on behalf of a pod that cannot prove who it is.
    let ours = pod.shared.keeper.certificate(&key.source).await?;
    let stream = dial::tcp(key.to, &pod.dial_options(Source::Any)).await?;
    let accepted = key.accepted.iter().cloned().collect();
    let secured = handshake::connect(stream, &ours, accepted, HANDSHAKE_TIMEOUT).await?;
    let client = client::open(secured.stream, &pod.shared.settings.hbone, &pod.tasks, &pod.drain).await?;
    Ok((client, Met { peer: secured.peer }))
}
