//! Mutual TLS over any stream of bytes, under a deadline.
//!
//! In: a connected stream, our certificate and, for a client, who may be at the other end. Out: a TLS stream and the
//! proven peer. Absent on purpose: dialling, HTTP/2.

use std::{collections::BTreeSet, io, net::Ipv4Addr, sync::Arc, time::Duration};

use lateen_rt::deadline::{Elapsed, within};
use lateen_types::id::SpiffeId;
use rustls::{CommonState, pki_types::ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

use crate::{
    cert::WorkloadCertificate,
    crypto::provider,
    verify::{ExpectedServer, PeerRefused, spiffe_ids_of},
};

/// The longest a handshake may take where nothing else is said.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// How much of what we encrypted may wait for the socket. More makes larger writes for bulk; a peer that reads slowly
/// can make us hold this much.
const SEND_BUFFER_MAX: usize = 128 * 1024;

/// A finished handshake.
#[derive(Debug)]
pub struct Secured<S> {
    /// The encrypted stream.
    pub stream: TlsStream<S>,
    /// Who is at the other end: its first SPIFFE id.
    pub peer: SpiffeId,
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
    fn of(error: io::Error) -> Self {
        let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        match tls.map(|tls| (tls, PeerRefused::within(tls))) {
            Some((_, Some(refused))) => Self::Refused(refused.clone()),
            Some((tls, None)) => Self::Tls(tls.clone()),
            None => Self::Connection(error),
        }
    }
}

/// The server's side: the client must present a certificate of our trust domain. Dropping the future drops the stream.
pub async fn accept<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    ours: &WorkloadCertificate,
    timeout: Duration,
) -> Result<Secured<S>, HandshakeError> {
    let shaking = TlsAcceptor::from(ours.server_config().clone()).accept(stream);
    let mut stream = within("the client's TLS handshake", timeout, shaking).await?.map_err(HandshakeError::of)?;
    stream.get_mut().1.set_buffer_limit(Some(SEND_BUFFER_MAX));
    let peer = peer_of(stream.get_ref().1)?;
    Ok(Secured { stream: stream.into(), peer })
}

/// The client's side: the server must be one of `expected`. Dropping the future drops the stream.
pub async fn connect<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    ours: &WorkloadCertificate,
    expected: BTreeSet<SpiffeId>,
    timeout: Duration,
) -> Result<Secured<S>, HandshakeError> {
    let mut config = ours.client_config().clone();
    let verifier = ExpectedServer::new(ours.anchors().clone(), expected, provider());
    config.dangerous().set_certificate_verifier(Arc::new(verifier));
    // No name is sent and none is checked; rustls wants one all the same.
    let unnamed = ServerName::IpAddress(Ipv4Addr::UNSPECIFIED.into());
    let shaking = TlsConnector::from(Arc::new(config)).connect(unnamed, stream);
    let mut stream = within("the server's TLS handshake", timeout, shaking).await?.map_err(HandshakeError::of)?;
    stream.get_mut().1.set_buffer_limit(Some(SEND_BUFFER_MAX));
    let peer = peer_of(stream.get_ref().1)?;
    Ok(Secured { stream: stream.into(), peer })
}

fn peer_of(connection: &CommonState) -> Result<SpiffeId, HandshakeError> {
    let leaf = connection.peer_certificates().and_then(|chain| chain.first());
    let ids = leaf.map_or(Err(PeerRefused::NoIdentity), spiffe_ids_of).map_err(HandshakeError::Refused)?;
    ids.into_iter().next().ok_or(HandshakeError::Refused(PeerRefused::NoIdentity))
}

#[cfg(test)]
mod tests;
