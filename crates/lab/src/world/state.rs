//! A lab's state directory: what remains of it on the host while it runs.
//!
//! In: a lab's name. Out: its files, and whether it lives (its session holds a lock on `lock`).

use std::{
    fs,
    io::Write as _,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
    unistd::Pid,
};

use crate::config::state_root;

/// The directory of one lab.
#[derive(Debug, Clone)]
pub struct StateDir {
    path: PathBuf,
}

impl StateDir {
    /// The directory of the lab called `name`, which need not exist.
    pub fn named(name: &str) -> anyhow::Result<Self> {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if name.is_empty() || name.len() > 40 || !name.chars().all(plain) {
            bail!("lab name {name:?}: use 1 to 40 of a-z, 0-9 and '-'");
        }
        Ok(Self { path: state_root().join(name) })
    }

    /// The state directory at `path`.
    pub fn at(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    /// Makes the directory, empty, readable by its owner alone.
    pub fn create(&self) -> anyhow::Result<()> {
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(0o700);
        self.remove()?;
        builder.create(&self.path).with_context(|| format!("making the state directory {}", self.path.display()))?;
        // Under /tmp anyone may have made the parent before us, and would then own what we write.
        let parent = self.path.parent().unwrap_or(&self.path);
        let owner = fs::symlink_metadata(parent).with_context(|| format!("looking at {}", parent.display()))?.uid();
        if owner != nix::unistd::geteuid().as_raw() {
            bail!("{} belongs to user {owner}, not to you: remove it or set LATEEN_LAB_STATE", parent.display());
        }
        Ok(())
    }

    /// Deletes the directory with everything in it; an absent one is fine.
    pub fn remove(&self) -> anyhow::Result<()> {
        match fs::remove_dir_all(&self.path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("removing the state directory {}", self.path.display()))
            }
            _ => Ok(()),
        }
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The lab's configuration.
    pub fn config(&self) -> PathBuf {
        self.path.join("config.json")
    }

    /// What `KUBECONFIG` should be.
    pub fn kubeconfig(&self) -> PathBuf {
        self.path.join("kubeconfig")
    }

    /// Standard output and error of all the lab's own processes.
    pub fn log(&self) -> PathBuf {
        self.path.join("log")
    }

    /// The steps of the start, one a line; see [`crate::world::up`].
    pub fn progress(&self) -> PathBuf {
        self.path.join("progress")
    }

    /// Where the process id (in the lab) of each node's first process is kept: `<node>`.
    pub fn nodes(&self) -> PathBuf {
        self.path.join("nodes")
    }

    /// Where the node keeps the process id (in the node) of each running container: `<namespace>/<pod>/<container>`.
    pub fn containers(&self) -> PathBuf {
        self.path.join("containers")
    }

    /// Writes a file as its owner's alone, replacing what was there in one step.
    pub fn write(&self, file: &Path, contents: &[u8]) -> anyhow::Result<()> {
        let part = file.with_extension("part");
        let mut options = fs::OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        let written = options.open(&part).and_then(|mut open| open.write_all(contents));
        written.and_then(|()| fs::rename(&part, file)).with_context(|| format!("writing {}", file.display()))
    }

    /// Adds a line to the progress file.
    pub fn say(&self, line: &str) -> anyhow::Result<()> {
        let mut options = fs::OpenOptions::new();
        options.append(true).create(true).mode(0o600);
        let written = options.open(self.progress()).and_then(|mut open| writeln!(open, "{line}"));
        written.with_context(|| format!("writing {}", self.progress().display()))
    }

    /// Takes the lock that says "this lab lives", for as long as the returned value is held.
    pub fn lock(&self) -> anyhow::Result<Flock<fs::File>> {
        self.try_lock()?.with_context(|| format!("a lab with the state directory {} runs already", self.path.display()))
    }

    /// Whether the lab's session lives.
    pub fn alive(&self) -> anyhow::Result<bool> {
        if !self.path.join("lock").exists() {
            return Ok(false);
        }
        Ok(self.try_lock()?.is_none())
    }

    fn try_lock(&self) -> anyhow::Result<Option<Flock<fs::File>>> {
        let path = self.path.join("lock");
        let mut options = fs::OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o600);
        let file = options.open(&path).with_context(|| format!("opening {}", path.display()))?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => Ok(Some(lock)),
            Err((_, Errno::EWOULDBLOCK)) => Ok(None),
            Err((_, error)) => Err(error).with_context(|| format!("locking {}", path.display())),
        }
    }

    /// Records the process id of the lab's PID 1 as the host sees it.
    pub fn set_pid(&self, pid: u32) -> anyhow::Result<()> {
        self.write(&self.path.join("pid"), pid.to_string().as_bytes())
    }

    /// The host's process id of the lab's PID 1.
    pub fn pid(&self) -> anyhow::Result<Pid> {
        let path = self.path.join("pid");
        let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        Ok(Pid::from_raw(text.trim().parse().with_context(|| format!("{} holds no process id", path.display()))?))
    }
}
