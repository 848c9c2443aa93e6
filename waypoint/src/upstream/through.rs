//! A tunnel through a proxy of HTTP that stands where the endpoint is: CONNECT, or POST where it wants that.
//!
//! In: a connection to the proxy, what it is asked to connect to. Out: the bytes' way to there. Absent on purpose: which
//! proxy, and TLS with it (see `dial`).

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, Bytes, BytesMut};
use http::{HeaderValue, Method, Request, Response, Uri, Version, header::HOST, uri::PathAndQuery};
use hyper::{
    body::{Body, Frame, Incoming},
    client::conn::{http1, http2},
    upgrade::Upgraded,
};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio_util::io::poll_read_buf;

use super::{
    connection::{HEADER_BYTES_MAX, HEADERS_MAX, Spawn, Speak},
    dial::DialError,
    wire::Wire,
};
use crate::{book::cluster::ConnectTunnel, lane::Lane};

/// Bytes on their way into a POST that the proxy has not taken yet.
const AHEAD_MAX: usize = 64 * 1024;

/// The way to what the proxy has connected to.
#[derive(Debug)]
pub enum Through {
    /// The connection itself, or a stream of it.
    Connected(TokioIo<Upgraded>),
    /// The two bodies of one exchange.
    Posted(Posted),
}

/// The two bodies of one exchange.
#[derive(Debug)]
pub struct Posted {
    to: DuplexStream,
    from: Incoming,
    left: Bytes,
}

/// Asks the proxy at the other end of `wire`.
pub async fn open(lane: &Lane, wire: Wire, (tunnel, speak): (&ConnectTunnel, Speak)) -> Result<Through, DialError> {
    let (to, body) = match tunnel.post {
        false => (None, Streamed(None)),
        true => {
            let (near, far) = tokio::io::duplex(AHEAD_MAX);
            (Some(near), Streamed(Some(far)))
        }
    };
    let mut response = exchange(lane, wire, (request(tunnel, speak, body)?, speak)).await?;
    if !response.status().is_success() {
        return Err(DialError::Proxy(format!("it answered {}", response.status()).into()));
    }
    match to {
        Some(to) => Ok(Through::Posted(Posted { to, from: response.into_body(), left: Bytes::new() })),
        None => match hyper::upgrade::on(&mut response).await {
            Ok(upgraded) => Ok(Through::Connected(TokioIo::new(upgraded))),
            Err(error) => Err(failed(&error)),
        },
    }
}

fn failed(error: &hyper::Error) -> DialError {
    DialError::Proxy(error.to_string().into())
}

/// The request: what is asked for is its target, or, of a POST, its host.
fn request(tunnel: &ConnectTunnel, speak: Speak, body: Streamed) -> Result<Request<Streamed>, DialError> {
    let bad = || DialError::Proxy(format!("{}:{} cannot stand in a request", tunnel.host, tunnel.port).into());
    let host = if tunnel.host.contains(':') { format!("[{}]", tunnel.host) } else { tunnel.host.to_string() };
    let authority = format!("{host}:{}", tunnel.port);
    let mut parts = http::uri::Parts::default();
    match (tunnel.post, speak) {
        (false, _) => parts.authority = Some(authority.parse().map_err(|_| bad())?),
        (true, Speak::Http1) => parts.path_and_query = Some(PathAndQuery::from_static("/")),
        (true, Speak::Http2) => {
            parts.scheme = Some(http::uri::Scheme::HTTP);
            parts.authority = Some(authority.parse().map_err(|_| bad())?);
            parts.path_and_query = Some(PathAndQuery::from_static("/"));
        }
    }
    let mut request = Request::new(body);
    *request.method_mut() = if tunnel.post { Method::POST } else { Method::CONNECT };
    *request.uri_mut() = Uri::from_parts(parts).map_err(|_| bad())?;
    match speak {
        Speak::Http1 => {
            let value = HeaderValue::from_str(&authority).map_err(|_| bad())?;
            request.headers_mut().insert(HOST, value);
        }
        Speak::Http2 => *request.version_mut() = Version::HTTP_2,
    }
    Ok(request)
}

/// The answer's head. The connection is driven as long as the way is used.
async fn exchange(
    lane: &Lane,
    wire: Wire,
    (request, speak): (Request<Streamed>, Speak),
) -> Result<Response<Incoming>, DialError> {
    let drain = lane.drain.clone();
    let io = TokioIo::new(wire);
    match speak {
        Speak::Http1 => {
            let mut builder = http1::Builder::new();
            builder.max_headers(HEADERS_MAX).max_header_size(HEADER_BYTES_MAX);
            let (mut sender, connection) = builder.handshake(io).await.map_err(|error| failed(&error))?;
            lane.tasks.spawn("proxied", async move {
                tokio::select! {
                    ended = connection.with_upgrades() => told(ended),
                    () = drain.forced() => {}
                }
            });
            sender.send_request(request).await.map_err(|error| failed(&error))
        }
        Speak::Http2 => {
            let builder = http2::Builder::new(Spawn(lane.tasks.clone()));
            let (mut sender, connection) = builder.handshake(io).await.map_err(|error| failed(&error))?;
            lane.tasks.spawn("proxied", async move {
                tokio::select! {
                    ended = connection => told(ended),
                    () = drain.forced() => {}
                }
            });
            sender.send_request(request).await.map_err(|error| failed(&error))
        }
    }
}

fn told(ended: hyper::Result<()>) {
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection to a proxy ended");
    }
}

/// What is written on the other end of a pipe, as a body; none: no body.
#[derive(Debug)]
pub struct Streamed(Option<DuplexStream>);

/// Read at a time.
const CHUNK: usize = 16 * 1024;

impl Body for Streamed {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let Some(from) = &mut self.0 else { return Poll::Ready(None) };
        let mut bytes = BytesMut::with_capacity(CHUNK);
        let read = ready!(poll_read_buf(Pin::new(from), context, &mut bytes));
        match read {
            Ok(0) => {
                self.0 = None;
                Poll::Ready(None)
            }
            Ok(_) => Poll::Ready(Some(Ok(Frame::data(bytes.freeze())))),
            Err(error) => Poll::Ready(Some(Err(error))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_none()
    }
}

impl AsyncRead for Posted {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        while self.left.is_empty() {
            match ready!(Pin::new(&mut self.from).poll_frame(context)) {
                None => return Poll::Ready(Ok(())),
                Some(Err(error)) => return Poll::Ready(Err(io::Error::other(error))),
                Some(Ok(frame)) => self.left = frame.into_data().unwrap_or_default(),
            }
        }
        let length = self.left.len().min(into.remaining());
        into.put_slice(&self.left[..length]);
        self.left.advance(length);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Posted {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.to).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.to).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.to).poll_shutdown(context)
    }
}
