//! One node: a small kubelet over namespaces and processes.
//!
//! In: the pods the API has bound to this node. Out: running programs, and the pods' status.
//! Absent on purpose: scheduling, services and DNS; cgroups, users and limits; images that are files.
//!
//! ```text
//! machine (namespaces, PID 1, root directory) ─► kubelet (this)
//!
//! pods (watch) ─► pod (one task each) ─► sandbox (netns, CNI chain)
//!                       │                volumes, environment
//!                       ├─► container (one task each: start, probes, restarts) ─► launch (becomes the program)
//!                       └─► status (pure) ─► the API
//! ```

mod cgroup;
mod cni;
mod container;
mod environment;
pub mod images;
pub(crate) mod launch;
pub mod logs;
pub(crate) mod machine;
mod pod;
mod pods;
mod probe;
mod register;
mod sandbox;
mod status;
mod volumes;

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use anyhow::Context as _;
use lateen_cluster::client::{Access, connect};
use lateen_net::netns::Netns;
use lateen_rt::tasks::Tasks;
use nix::sys::prctl::set_name;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use crate::{fabric::addresses, veth};
use images::Images;

/// The search path of programs in containers and of plugins.
pub(crate) const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Where a node keeps what belongs to its pods.
const PODS_DIR: &str = "/run/kubelet/pods";

/// What a node is told by the lab.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct NodeConfig {
    /// Its number, from 1; name, zone and addresses follow from it.
    pub number: u8,
    /// How it reaches the API.
    pub kubeconfig: PathBuf,
    /// Our own program, as seen inside the lab.
    pub program: PathBuf,
    /// What images stand for.
    pub images: Images,
    /// The mesh's plugin, chained behind the lab's; absent if there is no mesh or its agent installs its own.
    pub mesh_plugin: Option<PathBuf>,
}

/// What all parts of a node share.
pub(crate) struct Kubelet {
    pub config: NodeConfig,
    pub node: addresses::Node,
    pub client: kube::Client,
    pub tasks: Tasks,
}

impl std::fmt::Debug for Kubelet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kubelet").field("node", &self.node).finish_non_exhaustive()
    }
}

/// What a node's kubelet is called among its processes: node agents look for it by this name.
const KUBELET: &str = "kubelet";

/// Runs a node until SIGTERM, in the namespaces that `machine` made.
pub(crate) fn run(config: &Path) -> anyhow::Result<ExitCode> {
    let name = std::ffi::CString::new(KUBELET).context("the kubelet's name")?;
    set_name(&name).context("taking the kubelet's name")?;
    let config = read(config)?;
    let node = addresses::Node { number: config.number };
    log();
    install(&config)?;
    let runtime = tokio::runtime::Runtime::new().context("starting the runtime")?;
    runtime.block_on(kubelet(config, node))?;
    Ok(ExitCode::SUCCESS)
}

fn read(config: &Path) -> anyhow::Result<NodeConfig> {
    let text = fs::read(config).with_context(|| format!("reading {}", config.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("the node's configuration {}", config.display()))
}

async fn kubelet(config: NodeConfig, node: addresses::Node) -> anyhow::Result<()> {
    let client = connect(&Access::Kubeconfig(config.kubeconfig.clone())).await?;
    let tasks = Tasks::new();
    let kubelet = Arc::new(Kubelet { config, node, client, tasks: tasks.clone() });
    register::register(&kubelet).await?;
    tasks.spawn("heartbeat", register::heartbeat(kubelet.clone()));
    let netns = Netns::current().context("the node's network")?;
    crate::services::run(&kubelet.client, netns, node.name(), &tasks);
    tasks.spawn("pods", pods::watch(kubelet));
    let mut end = signal(SignalKind::terminate()).context("waiting for SIGTERM")?;
    end.recv().await;
    Ok(())
}

/// Places the plugins where runtimes look for them.
fn install(config: &NodeConfig) -> anyhow::Result<()> {
    let dir = Path::new(sandbox::CNI_PLUGINS);
    symlink(&config.program, dir.join(veth::NAME)).context("installing the lab's CNI plugin")?;
    let Some(plugin) = &config.mesh_plugin else { return Ok(()) };
    symlink(plugin, dir.join(plugin_name(plugin)?)).context("installing the mesh's CNI plugin")
}

/// Standard error is the lab's log.
pub(crate) fn log() {
    let lines = tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false);
    // A second call in one process (a test) changes nothing.
    drop(lines.with_max_level(tracing::Level::INFO).try_init());
}

/// The chain: the lab's own plugin, then the mesh's.
fn cni_config(node: addresses::Node, mesh: Option<&Path>) -> anyhow::Result<(PathBuf, Vec<u8>)> {
    let mut plugins = vec![json!({"type": veth::NAME, "subnets": node.pods(), "dataDir": "/run/cni/lateen-veth"})];
    if let Some(mesh) = mesh {
        plugins.push(json!({
            "type": plugin_name(mesh)?, "plugin_log_level": "info", "cni_agent_run_dir": "/var/run/istio-cni",
            "ambient_enabled": true, "exclude_namespaces": ["kube-system"], "pod_namespace": "istio-system",
        }));
    }
    let config = json!({"cniVersion": "1.0.0", "name": "lateen-lab", "plugins": plugins});
    let text = serde_json::to_vec_pretty(&config).context("writing the CNI configuration")?;
    Ok((Path::new(sandbox::CNI_CONFIG).join("10-lateen-lab.conflist"), text))
}

fn plugin_name(path: &Path) -> anyhow::Result<&str> {
    path.file_name().and_then(|name| name.to_str()).with_context(|| format!("the plugin's name in {}", path.display()))
}
