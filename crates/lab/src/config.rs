//! What a lab is made of, as its starter asks for it.
//!
//! In: the command line, through `cli`. Out: plain values, passed between the lab's processes as one JSON file.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// The most nodes a lab may have; their numbers become address bytes.
pub const NODES_MAX: u8 = 32;

/// One lab.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LabConfig {
    /// Names the state directory; two labs of one user differ in it.
    pub name: String,
    /// How many nodes.
    pub nodes: u8,
    /// Our own program on the host. (`/proc/self/exe` does not say it inside: its path is that of a detached mount.)
    pub program: PathBuf,
    /// Where pid, kubeconfig, log and progress are kept.
    pub state_dir: PathBuf,
    /// The address of the API on the host's loopback.
    pub api: std::net::SocketAddr,
    /// The mesh to install.
    pub mesh: Mesh,
}

/// Whether and with which parts the mesh is installed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Mesh {
    /// A cluster without a mesh.
    None,
    /// The mesh of `deploy/lab`, parts of it replaced.
    With(Parts),
}

/// Programs and addresses that replace ours; absent means ours.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Parts {
    /// The node proxy.
    pub ztunnel: Option<PathBuf>,
    /// The node agent.
    pub cni_agent: Option<PathBuf>,
    /// The control plane.
    pub controller: Option<PathBuf>,
    /// The CNI plugin that the agent's image carries.
    pub cni_plugin: Option<PathBuf>,
    /// The proxy of Gateways.
    pub waypoint: Option<PathBuf>,
    /// A control plane elsewhere; ours is then not started.
    pub xds: Option<String>,
    /// A certificate authority elsewhere.
    pub ca: Option<String>,
}

impl LabConfig {
    /// The configuration another process of this lab wrote.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        use anyhow::Context as _;
        let text =
            std::fs::read(path).with_context(|| format!("reading the lab's configuration {}", path.display()))?;
        serde_json::from_slice(&text).with_context(|| format!("the lab's configuration {}", path.display()))
    }
}

/// The directory under which this user's labs keep their state.
pub fn state_root() -> PathBuf {
    let uid = nix::unistd::geteuid();
    if let Some(dir) = variable("LATEEN_LAB_STATE") {
        return PathBuf::from(dir);
    }
    let given = variable("XDG_RUNTIME_DIR").map(PathBuf::from);
    let usual = PathBuf::from(format!("/run/user/{uid}"));
    let runtime = given.into_iter().chain([usual]).find(|dir| writable(dir));
    runtime.map_or_else(|| PathBuf::from(format!("/tmp/lateen-{uid}")), |dir| dir.join("lateen"))
}

fn writable(dir: &Path) -> bool {
    dir.is_dir() && nix::unistd::access(dir, nix::unistd::AccessFlags::W_OK).is_ok()
}

/// An environment variable that is set and not empty.
#[allow(clippy::disallowed_methods)]
pub(crate) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
