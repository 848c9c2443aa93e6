//! Opening TCP connections, from inside a namespace, with a mark and, where asked, somebody's source address.
//!
//! In: a destination and [`DialOptions`]. Out: a connected stream, or an error that tells refusal from silence.
//! Absent on purpose: choosing destinations, retries.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use lateen_rt::deadline::within;
use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::{TcpSocket, TcpStream};

use crate::{
    listen::set_transparent,
    netns::{Netns, NetnsError},
    options::{Keepalive, Leg, set_keepalive, set_leg},
};

/// The longest a TCP connect may take where nothing else is said.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Which source address to use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Source {
    /// The kernel chooses.
    #[default]
    Any,
    /// This one if the kernel allows it, else any, with a warning in the log.
    Prefer(IpAddr),
    /// This one or fail.
    Require(IpAddr),
}

/// How to dial.
#[derive(Debug, Clone)]
pub struct DialOptions {
    /// SO_MARK, set before the first packet.
    pub mark: Option<u32>,
    /// The source address; the port is always fresh.
    pub source: Source,
    /// Where the destination is.
    pub leg: Leg,
    /// Where the socket lives; `None` is the calling thread's namespace.
    pub netns: Option<Netns>,
    /// Probing of the established connection.
    pub keepalive: Option<Keepalive>,
    /// How long connecting may take.
    pub timeout: Duration,
}

impl Default for DialOptions {
    fn default() -> Self {
        Self {
            mark: None,
            source: Source::Any,
            leg: Leg::Network,
            netns: None,
            keepalive: Some(Keepalive::default()),
            timeout: CONNECT_TIMEOUT,
        }
    }
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The namespace cannot be entered.
    #[error("cannot connect to {to}: {source}")]
    Netns {
        /// The destination.
        to: SocketAddr,
        /// Why.
        source: NetnsError,
    },
    /// An option was refused by the kernel.
    #[error("cannot set {option} for a connection to {to}: {source}")]
    Option {
        /// The destination.
        to: SocketAddr,
        /// The socket option.
        option: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The required source address cannot be used.
    #[error("cannot connect to {to} from {from}: {source}")]
    Source {
        /// The destination.
        to: SocketAddr,
        /// The source address asked for.
        from: IpAddr,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The destination, or something on the way, said no.
    #[error("cannot connect to {to}: {source}")]
    Connect {
        /// The destination.
        to: SocketAddr,
        /// The kernel's answer.
        source: io::Error,
    },
    /// Nobody answered.
    #[error("cannot connect to {to}: no answer within {after:?}")]
    Timeout {
        /// The destination.
        to: SocketAddr,
        /// The deadline.
        after: Duration,
    },
}

/// Connects. Dropping the future closes the half-open socket.
pub async fn tcp(to: SocketAddr, options: &DialOptions) -> Result<TcpStream, DialError> {
    let socket = prepare(to, options)?;
    let connecting = TcpSocket::from_std_stream(socket.into()).connect(to);
    match within("connecting", options.timeout, connecting).await {
        Ok(connected) => connected.map_err(|source| DialError::Connect { to, source }),
        Err(_) => Err(DialError::Timeout { to, after: options.timeout }),
    }
}

fn prepare(to: SocketAddr, options: &DialOptions) -> Result<Socket, DialError> {
    let failed = |option| move |source| DialError::Option { to, option, source };
    let make = || Socket::new(Domain::for_address(to), Type::STREAM.nonblocking(), Some(Protocol::TCP));
    // A socket belongs to the namespace it was made in; everything after may happen outside.
    let made = match &options.netns {
        Some(netns) => netns.run(make).map_err(|source| DialError::Netns { to, source })?,
        None => make(),
    };
    let socket = made.map_err(failed("a socket"))?;
    socket.set_tcp_nodelay(true).map_err(failed("TCP_NODELAY"))?;
    if let Some(mark) = options.mark {
        socket.set_mark(mark).map_err(failed("SO_MARK"))?;
    }
    set_leg(SockRef::from(&socket), options.leg);
    if let Some(keepalive) = &options.keepalive {
        set_keepalive(SockRef::from(&socket), keepalive).map_err(failed("SO_KEEPALIVE"))?;
    }
    match options.source {
        Source::Any => {}
        Source::Require(from) => {
            take_source(&socket, from).map_err(|source| DialError::Source { to, from, source })?;
        }
        Source::Prefer(from) => {
            if let Err(error) = take_source(&socket, from) {
                tracing::warn!(%to, %from, %error, "cannot keep the source address; connecting from our own");
            }
        }
    }
    Ok(socket)
}

/// Binds to a foreign address. The port is left to connect(2), which knows the destination: a port chosen here would
/// have to be free towards every destination, and after some 14,000 connections in TIME_WAIT the search for one takes
/// all the CPU there is.
fn take_source(socket: &Socket, from: IpAddr) -> io::Result<()> {
    let from = SocketAddr::new(from, 0);
    // It also lets the socket be bound to an address that is not ours; IP_FREEBIND would say that a second time.
    set_transparent(socket, from)?;
    setsockopt(socket, sockopt::IpBindAddressNoPort, &true)?;
    socket.bind(&from.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listen::{self, ListenOptions};

    fn inside() -> Netns {
        let netns = Netns::create().expect("create");
        netns.loopback_up().expect("lo");
        netns
    }

    #[tokio::test]
    async fn the_source_is_kept_for_both_families() {
        let netns = inside();
        let options = ListenOptions { netns: Some(netns.clone()), ..ListenOptions::default() };
        for (listen, source) in [("127.0.0.1:0", "127.9.9.9"), ("[::1]:0", "::1")] {
            let listener = listen::tcp(listen.parse().expect("valid"), &options).expect("listen").socket;
            let source: IpAddr = source.parse().expect("valid");
            let dial = DialOptions {
                source: Source::Require(source),
                mark: Some(1337),
                netns: Some(netns.clone()),
                ..DialOptions::default()
            };
            let stream = tcp(listener.local_addr().expect("address"), &dial).await.expect("connect");
            let (_, peer) = listener.accept().await.expect("accept");
            assert_eq!(peer.ip(), source);
            assert_eq!(SockRef::from(&stream).mark().expect("mark"), 1337);
            assert!(stream.nodelay().expect("nodelay"));
        }
    }

    #[tokio::test]
    async fn a_foreign_source_is_bound_and_a_wrong_family_is_not() {
        let netns = inside();
        let options = ListenOptions { netns: Some(netns.clone()), ..ListenOptions::default() };
        let listener = listen::tcp("127.0.0.1:0".parse().expect("valid"), &options).expect("listen").socket;
        let to = listener.local_addr().expect("address");
        let dial = |source| DialOptions { source, netns: Some(netns.clone()), ..DialOptions::default() };
        let v6: IpAddr = "2001:db8::1".parse().expect("valid");
        let error = tcp(to, &dial(Source::Require(v6))).await.expect_err("IPv6 source for an IPv4 destination");
        assert!(matches!(error, DialError::Source { .. }), "{error}");
        tcp(to, &dial(Source::Prefer(v6))).await.expect("a preferred source is not needed");
    }

    #[tokio::test]
    async fn only_a_pods_leg_leaves_the_nodes_congestion_control() {
        let netns = inside();
        let options = ListenOptions { netns: Some(netns.clone()), ..ListenOptions::default() };
        let listener = listen::tcp("127.0.0.1:0".parse().expect("valid"), &options).expect("listen").socket;
        let to = listener.local_addr().expect("address");
        let of_node = SockRef::from(&listener).tcp_congestion().expect("congestion");
        for (leg, expected) in [(Leg::Network, of_node.as_slice()), (Leg::Pod, b"reno")] {
            let dial = DialOptions { leg, netns: Some(netns.clone()), ..DialOptions::default() };
            let stream = tcp(to, &dial).await.expect("connect");
            assert!(SockRef::from(&stream).tcp_congestion().expect("congestion").starts_with(expected), "{leg:?}");
        }
    }

    #[tokio::test]
    async fn refusal_and_silence_are_told_apart() {
        let netns = inside();
        let options = DialOptions { netns: Some(netns), timeout: Duration::from_millis(50), ..DialOptions::default() };
        let refused = tcp("127.0.0.1:1".parse().expect("valid"), &options).await.expect_err("refused");
        let DialError::Connect { source, .. } = refused else { panic!("{refused}") };
        assert_eq!(source.kind(), io::ErrorKind::ConnectionRefused);
        let nowhere = tcp("192.0.2.1:1".parse().expect("valid"), &options).await.expect_err("no route");
        assert!(matches!(nowhere, DialError::Connect { .. }), "{nowhere}");
    }

    #[tokio::test]
    async fn an_unanswered_connect_ends_at_the_deadline() {
        let netns = inside();
        let listen = ListenOptions { netns: Some(netns.clone()), backlog: Some(0), ..ListenOptions::default() };
        let full = listen::tcp("127.0.0.1:0".parse().expect("valid"), &listen).expect("listen").socket;
        let to = full.local_addr().expect("address");
        let options = DialOptions { netns: Some(netns), timeout: Duration::from_millis(100), ..DialOptions::default() };
        let mut held = Vec::new();
        // A full accept queue drops SYNs; it takes one or two connections to fill this one.
        let error = loop {
            match tcp(to, &options).await {
                Ok(stream) if held.len() < 8 => held.push(stream),
                Ok(_) => panic!("the accept queue does not fill"),
                Err(error) => break error,
            }
        };
        assert!(matches!(error, DialError::Timeout { .. }), "{error}");
    }
}
