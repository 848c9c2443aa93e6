//! Mutual TLS over any stream of bytes, under a deadline.
//!
//! In: a connected stream, our certificate and, for a client, who may be at the other end. Out: a TLS stream and the
//! proven peer. Absent on purpose: dialling, HTTP/2.

use std::{collections::BTreeSet, io, net::Ipv4Addr, sync::Arc, time::Duration};

use lateen_rt::deadline::{Elapsed, within};
use lateen_types::id::SpiffeId;
use rustls::{
    CipherSuite, CommonState, NamedGroup, client::UnbufferedClientConnection, pki_types::ServerName,
    server::UnbufferedServerConnection,
};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::{
    cert::WorkloadCertificate,
    stream::{SecureStream, StreamError},
    verify::{PeerRefused, spiffe_ids_of},
};

mod drive;

use drive::drive;

/// The longest a handshake may take where nothing else is said.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// A finished handshake.
#[derive(Debug)]
pub struct Secured<S> {
    /// The encrypted stream.
    pub stream: SecureStream<S>,
    /// Who is at the other end: its first SPIFFE id.
    pub peer: SpiffeId,
    /// What both agreed on.
    pub negotiated: Negotiated,
}

/// What a handshake agreed on. `None` stands for what rustls does not tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Negotiated {
    /// How bytes are sealed.
    pub suite: Option<CipherSuite>,
    /// How keys were exchanged.
    pub group: Option<NamedGroup>,
    /// What is spoken inside.
    pub protocol: Option<Vec<u8>>,
}

impl Negotiated {
    fn of(connection: &CommonState) -> Self {
        Self {
            suite: connection.negotiated_cipher_suite().map(|suite| suite.suite()),
            group: connection.negotiated_key_exchange_group().map(|group| group.name()),
            protocol: connection.alpn_protocol().map(<[u8]>::to_vec),
        }
    }
}

/// Why there is no secured stream.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// The peer did not answer in time.
    #[error(transparent)]
    Timeout(#[from] Elapsed),
    /// The peer proved an identity, but not one we accept.
    #[error("{0}")]
    Refused(PeerRefused),
    /// The handshake broke a rule of TLS: wrong chain, expired certificate, no common cipher, an alert.
    #[error("TLS handshake failed: {0}")]
    Tls(rustls::Error),
    /// The connection failed underneath.
    #[error("the connection failed during the TLS handshake: {0}")]
    Connection(io::Error),
}

impl HandshakeError {
    fn of(error: rustls::Error) -> Self {
        match PeerRefused::within(&error) {
            Some(refused) => Self::Refused(refused.clone()),
            None => Self::Tls(error),
        }
    }
}

impl From<StreamError> for HandshakeError {
    fn from(error: StreamError) -> Self {
        Self::Connection(error.into())
    }
}

/// The server's side: the client must present a certificate of our trust domain. Dropping the future drops the stream.
pub async fn accept<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    ours: &WorkloadCertificate,
    timeout: Duration,
) -> Result<Secured<S>, HandshakeError> {
    let side = UnbufferedServerConnection::new(ours.server_config().clone()).map_err(HandshakeError::Tls)?;
    within("the client's TLS handshake", timeout, drive(stream, side)).await?
}

/// The client's side: the server must be one of `expected`. Dropping the future drops the stream.
pub async fn connect<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    ours: &WorkloadCertificate,
    expected: BTreeSet<SpiffeId>,
    timeout: Duration,
) -> Result<Secured<S>, HandshakeError> {
    let config = ours.client_towards(expected);
    // No name is sent and none is checked; rustls wants one all the same.
    let unnamed = ServerName::IpAddress(Ipv4Addr::UNSPECIFIED.into());
    let side = UnbufferedClientConnection::new(Arc::new(config), unnamed).map_err(HandshakeError::Tls)?;
    within("the server's TLS handshake", timeout, drive(stream, side)).await?
}

fn peer_of(connection: &CommonState) -> Result<SpiffeId, HandshakeError> {
    let leaf = connection.peer_certificates().and_then(|chain| chain.first());
    let ids = leaf.map_or(Err(PeerRefused::NoIdentity), spiffe_ids_of).map_err(HandshakeError::Refused)?;
    ids.into_iter().next().ok_or(HandshakeError::Refused(PeerRefused::NoIdentity))
}

#[cfg(test)]
mod tests;
