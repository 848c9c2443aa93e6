//! Wires the rooms together, in the order in which they may begin.
//!
//! ```text
//! control thread:  metrics, admin, xDS, CA      data path's threads:  all connections; the first also readiness, enrolment
//!   readiness port ─► xDS until every type was ACKed once ─► agent ─► pods ─► ready
//!   SIGTERM, SIGINT, /quitquitquit ─► stop accepting ─► wait for connections ─► cut the rest ─► end
//! ```
//! No logic here: what a signal or a resource means is decided in the rooms.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use lateen_identity::{
    ca_client::{Asking, CaClient},
    channel, crypto,
    keeper::{Clock, Keeper},
};
use lateen_rt::{
    drain::Drain,
    ready::{Condition, Readiness},
    tasks::Tasks,
    threads::{Lanes, Threads},
};
use lateen_state::{
    wait::{Asked, Demands},
    world::WorldStore,
};
use lateen_telemetry::{
    log::{self, Log},
    metrics::{Registry, process_collector, runtime_collector},
};
use lateen_wire::type_url;
use lateen_xds::client::{self, Client, Mode, Subscription};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};

use crate::{
    catalogue,
    config::{Config, ProxyMode},
    conns::Conns,
    enrol, feed, local,
    near::neighbours::Neighbours,
    operators,
    pod::Shared,
    pods::Pods,
    prefetch, settings,
};

/// How long our own tasks may take to notice the end.
const END_TIMEOUT: Duration = Duration::from_secs(2);

/// How often freed memory is looked for.
const MEMORY_INTERVAL: Duration = Duration::from_secs(10);

/// Runs until the process is told to end and every connection has ended or was cut.
pub fn run(config: Config) -> anyhow::Result<()> {
    lateen_net::trim::keep_freed();
    let log = log::init(&config.log).context("starting the log")?;
    raise_descriptor_limit();
    if config.proxy.pqc_only {
        crypto::only_post_quantum().context("COMPLIANCE_POLICY")?;
    }
    let registry = Registry::new(catalogue::TABLE);
    registry.install().context("installing the metrics registry")?;
    let data = Threads::start("ztunnel", config.worker_threads, END_TIMEOUT).context("the data path's threads")?;
    registry.collect_from(process_collector);
    registry.collect_from(runtime_collector(data.lanes().all().to_vec()));
    metrics::gauge!("istio_build", "component" => "ztunnel", "tag" => config.istio_version.clone()).set(1.0);
    let control = tokio::runtime::Builder::new_current_thread().enable_all().build().context("the control thread")?;
    let ended = control.block_on(serve(&config, &log, &registry, data.lanes()));
    data.end();
    ended
}

/// Every connection needs two or three descriptors; the soft limit is often 1024.
fn raise_descriptor_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let raised =
        getrlimit(Resource::RLIMIT_NOFILE).and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        tracing::warn!(%error, "cannot raise the limit of open files");
    }
}

/// The two owners of tasks, and the one end.
struct Owners {
    control: Tasks,
    data: Tasks,
    lanes: Lanes,
    /// The whole process: what serves others while it drains ends last.
    process: Drain,
}

async fn serve(config: &Config, log: &Log, registry: &Registry, lanes: &Lanes) -> anyhow::Result<()> {
    let owners = Owners {
        control: Tasks::new(),
        data: Tasks::on(lanes.first().clone()),
        lanes: lanes.clone(),
        process: Drain::new(),
    };
    let readiness = Readiness::new();
    let synced = [readiness.condition("state manager"), readiness.condition("proxy")];
    let agent_ready = readiness.condition("workload proxy manager");
    let stop = Arc::new(tokio::sync::Notify::new());

    {
        // On the data path's threads on purpose: when those are stuck, the process is not ready.
        let _on_data = lanes.first().enter();
        operators::readiness(config, readiness, (&owners.data, &owners.process))?;
    }
    let (world, demands, mut complete) = picture(config, &owners)?;
    let shared = Arc::new(shared(config, &owners, world, demands)?);
    let pods = Arc::new(Pods::new(shared.clone(), owners.lanes.clone(), owners.process.child()));
    let shown = operators::Shown { log, registry, shared: &shared, pods: &pods, stop: &stop };
    operators::metrics_and_admin(config, &shown, (&owners.control, &owners.process))?;

    owners.control.spawn("memory", give_back_memory(owners.process.clone()));
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT")?;
    let begin = begin(config, &owners, (&shared, &pods), (synced, agent_ready), &mut complete);
    tokio::select! {
        begun = begin => { begun?; }
        _ = terminate.recv() => return Ok(()),
        _ = interrupt.recv() => return Ok(()),
    }
    let reason = tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
        () = stop.notified() => "/quitquitquit",
    };
    tracing::info!(reason, timeout = ?config.drain_timeout, "ending: no new connections, waiting for open ones");
    tokio::select! {
        () = pods.end(config.drain_timeout) => {}
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

async fn give_back_memory(drain: Drain) {
    use lateen_net::trim;

    let (mut memory, mut ticks) = (trim::Memory::default(), tokio::time::interval(MEMORY_INTERVAL));
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = drain.forced() => return,
        }
        match memory.look() {
            Ok(trim::Looked::Returned(bytes)) => tracing::debug!(bytes, "freed memory went back to the kernel"),
            Ok(trim::Looked::Fine) => {}
            Err(error) => return tracing::warn!(%error, "freed memory is kept: its size cannot be read"),
        }
    }
}

/// The world, fed by a file and by the control plane; the receiver turns true once it is complete.
fn picture(config: &Config, owners: &Owners) -> anyhow::Result<(WorldStore, Demands, watch::Receiver<bool>)> {
    let world = WorldStore::new(config.place.node.clone());
    if let Some(source) = &config.control.local {
        world.apply(local::load(source)?);
    }
    let (synced, complete) = watch::channel(config.control.server.is_none());
    let asked = Asked::default();
    let inbox = asked.inbox().clone();
    let demands = if config.control.on_demand { Demands::On(asked) } else { Demands::Off };
    let Some(server) = &config.control.server else { return Ok((world, demands, complete)) };
    let address = if config.control.on_demand { Mode::OnDemand } else { Mode::Wildcard };
    let client = Client {
        node: config.control.node.clone(),
        subscriptions: vec![
            Subscription { type_url: type_url::ADDRESS, mode: address },
            Subscription { type_url: type_url::AUTHORIZATION, mode: Mode::Wildcard },
        ],
        demands: inbox,
        synced,
        drain: owners.process.clone(),
    };
    let to = server.clone();
    channel::channel(&to).context("XDS_ADDRESS")?;
    // A fresh channel for each attempt, so that new roots are read.
    let connect = move || std::future::ready(channel::channel(&to));
    let feed = Arc::new(feed::Feed::new(world.clone(), demands.clone()));
    owners.control.spawn("xds", client::run(connect, client, feed));
    Ok((world, demands, complete))
}

fn shared(config: &Config, owners: &Owners, world: WorldStore, demands: Demands) -> anyhow::Result<Shared> {
    let ca = channel::channel(&config.ca.server).context("CA_ADDRESS")?;
    let asking = match config.proxy.mode {
        ProxyMode::Shared => Asking::ForOthers,
        ProxyMode::Dedicated(_) => Asking::ForOurselves,
    };
    let issuer = CaClient::new(ca, config.ca.secret_ttl, asking);
    let keeper = Keeper::new(issuer, Clock::default(), &owners.control, &owners.process);
    let resolv_conf = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    Ok(Shared {
        world,
        demands,
        keeper,
        conns: Conns::default(),
        neighbours: Neighbours::default(),
        settings: settings::data_path(config),
        names: settings::names(config, &resolv_conf),
    })
}

/// Once the picture is complete: our own listener, the pods', the agent.
async fn begin(
    config: &Config,
    owners: &Owners,
    (shared, pods): (&Arc<Shared>, &Arc<Pods>),
    (synced, agent_ready): ([Condition; 2], Condition),
    complete: &mut watch::Receiver<bool>,
) -> anyhow::Result<()> {
    complete.wait_for(|complete| *complete).await.context("the xds client ended before its first picture")?;
    synced.iter().for_each(|condition| condition.set(true));
    tracing::info!("the first picture of the mesh is complete");
    let (watched, ending) = (shared.clone(), owners.process.clone());
    owners
        .data
        .spawn("conns", async move { watched.conns.watch(&watched.world, &watched.settings.network, &ending).await });
    let (of, agent, ending) = (pods.clone(), config.proxy.in_pod.uds.clone(), owners.process.clone());
    match &config.proxy.mode {
        ProxyMode::Shared => {
            let (fetched, drain) = (shared.clone(), owners.process.clone());
            owners
                .control
                .spawn("prefetch", async move { prefetch::run(&fetched.world, &fetched.keeper, &drain).await });
            let own = config.place.own_pod.as_ref().map(settings::pod_key);
            owners.data.spawn("enrol", async move {
                if let Some(own) = own
                    && let Err(error) = of.serve_self(own)
                {
                    tracing::warn!(%error, "ztunnel itself cannot be reached through the mesh");
                }
                enrol::stream::run(agent, &of, &agent_ready, &ending).await;
            });
        }
        ProxyMode::Dedicated(info) => {
            let key = settings::pod_key(info);
            pods.serve(&"dedicated".into(), key, None).context("binding the proxy's ports")?;
            agent_ready.set(true);
        }
    }
    Ok(())
}
