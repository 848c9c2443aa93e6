//! The corridor of one CONNECT: check, register, judge, dial, answer, copy, report.
//!
//! In: a CONNECT on a proven connection. Out: nothing but its effects. 200 is sent only once the application has
//! accepted, so that protocols in which the server speaks first, and failures, look as they would without us.

use std::{fmt::Display, net::SocketAddr, sync::Arc};

use http::StatusCode;
use lateen_hbone::{
    request::{Authority, OnBehalf, Received},
    server::Arrival,
    stream::Tunnel,
};
use lateen_net::unbegun::Unbegun;
use lateen_state::{workload::Workload, world::World};
use lateen_telemetry::access::{self, Direction};
use tokio::{io::AsyncWriteExt as _, time::Instant};

use super::{
    admit::Carrier,
    arrival::{ArrivalError, copy, finish, guess_service, judge, reach},
    check::{Ask, CheckError, Target, Wanted, check},
    origin::origin,
    proxy_header::header,
};
use crate::{
    conns::{InboundGuard, Passage, Protocol, Seen},
    outbound::upstream::key,
    pod::{ILLEGAL_PORTS, Pod},
    report::{Opening, Party, Report, Security},
};

/// Why a CONNECT is refused before anything is counted.
#[derive(Debug, thiserror::Error)]
enum EarlyError {
    #[error("failed to fetch information about local workload: {0} is not known")]
    UnknownLocal(String),
    #[error(transparent)]
    Check(#[from] CheckError),
}

impl EarlyError {
    fn status(&self) -> StatusCode {
        match self {
            Self::UnknownLocal(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Check(error) => StatusCode::from_u16(error.status()).unwrap_or(StatusCode::SERVICE_UNAVAILABLE),
        }
    }
}

/// Carries one CONNECT until it ends, or the pod's drain is forced.
pub async fn handle(pod: Arc<Pod>, carrier: Arc<Carrier>, arrival: Arrival) {
    // What beginning needs is in a box of its own, given back once the copying begins (see `outbound::handle`).
    let begun = Box::pin(begin(&pod, carrier, arrival));
    let carrying = async {
        let Some(Begun { mut guard, report, tunnel, application }) = begun.await else { return };
        let ended = copy((tunnel, application), &report, &mut guard).await;
        finish(report, ended);
    };
    tokio::select! {
        // First, so that what was cut takes no further step.
        biased;
        () = pod.drain.forced() => {}
        () = carrying => {}
    }
}

/// A CONNECT that was answered with 200, and its application.
struct Begun<'p> {
    guard: InboundGuard,
    report: Report<'p>,
    tunnel: Tunnel,
    application: Unbegun,
}

/// Does everything up to the first byte; `None` if the CONNECT was refused or left.
async fn begin(pod: &Arc<Pod>, carrier: Arc<Carrier>, arrival: Arrival) -> Option<Begun<'_>> {
    let began = Instant::now();
    let world = pod.shared.world.load();
    let (local, target) = match accepted_target(pod, &world, &carrier, &arrival.request) {
        Ok(accepted) => accepted,
        Err(error) => {
            refuse(arrival, error.status());
            access::denied(carrier.client, carrier.dialled, Direction::Inbound, &error);
            return None;
        }
    };
    let mut opening = opening(pod, (&world, &local), &carrier, (&arrival.request, &target), began);
    drop(world);
    let origin = match arrival.request.on_behalf {
        OnBehalf::Itself => Ok(None),
        // Boxed: seldom needed.
        OnBehalf::Client(_) | OnBehalf::Unreadable => {
            Box::pin(origin(pod, &local, &carrier, &arrival.request.on_behalf)).await
        }
    };
    let (client, believed) = match origin {
        Ok(client) => (client, Ok(())),
        Err(error) => (None, Err(error)),
    };
    opening.source = opening.source.on_behalf_of(client.clone());
    let identity = Some(carrier.peer.clone());
    let passage = Passage { source: carrier.client, destination: target.to, identity, client };
    let seen =
        Seen { source: carrier.client, dialled: Some(carrier.dialled), hop: target.to, protocol: Protocol::Hbone };
    // Registered before the verdict: a change from here on either is in the world the verdict is asked of, or cuts.
    let mut guard = pod.conns.enter(passage.clone(), seen);
    let report = Report::open(opening, &pod.drain);
    if let Err(error) = believed {
        refuse(arrival, StatusCode::UNAUTHORIZED);
        finish(report, Err(error.into()));
        return None;
    }
    let by = Delivery { pod, carrier: &carrier, local: &local, target: &target, passage: &passage };
    match deliver(by, arrival, &mut guard).await {
        Ok((tunnel, application)) => Some(Begun { guard, report, tunnel, application }),
        Err(error) => {
            finish(report, Err(error));
            None
        }
    }
}

/// What [`deliver`] needs to know.
#[derive(Clone, Copy)]
struct Delivery<'a> {
    pod: &'a Arc<Pod>,
    carrier: &'a Carrier,
    local: &'a Arc<Workload>,
    target: &'a Target,
    passage: &'a Passage,
}

/// Judges, connects to the application, and answers.
async fn deliver(
    by: Delivery<'_>,
    mut arrival: Arrival,
    guard: &mut InboundGuard,
) -> Result<(Tunnel, Unbegun), ArrivalError> {
    if let Err(error) = judge(by.pod, by.passage) {
        refuse(arrival, StatusCode::UNAUTHORIZED);
        return Err(error);
    }
    let to = application(by);
    let reached = tokio::select! {
        // First, so that a client that opens and resets streams in haste costs no dials.
        biased;
        () = arrival.abandoned() => return Err(ArrivalError::Answer("its stream was reset".to_owned())),
        reached = reach(by.pod, to, (by.carrier.client, by.carrier.keep), guard) => reached,
    };
    let mut application = match reached {
        Ok(application) => application,
        Err(error) => {
            let status = match error {
                ArrivalError::Changed => StatusCode::UNAUTHORIZED,
                _ => StatusCode::SERVICE_UNAVAILABLE,
            };
            refuse(arrival, status);
            return Err(error);
        }
    };
    let use_baggage = by.pod.shared.settings.use_baggage;
    let baggage = use_baggage.then(|| by.pod.baggage(by.local)).flatten();
    let tunnel = arrival.accept(baggage.as_ref()).map_err(|error| ArrivalError::Answer(error.to_string()))?;
    if let Some(destination) = by.target.proxy_header {
        let bytes = header(by.carrier.client, destination, Some(&by.carrier.peer));
        // A fresh socket takes this little without waiting.
        application.stream_mut().write_all(&bytes).await.map_err(ArrivalError::Header)?;
    }
    Ok((tunnel, application))
}

/// Applications that want a PROXY header usually listen on loopback only.
fn application(by: Delivery<'_>) -> SocketAddr {
    let to = by.target.to;
    if by.target.proxy_header.is_none() || !by.pod.shared.settings.localhost_app_tunnel {
        return to;
    }
    let loopback = if to.is_ipv4() { [127, 0, 0, 1].into() } else { std::net::Ipv6Addr::LOCALHOST.into() };
    SocketAddr::new(loopback, to.port())
}

fn accepted_target(
    pod: &Pod,
    world: &World,
    carrier: &Carrier,
    request: &Received,
) -> Result<(Arc<Workload>, Target), EarlyError> {
    let local = world.local_workload(&pod.key).ok_or_else(|| EarlyError::UnknownLocal(pod.key.to_string()))?;
    let wanted = match &request.authority {
        Authority::Addr(addr) => Wanted::Addr(*addr),
        Authority::Host { name, port } => Wanted::Host(name.clone(), *port),
    };
    let ask = Ask {
        world,
        own_network: &pod.shared.settings.network,
        local,
        dialled: carrier.dialled.ip(),
        illegal_ports: &ILLEGAL_PORTS,
    };
    Ok((local.clone(), check(&ask, &wanted)?))
}

fn opening(
    pod: &Pod,
    (world, local): (&World, &Arc<Workload>),
    carrier: &Carrier,
    (request, target): (&Received, &Target),
    began: Instant,
) -> Opening {
    let settings = &pod.shared.settings;
    let through_gateway = request
        .network
        .as_ref()
        .is_some_and(|network| !network.as_str().eq_ignore_ascii_case(settings.network.as_str()));
    // Whoever owns the peer's address is the source only if it is also who the peer proved to be: a gateway, or a pod
    // that had the address before, is somebody else.
    let by_address = world.workload_by_ip(&key(&settings.network, carrier.client.ip()));
    let known = by_address.filter(|workload| !through_gateway && workload.identity == carrier.peer);
    let source = match known {
        Some(workload) => Party::workload(workload),
        None if settings.use_baggage => Party::baggage(&request.baggage),
        None => Party::default(),
    };
    let guess = || guess_service(world, local, target.to.port(), request.host.as_ref());
    Opening {
        direction: Direction::Inbound,
        client: carrier.client,
        hop: Some(carrier.dialled),
        authority: Some(request.authority.to_string()),
        source: source.proven(Some(carrier.peer.clone())),
        destination: Party::workload(local).proven(Some(local.identity.clone())),
        service: target.service.clone().or_else(guess),
        security: Security::MutualTls,
        began,
    }
}

fn refuse(arrival: Arrival, status: StatusCode) {
    if let Err(error) = arrival.refuse(status) {
        let error: &dyn Display = &error;
        tracing::debug!(%error, %status, "the client did not wait for its answer");
    }
}
