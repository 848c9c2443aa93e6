//! A tunnel: one HTTP/2 stream that reads and writes like TCP.
//!
//! In: h2's two halves. Out: [`Duplex`] for splicing without copies, and `AsyncRead + AsyncWrite` for everything else.
//! Absent on purpose: how it was opened. Dropping a tunnel whose sending half was not closed sends RST_STREAM
//! CONNECT_ERROR (RFC 9113 §8.5): its peer cannot take it for a complete one.
//!
//! Received bytes go back to flow control when they are handed on, so what waits here is at most one stream window.

use std::{
    convert::Infallible,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, Bytes, BytesMut};
use h2::{Reason, RecvStream, SendStream};
use lateen_net::splice::Duplex;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::oneshot,
};

use crate::pool::Occupied;

/// The tunnel.
#[derive(Debug)]
pub struct Tunnel {
    send: SendStream<Bytes>,
    recv: RecvStream,
    /// Handed over by h2, not yet read. Used by `AsyncRead` only.
    unread: Bytes,
    /// The END_STREAM was handed to h2.
    closed: bool,
    /// What was sent last, once it is known to be the last.
    last: Last,
    /// Those of the connection.
    empties: Arc<Empties>,
    /// The place on a pooled connection; free for the next tunnel once this is dropped.
    _place: Option<Occupied>,
}

impl Tunnel {
    pub(crate) fn new(
        send: SendStream<Bytes>,
        recv: RecvStream,
        (empties, place): (Arc<Empties>, Option<Occupied>),
    ) -> Self {
        Self { send, recv, unread: Bytes::new(), closed: false, last: Last::Unmarked, empties, _place: place }
    }

    /// Sends a frame of no bytes that tells when h2 has written it, and with it everything sent before.
    fn mark_last(&mut self, end_of_stream: bool) -> Result<(), h2::Error> {
        let (marker, written) = oneshot::channel();
        self.send.send_data(Bytes::from_owner(Marker(marker)), end_of_stream)?;
        self.last = Last::Leaving(written);
        Ok(())
    }

    fn poll_received(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
        loop {
            match ready!(self.recv.poll_data(context)) {
                // An empty DATA frame is legal and no end.
                Some(Ok(bytes)) if bytes.is_empty() => {}
                Some(Ok(bytes)) => {
                    // Fails only when the stream is closed, and then there is no window to keep open.
                    self.recv.flow_control().release_capacity(bytes.len()).ok();
                    return Poll::Ready(Ok(bytes));
                }
                Some(Err(error)) => return Poll::Ready(read_error(error).map_or(Ok(Bytes::new()), Err)),
                None => return Poll::Ready(Ok(Bytes::new())),
            }
        }
    }

    /// Waits until at least one byte may be sent and says how many of `wanted` may.
    fn poll_room(&mut self, context: &mut Context<'_>, wanted: usize) -> Poll<io::Result<usize>> {
        self.send.reserve_capacity(wanted);
        loop {
            let room = self.send.capacity();
            if room > 0 {
                return Poll::Ready(Ok(room.min(wanted)));
            }
            match ready!(self.send.poll_capacity(context)) {
                Some(Ok(_)) => {}
                Some(Err(error)) => return Poll::Ready(Err(write_error(error))),
                None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            }
        }
    }
}

/// The frames of no bytes, none of them an end, that the streams of one connection have sent. Peers on their guard against
/// floods take a connection that has sent too many for an attack, and end the tunnels of all on it: h2 after a hundred.
#[derive(Debug, Default)]
pub(crate) struct Empties(AtomicU32);

/// So many are sent on one connection; then it takes no more tunnels.
const EMPTIES_MAX: u32 = 64;

impl Empties {
    /// Whether no more may be sent, so that another connection is better for whoever comes next.
    pub(crate) fn are_used_up(&self) -> bool {
        self.0.load(Ordering::Relaxed) >= EMPTIES_MAX
    }

    /// Whether one more may be sent.
    fn take(&self) -> bool {
        // The counter stays far from its end: it is not added to beyond the limit.
        !self.are_used_up() && self.0.fetch_add(1, Ordering::Relaxed) < EMPTIES_MAX
    }
}

/// How far the last frame is on its way out.
#[derive(Debug)]
enum Last {
    /// Not sent, or not known to be the last.
    Unmarked,
    /// Nobody tells when it is out: whoever waits for that has to know how long.
    Untold,
    /// With h2. Its marker is dropped, without a word, when it was written or will never be.
    Leaving(oneshot::Receiver<Infallible>),
    /// Out.
    Left,
}

/// The bytes, of which there are none, of a frame that tells when it is gone.
struct Marker(#[expect(dead_code, reason = "it tells by being dropped")] oneshot::Sender<Infallible>);

impl AsRef<[u8]> for Marker {
    fn as_ref(&self) -> &[u8] {
        &[]
    }
}

/// What an error means for a reader; `None` is a clean end. Istio's peers reset a stream they are done with by NO_ERROR or
/// CANCEL, which is how many tunnels end. A GOAWAY ends none in peace.
fn read_error(error: h2::Error) -> Option<io::Error> {
    match error.reason() {
        Some(Reason::NO_ERROR | Reason::CANCEL) if error.is_reset() => None,
        Some(Reason::STREAM_CLOSED) => Some(io::Error::new(io::ErrorKind::BrokenPipe, error)),
        Some(_) => Some(io::Error::new(io::ErrorKind::ConnectionReset, error)),
        None => Some(connection_error(error)),
    }
}

fn write_error(error: h2::Error) -> io::Error {
    match error.reason() {
        Some(reason) if error.is_reset() => io::Error::new(unwanted(reason), error),
        Some(_) | None => connection_error(error),
    }
}

/// What a peer's reset means for a writer: one that is done with the stream says NO_ERROR or CANCEL, every other has lost
/// its own connection.
fn unwanted(reason: Reason) -> io::ErrorKind {
    match reason {
        Reason::NO_ERROR | Reason::CANCEL | Reason::STREAM_CLOSED => io::ErrorKind::BrokenPipe,
        _ => io::ErrorKind::ConnectionReset,
    }
}

/// The connection under all streams broke. For one stream that is a reset, whatever the socket said.
fn connection_error(error: h2::Error) -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, error)
}

impl Duplex for Tunnel {
    fn poll_chunk(&mut self, context: &mut Context<'_>, _: &mut BytesMut, _: usize) -> Poll<io::Result<Bytes>> {
        if self.unread.is_empty() {
            return self.poll_received(context);
        }
        Poll::Ready(Ok(std::mem::take(&mut self.unread)))
    }

    fn poll_take(&mut self, context: &mut Context<'_>, chunk: &mut Bytes) -> Poll<io::Result<()>> {
        let room = ready!(self.poll_room(context, chunk.len()))?;
        Poll::Ready(self.send.send_data(chunk.split_to(room), false).map_err(write_error))
    }

    fn poll_flush(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The connection's own task writes.
        Poll::Ready(Ok(()))
    }

    fn poll_half_close(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.closed {
            self.mark_last(true).map_err(write_error)?;
            self.closed = true;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_unwanted(&mut self, context: &mut Context<'_>) -> Poll<io::Error> {
        self.send.poll_reset(context).map(|reset| match reset {
            Ok(reason) => unwanted(reason).into(),
            Err(error) => write_error(error),
        })
    }

    fn poll_settled(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if matches!(self.last, Last::Unmarked) {
            if !self.empties.take() {
                self.last = Last::Untold;
            } else if self.mark_last(false).is_err() {
                // The stream is closed, and nothing that was sent waits.
                return Poll::Ready(());
            }
        }
        if matches!(self.last, Last::Untold) {
            return Poll::Pending;
        }
        if let Last::Leaving(written) = &mut self.last {
            // No word is ever said: the error is the news.
            ready!(Pin::new(written).poll(context)).ok();
            self.last = Last::Left;
        }
        Poll::Ready(())
    }

    fn abort(&mut self) {
        self.send.send_reset(Reason::CONNECT_ERROR);
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        if !self.closed {
            self.abort();
        }
    }
}

impl AsyncRead for Tunnel {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.unread.is_empty() {
            self.unread = ready!(self.poll_received(context))?;
        }
        let length = self.unread.len().min(into.remaining());
        into.put_slice(&self.unread[..length]);
        self.unread.advance(length);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Tunnel {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let room = ready!(self.poll_room(context, bytes.len()))?;
        self.send.send_data(Bytes::copy_from_slice(&bytes[..room]), false).map_err(write_error)?;
        Poll::Ready(Ok(room))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_half_close(context))?;
        // Whoever shuts down drops next, and h2 forgets what still waits on a stream that is dropped before its peer's end.
        self.poll_settled(context).map(Ok)
    }
}

#[cfg(test)]
#[path = "stream_tests.rs"]
mod tests;
