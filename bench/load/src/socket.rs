//! Sockets as both ends use them: they never wait, and small writes leave at once.
//!
//! In: addresses. Out: sockets; bytes moved, or that nothing moved now.

use std::{
    io::{self, ErrorKind, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    time::Duration,
};

use anyhow::Context as _;
use nix::sys::{
    prctl::set_timerslack,
    resource::{Resource, getrlimit, setrlimit},
};
use socket2::{Domain, Protocol, Socket, Type};

/// Connections that wait to be accepted.
const BACKLOG: i32 = 4096;
/// How long one of the first connections may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// What a read or a write came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moved {
    /// So many bytes.
    Bytes(usize),
    /// Nothing now.
    Later,
    /// Nothing ever again: the other end closed.
    Ended,
    /// It is broken.
    Broken,
}

/// As many descriptors as allowed, and timers that are not put together with others'.
pub(crate) fn prepare() -> anyhow::Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).context("the limit of descriptors")?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).context("raising the limit of descriptors")?;
    set_timerslack(1).context("asking for exact timers")
}

/// A listening socket.
pub(crate) fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let bound = || -> io::Result<TcpListener> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        socket.set_nonblocking(true)?;
        Ok(socket.into())
    };
    bound().with_context(|| format!("listening on {address}"))
}

/// The next accepted connection, if there is one now.
pub(crate) fn accept(listener: &TcpListener) -> Option<TcpStream> {
    let (stream, _) = listener.accept().ok()?;
    ready(stream).ok()
}

/// A connection that is there.
pub(crate) fn connected(to: SocketAddr) -> anyhow::Result<TcpStream> {
    TcpStream::connect_timeout(&to, CONNECT_TIMEOUT).and_then(ready).with_context(|| format!("connecting to {to}"))
}

/// A connection that is being made.
pub(crate) fn connecting(to: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    match socket.connect(&to.into()) {
        Err(error) if error.raw_os_error() != Some(nix::errno::Errno::EINPROGRESS as i32) => Err(error),
        _ => Ok(socket.into()),
    }
}

fn ready(stream: TcpStream) -> io::Result<TcpStream> {
    stream.set_nonblocking(true)?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Reads what is there.
pub(crate) fn read(mut stream: &TcpStream, buffer: &mut [u8]) -> Moved {
    moved(stream.read(buffer))
}

/// Writes what fits.
pub(crate) fn write(mut stream: &TcpStream, bytes: &[u8]) -> Moved {
    moved(stream.write(bytes))
}

fn moved(result: io::Result<usize>) -> Moved {
    match result {
        Ok(0) => Moved::Ended,
        Ok(count) => Moved::Bytes(count),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Moved::Later,
        Err(_) => Moved::Broken,
    }
}
