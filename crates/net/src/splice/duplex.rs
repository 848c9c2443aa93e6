//! What can be spliced: something that yields chunks and takes chunks.
//!
//! In: TCP streams, any `AsyncRead + AsyncWrite`. Out: [`Duplex`]. Connections that own their received bytes (HTTP/2)
//! implement it themselves, so that no byte is copied on the way.

use std::{
    cell::Cell,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_util::io::poll_read_buf;

/// One end of a splice.
pub trait Duplex: Unpin {
    /// The next bytes, at most about `want`; empty means that no more will come. `scratch` is this direction's own
    /// reading buffer, for ends that do not own what they receive.
    fn poll_chunk(&mut self, context: &mut Context<'_>, scratch: &mut BytesMut, want: usize)
    -> Poll<io::Result<Bytes>>;

    /// Takes bytes off the front of a chunk that is not empty; ready once at least one was taken.
    fn poll_take(&mut self, context: &mut Context<'_>, chunk: &mut Bytes) -> Poll<io::Result<()>>;

    /// Pushes on what was taken.
    fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Tells the peer that no more will come; receiving goes on.
    fn poll_half_close(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// The socket, for ends that are nothing but one: between two of them the kernel can move the bytes.
    fn as_socket(&self) -> Option<&TcpStream> {
        None
    }

    /// Ready once the peer wants nothing more, for ends that can tell before the next write, with the error a write would
    /// meet: [`io::ErrorKind::ConnectionReset`] if the peer has vanished.
    fn poll_unwanted(&mut self, _: &mut Context<'_>) -> Poll<io::Error> {
        Poll::Pending
    }

    /// Whether the peer is known to have vanished, for ends that must be asked while nothing is read from them and nothing is
    /// written.
    fn has_vanished(&mut self) -> bool {
        false
    }

    /// Ready once [`Duplex::abort`] would take back nothing that was taken from us and could still be delivered, and
    /// again whenever asked.
    fn poll_settled(&mut self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }

    /// Makes the connection end, when dropped, so that its peer cannot take it for a complete one.
    fn abort(&mut self);
}

impl Duplex for TcpStream {
    fn poll_chunk(
        &mut self,
        context: &mut Context<'_>,
        scratch: &mut BytesMut,
        want: usize,
    ) -> Poll<io::Result<Bytes>> {
        // Memory is taken only when there is something to read, and given back after: most connections are silent most of
        // the time.
        match self.poll_read_ready(context) {
            Poll::Ready(ready) => ready?,
            Poll::Pending => {
                *scratch = BytesMut::new();
                return Poll::Pending;
            }
        }
        read(self, context, scratch, want)
    }

    fn poll_take(&mut self, context: &mut Context<'_>, chunk: &mut Bytes) -> Poll<io::Result<()>> {
        take(self, context, chunk)
    }

    fn poll_flush(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_half_close(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self).poll_shutdown(context)
    }

    fn as_socket(&self) -> Option<&TcpStream> {
        Some(self)
    }

    /// A reset is kept for whoever asks for it, though bytes wait before it.
    fn has_vanished(&mut self) -> bool {
        !matches!(self.take_error(), Ok(None))
    }

    /// Closing sends RST then, and the kernel's send buffer is forgotten: what the peer's window had room for has left.
    fn abort(&mut self) {
        if let Err(error) = self.set_zero_linger() {
            tracing::debug!(%error, "a connection cannot be reset");
        }
    }
}

/// Makes a [`Duplex`] of anything that reads and writes, and that its peer knows to be incomplete if it is dropped without a
/// half-close, for example a TLS stream.
#[derive(Debug)]
pub struct Io<T>(pub T);

impl<T: AsyncRead + AsyncWrite + Unpin> Duplex for Io<T> {
    fn poll_chunk(
        &mut self,
        context: &mut Context<'_>,
        scratch: &mut BytesMut,
        want: usize,
    ) -> Poll<io::Result<Bytes>> {
        read(&mut self.0, context, scratch, want)
    }

    fn poll_take(&mut self, context: &mut Context<'_>, chunk: &mut Bytes) -> Poll<io::Result<()>> {
        take(&mut self.0, context, chunk)
    }

    fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_half_close(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }

    fn abort(&mut self) {}
}

impl<T: AsyncRead + Unpin> AsyncRead for Io<T> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, into)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Io<T> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

fn read<T: AsyncRead + Unpin>(
    from: &mut T,
    context: &mut Context<'_>,
    scratch: &mut BytesMut,
    want: usize,
) -> Poll<io::Result<Bytes>> {
    if want <= SHARED_READ {
        return read_shared(from, context, want);
    }
    scratch.reserve(want);
    match poll_read_buf(Pin::new(from), context, scratch) {
        Poll::Ready(read) => Poll::Ready(read.map(|_| scratch.split().freeze())),
        Poll::Pending => {
            *scratch = BytesMut::new();
            Poll::Pending
        }
    }
}

/// Reads of at most this many bytes go through a buffer of the thread.
const SHARED_READ: usize = 16 * 1024;

thread_local! {
    static SHARED: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Reads into the thread's buffer and takes as much memory as there was to read. The copy costs far less than the system
/// call, and what waits for a slow reader holds no byte more than it has: a stream of single bytes would otherwise hold a
/// whole buffer for each.
fn read_shared<T: AsyncRead + Unpin>(from: &mut T, context: &mut Context<'_>, want: usize) -> Poll<io::Result<Bytes>> {
    // Taken out of its cell, so that whatever reads within this read finds none and makes its own.
    let mut shared = SHARED.take();
    shared.resize(SHARED_READ, 0);
    let mut buffer = ReadBuf::new(&mut shared[..want]);
    let read = Pin::new(from).poll_read(context, &mut buffer).map_ok(|()| Bytes::copy_from_slice(buffer.filled()));
    SHARED.set(shared);
    read
}

fn take<T: AsyncWrite + Unpin>(to: &mut T, context: &mut Context<'_>, chunk: &mut Bytes) -> Poll<io::Result<()>> {
    let taken = ready!(Pin::new(to).poll_write(context, chunk))?;
    if taken == 0 {
        return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
    }
    chunk.advance(taken);
    Poll::Ready(Ok(()))
}
