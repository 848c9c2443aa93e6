//! The lab's outermost process: makes the namespaces, starts PID 1 in them, and waits.
//!
//! In: the configuration, the API's listening socket as standard input (made before the namespaces, so that it belongs
//! to the host's loopback). Out: PID 1's exit code. It has no threads and never enters the new pid namespace itself.

use std::{
    fs,
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Command, ExitCode, Stdio},
};

use anyhow::{Context as _, bail};
use nix::{
    sched::{CloneFlags, unshare},
    sys::{prctl::set_pdeathsig, signal::Signal},
    unistd::{getegid, geteuid, getppid, setsid},
};

use super::state::StateDir;
use crate::{config::LabConfig, verbs};

/// In place of a parent's process id: outlive whoever started this.
pub(crate) const DETACHED: &str = "detached";

/// Runs the session until PID 1 ends. `parent` is the process to die with, or [`DETACHED`].
pub(crate) fn run(config: &Path, parent: &str) -> anyhow::Result<ExitCode> {
    follow(parent)?;
    let lab = LabConfig::read(config)?;
    let state = StateDir::at(&lab.state_dir);
    let _alive = state.lock()?;
    enter_namespaces()?;
    let mut init = Command::new("/proc/self/exe")
        .arg0("lateen")
        .arg(verbs::INIT)
        .arg(config)
        .stdin(Stdio::inherit())
        .spawn()
        .context("starting the lab's first process")?;
    state.set_pid(init.id())?;
    let end = init.wait().context("waiting for the lab's first process")?;
    Ok(if end.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Ties this process's life to `parent`, or cuts it loose from the terminal.
fn follow(parent: &str) -> anyhow::Result<()> {
    if parent == DETACHED {
        setsid().context("leaving the terminal's session")?;
        return Ok(());
    }
    let parent: i32 = parent.parse().context("the parent's process id")?;
    set_pdeathsig(Signal::SIGKILL).context("asking to die with the parent")?;
    // The parent may have died before the request took effect.
    if getppid().as_raw() != parent {
        bail!("the process that asked for this lab has ended");
    }
    Ok(())
}

/// New mount, network and (for children) pid namespaces; for an ordinary user inside a new user namespace as its root.
fn enter_namespaces() -> anyhow::Result<()> {
    let (uid, gid) = (geteuid(), getegid());
    let own = CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWPID;
    if uid.is_root() {
        return unshare(own).context("making mount, network and pid namespaces");
    }
    unshare(own | CloneFlags::CLONE_NEWUSER).context(
        "making a user namespace: this machine does not let ordinary users do so (see kernel.unprivileged_userns_clone, \
         kernel.apparmor_restrict_unprivileged_userns and user.max_user_namespaces), or run as root",
    )?;
    // Without this the kernel refuses a group map written by an unprivileged process (user_namespaces(7)).
    map("setgroups", "deny")?;
    map("uid_map", &format!("0 {uid} 1"))?;
    map("gid_map", &format!("0 {gid} 1"))
}

fn map(file: &str, text: &str) -> anyhow::Result<()> {
    fs::write(format!("/proc/self/{file}"), text).with_context(|| format!("writing {text:?} to /proc/self/{file}"))
}
