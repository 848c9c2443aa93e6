//! The ports people and their tools look at: readiness, metrics, admin.
//!
//! In: the configuration, what there is to show. Out: HTTP servers. Absent on purpose: changing anything but the log level
//! and the decision to end.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
};

use anyhow::Context as _;
use lateen_net::listen::{self, ListenOptions};
use lateen_rt::{drain::Drain, ready::Readiness, tasks::Tasks};
use lateen_telemetry::{
    admin::{self as http, Answer, Limits, Request, Router},
    log::Log,
    metrics::{self, Registry},
};
use serde_json::json;
use tokio::sync::Notify;

use crate::{
    book::proxy::{Listener, ListenerKind},
    config::Config,
    lane::Shared,
};

/// What there is to show.
#[derive(Clone, Copy)]
pub struct Shown<'a> {
    /// The log, whose level can be changed.
    pub log: &'a Log,
    /// The metrics.
    pub registry: &'a Registry,
    /// The book, the world, our certificate.
    pub shared: &'a Arc<Shared>,
    /// To be told when somebody asks for the end.
    pub stop: &'a Arc<Notify>,
}

/// Serves readiness. To be called on the runtime that is to answer.
pub fn readiness(config: &Config, readiness: Readiness, owner: (&Tasks, &Drain)) -> anyhow::Result<()> {
    let router = Router::new().route("/healthz/ready", move |request| http::ready(&readiness, &request));
    serve(SocketAddr::new(config.ports.ip, config.ports.ready), router, owner).context("the readiness port")
}

/// Serves metrics to everyone, and the rest to this machine alone.
pub fn metrics_and_admin(config: &Config, shown: &Shown<'_>, owner: (&Tasks, &Drain)) -> anyhow::Result<()> {
    let scrape = |registry: Registry| move |request: Request| metrics::answer(&registry, &request);
    let stats = Router::new()
        .route("/metrics", scrape(shown.registry.clone()))
        .route("/stats/prometheus", scrape(shown.registry.clone()));
    serve(SocketAddr::new(config.ports.ip, config.ports.stats), stats, owner).context("the metrics port")?;
    let (level, stop, shared) = (shown.log.level(), shown.stop.clone(), shown.shared.clone());
    let router = Router::new()
        .route("/config_dump", move |request| dump(&shared, &request))
        .route("/logging", move |request| http::logging(&level, &request))
        .route("/quitquitquit", move |request| quit(&request, &stop));
    let local = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), config.ports.admin);
    serve(local, router, owner).context("the admin port")
}

/// What this proxy serves and whom it knows; nothing secret is in it.
fn dump(shared: &Shared, request: &Request) -> Answer {
    let (book, world) = (shared.book.load(), shared.world.load());
    let services: Vec<_> = book
        .services()
        .map(|service| {
            let ports = service.ports().iter().map(|port| {
                let protocol = format!("{:?}", port.protocol);
                let of_clients = port.of_clients.iter().map(|own| (own.namespace.to_string(), own.http.routes().len()));
                let of_clients: BTreeMap<_, _> = of_clients.collect();
                let routes = port.http.routes().len();
                json!({"port": port.number, "protocol": protocol, "httpRoutes": routes, "httpRoutesOfClients": of_clients})
            });
            json!({"service": service.key.to_string(), "ports": ports.collect::<Vec<_>>()})
        })
        .collect();
    let clusters: Vec<_> = book
        .clusters()
        .map(|cluster| {
            let endpoints = world.all_endpoints(&cluster.upstream.service);
            let endpoints: Vec<_> = endpoints.iter().map(|one| one.workload.uid.to_string()).collect();
            json!({"cluster": cluster.upstream.to_string(), "unusable": cluster.unusable.as_deref(), "endpoints": endpoints})
        })
        .collect();
    let certificates: Vec<_> = shared
        .keeper
        .dump()
        .into_iter()
        .map(|held| {
            let serial = held.certificate.as_ref().map(|one| one.serial().to_owned());
            json!({"identity": held.identity.to_string(), "serial": serial, "error": held.last_error.map(|one| one.to_string())})
        })
        .collect();
    let proxy = book.proxy().map(|proxy| json!({"namespace": &*proxy.namespace, "name": &*proxy.name}));
    let listeners: Vec<_> =
        book.proxy().into_iter().flat_map(|proxy| proxy.listeners.iter().map(|one| listener(one))).collect();
    let all = json!({"proxy": proxy, "listeners": listeners, "services": services, "clusters": clusters, "certificates": certificates});
    match serde_json::to_vec_pretty(&all) {
        Ok(json) => Answer::new(200, "application/json", json).compressed_for(request),
        Err(error) => Answer::text(500, format!("the dump cannot be written: {error}\n")),
    }
}

/// A port, and how many hosts it has.
fn listener(of: &Listener) -> serde_json::Value {
    let (kind, hosts) = match &of.kind {
        ListenerKind::Http(hosts) => ("HTTP", hosts.values().count()),
        ListenerKind::Tls(hosts) => ("TLS", hosts.values().count()),
        ListenerKind::Tcp(_) => ("TCP", 0),
    };
    json!({"bindPort": of.bind_port, "port": of.port, "protocol": kind, "hosts": hosts})
}

fn quit(request: &Request, stop: &Notify) -> Answer {
    if request.method != "POST" {
        return Answer::wrong_method("use POST\n");
    }
    tracing::info!("shutdown was asked for");
    stop.notify_one();
    Answer::text(200, "shutdown now\n")
}

fn serve(addr: SocketAddr, router: Router, (tasks, drain): (&Tasks, &Drain)) -> anyhow::Result<()> {
    let options = ListenOptions { reuse_port: true, ..ListenOptions::default() };
    let listener = listen::tcp(addr, &options)?.socket;
    tasks.spawn("operators-http", http::serve(listener, router, Limits::default(), (tasks.clone(), drain.clone())));
    Ok(())
}
