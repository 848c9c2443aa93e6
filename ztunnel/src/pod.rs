//! One pod's proxy: its listeners inside its namespace, its tasks, its drain.
//!
//! In: a pod and its namespace from the ledger. Out: listeners that are bound before [`Pods::start`] returns, and
//! everything a connection of the pod needs. Absent on purpose: what happens to a connection (see `outbound`,
//! `inbound`).

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use http::HeaderValue;
use lateen_hbone::{
    pool::{Pool, PoolLimits},
    request::{Baggage, WorkloadKind},
};
use lateen_identity::keeper::Keeper;
use lateen_net::{
    dial::{DialOptions, Source},
    listen::{self, ListenError, ListenOptions, Transparent},
    netns::Netns,
    options::{Keepalive, Leg},
};
use lateen_rt::{drain::Drain, tasks::Tasks};
use lateen_state::{
    wait::Demands,
    workload::{PodKey, Workload, WorkloadType},
    world::WorldStore,
};
use lateen_types::name::{NetworkId, PodUid};
use parking_lot::Mutex;
use tokio::net::TcpListener;

use crate::{
    accept,
    conns::{Conns, PodConns},
    dns::{self, answer::Rules, forward::Forwarder, serve::Resolver},
    enrol::{
        ledger,
        stream::{Proxies, Room},
    },
    inbound,
    near::neighbours::Neighbours,
    outbound::{
        self,
        dial::{HopKey, Met, TunnelError},
    },
};

/// Connections pods open.
pub const OUTBOUND_PORT: u16 = 15001;
/// Plaintext that arrives for pods.
pub const PLAINTEXT_PORT: u16 = 15006;
/// Tunnels that arrive for pods.
pub const TUNNEL_PORT: u16 = 15008;
/// Ports that lead to ourselves, which no connection may be for.
pub const ILLEGAL_PORTS: [u16; 3] = [OUTBOUND_PORT, PLAINTEXT_PORT, TUNNEL_PORT];
/// How long the tasks of a pod that is gone may take to notice.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);

/// The data path's settings.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The network we are in.
    pub network: NetworkId,
    /// SO_MARK of every socket in a pod.
    pub mark: Option<u32>,
    /// SO_REUSEPORT on listeners.
    pub reuse_port: bool,
    /// Whether servers see their clients' addresses.
    pub transparent: Transparent,
    /// Whether to listen on IPv6.
    pub ipv6: bool,
    /// Probing of TCP connections.
    pub keepalive: Option<Keepalive>,
    /// Applications that want a PROXY header listen on loopback.
    pub localhost_app_tunnel: bool,
    /// Pods of this process reach each other without a tunnel.
    pub same_node: bool,
    /// Peers' baggage is believed for labels, and ours is sent with answers.
    pub use_baggage: bool,
    /// Policy findings are logged at INFO.
    pub policy_info_logging: bool,
    /// Tunnels.
    pub hbone: lateen_hbone::settings::Settings,
    /// Shared tunnels' connections.
    pub pool: PoolLimits,
}

/// What all pods share.
pub struct Shared {
    /// The mesh's picture.
    pub world: WorldStore,
    /// Unknown addresses to ask for.
    pub demands: Demands,
    /// Certificates.
    pub keeper: Keeper,
    /// Live connections.
    pub conns: Conns,
    /// The pods served here, for each other.
    pub neighbours: Neighbours,
    /// How to do it.
    pub settings: Settings,
    /// Names for pods; `None` where that is switched off.
    pub names: Option<Names>,
}

/// What the DNS of every pod has in common.
#[derive(Debug, Clone)]
pub struct Names {
    /// Where it listens.
    pub listen: crate::config::Dns,
    /// What holds for all pods.
    pub rules: Rules,
    /// Who answers the rest.
    pub servers: Vec<SocketAddr>,
}

/// What the connections of one pod need.
pub struct Pod {
    /// Who the pod is.
    pub key: PodKey,
    /// Where its sockets live; `None` is our own namespace.
    pub netns: Option<Netns>,
    /// What all pods share.
    pub shared: Arc<Shared>,
    /// Its live connections.
    pub conns: Arc<PodConns>,
    /// Its tunnels' connections.
    pub pool: Pool<HopKey, Met, TunnelError>,
    /// Its tasks.
    pub tasks: Tasks,
    /// Its end.
    pub drain: Drain,
    /// The baggage of the workload it was made from.
    baggage: Mutex<Option<(Arc<Workload>, HeaderValue)>>,
}

/// Whether a listener's connections keep their clients' addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeepSource {
    /// Yes.
    Yes,
    /// The kernel or the configuration does not allow it.
    No,
}

impl Pod {
    fn new(
        shared: Arc<Shared>,
        uid: &PodUid,
        key: PodKey,
        netns: Option<Netns>,
        (tasks, drain): (Tasks, Drain),
    ) -> Self {
        let pool = Pool::new(shared.settings.pool.clone(), &tasks, &drain);
        let conns = shared.conns.pod(uid, &key);
        Self { key, netns, shared, conns, pool, tasks, drain, baggage: Mutex::new(None) }
    }

    /// How this pod's connections are dialled.
    pub fn dial_options(&self, source: Source) -> DialOptions {
        DialOptions {
            mark: self.shared.settings.mark,
            source,
            netns: self.netns.clone(),
            keepalive: self.shared.settings.keepalive,
            ..DialOptions::default()
        }
    }

    /// What `workload` says of itself; made once for each state of the workload.
    pub fn baggage(&self, workload: &Arc<Workload>) -> Option<HeaderValue> {
        let mut held = self.baggage.lock();
        if let Some((of, header)) = &*held
            && Arc::ptr_eq(of, workload)
        {
            return Some(header.clone());
        }
        let header = baggage_of(workload).to_header()?;
        *held = Some((workload.clone(), header.clone()));
        Some(header)
    }

    fn listen(&self, port: u16, transparent: Transparent) -> Result<listen::Listening<TcpListener>, ListenError> {
        let v6 = self.shared.settings.ipv6.then_some(IpAddr::from(Ipv6Addr::UNSPECIFIED));
        let any = v6.unwrap_or(Ipv4Addr::UNSPECIFIED.into());
        let mut options = self.listen_options(transparent);
        if port == OUTBOUND_PORT {
            options.leg = Leg::Pod;
        }
        if port == TUNNEL_PORT {
            // HTTP/2 pings do that work.
            options.keepalive = None;
        }
        listen::tcp(SocketAddr::new(any, port), &options)
    }

    fn listen_options(&self, transparent: Transparent) -> ListenOptions {
        let settings = &self.shared.settings;
        ListenOptions {
            mark: settings.mark,
            reuse_port: settings.reuse_port,
            transparent,
            keepalive: settings.keepalive,
            netns: self.netns.clone(),
            ..ListenOptions::default()
        }
    }

    fn bind_dns(&self) -> Result<Option<dns::serve::DnsSockets>, ListenError> {
        let (Some(names), Some(netns)) = (&self.shared.names, &self.netns) else { return Ok(None) };
        let options = self.listen_options(Transparent::Off);
        dns::serve::bind(&names.listen, netns, &options, self.shared.settings.ipv6).map(Some)
    }

    fn start_dns(&self, sockets: dns::serve::DnsSockets) {
        let Some(names) = &self.shared.names else { return };
        let resolver = Arc::new(Resolver {
            pod: self.key.clone(),
            store: self.shared.world.clone(),
            rules: names.rules.clone(),
            forwarder: Forwarder::new(names.servers.clone(), self.netns.clone(), self.shared.settings.mark),
        });
        dns::serve::start(sockets, &resolver, &self.tasks, &self.drain);
    }
}

fn baggage_of(workload: &Workload) -> Baggage {
    let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    Baggage {
        cluster: text(workload.cluster.as_str()),
        namespace: text(workload.namespace.as_str()),
        kind: match workload.workload_type {
            WorkloadType::Deployment => WorkloadKind::Deployment,
            WorkloadType::CronJob => WorkloadKind::CronJob,
            WorkloadType::Pod => WorkloadKind::Pod,
            WorkloadType::Job => WorkloadKind::Job,
        },
        workload: text(&workload.workload_name),
        service: text(&workload.canonical_name),
        version: text(&workload.canonical_revision),
        region: text(&workload.place.locality.region),
        zone: text(&workload.place.locality.zone),
    }
}

/// One pod in the dump.
#[derive(Debug, Clone)]
pub struct PodState {
    /// The agent's key.
    pub uid: PodUid,
    /// Who it is.
    pub key: PodKey,
    /// Its live connections; `None` while it waits for its listeners.
    pub conns: Option<Arc<PodConns>>,
}

/// Every pod that is served.
pub struct Pods {
    shared: Arc<Shared>,
    drain: Drain,
    running: Mutex<HashMap<PodUid, Arc<Pod>>>,
    /// Names of pods that could not be started yet, for the dump.
    waiting: Mutex<HashMap<PodUid, PodKey>>,
}

impl Pods {
    /// No pods yet. They drain with `drain`.
    pub fn new(shared: Arc<Shared>, drain: Drain) -> Self {
        Self { shared, drain, running: Mutex::default(), waiting: Mutex::default() }
    }

    /// Serves a pod whose sockets live in `netns`, with every listener bound when it returns.
    pub fn serve(&self, uid: &PodUid, key: PodKey, netns: Option<Netns>) -> Result<(), ListenError> {
        let owner = (Tasks::new(), self.drain.child());
        let pod = Arc::new(Pod::new(self.shared.clone(), uid, key, netns, owner));
        match bind(&pod) {
            Ok(bound) => {
                let keep = keep_source(bound.tunnels.transparent);
                accept_on(&pod, bound);
                self.shared.neighbours.add(uid, &pod, keep);
                self.running.lock().insert(uid.clone(), pod);
                Ok(())
            }
            Err(error) => {
                self.shared.conns.forget(uid);
                pod.drain.force();
                Err(error)
            }
        }
    }

    /// Serves tunnels for this process itself, in its own namespace, so that others can scrape it through the mesh.
    pub fn serve_self(&self, key: PodKey) -> Result<(), ListenError> {
        let uid = PodUid::from("ztunnel");
        let owner = (Tasks::new(), self.drain.child());
        let pod = Arc::new(Pod::new(self.shared.clone(), &uid, key, None, owner));
        let tunnels = pod.listen(TUNNEL_PORT, Transparent::Off)?;
        accept_tunnels(&pod, tunnels);
        self.running.lock().insert(uid, pod);
        Ok(())
    }

    /// The pods that are served.
    pub fn running(&self) -> Vec<Arc<Pod>> {
        self.running.lock().values().cloned().collect()
    }

    /// Every pod with its state, for the dump.
    pub fn states(&self) -> Vec<PodState> {
        let up = |(uid, pod): (&PodUid, &Arc<Pod>)| PodState {
            uid: uid.clone(),
            key: pod.key.clone(),
            conns: Some(pod.conns.clone()),
        };
        let mut states: Vec<PodState> = self.running.lock().iter().map(up).collect();
        let waits = |(uid, key): (&PodUid, &PodKey)| PodState { uid: uid.clone(), key: key.clone(), conns: None };
        states.extend(self.waiting.lock().iter().map(waits));
        states
    }

    /// Waits until every connection of every pod has ended, at most `timeout`, then cuts the rest.
    pub async fn end(&self, timeout: Duration) {
        self.drain.start();
        let pods: Vec<Arc<Pod>> = self.running.lock().drain().map(|(_, pod)| pod).collect();
        let until = tokio::time::Instant::now() + timeout;
        let mut cut = 0;
        for pod in &pods {
            let left = until.saturating_duration_since(tokio::time::Instant::now());
            if pod.tasks.join(left).await.is_err() {
                cut += pod.tasks.len();
            }
        }
        self.drain.force();
        if cut > 0 {
            tracing::warn!(cut, ?timeout, "the drain's time is over; the remaining connections are cut");
        }
        for pod in &pods {
            if let Err(error) = pod.tasks.join(STOP_TIMEOUT).await {
                tracing::warn!(pod = %pod.key, %error, "some tasks of the pod did not end");
            }
        }
    }
}

/// A pod's listeners.
struct Bound {
    outbound: listen::Listening<TcpListener>,
    plaintext: listen::Listening<TcpListener>,
    tunnels: listen::Listening<TcpListener>,
    dns: Option<dns::serve::DnsSockets>,
}

/// All or nothing: a pod is not served by half.
fn bind(pod: &Arc<Pod>) -> Result<Bound, ListenError> {
    let transparent = pod.shared.settings.transparent;
    Ok(Bound {
        outbound: pod.listen(OUTBOUND_PORT, Transparent::Off)?,
        plaintext: pod.listen(PLAINTEXT_PORT, transparent)?,
        tunnels: pod.listen(TUNNEL_PORT, transparent)?,
        dns: pod.bind_dns()?,
    })
}

fn accept_on(pod: &Arc<Pod>, bound: Bound) {
    let opened = pod.clone();
    let accepting =
        accept::run("outbound", bound.outbound.socket, (pod.tasks.clone(), pod.drain.clone()), move |stream, peer| {
            outbound::handle::handle(opened.clone(), stream, peer)
        });
    pod.tasks.spawn("accept-outbound", accepting);

    let (plain, keep) = (pod.clone(), keep_source(bound.plaintext.transparent));
    let accepting = accept::run(
        "plaintext",
        bound.plaintext.socket,
        (pod.tasks.clone(), pod.drain.clone()),
        move |stream, peer| inbound::passthrough::handle(plain.clone(), stream, peer, keep),
    );
    pod.tasks.spawn("accept-plaintext", accepting);
    accept_tunnels(pod, bound.tunnels);
    if let Some(sockets) = bound.dns {
        pod.start_dns(sockets);
    }
}

fn accept_tunnels(pod: &Arc<Pod>, tunnels: listen::Listening<TcpListener>) {
    let (of, keep) = (pod.clone(), keep_source(tunnels.transparent));
    let accepting =
        accept::run("tunnel", tunnels.socket, (pod.tasks.clone(), pod.drain.clone()), move |stream, peer| {
            inbound::admit::handle(of.clone(), stream, peer, keep)
        });
    pod.tasks.spawn("accept-tunnel", accepting);
}

fn keep_source(transparent: bool) -> KeepSource {
    if transparent { KeepSource::Yes } else { KeepSource::No }
}

impl Proxies for Arc<Pods> {
    async fn start(&self, pod: &ledger::Pod<Room>) -> Result<(), String> {
        self.serve(&pod.uid, pod.key.clone(), Some(pod.netns.netns.clone())).map_err(|error| error.to_string())?;
        self.waiting.lock().remove(&pod.uid);
        metrics::counter!("workload_manager_proxies_started").increment(1);
        tracing::info!(pod = %pod.key, uid = %pod.uid, netns = %pod.netns.netns.id(), "the pod is served");
        Ok(())
    }

    async fn stop(&self, uid: &PodUid) {
        let Some(pod) = self.running.lock().remove(uid) else { return };
        self.shared.neighbours.forget(uid);
        pod.drain.force();
        if let Err(error) = pod.tasks.join(STOP_TIMEOUT).await {
            tracing::warn!(pod = %pod.key, %error, "some tasks of the pod did not end");
        }
        self.shared.conns.forget(uid);
        metrics::counter!("workload_manager_proxies_stopped").increment(1);
        tracing::info!(pod = %pod.key, %uid, "the pod is no longer served");
    }

    fn waits(&self, pod: &ledger::Pod<Room>) {
        self.waiting.lock().insert(pod.uid.clone(), pod.key.clone());
    }

    fn forget(&self, uid: &PodUid) {
        self.waiting.lock().remove(uid);
    }
}
