//! The data path's settings.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use lateen_rt::vars::text;
use lateen_types::id::Namespace;

use super::{
    ConfigError, Vars,
    node::{self, Metadata},
    preferred_namespace,
    proxy_config::ProxyConfig,
};

/// How pods come to us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProxyMode {
    /// One process for all pods of a node, inside their namespaces.
    Shared,
    /// One process for one workload, in its own namespace.
    Dedicated(WorkloadInfo),
}

/// A pod by its names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkloadInfo {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its service account.
    pub service_account: String,
}

/// Whether the server sees the client's own address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourcePolicy {
    /// It must, or the process refuses to start.
    Required,
    /// It does where the kernel allows it.
    BestEffort,
    /// It sees ours.
    Off,
}

/// Connections, tunnels, sockets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proxy {
    /// Shared or dedicated.
    pub mode: ProxyMode,
    /// Listen and dial over IPv6 too.
    pub ipv6: bool,
    /// Source addresses.
    pub source: SourcePolicy,
    /// The agent.
    pub in_pod: InPod,
    /// TCP.
    pub sockets: Sockets,
    /// Tunnels.
    pub hbone: Hbone,
    /// Application tunnels (PROXY protocol) to applications on the loopback address.
    pub localhost_app_tunnel: bool,
    /// Pods of one node reach each other without a tunnel.
    pub same_node: bool,
    /// Peers' baggage is believed for labels.
    pub response_baggage: bool,
    /// Only post-quantum key agreement.
    pub pqc_only: bool,
    /// Which policy decided is logged at INFO.
    pub policy_info_logging: bool,
}

/// How the agent and pods' namespaces are dealt with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InPod {
    /// The agent's socket.
    pub uds: PathBuf,
    /// SO_REUSEPORT on listeners, so that a new process can take over from an old one.
    pub port_reuse: bool,
    /// SO_MARK of every socket in a pod.
    pub mark: Option<u32>,
}

/// TCP settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sockets {
    /// Keepalive at all.
    pub keepalive: bool,
    /// Idle time before the first probe.
    pub keepalive_time: Duration,
    /// Between probes.
    pub keepalive_interval: Duration,
    /// Probes before giving up.
    pub keepalive_retries: u32,
    /// TCP_USER_TIMEOUT too.
    pub user_timeout: bool,
}

/// Tunnel settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hbone {
    /// HTTP/2 stream window.
    pub stream_window: u32,
    /// HTTP/2 connection window.
    pub connection_window: u32,
    /// HTTP/2 frame size.
    pub frame_size: u32,
    /// Streams per pooled connection.
    pub streams_max: u16,
    /// An unused pooled connection is closed after this.
    pub unused_timeout: Duration,
}

/// DNS settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dns {
    /// The DNS proxy runs.
    pub enabled: bool,
    /// Where, in each pod; `None` is both loopback addresses.
    pub address: Option<IpAddr>,
    /// The port.
    pub port: u16,
    /// Whose services win a tie.
    pub preferred_namespace: Option<Namespace>,
}

/// An operators' listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AdminAddr {
    /// Both loopback addresses.
    Localhost(u16),
    /// One address.
    Socket(SocketAddr),
}

/// The operators' listeners.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admin {
    /// Dumps, log level, shutdown.
    pub admin: AdminAddr,
    /// Metrics.
    pub stats_port: u16,
    /// Readiness.
    pub ready_port: u16,
}

const MARK: u32 = 1337;
const MINUTES: Duration = Duration::from_secs(60);

impl Proxy {
    pub(super) fn read(vars: &Vars) -> Result<Self, ConfigError> {
        not_offered(vars)?;
        let mode = mode(vars)?;
        let default_mark = (mode == ProxyMode::Shared).then_some(MARK);
        let compliance = vars.parsed("COMPLIANCE_POLICY", |given| match given {
            "pqc" => Ok(true),
            _ => Err("the only policy is pqc; leave it empty for none".to_owned()),
        })?;
        Ok(Self {
            in_pod: InPod {
                uds: vars.text("INPOD_UDS").unwrap_or_else(|| "/var/run/ztunnel/ztunnel.sock".to_owned()).into(),
                port_reuse: vars.flag_or("INPOD_PORT_REUSE", true)?,
                mark: mark(vars)?.or(default_mark),
            },
            mode,
            ipv6: vars.flag_or("IPV6_ENABLED", true)?,
            source: match vars.flag("ENABLE_ORIG_SRC")? {
                Some(true) => SourcePolicy::Required,
                Some(false) => SourcePolicy::Off,
                None => SourcePolicy::BestEffort,
            },
            sockets: Sockets {
                keepalive: vars.flag_or("KEEPALIVE_ENABLED", true)?,
                keepalive_time: vars.duration_or("KEEPALIVE_TIME", 3 * MINUTES)?,
                keepalive_interval: vars.duration_or("KEEPALIVE_INTERVAL", 3 * MINUTES)?,
                keepalive_retries: vars.number_or("KEEPALIVE_RETRIES", 9)?,
                user_timeout: vars.flag_or("USER_TIMEOUT_ENABLED", false)?,
            },
            hbone: Hbone::read(vars)?,
            localhost_app_tunnel: vars.flag_or("LOCALHOST_APP_TUNNEL", true)?,
            same_node: same_node(vars)?,
            response_baggage: vars.flag_or("ENABLE_RESPONSE_BAGGAGE", true)?,
            pqc_only: compliance.unwrap_or(false),
            policy_info_logging: vars.flag_or("AUTHZ_POLICY_INFO_LOGGING", false)?,
        })
    }
}

/// `SAME_NODE`: how pods of one node reach each other.
fn same_node(vars: &Vars) -> Result<bool, ConfigError> {
    let direct =
        vars.parsed("SAME_NODE", |given| match given {
            "direct" => Ok(true),
            "hbone" => Ok(false),
            _ => Err("it must be direct (no tunnel between pods of one node; the default) or hbone (always a tunnel)"
                .to_owned()),
        })?;
    Ok(direct.unwrap_or(true))
}

/// Refuses what the reference can be told and this build cannot do: who asked for it must not believe to have it.
fn not_offered(vars: &Vars) -> Result<(), ConfigError> {
    let only = |name: &str, possible: bool, reason: &str| match vars.flag_or(name, possible)? {
        given if given == possible => Ok(()),
        _ => Err(ConfigError::Variable { name: name.to_owned(), reason: reason.to_owned() }),
    };
    only("ENABLE_PROXY", true, "this build cannot run as a DNS proxy alone; leave it unset")?;
    only("TLS12_ENABLED", false, "this build speaks TLS 1.3 only; leave it unset and upgrade the peers")?;
    only("UNSTABLE_ENABLE_SOCKS5", false, "this build has no SOCKS5 listener; leave it unset")
}

impl Hbone {
    fn read(vars: &Vars) -> Result<Self, ConfigError> {
        let within = |name: &'static str, low: u32, high: u32, default: u32| {
            let parse = move |given: &str| match given.parse::<u32>() {
                Ok(number) if (low..=high).contains(&number) => Ok(number),
                _ => Err(format!("it must be a number from {low} to {high}")),
            };
            vars.parsed(name, parse).map(|found| found.unwrap_or(default))
        };
        // RFC 9113 §6.5.2: windows up to 2^31-1, frames from 2^14 to 2^24-1.
        let window_max = 0x7fff_ffff;
        let streams = within("POOL_MAX_STREAMS_PER_CONNECTION", 1, u32::from(u16::MAX), 100)?;
        Ok(Self {
            stream_window: within("HTTP2_STREAM_WINDOW_SIZE", 0xffff, window_max, 4_194_304)?,
            connection_window: within("HTTP2_CONNECTION_WINDOW_SIZE", 0xffff, window_max, 16_777_216)?,
            frame_size: within("HTTP2_FRAME_SIZE", 1 << 14, (1 << 24) - 1, 1_048_576)?,
            streams_max: u16::try_from(streams).unwrap_or(u16::MAX),
            unused_timeout: vars.duration_or("POOL_UNUSED_RELEASE_TIMEOUT", 5 * MINUTES)?,
        })
    }
}

fn mode(vars: &Vars) -> Result<ProxyMode, ConfigError> {
    let dedicated = vars.parsed("PROXY_MODE", |given| match given {
        "shared" => Ok(false),
        "dedicated" => Ok(true),
        _ => Err("it must be shared or dedicated".to_owned()),
    })?;
    if dedicated != Some(true) {
        return Ok(ProxyMode::Shared);
    }
    let workload =
        vars.parsed("PROXY_WORKLOAD_INFO", |given| match given.split('/').collect::<Vec<_>>().as_slice() {
            [namespace, name, service_account]
                if [namespace, name, service_account].iter().all(|part| !part.is_empty()) =>
            {
                Ok(WorkloadInfo {
                    namespace: (*namespace).to_owned(),
                    name: (*name).to_owned(),
                    service_account: (*service_account).to_owned(),
                })
            }
            _ => Err("it must be <namespace>/<name>/<service account>".to_owned()),
        })?;
    workload.map(ProxyMode::Dedicated).ok_or(ConfigError::Missing {
        name: "PROXY_WORKLOAD_INFO",
        reason: "PROXY_MODE=dedicated needs it, as <namespace>/<name>/<service account>",
    })
}

fn mark(vars: &Vars) -> Result<Option<u32>, ConfigError> {
    let mark =
        vars.parsed("PACKET_MARK", |given| given.parse::<u32>().map_err(|_| "it must be a whole number".to_owned()))?;
    Ok(mark)
}

impl Dns {
    pub(super) fn read(vars: &Vars, metadata: &Metadata) -> Result<Self, ConfigError> {
        let enabled = node::text(metadata, "DNS_CAPTURE").is_none_or(|value| value.eq_ignore_ascii_case("true"));
        let (address, port) = match node::text(metadata, "DNS_PROXY_ADDR") {
            None => (None, 15053),
            Some(given) => dns_address(&given).ok_or_else(|| ConfigError::Variable {
                name: "ISTIO_META_DNS_PROXY_ADDR".to_owned(),
                reason: "it must be localhost:<port> or <ip>:<port>".to_owned(),
            })?,
        };
        Ok(Self { enabled, address, port, preferred_namespace: preferred_namespace(vars) })
    }

    /// The addresses to listen on in a pod; `ipv6` if the pod's loopback has it.
    pub fn listen_on(&self, ipv6: bool) -> Vec<SocketAddr> {
        match self.address {
            Some(address) => vec![SocketAddr::new(address, self.port)],
            None => {
                let v4 = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), self.port);
                let v6 = SocketAddr::new(Ipv6Addr::LOCALHOST.into(), self.port);
                if ipv6 { vec![v4, v6] } else { vec![v4] }
            }
        }
    }
}

fn dns_address(given: &str) -> Option<(Option<IpAddr>, u16)> {
    match given.strip_prefix("localhost:") {
        Some(port) => Some((None, port.parse().ok()?)),
        None => given.parse::<SocketAddr>().ok().map(|addr| (Some(addr.ip()), addr.port())),
    }
}

impl Admin {
    pub(super) fn read(proxy_config: &ProxyConfig) -> Self {
        Self {
            admin: AdminAddr::Localhost(proxy_config.proxy_admin_port.unwrap_or(15000)),
            stats_port: proxy_config.stats_port.unwrap_or(15020),
            ready_port: 15021,
        }
    }
}

/// `ZTUNNEL_WORKER_THREADS`, else the mesh's `concurrency`, else by the CPUs we may use: all of a set limit (raised to
/// the request), without one the request or a quarter of the machine, and never fewer than two.
pub(super) fn worker_threads(vars: &Vars, concurrency: Option<u16>, cores: usize) -> Result<usize, ConfigError> {
    let quantity = |name| vars.parsed(name, text::cpus);
    let limit = quantity("ZTUNNEL_RESOURCE_CPU_LIMIT")?;
    let request = quantity("ZTUNNEL_RESOURCE_CPU_REQUEST")?.unwrap_or(0);
    let cpus = limit.or(quantity("ZTUNNEL_CPU_LIMIT")?).unwrap_or(cores).max(1);
    if let Some(threads) = vars.parsed("ZTUNNEL_WORKER_THREADS", |given| text::threads(given, cpus))? {
        return Ok(threads);
    }
    Ok(match (concurrency, limit) {
        (Some(0), _) => cpus,
        (Some(threads), _) => usize::from(threads),
        (None, Some(limit)) => limit.max(request).max(1),
        (None, None) => cpus.div_ceil(4).max(request).max(2),
    })
}

/// `CONNECTION_TERMINATION_DEADLINE`, else the pod's grace period with time left to end, else 5 s.
pub(super) fn drain_timeout(vars: &Vars) -> Result<Duration, ConfigError> {
    let default = match vars.number_or("TERMINATION_GRACE_PERIOD_SECONDS", 0_u64)? {
        0 => 5,
        grace if grace > 10 => grace - 5,
        grace => (grace - 1).max(1),
    };
    vars.duration_or("CONNECTION_TERMINATION_DEADLINE", Duration::from_secs(default))
}
