//! A connection that is closed only when its peer has had the time to read its last answer.
//!
//! In: a stream. Out: the same, but that its shutdown goes on reading for a while. A socket that is closed while bytes of its
//! peer wait in it is reset, and a reset takes from the peer what it has not read yet: the answer to a request that was
//! refused early (RFC 9112 §9.6). And a peer that has left is noticed while nothing is read from it, as when a body is not
//! taken: else its request would wait for as long as whoever does not take it. Absent on purpose: what is read then.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use lateen_net::splice::Duplex;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep},
};

/// How long a peer may go on sending after the last answer.
const LINGER_TIMEOUT: Duration = Duration::from_secs(1);
/// How much.
const LINGER_MAX: usize = 1024 * 1024;

/// How often a socket is asked whether its peer is still there; whoever serves it comes by as often.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

/// The stream.
#[derive(Debug)]
pub struct Lingering<S> {
    stream: S,
    looked: Instant,
    /// Set once the stream was shut down.
    patience: Option<Pin<Box<Sleep>>>,
    read: usize,
}

impl<S> Lingering<S> {
    /// A stream that was not shut down.
    pub fn new(stream: S) -> Self {
        Self { stream, looked: Instant::now(), patience: None, read: 0 }
    }

    /// The stream itself.
    pub fn get_ref(&self) -> &S {
        &self.stream
    }

    /// The stream itself.
    pub fn get_mut(&mut self) -> &mut S {
        &mut self.stream
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Lingering<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, into)
    }
}

impl<S: AsyncRead + AsyncWrite + Duplex + Unpin> AsyncWrite for Lingering<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // hyper flushes at each of its turns, also while it does not read.
        if let Poll::Ready(gone) = self.stream.poll_unwanted(context) {
            return Poll::Ready(Err(gone));
        }
        let now = Instant::now();
        if now.duration_since(self.looked) >= LOOK_INTERVAL {
            self.looked = now;
            if self.stream.has_vanished() {
                return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
            }
        }
        AsyncWrite::poll_flush(Pin::new(&mut self.stream), context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.patience.is_none() {
            ready!(Pin::new(&mut this.stream).poll_shutdown(context))?;
        }
        let patience = this.patience.get_or_insert_with(|| Box::pin(tokio::time::sleep(LINGER_TIMEOUT)));
        let mut room = [0; 1024];
        while this.read < LINGER_MAX && patience.as_mut().poll(context).is_pending() {
            let mut into = ReadBuf::new(&mut room);
            match Pin::new(&mut this.stream).poll_read(context, &mut into) {
                Poll::Ready(Ok(())) if !into.filled().is_empty() => this.read += into.filled().len(),
                // It has closed its side, or is gone.
                Poll::Ready(_) => break,
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(Ok(()))
    }
}
