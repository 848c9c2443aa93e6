//! What our TCP sockets have in common: when a silent peer is given up.
//!
//! In: a socket. Out: the same, tuned. Absent on purpose: options that only make sense while listening or dialling; those
//! are with [`crate::listen`] and [`crate::dial`].

use std::{io, time::Duration};

use socket2::{SockRef, TcpKeepalive};

/// When to probe a silent peer, and when to give it up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keepalive {
    /// Silence before the first probe.
    pub idle: Duration,
    /// Time between probes.
    pub interval: Duration,
    /// Unanswered probes before the connection is dead.
    pub probes: u32,
    /// TCP_USER_TIMEOUT: how long sent data may stay unacknowledged; `None` leaves the kernel's default.
    pub user_timeout: Option<Duration>,
}

impl Default for Keepalive {
    /// 180 s, 180 s, 9 probes, as the reference has it.
    fn default() -> Self {
        Self { idle: Duration::from_secs(180), interval: Duration::from_secs(180), probes: 9, user_timeout: None }
    }
}

/// Where the other end of a socket is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Leg {
    /// Somewhere on the network.
    #[default]
    Network,
    /// In the same namespace: nothing is lost on the way and nobody shares it, so sending need not be paced.
    Pod,
}

/// Chooses for a pod's leg the plainest congestion control there is. Where the node's own paces what it sends, as BBR
/// does, every packet to the application costs a timer. It is a saving only, so a kernel that refuses is left alone.
pub(crate) fn set_leg(socket: SockRef<'_>, leg: Leg) {
    if leg == Leg::Pod
        && let Err(error) = socket.set_tcp_congestion(b"reno")
    {
        tracing::debug!(%error, "a pod's leg keeps the node's congestion control");
    }
}

pub(crate) fn set_keepalive(socket: SockRef<'_>, keepalive: &Keepalive) -> io::Result<()> {
    let probes = TcpKeepalive::new().with_time(keepalive.idle).with_interval(keepalive.interval);
    socket.set_tcp_keepalive(&probes.with_retries(keepalive.probes))?;
    if keepalive.user_timeout.is_some() {
        socket.set_tcp_user_timeout(keepalive.user_timeout)?;
    }
    Ok(())
}
