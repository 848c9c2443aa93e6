//! Connections that carry no HTTP, or none that is looked into.
//!
//! In: an [`Arrival`] and its bytes. Out: the same bytes at an endpoint. One destination is chosen for a connection, by
//! server name and address, and stays. Absent on purpose: what the bytes mean.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use http::StatusCode;
use lateen_hbone::server::Arrival as Tunnelled;
use lateen_net::splice::{Duplex, End, Meter, Outcome, splice};
use lateen_rt::deadline::within;
use rustls::server::Acceptor;

use crate::{
    arrival::{Arrival, Target},
    book::{self, Book, Upstream, tcp::TcpRoutes},
    lane::Lane,
    pick,
    rewound::Rewound,
    upstream::{
        dial::{self, For},
        endpoint::Endpoint,
        failure::Failure,
        health::{Counted, Slot},
        send::keepalive,
        wire::Carrier,
    },
};

/// How long a ClientHello may take.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);
/// A longer one is none.
const HELLO_MAX: usize = 32 * 1024;

/// Serves a CONNECT: it is answered once the endpoint is reached, unless its first bytes say where that is.
pub async fn tunnelled(lane: &Arc<Lane>, arrival: Arrival, tunnelled: Tunnelled) {
    let book = lane.shared.book.load();
    if needs_server_name(&book, &arrival.target) {
        return match tunnelled.accept(None) {
            Ok(tunnel) => stream(lane, arrival, Rewound::new(tunnel)).await,
            Err(error) => tracing::debug!(%error, "the client did not wait for its tunnel"),
        };
    }
    match reach(lane, &book, &arrival, None).await {
        Ok(reached) => match tunnelled.accept(None) {
            Ok(tunnel) => carry(lane, tunnel, reached).await,
            Err(error) => tracing::debug!(%error, "the client did not wait for its tunnel"),
        },
        Err(why) => {
            refused(&arrival, &why);
            if let Err(error) = tunnelled.refuse(StatusCode::SERVICE_UNAVAILABLE) {
                tracing::debug!(%error, "the client did not wait for its answer");
            }
        }
    }
}

/// Serves a stream that is open already.
pub async fn stream<S: Duplex>(lane: &Arc<Lane>, arrival: Arrival, mut stream: Rewound<S>) {
    let book = lane.shared.book.load();
    let mut server_name = None;
    if needs_server_name(&book, &arrival.target) {
        match within("the ClientHello", HELLO_TIMEOUT, stream.look(hello)).await {
            Ok(Ok(found)) => server_name = found.flatten(),
            Ok(Err(error)) => return tracing::debug!(%error, "a connection ended before its ClientHello"),
            Err(error) => return tracing::debug!(%error, "a connection was cut"),
        }
    }
    match reach(lane, &book, &arrival, server_name.as_deref()).await {
        Ok(reached) => carry(lane, stream, reached).await,
        Err(why) => {
            refused(&arrival, &why);
            stream.abort();
        }
    }
}

fn refused(arrival: &Arrival, why: &Failure) {
    tracing::debug!(client = %arrival.caller.client, target = ?arrival.target, ?why, "a connection was refused");
}

/// An endpoint that is connected.
struct Reached {
    carrier: Carrier,
    idle_timeout: Option<Duration>,
    _counted: Slot,
}

async fn reach(
    lane: &Arc<Lane>,
    book: &Book,
    arrival: &Arrival,
    server_name: Option<&str>,
) -> Result<Reached, Failure> {
    let address = arrival.destination();
    let upstream = match upstream(book, &arrival.target, (server_name, address)) {
        Chosen::Upstream(upstream) => upstream,
        Chosen::Workload => return to_workload(lane, arrival, address).await,
        Chosen::Nothing => return Err(Failure::NoCluster(StatusCode::SERVICE_UNAVAILABLE)),
    };
    let cluster = book.usable(&upstream).map_err(|refusal| {
        tracing::warn!(%upstream, %refusal, "a connection was refused");
        Failure::NoCluster(StatusCode::SERVICE_UNAVAILABLE)
    })?;
    let picked = pick::for_connection(lane, cluster, arrival)?;
    let limits = &cluster.policy.pool;
    let pool = lane.shared.clusters.of(&upstream);
    let counted = pool.breaker.take(Counted::Connections, limits.connections_max).ok_or(Failure::Overflow)?;
    let by = For {
        client: arrival.caller.client,
        timeout: limits.connect_timeout,
        keepalive: limits.keepalive.as_ref().map(keepalive),
    };
    let carrier = dial::carrier(lane, &picked.endpoint, &by).await.map_err(|error| {
        let why = if error.is_timeout() { Failure::ConnectTimeout } else { Failure::Connect(error.to_string().into()) };
        picked.failed(cluster, &why);
        why
    })?;
    Ok(Reached { carrier, idle_timeout: limits.tcp_idle_timeout, _counted: counted })
}

async fn to_workload(lane: &Arc<Lane>, arrival: &Arrival, address: SocketAddr) -> Result<Reached, Failure> {
    let limits = book::cluster::ConnectionPool::default();
    let world = lane.shared.world.load();
    let endpoint = match &arrival.target {
        Target::Workload { uid, .. } => world.workload(uid).map(|workload| Endpoint::workload(workload, address)),
        Target::Service { .. } | Target::Port { .. } => None,
    };
    let endpoint = endpoint.ok_or(Failure::NoHealthyUpstream)?;
    let by = For { client: arrival.caller.client, timeout: limits.connect_timeout, keepalive: None };
    let carrier = dial::carrier(lane, &endpoint, &by).await;
    let carrier = carrier.map_err(|error| Failure::Connect(error.to_string().into()))?;
    let counted = std::sync::Arc::<crate::upstream::health::Breaker>::default();
    let counted = counted.take(Counted::Connections, u32::MAX).ok_or(Failure::Overflow)?;
    Ok(Reached { carrier, idle_timeout: limits.tcp_idle_timeout, _counted: counted })
}

/// Where a connection goes.
enum Chosen {
    Upstream(Arc<Upstream>),
    /// To the workload that was called.
    Workload,
    Nothing,
}

fn upstream(book: &Book, target: &Target, (server_name, address): (Option<&str>, SocketAddr)) -> Chosen {
    let (tls, tcp) = match target {
        Target::Workload { .. } => return Chosen::Workload,
        Target::Port { .. } => return Chosen::Nothing,
        Target::Service { key, port, .. } => match book.service(key).and_then(|service| service.port(*port)) {
            Some(port) => (&port.tls, &port.tcp),
            None => return Chosen::Nothing,
        },
    };
    if let (true, true, Target::Service { key, port, .. }) = (tls.is_empty(), tcp.is_empty(), target) {
        return Chosen::Upstream(Arc::new(Upstream { service: key.clone(), port: *port, subset: "".into() }));
    }
    let of = |routes| TcpRoutes::select(routes, server_name, address.ip());
    let route = of(tls).or_else(|| of(tcp));
    match route.and_then(|route| route.choose(rand::random())).map(|chosen| &chosen.to) {
        Some(book::Target::Upstream(upstream)) => Chosen::Upstream(upstream.clone()),
        Some(book::Target::Invalid(_) | book::Target::Redirect(_)) | None => Chosen::Nothing,
    }
}

fn needs_server_name(book: &Book, target: &Target) -> bool {
    let Target::Service { key, port, .. } = target else { return false };
    let port = book.service(key).and_then(|service| service.port(*port));
    port.is_some_and(|port| port.tls.need_server_name() || port.tcp.need_server_name())
}

/// The server name of a ClientHello; `Some(None)` if it has none or is none, `None` while more is needed.
fn hello(bytes: &[u8]) -> Option<Option<String>> {
    if bytes.first().is_some_and(|first| *first != 0x16) || bytes.len() > HELLO_MAX {
        return Some(None);
    }
    let mut acceptor = Acceptor::default();
    let mut rest = bytes;
    while !rest.is_empty() {
        if acceptor.read_tls(&mut rest).is_err() {
            return Some(None);
        }
    }
    match acceptor.accept() {
        Ok(Some(accepted)) => Some(accepted.client_hello().server_name().map(str::to_owned)),
        Ok(None) => None,
        Err(_) => Some(None),
    }
}

async fn carry<S: Duplex>(lane: &Arc<Lane>, client: S, reached: Reached) {
    let _busy = lane.busy();
    let meter = Meter::default();
    let interrupt = async {
        tokio::select! {
            () = idle(&meter, reached.idle_timeout) => {}
            () = lane.drain.forced() => {}
        }
    };
    let ended = match reached.carrier {
        Carrier::Tunnel(tunnel) => splice(client, tunnel, &meter, interrupt).await,
        Carrier::Plain(socket) => splice(client, socket, &meter, interrupt).await,
    };
    match ended {
        Ok(Outcome::Ended { source: End::Closed, destination: End::Closed }) => {}
        Ok(outcome) => tracing::debug!(?outcome, "a connection was cut short"),
        Err(error) => tracing::debug!(%error, "a connection broke"),
    }
}

/// Returns once no byte has passed for `timeout`.
async fn idle(meter: &Meter, timeout: Option<Duration>) {
    let Some(timeout) = timeout else { return std::future::pending().await };
    let passed = || (meter.from_source(), meter.from_destination());
    let mut before = passed();
    loop {
        tokio::time::sleep(timeout).await;
        let now = passed();
        if now == before {
            return;
        }
        before = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client_hello(name: &str) -> Vec<u8> {
        let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        let name = name.to_owned().try_into().expect("a name");
        let mut client = rustls::ClientConnection::new(std::sync::Arc::new(config), name).expect("a client");
        let mut bytes = Vec::new();
        client.write_tls(&mut bytes).expect("in memory");
        bytes
    }

    #[test]
    fn the_server_name_is_read_from_any_number_of_pieces() {
        let bytes = client_hello("a.example.com");
        for end in 1..bytes.len() {
            assert_eq!(hello(&bytes[..end]), None, "{end}");
        }
        assert_eq!(hello(&bytes), Some(Some("a.example.com".to_owned())));
        assert_eq!(hello(&client_hello("10.0.0.1")), Some(None));
        assert_eq!(hello(b"GET / HTTP/1.1\r\n"), Some(None));
        assert_eq!(hello(&[0x16; 100]), Some(None));
        assert_eq!(hello(b""), None);
    }
}
