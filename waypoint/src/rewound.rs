//! A stream whose first bytes were looked at.
//!
//! In: a stream. Out: the same stream, from its first byte again. Absent on purpose: what the bytes mean.

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Buf as _, Bytes, BytesMut};
use lateen_net::splice::Duplex;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

/// The stream.
#[derive(Debug)]
pub struct Rewound<S> {
    first: BytesMut,
    stream: S,
}

/// Bytes asked for in one look.
const LOOK: usize = 4096;

impl<S: Duplex> Rewound<S> {
    /// A stream of which nothing was read.
    pub fn new(stream: S) -> Self {
        Self { first: BytesMut::new(), stream }
    }

    /// Reads until `judge` knows, which is asked about everything that has come; `None` if the stream ended before. Safe to
    /// drop: what was read is kept.
    pub async fn look<T>(&mut self, mut judge: impl FnMut(&[u8]) -> Option<T>) -> io::Result<Option<T>> {
        let mut scratch = BytesMut::new();
        loop {
            if let Some(known) = judge(&self.first) {
                return Ok(Some(known));
            }
            let more = poll_fn(|context| self.stream.poll_chunk(context, &mut scratch, LOOK)).await?;
            if more.is_empty() {
                return Ok(None);
            }
            match self.first.is_empty() {
                true => self.first = more.into(),
                // Grows by its double: what came before is not copied for each piece that comes.
                false => self.first.extend_from_slice(&more),
            }
        }
    }

    /// Passes over bytes that were looked at.
    pub fn skip(&mut self, count: usize) {
        self.first.advance(count.min(self.first.len()));
        if self.first.is_empty() {
            self.first = BytesMut::new();
        }
    }
}

impl<S> Rewound<S> {
    /// What was read so far.
    pub fn first(&self) -> &[u8] {
        &self.first
    }

    /// Gives back what somebody has read of it.
    pub fn unread(&mut self, bytes: Bytes) {
        // Even of nothing the buffer behind it would be kept.
        if bytes.is_empty() {
            return;
        }
        self.first =
            if self.first.is_empty() { bytes.into() } else { [&bytes[..], &self.first[..]].concat()[..].into() };
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Rewound<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.first.is_empty() {
            return Pin::new(&mut self.stream).poll_read(context, into);
        }
        let length = self.first.len().min(into.remaining());
        into.put_slice(&self.first[..length]);
        self.first.advance(length);
        if self.first.is_empty() {
            // The buffer behind it is not kept for the life of the connection.
            self.first = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Rewound<S> {
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
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

impl<S: Duplex> Duplex for Rewound<S> {
    fn poll_chunk(
        &mut self,
        context: &mut Context<'_>,
        scratch: &mut BytesMut,
        want: usize,
    ) -> Poll<io::Result<Bytes>> {
        if self.first.is_empty() {
            return self.stream.poll_chunk(context, scratch, want);
        }
        Poll::Ready(Ok(std::mem::take(&mut self.first).freeze()))
    }

    fn poll_take(&mut self, context: &mut Context<'_>, chunk: &mut Bytes) -> Poll<io::Result<()>> {
        self.stream.poll_take(context, chunk)
    }

    fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.poll_flush(context)
    }

    fn poll_half_close(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.poll_half_close(context)
    }

    fn as_socket(&self) -> Option<&TcpStream> {
        if self.first.is_empty() { self.stream.as_socket() } else { None }
    }

    fn poll_unwanted(&mut self, context: &mut Context<'_>) -> Poll<io::Error> {
        self.stream.poll_unwanted(context)
    }

    fn has_vanished(&mut self) -> bool {
        self.stream.has_vanished()
    }

    fn poll_settled(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.stream.poll_settled(context)
    }

    fn abort(&mut self) {
        self.stream.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_is_given_back_keeps_no_buffer() {
        const BUFFER: usize = 8192;
        let mut buffer = BytesMut::zeroed(BUFFER);
        let mut read = buffer.split().freeze();
        read.advance(BUFFER);
        let mut stream = Rewound { first: BytesMut::new(), stream: () };
        stream.unread(read);
        assert!(buffer.try_reclaim(BUFFER), "somebody else holds the buffer");
        stream.unread(Bytes::from_static(b"c"));
        stream.unread(Bytes::from_static(b"ab"));
        assert_eq!(stream.first(), b"abc");
    }
}
