//! Connections that carry no HTTP, or none that is looked into.
//!
//! In: an [`Arrival`] and its bytes. Out: the same bytes at an endpoint. One destination is chosen for a connection, by
//! server name and address, and stays. Absent on purpose: what the bytes mean.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use http::StatusCode;
use lateen_hbone::server::Arrival as Tunnelled;
use lateen_net::splice::{Duplex, End, Io, Meter, Outcome, splice};
use lateen_rt::deadline::within;
use lateen_types::name::NamespacedHostname;
use smallvec::SmallVec;

use crate::{
    arrival::{Arrival, Target},
    authorize::{
        self,
        lasting::{Standing, until_refused},
    },
    book::{
        self, Book, Upstream,
        cluster::Resolution,
        tcp::{TcpRoute, TcpRoutes},
    },
    greeting::{Greeter, Greeting, HELLO_TIMEOUT},
    lane::Lane,
    news,
    pick::{self, Picked},
    report::{
        Ending,
        tcp::{Ends, Opening, Report},
    },
    rewound::Rewound,
    told,
    upstream::{
        dial::{self, For, To},
        endpoint::Endpoint,
        failure::Failure,
        health::{Counted, Slot},
        opaque,
        terms::{Terms, Whom, on_behalf_of},
        wire::{Carrier, Wire},
    },
};

/// How often bytes that passed are added to the counters (the reference's number).
const FLUSH_INTERVAL: Duration = Duration::from_secs(5);

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
            Ok(tunnel) => carry(lane, tunnel, (&book, &arrival), reached).await,
            Err(error) => tracing::debug!(%error, "the client did not wait for its tunnel"),
        },
        Err(why) => {
            let status = why.status();
            refused(lane, (&book, &arrival), why);
            if let Err(error) = tunnelled.refuse(status) {
                tracing::debug!(%error, "the client did not wait for its answer");
            }
        }
    }
}

/// Serves a stream that is open already.
pub async fn stream<S: Duplex>(lane: &Arc<Lane>, arrival: Arrival, mut stream: Rewound<S>) {
    let book = lane.shared.book.load();
    let mut server_name = arrival.caller.server_name.as_deref().map(str::to_owned);
    if needs_server_name(&book, &arrival.target) {
        let mut greeter = Greeter::default();
        match within("the ClientHello", HELLO_TIMEOUT, stream.look(|bytes| greeter.read(bytes))).await {
            Ok(Ok(Some(Greeting::Tls(named)))) => server_name = named,
            Ok(Ok(Some(Greeting::Unreadable))) => {
                // The server behind us may read it: it would be let past what is said of the name it has.
                refused(lane, (&book, &arrival), Refused::Denied(UNREADABLE.to_owned()));
                return stream.abort();
            }
            Ok(Ok(Some(Greeting::Other) | None)) => server_name = None,
            Ok(Err(error)) => return tracing::debug!(%error, "a connection ended before its ClientHello"),
            Err(error) => return tracing::debug!(%error, "a connection was cut"),
        }
    }
    match reach(lane, &book, &arrival, server_name.as_deref()).await {
        Ok(reached) => carry(lane, stream, (&book, &arrival), reached).await,
        Err(why) => {
            refused(lane, (&book, &arrival), why);
            stream.abort();
        }
    }
}

/// What the record says of TLS whose server name cannot be told, where that decides.
const UNREADABLE: &str = "client_hello_unreadable";

/// Why a connection is not carried.
enum Refused {
    /// Policy says no; in the words of the record.
    Denied(String),
    Failed(Failure),
}

impl From<Failure> for Refused {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl Refused {
    fn status(&self) -> StatusCode {
        match self {
            Self::Denied(_) => StatusCode::FORBIDDEN,
            Self::Failed(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

/// Tells of a connection that ended before it began.
fn refused(lane: &Lane, (book, arrival): (&Book, &Arrival), why: Refused) {
    let ending = match why {
        Refused::Denied(details) => Ending { termination: Some(details.into()), ..Ending::default() },
        Refused::Failed(failure) => Ending {
            flags: SmallVec::from_slice(&[failure.flag().0]),
            transport_failure: failure.transport().map(Into::into),
            ..Ending::default()
        },
    };
    if let Some(report) = report(lane, (book, arrival), None) {
        report.finish(ending);
    }
}

/// The report of a connection, to `endpoint` if that is known.
fn report(lane: &Lane, (book, arrival): (&Book, &Arrival), endpoint: Option<&Endpoint>) -> Option<Report> {
    let proxy = book.proxy()?;
    let of_endpoint = || endpoint.and_then(|endpoint| endpoint.service.clone());
    let (client, service) = (lane.client(arrival), lane.service(arrival).or_else(of_endpoint));
    let opening = Opening {
        reporter: told::reporter(proxy.role),
        client: &client,
        format: proxy.options.access_log.as_ref(),
        ends: Ends { remote: arrival.caller.client, local: arrival.destination() },
        service: service.as_ref(),
        workload: endpoint.and_then(|endpoint| endpoint.workload.as_ref()),
    };
    Some(Report::open(&lane.shared.reporting, &opening))
}

/// Whether policy lets a connection pass.
fn judge(book: &Book, arrival: &Arrival, server_name: Option<&str>) -> Result<(), Refused> {
    let verdict = verdict(book, arrival, server_name);
    crate::report::judged(&verdict);
    verdict.refusal().map_or(Ok(()), |refusal| Err(Refused::Denied(refusal.to_string())))
}

/// Returns once policy refuses a connection that it let pass; says why.
async fn until_denied(lane: &Lane, arrival: &Arrival, server_name: Option<&str>) -> String {
    until_refused(&lane.shared.book, |book| Standing::of(&verdict(book, arrival, server_name))).await
}

fn verdict<'b>(book: &'b Book, arrival: &Arrival, server_name: Option<&str>) -> authorize::Verdict<'b> {
    let caller = &arrival.caller;
    let facts = authorize::Facts {
        identity: caller.peer.as_ref(),
        source_ip: caller.client.ip(),
        remote_ip: caller.client.ip(),
        destination: arrival.destination(),
        sni: server_name.or(caller.server_name.as_deref()),
        request: None,
    };
    authorize::decide(&book.guards().of(service_of(&arrival.target)), &facts)
}

fn service_of(target: &Target) -> Option<&NamespacedHostname> {
    match target {
        Target::Service { key, .. } => Some(key),
        Target::Workload { .. } | Target::Port { .. } => None,
    }
}

/// An endpoint that is connected.
struct Reached {
    wire: Wire,
    endpoint: Arc<Endpoint>,
    upstream: Option<Arc<Upstream>>,
    idle_timeout: Option<Duration>,
    /// What the ClientHello named.
    server_name: Option<Box<str>>,
    /// Counts the endpoint as busy.
    _picked: Option<Picked>,
    _counted: Slot,
}

async fn reach(
    lane: &Arc<Lane>,
    book: &Book,
    arrival: &Arrival,
    server_name: Option<&str>,
) -> Result<Reached, Refused> {
    judge(book, arrival, server_name)?;
    let address = arrival.destination();
    let upstream = match upstream(book, &arrival.target, (server_name, address)) {
        Chosen::Upstream(upstream) => upstream,
        Chosen::Workload => {
            let reached = to_workload(lane, arrival, address).await?;
            return Ok(Reached { server_name: server_name.map(Into::into), ..reached });
        }
        Chosen::Nothing => return Err(Failure::NoCluster(StatusCode::SERVICE_UNAVAILABLE).into()),
    };
    let cluster = book.usable(&upstream).map_err(|refusal| {
        if let Some(more) = lane.shared.reporting.seldom.again(&refusal.to_string()) {
            tracing::warn!(%upstream, %refusal, "a connection was refused{more}");
        }
        Failure::NoCluster(StatusCode::SERVICE_UNAVAILABLE)
    })?;
    let by_world = matches!(cluster.resolution, Resolution::Endpoints | Resolution::Waypoint);
    if by_world && lane.shared.world.load().service(&upstream.service).is_none() {
        news::of_service(&lane.shared, &upstream.service).await;
    }
    let picked = pick::for_connection(lane, cluster, arrival, server_name)?;
    let limits = &cluster.policy.pool;
    let pool = lane.shared.clusters.of(&upstream);
    let counted = pool.breaker.take(Counted::Connections, limits.connections_max).ok_or(Failure::Overflow)?;
    let host = asked_for(&upstream, server_name);
    let caller = &arrival.caller;
    let (client, identity) = (caller.client, caller.peer.as_ref());
    let whom = Whom { endpoint: &picked.endpoint, host, client, dialled: address, identity };
    let wire = opaque::connect(lane, cluster, whom).await.inspect_err(|why| picked.failed(why))?;
    picked.connected();
    Ok(Reached {
        wire,
        endpoint: picked.endpoint.clone(),
        _picked: Some(picked),
        upstream: Some(upstream),
        idle_timeout: limits.tcp_idle_timeout,
        server_name: server_name.map(Into::into),
        _counted: counted,
    })
}

/// What a server is asked for where the policy does not say it. Of many names behind a wildcard only the client can tell
/// one.
fn asked_for<'a>(upstream: &'a Upstream, server_name: Option<&'a str>) -> &'a str {
    let host = upstream.service.hostname.as_str();
    match server_name {
        Some(name) if host.starts_with('*') => name,
        Some(_) | None => host,
    }
}

async fn to_workload(lane: &Arc<Lane>, arrival: &Arrival, address: SocketAddr) -> Result<Reached, Failure> {
    let limits = book::cluster::ConnectionPool::default();
    let endpoint = {
        let world = lane.shared.world.load();
        match &arrival.target {
            Target::Workload { uid, .. } => world.workload(uid).map(|workload| Endpoint::workload(workload, address)),
            Target::Service { .. } | Target::Port { .. } => None,
        }
    };
    let endpoint = endpoint.ok_or(Failure::NoHealthyUpstream)?;
    let by = For { client: arrival.caller.client, timeout: limits.connect_timeout, keepalive: None };
    let terms = on_behalf_of(&lane.shared, &endpoint, arrival.caller.peer.as_ref()).map(|client| Terms {
        announced: None,
        seal: None,
        on_behalf_of: Some(client),
    });
    let to = To { endpoint: &endpoint, terms: terms.as_ref(), speak: None };
    let wire = dial::wire(lane, to, &by).await;
    let wire = wire.map_err(Failure::from)?;
    let counted = std::sync::Arc::<crate::upstream::health::Breaker>::default();
    let counted = counted.take(Counted::Connections, u32::MAX).ok_or(Failure::Overflow)?;
    let endpoint = Arc::new(endpoint);
    Ok(Reached {
        wire,
        endpoint,
        upstream: None,
        idle_timeout: limits.tcp_idle_timeout,
        server_name: None,
        _picked: None,
        _counted: counted,
    })
}

/// Where a connection goes.
enum Chosen {
    Upstream(Arc<Upstream>),
    /// To the workload that was called.
    Workload,
    Nothing,
}

fn upstream(book: &Book, target: &Target, (server_name, address): (Option<&str>, SocketAddr)) -> Chosen {
    let of = |routes| TcpRoutes::select(routes, server_name, address.ip());
    let (tls, tcp) = match target {
        Target::Workload { .. } => return Chosen::Workload,
        Target::Port { bind, tls, .. } => {
            let listener = book.proxy().and_then(|proxy| proxy.listener(*bind));
            return along(listener.and_then(|listener| listener.bytes(tls.as_deref(), server_name)).and_then(of));
        }
        Target::Service { key, port, .. } => match book.service(key).and_then(|service| service.port(*port)) {
            Some(port) => (&port.tls, &port.tcp),
            None => return Chosen::Nothing,
        },
    };
    if let (true, true, Target::Service { key, port, .. }) = (tls.is_empty(), tcp.is_empty(), target) {
        return Chosen::Upstream(Arc::new(Upstream { service: key.clone(), port: *port, subset: "".into() }));
    }
    along(of(tls).or_else(|| of(tcp)))
}

/// The destination that a route's dice choose.
fn along(route: Option<&TcpRoute>) -> Chosen {
    match route.and_then(|route| route.choose(rand::random())).map(|chosen| &chosen.to) {
        Some(book::Target::Upstream(upstream)) => Chosen::Upstream(upstream.clone()),
        Some(book::Target::Invalid(_) | book::Target::Redirect(_)) | None => Chosen::Nothing,
    }
}

/// Whether routes or policies ask for the server name of what the client sends.
fn needs_server_name(book: &Book, target: &Target) -> bool {
    let Target::Service { key, port, .. } = target else { return false };
    let port = book.service(key).and_then(|service| service.port(*port));
    let routes = port.is_some_and(|port| port.tls.need_server_name() || port.tcp.need_server_name());
    routes || book.guards().of(Some(key)).iter().any(|set| set.needs_sni())
}

async fn carry<S: Duplex>(lane: &Arc<Lane>, client: S, (book, arrival): (&Book, &Arrival), reached: Reached) {
    let _busy = lane.busy();
    let mut report = report(lane, (book, arrival), Some(&reached.endpoint));
    let meter = Meter::default();
    let mut denied = None;
    let interrupt = async {
        tokio::select! {
            () = idle(&meter, reached.idle_timeout) => {}
            () = lane.drain.forced() => {}
            why = until_denied(lane, arrival, reached.server_name.as_deref()) => denied = Some(why),
            () = flushing(&meter, report.as_mut()) => {}
        }
    };
    let ended = match reached.wire {
        Wire::Clear(Carrier::Tunnel(tunnel)) => splice(client, tunnel, &meter, interrupt).await,
        Wire::Clear(Carrier::Plain(socket)) => splice(client, socket, &meter, interrupt).await,
        Wire::Sealed(sealed) => splice(client, Io(sealed), &meter, interrupt).await,
        Wire::Through(through) => splice(client, Io(through), &meter, interrupt).await,
    };
    match ended {
        Ok(Outcome::Ended { source: End::Closed, destination: End::Closed }) => {}
        Ok(outcome) => tracing::debug!(?outcome, "a connection was cut short"),
        Err(error) => tracing::debug!(%error, "a connection broke"),
    }
    let (Some(report), Some(proxy)) = (report, book.proxy()) else { return };
    let to = |upstream: &Arc<Upstream>| told::sent_to(proxy.role, "tcp", upstream, &reached.endpoint);
    report.finish(Ending {
        received: meter.from_source(),
        sent: meter.from_destination(),
        upstream: reached.upstream.as_ref().map(to),
        termination: denied.map(Into::into),
        ..Ending::default()
    });
}

/// Adds what has passed to the counters, for ever.
async fn flushing(meter: &Meter, report: Option<&mut Report>) {
    let Some(report) = report else { return std::future::pending().await };
    loop {
        tokio::time::sleep(FLUSH_INTERVAL).await;
        report.flush(meter.from_source(), meter.from_destination());
    }
}

/// Returns once no byte has passed for `timeout`.
pub async fn idle(meter: &Meter, timeout: Option<Duration>) {
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
