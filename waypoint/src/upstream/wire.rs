//! What a connection to an endpoint is made of: a tunnel or a socket, perhaps with TLS inside.
//!
//! In: either of them. Out: one type of known size that reads and writes. Absent on purpose: how it came to be.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use lateen_hbone::stream::Tunnel;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::client::TlsStream;

use super::through::Through;

/// What carries the bytes.
#[derive(Debug)]
pub enum Carrier {
    /// Through the mesh.
    Tunnel(Tunnel),
    /// Straight.
    Plain(TcpStream),
}

/// A connection.
#[derive(Debug)]
pub enum Wire {
    /// As it is carried.
    Clear(Carrier),
    /// With the destination's own TLS.
    Sealed(Box<TlsStream<Carrier>>),
    /// To where a proxy at the other end has connected.
    Through(Box<Through>),
}

impl Wire {
    /// What a proxy has connected to.
    pub fn through(through: Through) -> Self {
        Self::Through(Box::new(through))
    }
}

/// Calls the same method of whatever is inside.
macro_rules! each {
    ($of:expr, $kind:ident { $($variant:ident),+ }, $one:ident => $call:expr) => {
        match $of {
            $($kind::$variant($one) => $call,)+
        }
    };
}

macro_rules! reads_and_writes {
    ($kind:ident { $($variant:ident),+ }) => {
        impl AsyncRead for $kind {
            fn poll_read(
                self: Pin<&mut Self>,
                context: &mut Context<'_>,
                into: &mut ReadBuf<'_>,
            ) -> Poll<io::Result<()>> {
                each!(self.get_mut(), $kind { $($variant),+ }, one => Pin::new(one).poll_read(context, into))
            }
        }

        impl AsyncWrite for $kind {
            fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
                each!(self.get_mut(), $kind { $($variant),+ }, one => Pin::new(one).poll_write(context, bytes))
            }

            fn poll_write_vectored(
                self: Pin<&mut Self>,
                context: &mut Context<'_>,
                bytes: &[io::IoSlice<'_>],
            ) -> Poll<io::Result<usize>> {
                each!(self.get_mut(), $kind { $($variant),+ }, one => Pin::new(one).poll_write_vectored(context, bytes))
            }

            fn is_write_vectored(&self) -> bool {
                each!(self, $kind { $($variant),+ }, one => one.is_write_vectored())
            }

            fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
                each!(self.get_mut(), $kind { $($variant),+ }, one => Pin::new(one).poll_flush(context))
            }

            fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
                each!(self.get_mut(), $kind { $($variant),+ }, one => Pin::new(one).poll_shutdown(context))
            }
        }
    };
}

reads_and_writes!(Carrier { Tunnel, Plain });
reads_and_writes!(Through { Connected, Posted });
reads_and_writes!(Wire { Clear, Sealed, Through });
