//! One pod on one thread: everything that its connections there need.
//!
//! In: the pod, its namespace, what all pods share. Out: how it listens, dials, pools its tunnels' connections and calls
//! itself. Absent on purpose: which pods there are (see `pods`), what happens to a connection (see `outbound`, `inbound`).

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
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
use lateen_types::name::NetworkId;
use parking_lot::Mutex;
use tokio::net::TcpListener;

use crate::{
    conns::{Conns, PodConns},
    dns::{self, answer::Rules, forward::Forwarder, serve::Resolver},
    near::neighbours::Neighbours,
    outbound::dial::{HopKey, Met, TunnelError},
};

/// Connections pods open.
pub const OUTBOUND_PORT: u16 = 15001;
/// Plaintext that arrives for pods.
pub const PLAINTEXT_PORT: u16 = 15006;
/// Tunnels that arrive for pods.
pub const TUNNEL_PORT: u16 = 15008;
/// Ports that lead to ourselves, which no connection may be for.
pub const ILLEGAL_PORTS: [u16; 3] = [OUTBOUND_PORT, PLAINTEXT_PORT, TUNNEL_PORT];
/// Connections of one kind (outbound, plaintext, tunnels) that a pod has at a time; its threads' listeners divide them.
const CONNECTIONS_MAX: usize = 20_000;
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

/// What the connections of one pod on one thread need. The pods of all threads share owner, drain and list of connections.
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
    /// Connections each of its listeners has at a time.
    pub connections_max: usize,
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
    /// A pod whose tasks run where `tasks` says; `share` pods on as many threads divide its limits.
    pub(crate) fn new(
        shared: Arc<Shared>,
        (key, netns): (PodKey, Option<Netns>),
        conns: Arc<PodConns>,
        (tasks, drain): (Tasks, Drain),
        share: usize,
    ) -> Self {
        let mut limits = shared.settings.pool.clone();
        limits.connections_max = (limits.connections_max / share).max(1);
        let pool = Pool::new(limits, &tasks, &drain);
        let connections_max = (CONNECTIONS_MAX / share).max(1);
        Self { key, netns, shared, conns, pool, connections_max, tasks, drain, baggage: Mutex::new(None) }
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

    /// Listens inside the pod, on its thread.
    pub(crate) fn listen(
        &self,
        port: u16,
        transparent: Transparent,
    ) -> Result<listen::Listening<TcpListener>, ListenError> {
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
        let _thread = self.tasks.enter();
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

    /// Binds the sockets of its DNS, where that is switched on.
    pub(crate) fn bind_dns(&self) -> Result<Option<dns::serve::DnsSockets>, ListenError> {
        let (Some(names), Some(netns)) = (&self.shared.names, &self.netns) else { return Ok(None) };
        let options = self.listen_options(Transparent::Off);
        let _thread = self.tasks.enter();
        dns::serve::bind(&names.listen, netns, &options, self.shared.settings.ipv6).map(Some)
    }

    /// Answers on them.
    pub(crate) fn start_dns(&self, sockets: dns::serve::DnsSockets) {
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
