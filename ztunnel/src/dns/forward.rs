//! Sending queries on, with the pod's own address.
//!
//! In: a query. Out: an upstream's answer, over UDP, over TCP where UDP's was cut. Sockets are made in the pod's
//! namespace with our mark, so they are not captured again and leave with the pod's address.
//! Absent on purpose: search lists (names are absolute), a cache (the upstream has one).

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use hickory_proto::op::Message;
use lateen_net::{
    dial::{self, DialOptions},
    listen::{self, ListenOptions},
    netns::Netns,
};
use lateen_rt::deadline::{Elapsed, within};
use rand::RngExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::message::Asked;

/// For one attempt at one server.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(5);
/// Rounds over the servers.
const ATTEMPTS: usize = 2;
/// As glibc: further servers are ignored.
const SERVERS_MAX: usize = 3;

/// Why there is no answer from above.
#[derive(Debug, thiserror::Error)]
pub enum ForwardError {
    /// There is no server to ask.
    #[error("no nameserver is known; /etc/resolv.conf of the proxy names none")]
    NoServer,
    /// A socket could not be made in the pod's namespace.
    #[error("no socket to reach {server}: {reason}")]
    Socket {
        /// The server.
        server: SocketAddr,
        /// Why not.
        reason: String,
    },
    /// Sending or receiving failed.
    #[error("asking {server}: {source}")]
    Io {
        /// The server.
        server: SocketAddr,
        /// The kernel's answer.
        source: io::Error,
    },
    /// No answer in time.
    #[error("asking {server}: {elapsed}")]
    Timeout {
        /// The server.
        server: SocketAddr,
        /// How long.
        elapsed: Elapsed,
    },
    /// The query cannot be written.
    #[error("the query cannot be encoded")]
    Encode,
}

/// Where queries go, and from where.
#[derive(Debug, Clone)]
pub struct Forwarder {
    servers: Vec<SocketAddr>,
    netns: Option<Netns>,
    mark: Option<u32>,
}

impl Forwarder {
    /// Asks `servers` from inside `netns` with `mark` on its packets.
    pub fn new(servers: Vec<SocketAddr>, netns: Option<Netns>, mark: Option<u32>) -> Self {
        Self { servers, netns, mark }
    }

    /// The answer to `asked`: the first that any server gives, in the order they are configured.
    pub(super) async fn forward(&self, asked: &Asked) -> Result<Message, ForwardError> {
        let mut last = ForwardError::NoServer;
        for server in self.servers.iter().cycle().take(self.servers.len() * ATTEMPTS) {
            let attempt = within("an answer of the nameserver", ATTEMPT_TIMEOUT, self.ask(*server, asked));
            match attempt.await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(error)) => last = error,
                Err(elapsed) => last = ForwardError::Timeout { server: *server, elapsed },
            }
        }
        Err(last)
    }

    async fn ask(&self, server: SocketAddr, asked: &Asked) -> Result<Message, ForwardError> {
        let answer = self.ask_udp(server, asked).await?;
        if answer.metadata.truncation { self.ask_tcp(server, asked).await } else { Ok(answer) }
    }

    async fn ask_udp(&self, server: SocketAddr, asked: &Asked) -> Result<Message, ForwardError> {
        let failed = |source| ForwardError::Io { server, source };
        let any: IpAddr = if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let options = ListenOptions { mark: self.mark, netns: self.netns.clone(), ..ListenOptions::default() };
        let socket = listen::udp(SocketAddr::new(any, 0), &options)
            .map_err(|error| ForwardError::Socket { server, reason: error.to_string() })?
            .socket;
        // Connected, so that the kernel drops what comes from elsewhere and reports refusals.
        socket.connect(server).await.map_err(failed)?;
        let id: u16 = rand::rng().random();
        let query = asked.to_upstream(id).to_vec().map_err(|_| ForwardError::Encode)?;
        socket.send(&query).await.map_err(failed)?;
        let mut buffer = vec![0; usize::from(u16::MAX)];
        loop {
            let length = socket.recv(&mut buffer).await.map_err(failed)?;
            match Message::from_vec(&buffer[..length]) {
                Ok(answer) if asked.is_answered_by(&answer, id) => return Ok(answer),
                // Something else: an answer to an earlier question, or a guess. The right one may still come.
                Ok(_) | Err(_) => {}
            }
        }
    }

    async fn ask_tcp(&self, server: SocketAddr, asked: &Asked) -> Result<Message, ForwardError> {
        let failed = |source| ForwardError::Io { server, source };
        let options = DialOptions {
            mark: self.mark,
            netns: self.netns.clone(),
            keepalive: None,
            timeout: ATTEMPT_TIMEOUT,
            ..DialOptions::default()
        };
        let mut stream = dial::tcp(server, &options)
            .await
            .map_err(|error| ForwardError::Socket { server, reason: error.to_string() })?;
        let id: u16 = rand::rng().random();
        let query = asked.to_upstream(id).to_vec().map_err(|_| ForwardError::Encode)?;
        let length = u16::try_from(query.len()).map_err(|_| ForwardError::Encode)?;
        let framed = [&length.to_be_bytes()[..], &query].concat();
        stream.write_all(&framed).await.map_err(failed)?;
        let length = stream.read_u16().await.map_err(failed)?;
        let mut answer = vec![0; usize::from(length)];
        stream.read_exact(&mut answer).await.map_err(failed)?;
        match Message::from_vec(&answer) {
            Ok(answer) if asked.is_answered_by(&answer, id) => Ok(answer),
            Ok(_) | Err(_) => Err(failed(io::ErrorKind::InvalidData.into())),
        }
    }
}

/// The `nameserver` lines of a resolv.conf.
pub fn nameservers(resolv_conf: &str) -> Vec<SocketAddr> {
    let lines = resolv_conf.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        (words.next() == Some("nameserver")).then(|| words.next()).flatten()
    });
    // A zone (fe80::1%eth0) means an interface of this namespace and nothing in a pod's.
    let servers = lines.filter_map(|text| text.parse::<IpAddr>().ok());
    servers.map(|ip| SocketAddr::new(ip, 53)).take(SERVERS_MAX).collect()
}
