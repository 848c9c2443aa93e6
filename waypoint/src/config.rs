//! What the process is told at its start, checked as a whole before anything begins.
//!
//! In: the variables a Kubernetes pod gives it. Out: one small struct per room. Absent on purpose: defaults hidden
//! elsewhere.

use std::{net::IpAddr, time::Duration};

use lateen_identity::channel::{
    ChannelConfig,
    vars::{channel, default_address},
};
use lateen_rt::vars::{ConfigError, Vars, text};
use lateen_telemetry::log;
use lateen_types::{
    id::{Namespace, SpiffeId, TrustDomain},
    name::{ClusterId, NetworkId},
};
use lateen_wire::core::Node;
use prost_types::{Struct, Value, value::Kind};

/// Everything.
#[derive(Debug, Clone)]
pub struct Config {
    /// Who and where we are.
    pub place: Place,
    /// The control plane.
    pub control: Control,
    /// The certificate authority.
    pub ca: Ca,
    /// Where we listen.
    pub ports: Ports,
    /// The log.
    pub log: log::Config,
    /// Threads of the data path.
    pub worker_threads: usize,
    /// How long what is open may last after shutdown began.
    pub drain_timeout: Duration,
    /// The version shown in `istio_build`.
    pub version: String,
}

/// Who and where this process is.
#[derive(Debug, Clone)]
pub struct Place {
    /// Our identity.
    pub identity: SpiffeId,
    /// Our pod.
    pub pod: String,
    /// Its namespace.
    pub namespace: Namespace,
    /// The Gateway we carry out.
    pub gateway: String,
    /// Our cluster.
    pub cluster: ClusterId,
    /// Our network.
    pub network: NetworkId,
}

/// Where configuration comes from.
#[derive(Debug, Clone)]
pub struct Control {
    /// The control plane.
    pub server: ChannelConfig,
    /// Who we say we are.
    pub node: Node,
}

/// Where certificates come from.
#[derive(Debug, Clone)]
pub struct Ca {
    /// The authority.
    pub server: ChannelConfig,
    /// The validity asked for.
    pub secret_ttl: Duration,
}

/// Where we listen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ports {
    /// The address of all but the admin port, which is for this machine alone.
    pub ip: IpAddr,
    /// Tunnels.
    pub hbone: u16,
    /// Metrics.
    pub stats: u16,
    /// Readiness.
    pub ready: u16,
    /// Dumps, the log level, shutdown.
    pub admin: u16,
}

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

impl Config {
    /// The configuration of this process.
    pub fn from_env() -> Result<Self, ConfigError> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self::from_vars(&Vars::from_env()?, cores)
    }

    /// The configuration these variables and this many cores mean.
    pub fn from_vars(vars: &Vars, cores: usize) -> Result<Self, ConfigError> {
        let place = Place::read(vars)?;
        let node = node(vars, &place);
        Ok(Self {
            control: Control { server: server(vars, "XDS", &place.cluster)?, node },
            ca: Ca { server: server(vars, "CA", &place.cluster)?, secret_ttl: vars.duration_or("SECRET_TTL", DAY)? },
            ports: Ports::read(vars)?,
            log: read_log(vars)?,
            worker_threads: worker_threads(vars, cores)?,
            drain_timeout: vars.duration_or("TERMINATION_DRAIN_DURATION", DRAIN_TIMEOUT)?,
            version: vars.text("ISTIO_META_ISTIO_VERSION").unwrap_or_else(|| env!("CARGO_PKG_VERSION").to_owned()),
            place,
        })
    }
}

impl Place {
    fn read(vars: &Vars) -> Result<Self, ConfigError> {
        let needed =
            |name: &'static str, reason: &'static str| vars.text(name).ok_or(ConfigError::Missing { name, reason });
        let namespace: Namespace = needed("POD_NAMESPACE", "the pod's own (metadata.namespace)")?.into();
        let account = needed("SERVICE_ACCOUNT", "the pod's own (spec.serviceAccountName)")?;
        let trust_domain = vars.text("TRUST_DOMAIN").map_or_else(TrustDomain::default, TrustDomain::from);
        let identity = SpiffeId::new(trust_domain, namespace.clone(), account.into());
        Ok(Self {
            identity: identity.map_err(|error| ConfigError::Variable {
                name: "SERVICE_ACCOUNT".to_owned(),
                reason: error.reason.to_owned(),
            })?,
            pod: needed("POD_NAME", "the pod's own (metadata.name)")?,
            namespace,
            gateway: needed("GATEWAY_NAME", "the name of the Gateway this proxy carries out")?,
            cluster: vars.text("CLUSTER_ID").map_or_else(ClusterId::default, ClusterId::from),
            network: vars.text("NETWORK").unwrap_or_default().into(),
        })
    }
}

impl Ports {
    fn read(vars: &Vars) -> Result<Self, ConfigError> {
        let ip = vars.parsed("LISTEN_IP", |given| {
            given.parse::<IpAddr>().map_err(|_| "it must be an IP address, 0.0.0.0 or :: for all".to_owned())
        })?;
        Ok(Self {
            // Both families, where the kernel has both.
            ip: ip.unwrap_or(IpAddr::from([0_u16; 8])),
            hbone: vars.number_or("HBONE_PORT", 15008)?,
            stats: vars.number_or("STATS_PORT", 15020)?,
            ready: vars.number_or("READY_PORT", 15021)?,
            admin: vars.number_or("ADMIN_PORT", 15000)?,
        })
    }
}

/// `kind` is `XDS` or `CA`.
fn server(vars: &Vars, kind: &str, cluster: &ClusterId) -> Result<ChannelConfig, ConfigError> {
    let name = format!("{kind}_ADDRESS");
    let address = vars.text(&name).unwrap_or_else(|| default_address(vars));
    channel(vars, (address.trim(), kind), cluster)
}

/// One thread for each CPU we may use, unless it is said.
fn worker_threads(vars: &Vars, cores: usize) -> Result<usize, ConfigError> {
    let cpus = vars.parsed("CPU_LIMIT", text::cpus)?.unwrap_or(cores).max(1);
    let threads = vars.parsed("WORKER_THREADS", |given| text::threads(given, cpus))?;
    Ok(threads.unwrap_or(cpus))
}

fn read_log(vars: &Vars) -> Result<log::Config, ConfigError> {
    let format = vars.parsed("LOG_FORMAT", |text| text.parse::<log::Format>().map_err(|error| error.to_string()))?;
    Ok(log::Config {
        filter: vars.text("RUST_LOG").unwrap_or_else(|| "info".to_owned()),
        format: format.unwrap_or_default(),
    })
}

/// The node: `waypoint~<address>~<pod>.<namespace>~<namespace>.svc.cluster.local`.
fn node(vars: &Vars, place: &Place) -> Node {
    let address = vars.text("INSTANCE_IP").unwrap_or_else(|| "1.1.1.1".to_owned());
    let (pod, namespace) = (&place.pod, place.namespace.as_str());
    let own = [
        ("NAME", pod.as_str()),
        ("NAMESPACE", namespace),
        ("SERVICE_ACCOUNT", place.identity.service_account().as_str()),
        ("INSTANCE_IPS", &address),
        ("NODE_NAME", &vars.text("NODE_NAME").unwrap_or_default()),
        ("GATEWAY_NAME", &place.gateway),
        ("CLUSTER_ID", place.cluster.as_str()),
        ("NETWORK", place.network.as_str()),
    ];
    let value = |text: &str| Value { kind: Some(Kind::StringValue(text.to_owned())) };
    let fields = own.into_iter().map(|(key, text)| (key.to_owned(), value(text))).collect();
    Node {
        id: format!("waypoint~{address}~{pod}.{namespace}~{namespace}.svc.cluster.local"),
        metadata: Some(Struct { fields }),
        ..Node::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POD: [(&str, &str); 4] =
        [("POD_NAME", "w-1"), ("POD_NAMESPACE", "shop"), ("SERVICE_ACCOUNT", "w"), ("GATEWAY_NAME", "waypoint")];

    #[test]
    fn a_pod_says_enough() {
        let mut pairs = POD.to_vec();
        pairs.extend([("INSTANCE_IP", "10.0.0.9"), ("TRUST_DOMAIN", "td"), ("WORKER_THREADS", "3")]);
        let config = Config::from_vars(&Vars::new(&pairs), 8).expect("valid");
        assert_eq!(config.place.identity.to_string(), "spiffe://td/ns/shop/sa/w");
        assert_eq!(config.control.node.id, "waypoint~10.0.0.9~w-1.shop~shop.svc.cluster.local");
        let metadata = config.control.node.metadata.expect("there").fields;
        let Some(Kind::StringValue(gateway)) = &metadata["GATEWAY_NAME"].kind else { panic!("text") };
        assert_eq!(gateway, "waypoint");
        assert_eq!((config.worker_threads, config.drain_timeout), (3, Duration::from_secs(5)));
        assert_eq!((config.ports.hbone, config.ports.ready, config.ports.stats), (15008, 15021, 15020));
        assert_eq!(Config::from_vars(&Vars::new(&POD), 8).expect("valid").worker_threads, 8);
    }

    #[test]
    fn what_is_missing_is_named() {
        for (name, _) in POD {
            let without: Vec<_> = POD.into_iter().filter(|(other, _)| *other != name).collect();
            let error = Config::from_vars(&Vars::new(&without), 1).expect_err("something is missing").to_string();
            assert!(error.contains(name), "{error}");
        }
        let mut pairs = POD.to_vec();
        pairs.push(("SERVICE_ACCOUNT", "a/b"));
        assert!(Config::from_vars(&Vars::new(&pairs), 1).is_err());
    }
}
