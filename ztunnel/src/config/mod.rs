//! What the process is told at its start, checked as a whole before anything begins.
//!
//! In: environment variables, the mesh configuration file. Out: one small struct per room.
//! Absent on purpose: defaults hidden elsewhere; every default of the proxy is in this folder.

mod control;
mod node;
mod proxy;
mod proxy_config;
#[cfg(test)]
mod tests;

use std::time::Duration;

use lateen_telemetry::log;
use lateen_types::{
    id::{Namespace, TrustDomain},
    name::{ClusterId, NetworkId, NodeName},
};

pub use control::{Ca, Control, LocalSource};
pub use lateen_rt::vars::{ConfigError, Vars};
pub use proxy::{Admin, AdminAddr, Dns, Hbone, InPod, Proxy, ProxyMode, Sockets, SourcePolicy, WorkloadInfo};

/// Where this process is in the mesh.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Our network.
    pub network: NetworkId,
    /// Our node; unset, all workloads count as local.
    pub node: Option<NodeName>,
    /// Our cluster.
    pub cluster: ClusterId,
    /// The DNS domain of cluster services.
    pub cluster_domain: String,
    /// The trust domain of our own identity.
    pub trust_domain: TrustDomain,
    /// Our own pod, if it is known whole: then ztunnel itself can be reached through the mesh.
    pub own_pod: Option<WorkloadInfo>,
}

/// Everything.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where we are.
    pub place: Place,
    /// The data path.
    pub proxy: Proxy,
    /// DNS for pods.
    pub dns: Dns,
    /// The control plane.
    pub control: Control,
    /// The certificate authority.
    pub ca: Ca,
    /// The operators' listeners.
    pub admin: Admin,
    /// The log.
    pub log: log::Config,
    /// Threads of the data path.
    pub worker_threads: usize,
    /// How long open connections may last after shutdown began.
    pub drain_timeout: Duration,
    /// The version shown in `istio_build`.
    pub istio_version: String,
}

/// Relative to the working directory, which is `/` in the image.
const MESH_FILE: &str = "./etc/istio/config/mesh";

impl Config {
    /// The configuration of this process.
    pub fn from_env() -> Result<Self, ConfigError> {
        let mesh = match std::fs::read_to_string(MESH_FILE) {
            Ok(text) => Some(text),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => {
                return Err(ConfigError::File { path: MESH_FILE.to_owned(), reason: error.to_string() });
            }
        };
        Self::from_vars(&Vars::from_env()?, mesh.as_deref(), cores())
    }

    /// The configuration these variables, this mesh configuration and this many cores mean.
    pub fn from_vars(vars: &Vars, mesh: Option<&str>, cores: usize) -> Result<Self, ConfigError> {
        let proxy_config = proxy_config::ProxyConfig::read(vars, mesh)?;
        let metadata = node::metadata(vars, &proxy_config)?;
        let place = place(vars, &metadata)?;
        let proxy = Proxy::read(vars)?;
        let dns = Dns::read(vars, &metadata)?;
        let control = Control::read(vars, &proxy_config, (node::node(vars, &metadata), &place.cluster))?;
        if control.on_demand && dns.enabled {
            return Err(ConfigError::Conflict {
                variables: "XDS_ON_DEMAND and ISTIO_META_DNS_CAPTURE",
                reason: "names cannot be answered from a picture that is fetched address by address; \
                         set one of them to false",
            });
        }
        Ok(Self {
            ca: Ca::read(vars, &place.cluster)?,
            place,
            proxy,
            dns,
            control,
            admin: Admin::read(&proxy_config),
            log: read_log(vars)?,
            worker_threads: proxy::worker_threads(vars, proxy_config.concurrency, cores)?,
            drain_timeout: proxy::drain_timeout(vars)?,
            istio_version: node::text(&metadata, "ISTIO_VERSION").unwrap_or_else(|| "unknown".to_owned()),
        })
    }
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn place(vars: &Vars, metadata: &node::Metadata) -> Result<Place, ConfigError> {
    let cluster = node::text(metadata, "CLUSTER_ID").or_else(|| vars.text("CLUSTER_ID"));
    let own_pod = match (vars.text("POD_NAME"), vars.text("POD_NAMESPACE"), vars.text("SERVICE_ACCOUNT")) {
        (Some(name), Some(namespace), Some(service_account)) => Some(WorkloadInfo { name, namespace, service_account }),
        _ => None,
    };
    Ok(Place {
        network: vars.text("NETWORK").unwrap_or_default().into(),
        node: vars.text("NODE_NAME").map(NodeName::from),
        cluster: cluster.map_or_else(ClusterId::default, ClusterId::from),
        cluster_domain: vars.text("CLUSTER_DOMAIN").unwrap_or_else(|| "cluster.local".to_owned()),
        trust_domain: vars.text("TRUST_DOMAIN").map_or_else(TrustDomain::default, TrustDomain::from),
        own_pod,
    })
}

fn read_log(vars: &Vars) -> Result<log::Config, ConfigError> {
    let format = vars.parsed("LOG_FORMAT", |text| text.parse::<log::Format>().map_err(|error| error.to_string()))?;
    Ok(log::Config {
        filter: vars.text("RUST_LOG").unwrap_or_else(|| "info".to_owned()),
        format: format.unwrap_or_default(),
    })
}

/// The namespace whose services win a tie between namespaces in DNS.
fn preferred_namespace(vars: &Vars) -> Option<Namespace> {
    vars.text("PREFERED_SERVICE_NAMESPACE").map(Namespace::from)
}
