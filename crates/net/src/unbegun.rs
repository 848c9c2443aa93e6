//! A connection whose bytes do not flow yet.
//!
//! In: an accepted or dialled stream. Out: the same stream, when somebody begins to carry its bytes. Dropped before that,
//! for whatever reason, it is reset: the kernel said yes to its peer in another's name, and an orderly end would read as
//! an answer that is empty and complete. Absent on purpose: what ends a connection later (see [`crate::splice`]).

use tokio::net::TcpStream;

use crate::splice::Duplex as _;

/// A connection that is reset if it ends before its bytes flow.
#[derive(Debug)]
pub struct Unbegun {
    /// `None` only within [`Unbegun::begin`], which consumes it.
    stream: Option<TcpStream>,
}

impl Unbegun {
    /// Nothing was carried on `stream` so far.
    pub fn new(stream: TcpStream) -> Self {
        Self { stream: Some(stream) }
    }

    /// The bytes flow from now on; how it ends is its holder's business.
    pub fn begin(mut self) -> TcpStream {
        self.stream.take().expect("taken only here")
    }

    /// The stream, to be asked.
    pub fn stream(&self) -> &TcpStream {
        self.stream.as_ref().expect("held until it begins")
    }

    /// The stream, to be written to ahead of what it will carry.
    pub fn stream_mut(&mut self) -> &mut TcpStream {
        self.stream.as_mut().expect("held until it begins")
    }
}

impl Drop for Unbegun {
    fn drop(&mut self) {
        if let Some(stream) = &mut self.stream {
            stream.abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use tokio::{io::AsyncReadExt as _, net::TcpListener};

    use super::*;

    async fn pair() -> (TcpStream, Unbegun) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let client = TcpStream::connect(listener.local_addr().expect("bound")).await.expect("connect");
        let (server, _) = listener.accept().await.expect("accept");
        (client, Unbegun::new(server))
    }

    /// The client has sent nothing: what is unread would make the kernel reset the connection by itself.
    #[tokio::test]
    async fn what_never_began_is_reset() {
        let (mut client, server) = pair().await;
        drop(server);
        assert_eq!(client.read_u8().await.expect_err("no byte").kind(), ErrorKind::ConnectionReset);
    }

    #[tokio::test]
    async fn a_future_that_is_dropped_unpolled_resets_too() {
        let (mut client, server) = pair().await;
        drop(async move { server.begin() });
        assert_eq!(client.read_u8().await.expect_err("no byte").kind(), ErrorKind::ConnectionReset);
    }

    #[tokio::test]
    async fn what_began_ends_as_its_holder_wants() {
        let (mut client, server) = pair().await;
        drop(server.begin());
        assert_eq!(client.read_u8().await.expect_err("no byte").kind(), ErrorKind::UnexpectedEof);
    }
}
