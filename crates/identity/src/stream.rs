//! An established TLS 1.3 connection: rustls shakes hands, the records are ours.
//!
//! In: a stream of bytes, the secrets that rustls derived. Out: [`SecureStream`], which reads and writes plaintext.
//! Absent on purpose: the handshake, certificates, resumption.
//!
//! rustls copies each record it receives into memory of its own and writes each record it seals by itself. Here up to
//! eight records are read at once and opened where they lie, and what is written is gathered until the writer flushes. Our own
//! key updates and the peer's are worked out by rustls. An end without the closing alert is an error, as is everything
//! that does not authenticate.

use std::{
    fmt, io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use rustls::{
    ConnectionTrafficSecrets, ExtractedSecrets, client::ClientConnectionData, kernel::KernelConnection,
    server::ServerConnectionData,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

mod buffers;
mod error;
mod incoming;
mod keys;
mod messages;
mod outgoing;

pub use error::StreamError;

use incoming::Incoming;
use keys::{Kind, Opener, Sealer};
use messages::{Alert, Messages, Told};
use outgoing::Outgoing;

/// What is left of rustls after the handshake: it knows the next keys.
pub(crate) enum Kernel {
    Client(KernelConnection<ClientConnectionData>),
    Server(KernelConnection<ServerConnectionData>),
}

type Secrets = (u64, ConnectionTrafficSecrets);

impl Kernel {
    fn next_sending(&mut self) -> Result<Secrets, StreamError> {
        let next = match self {
            Self::Client(client) => client.update_tx_secret(),
            Self::Server(server) => server.update_tx_secret(),
        };
        next.map_err(|_| StreamError::Keys)
    }

    fn next_receiving(&mut self) -> Result<Secrets, StreamError> {
        let next = match self {
            Self::Client(client) => client.update_rx_secret(),
            Self::Server(server) => server.update_rx_secret(),
        };
        next.map_err(|_| StreamError::Keys)
    }

    /// Only servers send tickets.
    fn may_get_tickets(&self) -> bool {
        matches!(self, Self::Client(_))
    }
}

/// What a finished handshake leaves.
pub(crate) struct Established<S> {
    pub(crate) socket: S,
    pub(crate) secrets: ExtractedSecrets,
    pub(crate) kernel: Kernel,
    /// Data that came with the handshake.
    pub(crate) early: Vec<u8>,
    /// Received and not opened.
    pub(crate) unread: Vec<u8>,
}

/// A TLS connection. What is written goes out on flush, or when enough has been gathered.
pub struct SecureStream<S> {
    socket: S,
    kernel: Kernel,
    incoming: Incoming,
    outgoing: Outgoing,
    messages: Messages,
    early: Vec<u8>,
    receiving: Receiving,
    /// The key that seals is to be changed before more data is put.
    change_due: bool,
    closed: bool,
}

/// How far receiving has come.
#[derive(Debug, Clone, Copy)]
enum Receiving {
    Open,
    /// The peer said that no more will come.
    Closed,
    Failed(StreamError),
}

impl<S> fmt::Debug for SecureStream<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecureStream").field("receiving", &self.receiving).finish_non_exhaustive()
    }
}

impl<S> SecureStream<S> {
    pub(crate) fn new(established: Established<S>) -> Result<Self, StreamError> {
        let ExtractedSecrets { tx, rx } = established.secrets;
        let mut incoming = Incoming::new(Opener::new(rx)?);
        incoming.put_back(&established.unread)?;
        Ok(Self {
            socket: established.socket,
            kernel: established.kernel,
            incoming,
            outgoing: Outgoing::new(Sealer::new(tx)?),
            messages: Messages::default(),
            early: established.early,
            receiving: Receiving::Open,
            change_due: false,
            closed: false,
        })
    }

    /// The stream underneath.
    pub fn get_ref(&self) -> &S {
        &self.socket
    }

    /// Opens one record and does what it says; false if there is no whole one.
    fn advance(&mut self) -> Result<bool, StreamError> {
        let Some((kind, at)) = self.incoming.open()? else { return Ok(false) };
        match kind {
            Kind::DATA if at.is_empty() => self.messages.count()?,
            Kind::DATA => {
                self.messages.data()?;
                self.incoming.keep(at);
            }
            Kind::HANDSHAKE => {
                let told = self.messages.take(self.incoming.content(at), self.kernel.may_get_tickets())?;
                if let Told::KeyUpdate { ours_too } = told {
                    self.incoming.change(Opener::new(self.kernel.next_receiving()?)?);
                    self.change_due |= ours_too;
                }
            }
            Kind::ALERT => match messages::alert(self.incoming.content(at))? {
                Alert::Close => self.receiving = Receiving::Closed,
                Alert::Ignore => self.messages.count()?,
            },
            other => return Err(StreamError::unexpected(other)),
        }
        Ok(true)
    }

    /// Changes the key that seals if that is due. Without room for the message it stays due.
    fn change_key(&mut self) -> Result<(), StreamError> {
        if self.change_due || self.outgoing.is_worn() {
            let told = self.outgoing.put_message(Kind::HANDSHAKE, &messages::OUR_KEY_UPDATE)?;
            if told {
                self.outgoing.change(Sealer::new(self.kernel.next_sending()?)?);
            }
            self.change_due = !told;
        }
        Ok(())
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> SecureStream<S> {
    /// Remembers why nothing more can be received, and tells the peer if the socket takes it at once.
    fn fail(&mut self, context: &mut Context<'_>, error: StreamError) {
        self.receiving = Receiving::Failed(error);
        if let Some(alert) = error.alert()
            && !self.closed
        {
            self.closed = true;
            let told = self.outgoing.put_message(Kind::ALERT, &messages::fatal(alert));
            tracing::debug!(%error, ?told, "TLS failed");
            self.write_if_idle(context);
        }
    }

    /// For what is said without being asked to write: nobody waits for the socket, so if it is full, the next flush
    /// goes on.
    fn write_if_idle(&mut self, context: &mut Context<'_>) {
        // A socket that fails here fails again when it is next used.
        let _later = self.outgoing.poll_write_out(context, &mut self.socket);
    }

    fn fill_from_records(&mut self, context: &mut Context<'_>, into: &mut ReadBuf<'_>) {
        while into.remaining() > 0 && matches!(self.receiving, Receiving::Open) {
            if self.incoming.has_data() {
                self.incoming.hand_on(into);
                continue;
            }
            let was_idle = self.outgoing.is_empty();
            match self.advance() {
                Ok(true) if self.change_due && was_idle => {
                    if let Err(error) = self.change_key() {
                        return self.fail(context, error);
                    }
                    self.write_if_idle(context);
                }
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => return self.fail(context, error),
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for SecureStream<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = into.remaining();
        if before == 0 {
            return Poll::Ready(Ok(()));
        }
        if !this.early.is_empty() {
            let length = this.early.len().min(before);
            into.put_slice(&this.early[..length]);
            this.early.drain(..length);
            return Poll::Ready(Ok(()));
        }
        loop {
            this.fill_from_records(context, into);
            if into.remaining() < before {
                return Poll::Ready(Ok(()));
            }
            match this.receiving {
                Receiving::Open => {}
                Receiving::Closed => return Poll::Ready(Ok(())),
                Receiving::Failed(error) => return Poll::Ready(Err(error.into())),
            }
            if !ready!(this.incoming.poll_fill(context, &mut this.socket))? {
                // Without the closing alert anybody could have cut the rest off.
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for SecureStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if this.closed {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if data.is_empty() {
            return Poll::Ready(Ok(0));
        }
        if this.outgoing.is_full() {
            ready!(this.outgoing.poll_write_out(context, &mut this.socket))?;
        }
        this.change_key()?;
        // A key update may have taken the last room, and to take nothing would look like a closed stream.
        if this.outgoing.is_full() {
            ready!(this.outgoing.poll_write_out(context, &mut this.socket))?;
        }
        Poll::Ready(Ok(this.outgoing.put(data)?))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if !this.closed {
            this.change_key()?;
        }
        ready!(this.outgoing.poll_write_out(context, &mut this.socket))?;
        Pin::new(&mut this.socket).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if !this.closed {
            // Room is kept for it; if key updates have taken that, it follows what is written first.
            if !this.outgoing.put_message(Kind::ALERT, &messages::OUR_CLOSE)? {
                ready!(this.outgoing.poll_write_out(context, &mut this.socket))?;
                this.outgoing.put_message(Kind::ALERT, &messages::OUR_CLOSE)?;
            }
            this.closed = true;
        }
        ready!(this.outgoing.poll_write_out(context, &mut this.socket))?;
        Pin::new(&mut this.socket).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests;
