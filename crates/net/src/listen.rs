//! Listening sockets, made inside a namespace.
//!
//! In: an address and [`ListenOptions`]. Out: a bound socket on the current runtime.
//! Absent on purpose: accepting; each program has one accept loop with its own limits.

use std::{io, net::SocketAddr};

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::{TcpListener, UdpSocket};

use crate::{
    netns::{Netns, NetnsError},
    options::{Keepalive, Leg, set_keepalive, set_leg},
};

/// Whether a socket may carry foreign addresses (IP_TRANSPARENT).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Transparent {
    /// Binding fails without it.
    Required,
    /// Tried; [`Listening::transparent`] tells whether it held.
    BestEffort,
    /// Not tried.
    #[default]
    Off,
}

/// How to listen.
#[derive(Debug, Clone, Default)]
pub struct ListenOptions {
    /// SO_MARK on the socket; accepted sockets inherit it.
    pub mark: Option<u32>,
    /// SO_REUSEPORT, so that an old and a new process of one user can listen side by side.
    pub reuse_port: bool,
    /// IP_TRANSPARENT.
    pub transparent: Transparent,
    /// The accept queue's length; `None` is 1024. TCP only.
    pub backlog: Option<u16>,
    /// Probing of accepted connections. TCP only.
    pub keepalive: Option<Keepalive>,
    /// Where accepted connections come from. TCP only.
    pub leg: Leg,
    /// Where the socket lives; `None` is the calling thread's namespace.
    pub netns: Option<Netns>,
}

/// A bound socket.
#[derive(Debug)]
pub struct Listening<S> {
    /// The socket.
    pub socket: S,
    /// Whether IP_TRANSPARENT is set, which is what allows keeping clients' source addresses.
    pub transparent: bool,
}

/// Why an address cannot be listened on.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The namespace cannot be entered.
    #[error("cannot listen on {addr}: {source}")]
    Netns {
        /// What was to be bound.
        addr: SocketAddr,
        /// Why.
        source: NetnsError,
    },
    /// An option was refused.
    #[error("cannot set {option} for {addr}: {source}; CAP_NET_ADMIN is needed")]
    Option {
        /// What was to be bound.
        addr: SocketAddr,
        /// The socket option.
        option: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The address is taken or not ours.
    #[error("cannot bind {addr}: {source}; is another process, or an ephemeral port, in its place?")]
    Bind {
        /// What was to be bound.
        addr: SocketAddr,
        /// The kernel's answer.
        source: io::Error,
    },
}

/// Listens for TCP. An IPv6 wildcard takes IPv4 as well. Must be called on a runtime.
pub fn tcp(addr: SocketAddr, options: &ListenOptions) -> Result<Listening<TcpListener>, ListenError> {
    let bound = bind(addr, Type::STREAM, Protocol::TCP, options)?;
    let failed = |source| ListenError::Bind { addr, source };
    bound.socket.listen(i32::from(options.backlog.unwrap_or(1024))).map_err(failed)?;
    let socket = TcpListener::from_std(bound.socket.into()).map_err(failed)?;
    Ok(Listening { socket, transparent: bound.transparent })
}

/// Binds a UDP socket. Must be called on a runtime.
pub fn udp(addr: SocketAddr, options: &ListenOptions) -> Result<Listening<UdpSocket>, ListenError> {
    let bound = bind(addr, Type::DGRAM, Protocol::UDP, options)?;
    let socket = UdpSocket::from_std(bound.socket.into()).map_err(|source| ListenError::Bind { addr, source })?;
    Ok(Listening { socket, transparent: bound.transparent })
}

fn bind(
    addr: SocketAddr,
    kind: Type,
    protocol: Protocol,
    options: &ListenOptions,
) -> Result<Listening<Socket>, ListenError> {
    let failed = |option| move |source| ListenError::Option { addr, option, source };
    let make = || Socket::new(Domain::for_address(addr), kind.nonblocking(), Some(protocol));
    let made = match &options.netns {
        Some(netns) => netns.run(make).map_err(|source| ListenError::Netns { addr, source })?,
        None => make(),
    };
    let socket = made.map_err(failed("a socket"))?;
    if addr.is_ipv6() {
        socket.set_only_v6(false).map_err(failed("IPV6_V6ONLY"))?;
    }
    if kind == Type::STREAM {
        // So that sockets in TIME_WAIT of an earlier process do not hold the port.
        socket.set_reuse_address(true).map_err(failed("SO_REUSEADDR"))?;
        // What is set here accepted sockets are born with; set on each of them it is five system calls a connection.
        socket.set_tcp_nodelay(true).map_err(failed("TCP_NODELAY"))?;
        set_leg(SockRef::from(&socket), options.leg);
        if let Some(keepalive) = &options.keepalive {
            set_keepalive(SockRef::from(&socket), keepalive).map_err(failed("SO_KEEPALIVE"))?;
        }
    }
    if options.reuse_port {
        socket.set_reuse_port(true).map_err(failed("SO_REUSEPORT"))?;
    }
    if let Some(mark) = options.mark {
        socket.set_mark(mark).map_err(failed("SO_MARK"))?;
    }
    let transparent = match options.transparent {
        Transparent::Off => false,
        Transparent::BestEffort => set_transparent(&socket, addr).is_ok(),
        Transparent::Required => set_transparent(&socket, addr).map(|()| true).map_err(failed("IP_TRANSPARENT"))?,
    };
    socket.bind(&addr.into()).map_err(|source| ListenError::Bind { addr, source })?;
    Ok(Listening { socket, transparent })
}

pub(crate) fn set_transparent(socket: &Socket, addr: SocketAddr) -> io::Result<()> {
    match addr {
        SocketAddr::V4(_) => socket.set_ip_transparent_v4(true),
        SocketAddr::V6(_) => socket.set_ip_transparent_v6(true),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn inside() -> Netns {
        let netns = Netns::create().expect("create");
        netns.loopback_up().expect("lo");
        netns
    }

    #[tokio::test]
    async fn sockets_live_in_the_namespace_with_their_options() {
        let netns = inside();
        let options = ListenOptions {
            mark: Some(1337),
            reuse_port: true,
            transparent: Transparent::Required,
            netns: Some(netns.clone()),
            ..ListenOptions::default()
        };
        let any: SocketAddr = "[::]:15008".parse().expect("valid");
        let first = tcp(any, &options).expect("listen");
        assert!(first.transparent);
        assert_eq!(SockRef::from(&first.socket).mark().expect("mark"), 1337);
        assert!(SockRef::from(&first.socket).reuse_port().expect("reuse"));
        let _second = tcp(any, &options).expect("SO_REUSEPORT lets a second one in");
        let _other = tcp(any, &ListenOptions { netns: Some(inside()), ..options.clone() }).expect("another namespace");
        let to = "127.0.0.1:15008".parse().expect("valid");
        let reach = |netns| crate::dial::DialOptions { netns, ..Default::default() };
        crate::dial::tcp(to, &reach(Some(netns))).await.expect("IPv4 reaches the IPv6 wildcard");
        let udp = udp("127.0.0.1:15053".parse().expect("valid"), &options).expect("bind");
        assert_eq!(SockRef::from(&udp.socket).mark().expect("mark"), 1337);
    }

    /// For both families of clients, since a dual-stack socket makes IPv4 connections in another way.
    #[tokio::test]
    async fn accepted_connections_are_born_tuned() {
        let netns = inside();
        let keepalive = Keepalive {
            idle: Duration::from_secs(11),
            interval: Duration::from_secs(12),
            probes: 13,
            user_timeout: Some(Duration::from_secs(14)),
        };
        let options = ListenOptions {
            keepalive: Some(keepalive),
            leg: Leg::Pod,
            netns: Some(netns.clone()),
            ..ListenOptions::default()
        };
        let listener = tcp("[::]:15001".parse().expect("valid"), &options).expect("listen").socket;
        for to in ["127.0.0.1:15001", "[::1]:15001"] {
            let dial = crate::dial::DialOptions { netns: Some(netns.clone()), ..Default::default() };
            let _client = crate::dial::tcp(to.parse().expect("valid"), &dial).await.expect("connect");
            let (accepted, _) = listener.accept().await.expect("accept");
            let socket = SockRef::from(&accepted);
            assert!(socket.tcp_nodelay().expect("nodelay") && socket.keepalive().expect("keepalive"));
            assert_eq!(socket.tcp_keepalive_time().expect("idle"), keepalive.idle);
            assert_eq!(socket.tcp_keepalive_interval().expect("interval"), keepalive.interval);
            assert_eq!(socket.tcp_keepalive_retries().expect("probes"), keepalive.probes);
            assert_eq!(socket.tcp_user_timeout().expect("timeout"), keepalive.user_timeout);
            assert!(socket.tcp_congestion().expect("congestion").starts_with(b"reno"), "a pod's leg is not paced");
        }
    }

    #[tokio::test]
    async fn a_taken_port_is_an_error_that_says_so() {
        let options = ListenOptions { netns: Some(inside()), ..ListenOptions::default() };
        let addr: SocketAddr = "127.0.0.1:15001".parse().expect("valid");
        let _held = tcp(addr, &options).expect("listen");
        let error = tcp(addr, &options).expect_err("taken");
        assert!(error.to_string().contains("127.0.0.1:15001"), "{error}");
    }
}
