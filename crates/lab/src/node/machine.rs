//! What makes a node look like a machine: a root directory and process ids of its own.
//!
//! In: the node's configuration; the process is in the node's network already. Out: a kubelet in namespaces in which the
//! first process is the node's, as `/proc/1` of a real node is. (Node agents find the node's network by that path.)
//!
//! ```text
//! run ─► machine (new pid namespace for its child) ─► PID 1 (root directory, reaping) ─► kubelet
//! ```

use std::{
    fs,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use anyhow::Context as _;
use nix::{
    sched::{CloneFlags, unshare},
    sys::{prctl::set_pdeathsig, signal::Signal},
};

use super::{KUBELET, cni_config, read};
use crate::{
    fabric::addresses::Node,
    verbs,
    world::{
        init::{SHARED, reap},
        noted_nodes,
        rootfs::{self, Bind, Kind, Root},
    },
};

/// Makes the pid namespace, and notes its first process for those who want to enter it.
pub(crate) fn run(config: &Path) -> anyhow::Result<ExitCode> {
    set_pdeathsig(Signal::SIGKILL).context("asking to die with the lab's main process")?;
    let node = Node { number: read(config)?.number };
    unshare(CloneFlags::CLONE_NEWPID).context("making a pid namespace")?;
    let mut first = Command::new("/proc/self/exe")
        .arg0("lateen")
        .arg(verbs::NODE_INIT)
        .arg(config)
        .spawn()
        .context("starting the node's first process")?;
    let note = noted_nodes().join(node.name());
    fs::create_dir_all(noted_nodes()).context("making the directory of nodes")?;
    fs::write(&note, first.id().to_string()).with_context(|| format!("writing {}", note.display()))?;
    let end = first.wait().context("waiting for the node's first process")?;
    Ok(if end.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The node's first process: gives it its root directory and starts the kubelet.
pub(crate) fn init(file: &Path) -> anyhow::Result<ExitCode> {
    set_pdeathsig(Signal::SIGKILL).context("asking to die with the machine")?;
    let config = read(file)?;
    let node = Node { number: config.number };
    let shared = PathBuf::from(SHARED);
    rootfs::enter(&Root {
        kind: Kind::Node,
        binds: vec![Bind::rw(&shared, &shared)],
        files: vec![cni_config(node, config.mesh_plugin.as_deref())?],
        links: Vec::new(),
    })?;
    // The node's pods see what is mounted later (namespaces of new pods), as with mountPropagation HostToContainer.
    rootfs::share_mounts()?;
    reap(Command::new("/proc/self/exe").arg0(KUBELET).arg(verbs::NODE).arg(file))
}
