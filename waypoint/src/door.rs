//! HBONE in: who calls is proven, and each CONNECT names what it wants.
//!
//! ```text
//! socket ─► mutual TLS ─► HTTP/2 ─► CONNECT ─► target: a service's port, a workload, or refused
//!                                                │ HTTP ─► http::serve          bytes ─► tcp
//! ```
//! In: accepted sockets. Out: one [`Arrival`] for each CONNECT that names something this proxy serves. Absent on purpose:
//! what is done with an arrival.

use std::{
    fmt::Display,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use http::StatusCode;
use lateen_hbone::{
    request::{Authority, Received},
    server::{self, Arrival as Tunnelled},
};
use lateen_identity::{
    handshake::{self, HANDSHAKE_TIMEOUT, HandshakeError},
    keeper::KeeperError,
};
use lateen_net::unbegun::Unbegun;
use lateen_state::{
    lookup::Known,
    wait::{self, Unanswered},
    workload::Workload,
    world::World,
};
use lateen_telemetry::access::{self, Direction};
use lateen_types::{
    addr::{NetworkAddress, canonical},
    id::SpiffeId,
    name::NamespacedHostname,
};
use tokio::net::TcpStream;

use crate::{
    arrival::{Arrival, Caller, Target},
    book::Book,
    catalogue,
    lane::{Lane, Own, Shared},
    news, serve,
};

/// Why a connection is not admitted.
#[derive(Debug, thiserror::Error)]
enum AdmitError {
    #[error("no certificate: {0}")]
    Certificate(#[from] KeeperError),
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
}

/// Why a CONNECT is refused.
#[derive(Debug, thiserror::Error)]
pub enum RefuseError {
    /// Nobody says what is at the address.
    #[error(transparent)]
    Unanswered(#[from] Unanswered),
    /// The control plane has not said yet what this proxy is.
    #[error("the control plane has not said yet what this proxy serves")]
    NotConfigured,
    /// It is not among what this proxy serves.
    #[error("{0} is not served by this waypoint")]
    NotServed(String),
    /// It is served, but how is not known (yet).
    #[error("how {0} is served has not arrived")]
    NotArrived(NamespacedHostname),
    /// The service has no such port.
    #[error("{service} has no port {port}")]
    NoPort {
        /// The service.
        service: NamespacedHostname,
        /// What was asked for.
        port: u16,
    },
    /// What the control plane says of it cannot be read.
    #[error("{key} cannot be used: {reason}")]
    Unusable {
        /// The workload or service.
        key: Arc<str>,
        /// What is wrong.
        reason: Arc<str>,
    },
}

impl RefuseError {
    /// The word in metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Unanswered(_) => "unanswered",
            Self::NotConfigured => "not_configured",
            Self::NotServed(_) => "not_served",
            Self::NotArrived(_) => "not_arrived",
            Self::NoPort { .. } => "no_port",
            Self::Unusable { .. } => "unusable",
        }
    }

    /// Whether news of the control plane could mend it.
    fn may_pass(&self) -> bool {
        match self {
            Self::NotConfigured | Self::NotServed(_) | Self::NotArrived(_) | Self::NoPort { .. } => true,
            Self::Unanswered(_) | Self::Unusable { .. } => false,
        }
    }

    fn status(&self) -> StatusCode {
        match self {
            Self::NotServed(_) | Self::NoPort { .. } => StatusCode::NOT_FOUND,
            Self::Unanswered(_) | Self::NotConfigured | Self::NotArrived(_) | Self::Unusable { .. } => {
                StatusCode::SERVICE_UNAVAILABLE
            }
        }
    }
}

/// A proven connection that CONNECTs come on.
#[derive(Debug)]
struct Carrier {
    client: SocketAddr,
    dialled: SocketAddr,
    peer: SpiffeId,
}

/// Serves one connection until it ends, or the drain is forced.
pub async fn handle(lane: Arc<Lane>, stream: Unbegun, peer: SocketAddr) {
    tokio::select! {
        () = carry(&lane, stream, canonical(peer)) => {}
        () = lane.drain.forced() => {}
    }
}

async fn carry(lane: &Arc<Lane>, stream: Unbegun, client: SocketAddr) {
    let dialled = match stream.stream().local_addr() {
        Ok(dialled) => canonical(dialled),
        Err(error) => return denied(client, client, &error),
    };
    // Boxed, as it is many times larger than what follows, which lasts.
    let secured = match Box::pin(admit(lane, stream)).await {
        Ok(secured) => secured,
        Err(error) => return denied(client, dialled, &error),
    };
    let carrier = Arc::new(Carrier { client, dialled, peer: secured.peer });
    let take = |arrival: Tunnelled| {
        lane.tasks.spawn("tunnel-stream", arrive(lane.clone(), carrier.clone(), arrival));
    };
    if let Err(error) = server::serve(secured.stream, &lane.shared.hbone, &lane.drain, take).await {
        tracing::debug!(%client, %error, "a tunnel connection ended");
    }
}

async fn admit(lane: &Lane, stream: Unbegun) -> Result<handshake::Secured<TcpStream>, AdmitError> {
    let shared = &lane.shared;
    let ours = shared.keeper.certificate(&shared.own.identity).await?;
    Ok(handshake::accept(stream.begin(), &ours, HANDSHAKE_TIMEOUT).await?)
}

async fn arrive(lane: Arc<Lane>, carrier: Arc<Carrier>, tunnelled: Tunnelled) {
    match resolve(&lane, &carrier, &tunnelled.request).await {
        Ok(arrival) => {
            let serving = serve::tunnelled(lane.clone(), arrival, tunnelled);
            tokio::select! {
                // First, so that what was cut takes no further step.
                biased;
                () = lane.drain.forced() => {}
                () = serving => {}
            }
        }
        Err(error) => {
            metrics::counter!(catalogue::REFUSED, "reason" => error.reason()).increment(1);
            denied(carrier.client, carrier.dialled, &error);
            let status = error.status();
            if let Err(error) = tunnelled.refuse(status) {
                tracing::debug!(%error, %status, "the client did not wait for its answer");
            }
        }
    }
}

async fn resolve(lane: &Arc<Lane>, carrier: &Carrier, request: &Received) -> Result<Arrival, RefuseError> {
    let shared = &lane.shared;
    if let Authority::Addr(addr) = &request.authority {
        // Waits where the address is not known yet.
        wait::address(&shared.world, &shared.demands, &address(&shared.own, addr.ip())).await?;
    }
    let target = awaited(shared, &request.authority).await?;
    let caller = caller(&shared.world.load(), &shared.own, carrier, request);
    Ok(Arrival { caller: Arc::new(caller), target })
}

/// What an authority stands for, as soon as we are told, or why that is nothing: the client's own proxy may have heard sooner
/// than we that something is ours to serve.
pub async fn awaited(shared: &Shared, authority: &Authority) -> Result<Target, RefuseError> {
    let look = || target(&shared.world.load(), &shared.book.load(), &shared.own, authority);
    let known = || match look() {
        Err(error) if error.may_pass() => None,
        known => Some(known),
    };
    news::until(shared, known).await.unwrap_or_else(look)
}

fn address(own: &Own, ip: IpAddr) -> NetworkAddress {
    NetworkAddress { network: own.network.clone(), ip }
}

/// What an authority stands for here (pure).
pub fn target(world: &World, book: &Book, own: &Own, authority: &Authority) -> Result<Target, RefuseError> {
    let proxy = book.proxy().ok_or(RefuseError::NotConfigured)?;
    let not_served = || RefuseError::NotServed(authority.to_string());
    let (key, port, dialled) = match authority {
        Authority::Host { name, port } => {
            let mut named = book.named(name);
            let first = named.next().ok_or_else(not_served)?;
            // Of two services of one name our own namespace's counts.
            let ours = named.find(|key| key.namespace == own.namespace);
            (ours.unwrap_or(first).clone(), *port, None)
        }
        Authority::Addr(addr) => {
            let at = address(own, addr.ip());
            let served = world.services_at(&at).find(|service| book.takes(&service.key));
            match served {
                Some(service) if proxy.serves_services => (service.key.clone(), addr.port(), Some(*addr)),
                Some(_) => return Err(not_served()),
                None => return workload_target(world, book, own, *addr),
            }
        }
    };
    if !proxy.serves_services {
        return Err(not_served());
    }
    let service = book.service(&key).ok_or_else(|| RefuseError::NotArrived(key.clone()))?;
    if service.port(port).is_none() {
        return Err(RefuseError::NoPort { service: key, port });
    }
    Ok(Target::Service { key, port, dialled })
}

fn workload_target(world: &World, book: &Book, own: &Own, addr: SocketAddr) -> Result<Target, RefuseError> {
    let not_served = || RefuseError::NotServed(addr.to_string());
    let proxy = book.proxy().filter(|proxy| proxy.serves_workloads).ok_or_else(not_served)?;
    match world.known_at(&address(own, addr.ip()), &own.namespace) {
        Some(Known::Workload(workload)) if proxy.workloads.contains(&workload.uid) => {
            Ok(Target::Workload { uid: workload.uid.clone(), addr })
        }
        Some(Known::Unusable(one)) => Err(RefuseError::Unusable { key: one.key.clone(), reason: one.reason.clone() }),
        Some(Known::Workload(_) | Known::Service(_)) | None => Err(not_served()),
    }
}

/// Who calls. The address a peer names counts only where it is the one it calls from, or belongs to a workload of the
/// identity it has proven: else any workload could speak for any address.
fn caller(world: &World, own: &Own, carrier: &Carrier, request: &Received) -> Caller {
    let is_own = |ip: IpAddr| {
        let workload = world.workload_by_ip(&address(own, ip));
        workload.filter(|workload| workload.identity == carrier.peer).cloned()
    };
    let named = request.client().map(canonical);
    let proven = named.filter(|named| named.ip() == carrier.client.ip() || is_own(named.ip()).is_some());
    let client = proven.unwrap_or(carrier.client);
    let workload: Option<Arc<Workload>> = is_own(client.ip());
    Caller {
        peer: Some(carrier.peer.clone()),
        client,
        hop: carrier.client,
        local: carrier.dialled,
        server_name: None,
        workload,
        baggage: request.baggage.clone(),
        tls: None,
        door: None,
    }
}

fn denied(client: SocketAddr, dialled: SocketAddr, error: &dyn Display) {
    access::denied(client, dialled, Direction::Inbound, error);
}
