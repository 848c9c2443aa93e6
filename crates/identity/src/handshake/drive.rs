//! Drives rustls through a handshake and takes the keys over.
//!
//! In: a fresh connection of rustls, a stream of bytes. Out: what [`SecureStream`] needs and who the peer is, as it
//! proved. Absent on purpose: the deadline, and what makes a peer acceptable (rustls asks our verifiers).
//!
//! [`SecureStream`]: crate::stream::SecureStream

use std::io;

use lateen_types::id::SpiffeId;
use rustls::{
    CommonState, ExtractedSecrets,
    client::{ClientConnectionData, UnbufferedClientConnection},
    server::{ServerConnectionData, UnbufferedServerConnection},
    unbuffered::{ConnectionState, EncodeError, EncodeTlsData, InsufficientSizeError, ReadTraffic, UnbufferedStatus},
};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::{HandshakeError, Secured, peer_of};
use crate::stream::{Established, Kernel, SecureStream};

/// One read. A flight with a chain of two certificates and a post-quantum key fits.
const READ: usize = 8 * 1024;
/// The most that may be received and not understood: a handshake message of the largest size, in records.
const RECEIVED_MAX: usize = 96 * 1024;

/// The kind of the one record that may precede an alert.
const CHANGE_CIPHER_SPEC: u8 = 20;

/// A side of a handshake.
pub(super) trait Side: Sized {
    type Data;

    fn process<'a>(&'a mut self, received: &'a mut [u8]) -> UnbufferedStatus<'a, 'a, Self::Data>;
    fn common(&self) -> &CommonState;
    fn into_kernel(self) -> Result<(ExtractedSecrets, Kernel), rustls::Error>;
}

impl Side for UnbufferedClientConnection {
    type Data = ClientConnectionData;

    fn process<'a>(&'a mut self, received: &'a mut [u8]) -> UnbufferedStatus<'a, 'a, Self::Data> {
        self.process_tls_records(received)
    }

    fn common(&self) -> &CommonState {
        self
    }

    fn into_kernel(self) -> Result<(ExtractedSecrets, Kernel), rustls::Error> {
        self.dangerous_into_kernel_connection().map(|(secrets, kernel)| (secrets, Kernel::Client(kernel)))
    }
}

impl Side for UnbufferedServerConnection {
    type Data = ServerConnectionData;

    fn process<'a>(&'a mut self, received: &'a mut [u8]) -> UnbufferedStatus<'a, 'a, Self::Data> {
        self.process_tls_records(received)
    }

    fn common(&self) -> &CommonState {
        self
    }

    fn into_kernel(self) -> Result<(ExtractedSecrets, Kernel), rustls::Error> {
        self.dangerous_into_kernel_connection().map(|(secrets, kernel)| (secrets, Kernel::Server(kernel)))
    }
}

/// Shakes hands on `socket`.
pub(super) async fn drive<S, C>(mut socket: S, mut side: C) -> Result<Secured<S>, HandshakeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
    C: Side,
{
    let mut flight = Flight::default();
    loop {
        match flight.step(&mut side) {
            Step::Again => {}
            Step::Send => flight.send(&mut socket).await.map_err(HandshakeError::Connection)?,
            Step::Receive => {
                flight.send(&mut socket).await.map_err(HandshakeError::Connection)?;
                flight.receive(&mut socket).await.map_err(HandshakeError::Connection)?;
            }
            Step::Done => break,
            Step::Failed(error) => {
                flight.tell(&mut side, &error, &mut socket).await;
                return Err(HandshakeError::of(error));
            }
        }
    }
    flight.send(&mut socket).await.map_err(HandshakeError::Connection)?;
    let peer: SpiffeId = peer_of(side.common())?;
    let negotiated = super::Negotiated::of(side.common());
    tracing::debug!(%peer, ?negotiated, "TLS is established");
    let (secrets, kernel) = side.into_kernel().map_err(HandshakeError::Tls)?;
    let Flight { received, early, .. } = flight;
    let stream = SecureStream::new(Established { socket, secrets, kernel, early, unread: received })?;
    Ok(Secured { stream, peer, negotiated })
}

/// What is to be done next.
enum Step {
    Again,
    Send,
    Receive,
    Done,
    Failed(rustls::Error),
}

/// What is under way.
#[derive(Default)]
struct Flight {
    received: Vec<u8>,
    to_send: Vec<u8>,
    /// Data the peer sent with the end of its handshake.
    early: Vec<u8>,
}

impl Flight {
    fn step(&mut self, side: &mut impl Side) -> Step {
        let UnbufferedStatus { mut discard, state } = side.process(&mut self.received);
        let step = match state {
            Ok(ConnectionState::EncodeTlsData(encode)) => encoded(encode, &mut self.to_send),
            Ok(ConnectionState::TransmitTlsData(transmit)) => {
                // Sent by our caller before anything else is asked of rustls.
                transmit.done();
                Step::Send
            }
            Ok(ConnectionState::BlockedHandshake) => Step::Receive,
            Ok(ConnectionState::WriteTraffic(_)) => Step::Done,
            Ok(ConnectionState::ReadTraffic(traffic)) => match keep(traffic, &mut self.early) {
                Ok(more) => {
                    discard += more;
                    Step::Again
                }
                Err(error) => Step::Failed(error),
            },
            // The peer ended, or began with data it may not send yet.
            Ok(_) => Step::Failed(rustls::Error::HandshakeNotComplete),
            Err(error) => Step::Failed(error),
        };
        self.received.drain(..discard.min(self.received.len()));
        step
    }

    async fn send(&mut self, socket: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
        if !self.to_send.is_empty() {
            socket.write_all(&self.to_send).await?;
            socket.flush().await?;
            self.to_send.clear();
        }
        Ok(())
    }

    async fn receive(&mut self, socket: &mut (impl AsyncRead + Unpin)) -> io::Result<()> {
        if self.received.len() >= RECEIVED_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a TLS handshake message is too long"));
        }
        self.received.reserve(READ);
        if socket.read_buf(&mut self.received).await? == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the peer closed during the TLS handshake"));
        }
        Ok(())
    }

    /// Tells the peer why, if rustls has words for it and the socket takes them. rustls must not be asked again once it
    /// has given its alert: it takes a second failure for a mistake of ours.
    async fn tell(&mut self, side: &mut impl Side, error: &rustls::Error, socket: &mut (impl AsyncWrite + Unpin)) {
        if matches!(error, rustls::Error::AlertReceived(_)) {
            return;
        }
        loop {
            let begin = self.to_send.len();
            let UnbufferedStatus { discard, state } = side.process(&mut self.received);
            let Ok(ConnectionState::EncodeTlsData(encode)) = state else { break };
            let step = encoded(encode, &mut self.to_send);
            self.received.drain(..discard.min(self.received.len()));
            let is_last = self.to_send.get(begin) != Some(&CHANGE_CIPHER_SPEC);
            if is_last || matches!(step, Step::Failed(_)) {
                break;
            }
        }
        if let Err(error) = self.send(socket).await {
            tracing::trace!(%error, "the peer did not wait for our alert");
        }
    }
}

fn encoded<Data>(mut encode: EncodeTlsData<'_, Data>, to_send: &mut Vec<u8>) -> Step {
    let Err(EncodeError::InsufficientSize(InsufficientSizeError { required_size })) = encode.encode(&mut []) else {
        return Step::Again;
    };
    let before = to_send.len();
    to_send.resize(before + required_size, 0);
    match encode.encode(&mut to_send[before..]) {
        Ok(_) => Step::Again,
        Err(_) => Step::Failed(rustls::Error::HandshakeNotComplete),
    }
}

/// Keeps the data that came and says how much of what was received is done with.
fn keep<Data>(mut traffic: ReadTraffic<'_, '_, Data>, early: &mut Vec<u8>) -> Result<usize, rustls::Error> {
    let mut discard = 0;
    while let Some(record) = traffic.next_record() {
        let record = record?;
        early.extend_from_slice(record.payload);
        discard += record.discard;
    }
    Ok(discard)
}
