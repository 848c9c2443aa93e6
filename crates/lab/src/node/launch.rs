//! The last step before a container's program: this process becomes it.
//!
//! In: a [`Launch`] in a file. Out: nothing; the program runs in our place, with our process id.
//! Runs single-threaded: it enters the pod's network, a mount namespace of its own, and takes the pod's host name.

use std::{
    fs::{self, File},
    io,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use anyhow::Context as _;
use nix::{
    sched::{CloneFlags, setns, unshare},
    sys::signal::SigSet,
    unistd::{sethostname, setsid},
};
use serde::{Deserialize, Serialize};

use crate::world::rootfs::{self, Bind, Kind, Root};

/// A container, ready to start.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Launch {
    /// The pod's network; absent for pods in the node's network.
    pub netns: Option<PathBuf>,
    /// The pod's host name.
    pub hostname: String,
    /// Volumes.
    pub binds: Vec<Bind>,
    /// `/etc/resolv.conf` and its like.
    pub files: Vec<(PathBuf, String)>,
    /// Links, for example programs that an image brings along.
    pub links: Vec<(PathBuf, PathBuf)>,
    /// The program, then its arguments.
    pub command: Vec<String>,
    /// Its whole environment.
    pub env: Vec<(String, String)>,
    /// Its working directory.
    pub directory: PathBuf,
}

/// What shells answer if a program is not found, or is there but cannot be run.
const NOT_FOUND: u8 = 127;
const NOT_RUNNABLE: u8 = 126;

/// Becomes the container described in `file`.
pub(crate) fn run(file: &Path) -> anyhow::Result<ExitCode> {
    let text = fs::read(file).with_context(|| format!("reading {}", file.display()))?;
    let launch: Launch =
        serde_json::from_slice(&text).with_context(|| format!("the container in {}", file.display()))?;
    setsid().context("making a session")?;
    if let Some(netns) = &launch.netns {
        let open = File::open(netns).with_context(|| format!("opening the namespace {}", netns.display()))?;
        setns(open, CloneFlags::CLONE_NEWNET).context("entering the pod's network")?;
    }
    unshare(CloneFlags::CLONE_NEWUTS).context("making a namespace for the host name")?;
    sethostname(&launch.hostname).context("setting the host name")?;
    rootfs::enter(&Root {
        kind: Kind::Container,
        binds: launch.binds,
        files: launch.files.into_iter().map(|(path, text)| (path, text.into_bytes())).collect(),
        links: launch.links,
    })?;
    let (program, arguments) = launch.command.split_first().context("the container has no command")?;
    fs::create_dir_all(&launch.directory)
        .with_context(|| format!("making the working directory {}", launch.directory.display()))?;
    // Our ancestors wait for some signals and so have them blocked, which a program inherits: it would never hear of its end.
    SigSet::empty().thread_set_mask().context("unblocking signals")?;
    let failed =
        Command::new(program).args(arguments).env_clear().envs(launch.env).current_dir(&launch.directory).exec();
    complain(program, &failed);
    Ok(ExitCode::from(if failed.kind() == io::ErrorKind::NotFound { NOT_FOUND } else { NOT_RUNNABLE }))
}

/// Standard error is the container's log by now.
#[allow(clippy::print_stderr)]
fn complain(program: &str, error: &io::Error) {
    eprintln!("starting {program:?}: {error}");
}
