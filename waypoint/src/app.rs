//! Wires the rooms together, in the order in which they may begin.
//!
//! ```text
//! control thread:  metrics, admin, xDS, CA       data path's threads:  doors and all requests; the first also readiness
//!   xDS until every type was ACKed once and we were told what we are, our certificate ─► doors ─► ready
//!   SIGTERM, SIGINT, /quitquitquit ─► not ready, GOAWAY, connection: close ─► wait ─► cut the rest ─► end
//! ```
//! No logic here: what a signal or a resource means is decided in the rooms.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::Context as _;
use lateen_hbone::settings::Settings as Hbone;
use lateen_identity::{
    ca_client::{Asking, CaClient},
    channel,
    keeper::{Clock, Keeper, Priority},
};
use lateen_net::{accept, listen::ListenOptions};
use lateen_rt::{
    deadline::within,
    drain::Drain,
    ready::{Condition, Readiness},
    tasks::Tasks,
    threads::{Lanes, Threads},
};
use lateen_state::{wait::Asked, world::WorldStore};
use lateen_telemetry::{
    log::{self, Log},
    metrics::{Description, Registry, process_collector, runtime_collector},
};
use lateen_wire::type_url;
use lateen_xds::client::{self, Client, Mode, Subscription};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{Notify, watch},
};

use crate::{
    admin,
    book::{BookStore, Kind, proxy::Role},
    catalogue,
    config::Config,
    door,
    feed::Feed,
    lane::{Lane, Own, Shared},
    listen,
    report::{self, Reporting, Writer},
    upkeep,
    upstream::pool::Clusters,
};

/// How long our own tasks may take to notice the end.
const END_TIMEOUT: Duration = Duration::from_secs(2);
/// How long the control plane may say nothing of us before we say so; and again as often.
const DESCRIBED_TIMEOUT: Duration = Duration::from_secs(10);
/// How long what is under way may last after nothing new is taken.
const QUIET_TIMEOUT: Duration = Duration::from_secs(1);
/// Connections to us over all threads, and at a gateway over all ports: of clients, or such that carry tunnels.
const CONNECTIONS_MAX: usize = 20_000;
/// CONNECTs at a time on one connection (the reference's number).
const TUNNEL_STREAMS_MAX: u32 = 100;
/// What one tunnel may send ahead of its reader, and what all of a connection may: as much as all of them, so that none waits
/// for another whose reader has stopped.
const TUNNEL_WINDOW: u32 = 512 * 1024;
const TUNNELS_WINDOW: u32 = TUNNEL_STREAMS_MAX * TUNNEL_WINDOW;

/// Runs until the process is told to end and every connection has ended or was cut.
pub fn run(config: &Config) -> anyhow::Result<()> {
    lateen_net::trim::keep_freed();
    let log = log::init(&config.log).context("starting the log")?;
    let table: Vec<Description> = [catalogue::TABLE, report::catalogue::TABLE].concat();
    let registry = Registry::new(&table);
    registry.install().context("installing the metrics registry")?;
    let data = Threads::start("waypoint", config.worker_threads, END_TIMEOUT).context("the data path's threads")?;
    registry.collect_from(process_collector);
    registry.collect_from(runtime_collector(data.lanes().all().to_vec()));
    metrics::gauge!("istio_build", "component" => "proxy", "tag" => config.version.clone()).set(1.0);
    let control = tokio::runtime::Builder::new_current_thread().enable_all().build().context("the control thread")?;
    // Dropped last: what is queued is written.
    let records = Writer::start(std::io::stdout()).context("the thread of access records")?;
    let reporting = Arc::new(Reporting::new(records.log(), &config.place.pod));
    let ended = control.block_on(serve(config, &log, &registry, (data.lanes(), reporting)));
    data.end();
    ended
}

/// The two owners of tasks, and the one end.
struct Owners {
    control: Tasks,
    data: Tasks,
    lanes: Lanes,
    /// The whole process: what serves others while it drains ends last.
    process: Drain,
    /// The doors' connections: told to go elsewhere before the process ends.
    doors: Drain,
}

async fn serve(
    config: &Config,
    log: &Log,
    registry: &Registry,
    (lanes, reporting): (&Lanes, Arc<Reporting>),
) -> anyhow::Result<()> {
    let process = Drain::new();
    let owners = Owners {
        control: Tasks::new(),
        data: Tasks::on(lanes.first().clone()),
        lanes: lanes.clone(),
        doors: process.child(),
        process,
    };
    let readiness = Readiness::new();
    let synced = readiness.condition("configuration");
    let certified = readiness.condition("certificate");
    let open = Arc::new(readiness.condition("doors"));
    let stop = Arc::new(Notify::new());
    {
        // On the data path's threads on purpose: when those are stuck, the process is not ready.
        let _on_data = lanes.first().enter();
        admin::readiness(config, readiness, (&owners.data, &owners.process))?;
    }
    let (feed, mut complete) = control(config, &owners)?;
    let shared = Arc::new(shared(config, &owners, &feed, reporting)?);
    let shown = admin::Shown { log, registry, shared: &shared, stop: &stop };
    admin::metrics_and_admin(config, &shown, (&owners.control, &owners.process))?;
    owners.control.spawn("upkeep", upkeep::memory(owners.process.clone()));
    owners.control.spawn("series", upkeep::series(registry.clone(), owners.process.clone()));

    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT")?;
    let begin = begin(config, &owners, &shared, (&synced, &certified), &mut complete);
    let serving = tokio::select! {
        begun = begin => begun?,
        _ = terminate.recv() => return Ok(()),
        _ = interrupt.recv() => return Ok(()),
    };
    open_doors(config, &owners, &serving, &open)?;
    registry.collect_from(upkeep::active(serving.clone()));
    let reason = tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
        () = stop.notified() => "/quitquitquit",
    };
    tracing::info!(reason, timeout = ?config.drain_timeout, "ending: no new connections, waiting for open ones");
    open.set(false);
    shared.leaving.store(true, Ordering::Relaxed);
    owners.doors.start();
    let leaving = async {
        // Others learn only by and by that we are not ready: until then we serve whoever still comes.
        tokio::time::sleep(config.drain_timeout).await;
        owners.process.start();
        upkeep::quiet(&serving, QUIET_TIMEOUT).await;
    };
    tokio::select! {
        () = leaving => {}
        _ = interrupt.recv() => tracing::warn!("ending at once: told a second time"),
    }
    owners.process.force();
    for tasks in [&owners.data, &owners.control] {
        if let Err(error) = tasks.join(END_TIMEOUT).await {
            tracing::warn!(%error, left = tasks.len(), "some tasks did not end");
        }
    }
    tracing::info!("ended");
    Ok(())
}

/// Begins to ask the control plane; the receiver turns true once every type was answered.
fn control(config: &Config, owners: &Owners) -> anyhow::Result<(Feed, watch::Receiver<bool>)> {
    let feed = Feed { book: BookStore::default(), world: WorldStore::new(None), asked: Asked::default() };
    let (synced, complete) = watch::channel(false);
    let wildcards = Kind::ALL.map(|kind| Subscription { type_url: kind.type_url(), mode: Mode::Wildcard });
    let mut subscriptions = vec![Subscription { type_url: type_url::ADDRESS, mode: Mode::OnDemand }];
    subscriptions.extend(wildcards);
    let client = Client {
        node: config.control.node.clone(),
        subscriptions,
        demands: feed.asked.inbox().clone(),
        synced,
        drain: owners.process.clone(),
    };
    let to = config.control.server.clone();
    channel::channel(&to).context("XDS_ADDRESS")?;
    // A fresh channel for each attempt, so that new roots are read.
    let connect = move || std::future::ready(channel::channel(&to));
    owners.control.spawn("xds", client::run(connect, client, Arc::new(feed.clone())));
    Ok((feed, complete))
}

fn shared(config: &Config, owners: &Owners, feed: &Feed, reporting: Arc<Reporting>) -> anyhow::Result<Shared> {
    let ca = channel::channel(&config.ca.server).context("CA_ADDRESS")?;
    let issuer = CaClient::new(ca, config.ca.secret_ttl, Asking::ForOurselves);
    let keeper = Keeper::new(issuer, Clock::default(), &owners.control, &owners.process);
    keeper.prefetch(&config.place.identity, Priority::RealTime);
    let own = Own::of(&config.place);
    // Where we are decides which endpoints are near.
    if let Some(uid) = &own.workload {
        feed.asked.inbox().push(uid.as_str().to_owned());
    }
    Ok(Shared {
        own,
        book: feed.book.clone(),
        world: feed.world.clone(),
        demands: feed.demands(),
        keeper,
        tls: Default::default(),
        clusters: Clusters::new(owners.lanes.all().len()),
        origins: Default::default(),
        hbone: Hbone {
            server_streams_max: TUNNEL_STREAMS_MAX,
            stream_window: TUNNEL_WINDOW,
            connection_window: TUNNELS_WINDOW,
            ..Hbone::default()
        },
        here: Default::default(),
        epoch: tokio::time::Instant::now(),
        reporting,
        leaving: AtomicBool::new(false),
    })
}

/// Once we are told what we serve.
async fn described(config: &Config, shared: &Arc<Shared>) -> anyhow::Result<()> {
    let mut changed = shared.book.subscribe();
    while shared.book.load().proxy().is_none() {
        match within("being told what is served here", DESCRIBED_TIMEOUT, changed.changed()).await {
            Ok(changed) => changed.context("the book is gone")?,
            Err(_) => tracing::warn!(
                gateway = %format!("{}/{}", config.place.namespace, config.place.gateway),
                pod = %config.place.pod,
                "the control plane says nothing of this proxy, so nothing is served; check that its Gateway is there, and that \
                 this pod has the Gateway's name in its label gateway.networking.k8s.io/gateway-name"
            ),
        }
    }
    Ok(())
}

/// Once the configuration is complete and we can prove who we are: all threads.
async fn begin(
    config: &Config,
    owners: &Owners,
    shared: &Arc<Shared>,
    (synced, certified): (&Condition, &Condition),
    complete: &mut watch::Receiver<bool>,
) -> anyhow::Result<Vec<Arc<Lane>>> {
    complete.wait_for(|complete| *complete).await.context("the xds client ended before its first answer")?;
    // Every type was answered, but perhaps with nothing: the controller may not have worked out yet what we serve.
    described(config, shared).await?;
    synced.set(true);
    while let Err(error) = shared.keeper.certificate(&shared.own.identity).await {
        tracing::warn!(%error, "no certificate yet; nothing is served");
    }
    certified.set(true);
    let threads = owners.lanes.all().iter().enumerate();
    let lanes = threads.map(|(number, handle)| {
        let _on_lane = handle.enter();
        let tasks = owners.data.also_on(handle.clone());
        let lane = Arc::new(Lane::new(number, shared.clone(), tasks.clone(), owners.doors.clone()));
        tasks.spawn("sweep", upkeep::sweep(lane.clone()));
        lane
    });
    let lanes: Vec<_> = lanes.collect();
    tracing::info!(ip = %config.ports.ip, threads = lanes.len(), "serving");
    Ok(lanes)
}

/// Opens the doors of what we are: the port of tunnels, or those that the configuration names.
fn open_doors(config: &Config, owners: &Owners, lanes: &[Arc<Lane>], open: &Arc<Condition>) -> anyhow::Result<()> {
    let connections_max = (CONNECTIONS_MAX / lanes.len()).max(1);
    let role = lanes.first().and_then(|lane| lane.shared.book.load().proxy().map(|proxy| proxy.role));
    if role == Some(Role::Gateway) {
        let ports = &config.ports;
        let binding = listen::Binding {
            ip: ports.ip,
            reserved: [ports.hbone, ports.stats, ports.ready, ports.admin].into(),
            connections_max,
            process: owners.process.clone(),
            doors: owners.doors.clone(),
        };
        owners.control.spawn("ports", listen::follow(lanes.to_vec(), binding, open.clone()));
        return Ok(());
    }
    let addr = SocketAddr::new(config.ports.ip, config.ports.hbone);
    for lane in lanes {
        let _on_lane = lane.tasks.enter();
        let options = ListenOptions { reuse_port: true, ..ListenOptions::default() };
        let listener = lateen_net::listen::tcp(addr, &options).context("the tunnel port")?.socket;
        let owner = (lane.tasks.clone(), owners.process.clone());
        let to = lane.clone();
        let accepting = accept::run("tunnel", (listener, connections_max), owner, move |stream, peer| {
            door::handle(to.clone(), stream, peer)
        });
        lane.tasks.spawn("door", accepting);
    }
    open.set(true);
    Ok(())
}
