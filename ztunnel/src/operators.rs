//! The ports people and their tools look at: readiness, metrics, admin.
//!
//! In: the configuration, what there is to show. Out: HTTP servers. Absent on purpose: what a dump contains.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

use anyhow::Context as _;
use lateen_net::listen::{self, ListenOptions};
use lateen_rt::{drain::Drain, ready::Readiness, tasks::Tasks};
use lateen_state::world::WorldStore;
use lateen_telemetry::{
    admin::{self as http, Answer, Limits, Request, Router},
    log::Log,
    metrics::{self, Registry},
};
use tokio::sync::Notify;

use crate::{
    admin::{Sources, connections::PodView},
    config::{AdminAddr, Config, ProxyMode},
    local,
    pod::Shared,
    pods::Pods,
};

/// What there is to show.
#[derive(Clone, Copy)]
pub struct Shown<'a> {
    /// The log, whose level can be changed.
    pub log: &'a Log,
    /// The metrics.
    pub registry: &'a Registry,
    /// The world, certificates, connections.
    pub shared: &'a Arc<Shared>,
    /// The pods.
    pub pods: &'a Arc<Pods>,
    /// To be told when somebody asks for the end.
    pub stop: &'a Arc<Notify>,
}

/// Serves readiness. To be called on the runtime that is to answer.
pub fn readiness(config: &Config, readiness: Readiness, owner: (&Tasks, &Drain)) -> anyhow::Result<()> {
    let router = Router::new().route("/healthz/ready", move |request| http::ready(&readiness, &request));
    serve(everywhere(config, config.admin.ready_port), router, owner).context("the readiness port")
}

/// Serves metrics to everyone, and the rest to this machine alone.
pub fn metrics_and_admin(config: &Config, shown: &Shown<'_>, owner: (&Tasks, &Drain)) -> anyhow::Result<()> {
    let stats = Router::new().route("/metrics", scrape(shown)).route("/stats/prometheus", scrape(shown));
    serve(everywhere(config, config.admin.stats_port), stats, owner).context("the metrics port")?;
    let router = sources(config, shown)?.admin_router();
    match config.admin.admin {
        AdminAddr::Socket(addr) => serve(addr, router, owner).context("the admin port"),
        AdminAddr::Localhost(port) => {
            let at = |ip: IpAddr| SocketAddr::new(ip, port);
            serve(at(Ipv4Addr::LOCALHOST.into()), router.clone(), owner).context("the admin port")?;
            if let Err(error) = serve(at(Ipv6Addr::LOCALHOST.into()), router, owner) {
                tracing::debug!(%error, "no admin port on IPv6");
            }
            Ok(())
        }
    }
}

/// What the dump shows.
fn sources(config: &Config, shown: &Shown<'_>) -> anyhow::Result<Sources> {
    let local = WorldStore::new(None);
    if let Some(source) = &config.control.local {
        local.apply(local::load(source)?);
    }
    let (pods, stop) = (shown.pods.clone(), shown.stop.clone());
    let views = move || pods.states().iter().map(PodView::of).collect();
    Ok(Sources {
        config: Arc::new(config.clone()),
        store: shown.shared.world.clone(),
        local,
        keeper: Some(shown.shared.keeper.clone()),
        pods: (config.proxy.mode == ProxyMode::Shared).then(|| Arc::new(views) as Arc<_>),
        level: shown.log.level(),
        shutdown: Arc::new(move || stop.notify_one()),
    })
}

fn scrape(shown: &Shown<'_>) -> impl Fn(Request) -> Answer + Send + Sync + use<> {
    let (shared, registry) = (shown.shared.clone(), shown.registry.clone());
    move |request| {
        // Bytes of live connections are counted by a clock; a scrape wants them now.
        shared.conns.flush();
        metrics::answer(&registry, &request)
    }
}

fn everywhere(config: &Config, port: u16) -> SocketAddr {
    let any = if config.proxy.ipv6 { Ipv6Addr::UNSPECIFIED.into() } else { IpAddr::from(Ipv4Addr::UNSPECIFIED) };
    SocketAddr::new(any, port)
}

fn serve(addr: SocketAddr, router: Router, (tasks, drain): (&Tasks, &Drain)) -> anyhow::Result<()> {
    // During an upgrade the old process still answers here.
    let options = ListenOptions { reuse_port: true, ..ListenOptions::default() };
    let listener = listen::tcp(addr, &options)?.socket;
    tasks.spawn("operators-http", http::serve(listener, router, Limits::default(), (tasks.clone(), drain.clone())));
    Ok(())
}
