//! Our name in the answers that hyper makes by itself.
//!
//! In: a stream that hyper writes to, what we are called. Out: the same bytes; only the head by which hyper refuses what it
//! cannot read gets a `server` header, as every other answer has one. Such a head is hyper's last, and nobody but hyper could
//! write it: all other answers are named already. Absent on purpose: telling of the refusal (see `request::unreadable`).

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// How hyper refuses.
const REFUSALS: [&[u8]; 3] = [
    b"HTTP/1.1 400 Bad Request\r\n",
    b"HTTP/1.1 414 URI Too Long\r\n",
    b"HTTP/1.1 431 Request Header Fields Too Large\r\n",
];

/// The stream.
#[derive(Debug)]
pub struct Signed<S> {
    stream: S,
    name: Option<Arc<str>>,
    /// A head with our name that is not all written, in the place of so many bytes of hyper's.
    pending: Option<(Bytes, usize)>,
}

impl<S> Signed<S> {
    /// A stream on which nothing was written.
    pub fn new(stream: S, name: Option<Arc<str>>) -> Self {
        Self { stream, name, pending: None }
    }

    /// The stream, once everything has left.
    pub fn into_inner(self) -> S {
        self.stream
    }
}

/// The refusal with our name, if `bytes` are one.
fn signed(bytes: &[u8], name: &str) -> Option<Bytes> {
    let refusal = REFUSALS.iter().find(|line| bytes.starts_with(line))?;
    let headers = &bytes[refusal.len()..];
    let is_whole =
        headers.ends_with(b"\r\n\r\n") && !headers[..headers.len() - 4].windows(4).any(|four| four == b"\r\n\r\n");
    let is_named = headers.windows(9).any(|part| part == b"\nserver: ") || headers.starts_with(b"server: ");
    (is_whole && !is_named).then(|| [refusal, &b"server: "[..], name.as_bytes(), b"\r\n", headers].concat().into())
}

impl<S: AsyncWrite + Unpin> Signed<S> {
    /// Writes what is pending; as many bytes of hyper's are done then.
    fn poll_pending(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let Some((head, of)) = &mut self.pending else { return Poll::Ready(Ok(0)) };
        while !head.is_empty() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(context, head))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            head.advance(written);
        }
        let of = *of;
        self.pending = None;
        Poll::Ready(Ok(of))
    }

    /// Whether `bytes` are a refusal, which is pending then.
    fn takes(&mut self, bytes: &[u8]) -> bool {
        if self.pending.is_none()
            && bytes.starts_with(b"HTTP/1.1 4")
            && let Some(name) = &self.name
        {
            self.pending = signed(bytes, name).map(|head| (head, bytes.len()));
        }
        self.pending.is_some()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Signed<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, into)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Signed<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        // Until it is written hyper asks with the same bytes again.
        if self.takes(bytes) {
            return self.poll_pending(context);
        }
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if bytes.first().is_some_and(|first| self.takes(first)) {
            return self.poll_pending(context);
        }
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

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    const REFUSAL: &[u8] = b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

    #[tokio::test]
    async fn only_what_hyper_says_by_itself_is_signed() {
        for (given, name, expected) in [
            (
                REFUSAL,
                Some("me"),
                &b"HTTP/1.1 400 Bad Request\r\nserver: me\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"[..],
            ),
            (REFUSAL, None, REFUSAL),
            (
                b"HTTP/1.1 400 Bad Request\r\nserver: x\r\n\r\n",
                Some("me"),
                b"HTTP/1.1 400 Bad Request\r\nserver: x\r\n\r\n",
            ),
            (b"HTTP/1.1 404 Not Found\r\n\r\n", Some("me"), b"HTTP/1.1 404 Not Found\r\n\r\n"),
            (b"a body\r\n\r\n", Some("me"), b"a body\r\n\r\n"),
        ] {
            // A pipe of a few bytes, so that a head is written in pieces.
            let (near, mut far) = tokio::io::duplex(7);
            let mut stream = Signed::new(near, name.map(Into::into));
            let writing = async {
                stream.write_all(given).await.expect("written");
                stream.shutdown().await.expect("closed");
            };
            let mut heard = Vec::new();
            let (_, read) = tokio::join!(writing, far.read_to_end(&mut heard));
            read.expect("read");
            assert_eq!(heard, expected, "{}", given.escape_ascii());
        }
    }
}
