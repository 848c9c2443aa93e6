//! PID 1 of the lab: gives it its own root directory, starts its main process, reaps what is orphaned.
//!
//! In: the configuration; the API's socket as standard input. Out: the main process's exit code.
//! When this process ends, however it ends, the kernel kills every process of the lab, and with the last of them its
//! mounts and networks go.

use std::{
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
};

use anyhow::{Context as _, bail};
use nix::{
    errno::Errno,
    sys::{
        prctl::set_pdeathsig,
        signal::{SigSet, Signal, kill},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::Pid,
};

use super::{
    rootfs::{self, Bind, Kind, Root},
    state::StateDir,
};
use crate::{config::LabConfig, verbs};

/// The lab's own directory, shared by its nodes; `state` in it is the state directory on the host.
pub(crate) const SHARED: &str = "/run/lateen";

/// Runs PID 1 until the lab's main process ends.
pub(crate) fn run(config: &Path) -> anyhow::Result<ExitCode> {
    let lab = LabConfig::read(config)?;
    set_pdeathsig(Signal::SIGKILL).context("asking to die with the session")?;
    // The session may have died before the request took effect; it holds the lock as long as it lives.
    if !StateDir::at(&lab.state_dir).alive()? {
        bail!("the session of this lab has ended");
    }
    let shared = PathBuf::from(SHARED);
    let state = shared.join("state");
    rootfs::enter(&Root {
        kind: Kind::Lab,
        binds: vec![Bind::rw(&lab.state_dir, &state)],
        files: Vec::new(),
        links: Vec::new(),
    })?;
    let mut main = Command::new("/proc/self/exe");
    main.arg0("lateen").arg(verbs::RUN).arg(state.join("config.json")).stdin(Stdio::inherit());
    reap(&mut main)
}

/// As first process of a pid namespace: starts `main` and collects every child's end until that one has ended.
pub(crate) fn reap(main: &mut Command) -> anyhow::Result<ExitCode> {
    let watched = SigSet::from_iter([Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT]);
    watched.thread_block().context("blocking signals")?;
    let main = main.spawn().context("starting the main process")?;
    let main = Pid::from_raw(i32::try_from(main.id()).context("the main process's id")?);
    loop {
        match watched.wait().context("waiting for a signal")? {
            Signal::SIGCHLD => {
                if let Some(code) = collect(main)? {
                    return Ok(code);
                }
            }
            asked => match kill(main, asked) {
                Ok(()) | Err(Errno::ESRCH) => {}
                Err(error) => return Err(error).context("passing the signal on"),
            },
        }
    }
}

/// Reaps all that have ended; the main process's code if it was among them.
fn collect(main: Pid) -> anyhow::Result<Option<ExitCode>> {
    let mut ended = None;
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return Ok(ended),
            Ok(WaitStatus::Exited(pid, 0)) if pid == main => ended = Some(ExitCode::SUCCESS),
            Ok(status) if status.pid() == Some(main) => ended = Some(ExitCode::FAILURE),
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error).context("reaping"),
        }
    }
}
