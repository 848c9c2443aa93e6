//! A pod's network namespace: made, attached by the CNI chain, taken back.
//!
//! In: a pod. Out: a namespace at a path, with addresses. Trying again is the caller's; each try has its own id and
//! cleans up after itself, as containerd does.

use std::{
    fs,
    net::IpAddr,
    os::fd::{AsFd as _, AsRawFd as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use lateen_net::netns::{Netns, NetnsId};
use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

use super::cni::{self, Attachment, Chain};

/// Where namespaces are kept, as container runtimes keep them.
const NETNS_DIR: &str = "/run/netns";
/// The same directory, by the name runtimes give to plugins.
const NETNS_DIR_FOR_PLUGINS: &str = "/var/run/netns";

/// Where a node keeps its CNI configuration and plugins.
pub(super) const CNI_CONFIG: &str = "/etc/cni/net.d";
pub(super) const CNI_PLUGINS: &str = "/opt/cni/bin";

/// Who the sandbox is for.
#[derive(Debug, Clone)]
pub(super) struct PodName {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
}

/// An attached namespace.
#[derive(Debug)]
pub(super) struct Sandbox {
    /// The namespace as a path.
    pub path: PathBuf,
    /// Its addresses, IPv4 first as the chain gave them.
    pub addresses: Vec<IpAddr>,
    netns: Netns,
    attachment: Attachment,
    result: Value,
}

/// Makes and attaches a namespace. `attempt` makes its id differ from those of earlier tries.
pub(super) async fn create(pod: &PodName, attempt: u32) -> anyhow::Result<Sandbox> {
    let chain = Chain::load(Path::new(CNI_CONFIG), Path::new(CNI_PLUGINS)).await?;
    let id = format!("{}{attempt:04x}", pod.uid.replace('-', ""));
    let file = format!("cni-{}-{attempt}", pod.uid);
    let path = Path::new(NETNS_DIR).join(&file);
    let netns = Netns::create()?;
    pin(&netns, &path)?;
    let attachment = Attachment {
        container: id,
        netns: Path::new(NETNS_DIR_FOR_PLUGINS).join(file),
        namespace: pod.namespace.clone(),
        name: pod.name.clone(),
        uid: pod.uid.clone(),
    };
    match chain.add(&attachment).await {
        Ok(result) => Ok(Sandbox { path, addresses: cni::addresses(&result), netns, attachment, result }),
        Err(error) => {
            let undone = chain.del(&attachment, &Value::Null).await;
            unpin(&path)?;
            match undone {
                Ok(()) => bail!("{error}"),
                Err(also) => bail!("{error}; and undoing it: {also}"),
            }
        }
    }
}

impl Sandbox {
    /// Asks the chain whether all is as it made it.
    pub async fn check(&self) -> anyhow::Result<()> {
        let chain = Chain::load(Path::new(CNI_CONFIG), Path::new(CNI_PLUGINS)).await?;
        Ok(chain.check(&self.attachment, &self.result).await?)
    }

    /// Ends what still runs in the namespace and takes it back. May be repeated if it fails.
    pub async fn remove(&self) -> anyhow::Result<()> {
        kill_inside(self.netns.id());
        // Loaded anew: plugins added since ADD get their DEL, and one that is gone must not be needed.
        let chain = Chain::load(Path::new(CNI_CONFIG), Path::new(CNI_PLUGINS)).await?;
        let left = chain.del(&self.attachment, &self.result).await;
        unpin(&self.path)?;
        Ok(left?)
    }
}

/// Gives the namespace a name in the file system, so that plugins and the agent can open it.
fn pin(netns: &Netns, path: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(NETNS_DIR).with_context(|| format!("making {NETNS_DIR}"))?;
    fs::write(path, "").with_context(|| format!("making {}", path.display()))?;
    let source = format!("/proc/self/fd/{}", netns.as_fd().as_raw_fd());
    let none: Option<&str> = None;
    mount(Some(source.as_str()), path, none, MsFlags::MS_BIND, none)
        .with_context(|| format!("binding the namespace at {}", path.display()))
}

fn unpin(path: &Path) -> anyhow::Result<()> {
    if !path.exists() {
        return Ok(());
    }
    umount2(path, MntFlags::MNT_DETACH).with_context(|| format!("releasing the namespace at {}", path.display()))?;
    fs::remove_file(path).with_context(|| format!("removing {}", path.display()))
}

/// Kills every process that lives in the namespace: what left its container's process group would keep it alive.
fn kill_inside(id: NetnsId) {
    let Ok(listed) = fs::read_dir("/proc") else { return };
    for entry in listed.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        let lives = Netns::open(entry.path().join("ns/net")).is_ok_and(|netns| netns.id() == id);
        if lives && let Err(error) = kill(Pid::from_raw(pid), Signal::SIGKILL) {
            tracing::debug!(pid, %error, "a process of an ending pod could not be killed");
        }
    }
}
