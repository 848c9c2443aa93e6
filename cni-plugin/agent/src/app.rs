//! Wiring: builds each room, hands it what it needs, starts it.
//!
//! Order: stores complete, repair, ztunnel's socket, the plugin's door, ready, the plugin. On SIGTERM everything stops where
//! it is: pods keep their rules, ztunnel its pods, and new pods wait for the next agent. If there will be none, because our
//! DaemonSet is gone, the plugin and the node's rules go too.

use std::{
    net::Ipv6Addr,
    path::Path,
    sync::{Arc, OnceLock},
    time::Duration,
};

use lateen_cluster::client::{Access, ClientError, connect};
use lateen_net::netns::{Netns, NetnsError};
use lateen_rt::{drain::Drain, ready::Readiness, tasks::Tasks};
use lateen_telemetry::{
    admin::{self, Limits, Router},
    metrics::{self as families, Registry, process_collector},
};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};

use crate::{
    annotate::Annotator,
    catalogue::TABLE,
    config::Config,
    enrol::{Enroller, Turns, snapshot},
    finder::Finder,
    install::{
        Installer, Told,
        leave::{self, Verdict},
    },
    ledger::Ledger,
    pods::Cluster,
    probes::Probes,
    repair,
    rules::apply::{ApplyError, Comparer, remove_host},
    serve::{self, Door},
    watch::Worker,
    zds::{self, Ztunnels},
};

const STOP_TIMEOUT: Duration = Duration::from_secs(1);

/// Why the agent does not run.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The Kubernetes API.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The node's namespace.
    #[error(transparent)]
    Netns(#[from] NetnsError),
    /// The node's rules.
    #[error("probe rules of the node: {0}")]
    Rules(#[source] ApplyError),
    /// A socket.
    #[error("cannot listen at {at}: {source}")]
    Listen {
        /// Where.
        at: String,
        /// What failed.
        source: std::io::Error,
    },
    /// Signals.
    #[error("cannot wait for SIGTERM: {0}")]
    Signal(#[source] std::io::Error),
}

/// Runs until SIGTERM or SIGINT.
pub async fn run(config: Config) -> Result<(), StartError> {
    let (tasks, drain) = (Tasks::new(), Drain::new());
    let mut terminate = signal(SignalKind::terminate()).map_err(StartError::Signal)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(StartError::Signal)?;
    let seen = OnceLock::new();
    let started = async {
        start(&config, &seen, (&tasks, &drain)).await?;
        std::future::pending::<Result<(), StartError>>().await
    };
    let ended = tokio::select! {
        ended = started => ended,
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
    };
    drain.start();
    // What follows the cluster never ends by itself; the process's end takes it along.
    let _ = tasks.join(STOP_TIMEOUT).await;
    if ended.is_ok() {
        leave(&config, seen.into_inner()).await;
    }
    ended
}

/// Takes plugin and rules of the node away if the mesh is being removed, not replaced. `seen` is what was known of our
/// DaemonSet at the start: who could not see it then learns nothing from not seeing it now.
async fn leave(config: &Config, seen: Option<Verdict>) {
    let Some(installer) = installer(config) else { return };
    let verdict = match connect(&Access::Inferred).await {
        Ok(client) if seen == Some(Verdict::Stay) => leave::verdict(client, &config.namespace).await,
        Ok(_) | Err(_) => Verdict::Unknown,
    };
    if verdict != Verdict::Go {
        tracing::info!("stopping; pods keep their rules, new ones wait for the next agent");
        return;
    }
    let removed = tokio::task::spawn_blocking(move || installer.remove()).await;
    match removed {
        Ok(Ok(())) => tracing::info!("our DaemonSet is gone: the plugin was taken out of this node"),
        Ok(Err(error)) => {
            tracing::error!(%error, "our DaemonSet is gone, but the plugin stays: pods of this node will not start")
        }
        Err(_) => {}
    }
    match node_netns(config) {
        Ok(node) => {
            if let Err(error) = remove_host(&node).await {
                tracing::warn!(%error, "probe rules of the node stay");
            }
        }
        Err(error) => tracing::warn!(%error, "probe rules of the node stay"),
    }
}

fn installer(config: &Config) -> Option<Installer> {
    let told = Told {
        run_dir: &config.run_dir,
        namespace: &config.namespace,
        excluded: &config.enrolment.excluded_namespaces,
    };
    config.install.clone().map(|places| Installer::new(places, &told))
}

type Run<'a> = (&'a Tasks, &'a Drain);

async fn start(config: &Config, seen: &OnceLock<Verdict>, (tasks, drain): Run<'_>) -> Result<(), StartError> {
    let readiness = Readiness::new();
    let ready = readiness.condition("cni agent");
    let installed = config.install.is_some().then(|| readiness.condition("cni plugin"));
    operators(config, &readiness, (tasks, drain)).await?;
    let client = connect(&Access::Inferred).await?;
    let cluster = Cluster::follow(client.clone(), &config.node, config.enrolment.clone(), tasks);
    let enroller = Arc::new(enroller(config, Annotator::new(client.clone()))?);
    cluster.complete().await;
    repair::run(&enroller, &cluster, config.repair_rules).await.map_err(StartError::Rules)?;

    let at = |path: &Path| path.display().to_string();
    let listener =
        zds::listen(&config.zds_socket).map_err(|source| StartError::Listen { at: at(&config.zds_socket), source })?;
    let ledger = enroller.ledger.clone();
    let pods: zds::Snapshot = Arc::new(move || snapshot(&ledger));
    tasks.spawn("ztunnels", zds::serve(listener, enroller.ztunnels.clone(), pods, (tasks.clone(), drain.clone())));

    let worker = Worker::new(cluster.clone(), enroller.clone());
    tasks.spawn("pod changes", worker.run(tasks.clone(), drain.clone()));

    let listener =
        serve::listen(&config.run_dir).map_err(|source| StartError::Listen { at: at(&config.run_dir), source })?;
    let door = Door { enroller, cluster, readiness };
    tasks.spawn("door", serve::serve(listener, door, (tasks.clone(), drain.clone())));
    // Not before somebody answers it: whoever it asks in vain does not start.
    if let (Some(installer), Some(installed)) = (installer(config), installed) {
        let now = leave::verdict(client, &config.namespace).await;
        if now != Verdict::Stay {
            tracing::warn!(
                "our DaemonSet cannot be read (right: get daemonsets); the plugin will stay when the mesh is removed"
            );
        }
        let _ = seen.set(now);
        tasks.spawn("plugin installer", installer.run(installed, drain.clone()));
    }
    ready.set(true);
    tracing::info!(node = config.node, "the agent is ready");
    Ok(())
}

fn node_netns(config: &Config) -> Result<Netns, NetnsError> {
    let first_process = config.host_root.join("proc/1/ns/net");
    if config.switch_to_host { Netns::open(first_process) } else { Netns::current() }
}

fn enroller(config: &Config, annotator: Annotator) -> Result<Enroller, StartError> {
    let node = node_netns(config)?;
    Ok(Enroller {
        ledger: Arc::new(Ledger::load(&config.run_dir)),
        ztunnels: Ztunnels::default(),
        finder: Finder::new(node.id(), &config.host_root),
        probes: Probes::new(node, config.pods.probes),
        annotator,
        defaults: config.pods.clone(),
        comparer: Comparer::default(),
        turns: Turns::default(),
    })
}

/// Health on one port, metrics on another.
async fn operators(config: &Config, readiness: &Readiness, (tasks, drain): Run<'_>) -> Result<(), StartError> {
    let registry = Registry::new(&TABLE);
    registry.collect_from(process_collector);
    if registry.install().is_err() {
        tracing::warn!("metrics are counted elsewhere in this process");
    }
    let of = readiness.clone();
    let health = Router::new()
        .route("/healthz", |_| admin::Answer::text(200, "ok\n"))
        .route("/readyz", move |request| admin::ready(&of, &request));
    let scrape = Router::new().route("/metrics", move |request| families::answer(&registry, &request));
    for (port, router, name) in [(config.health_port, health, "health"), (config.metrics_port, scrape, "metrics")] {
        let address = (Ipv6Addr::UNSPECIFIED, port);
        let bound = match TcpListener::bind(address).await {
            Ok(listener) => Ok(listener),
            // A node without IPv6.
            Err(_) => TcpListener::bind((std::net::Ipv4Addr::UNSPECIFIED, port)).await,
        };
        let listener = bound.map_err(|source| StartError::Listen { at: format!("port {port}"), source })?;
        tasks.spawn(name, admin::serve(listener, router, Limits::default(), (tasks.clone(), drain.clone())));
    }
    Ok(())
}
