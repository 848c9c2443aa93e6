//! Puts the plugin where the container runtime calls it, and keeps it there.
//!
//! In: the node's directories, our entry of the chain. Out: the binary in place, the entry last in the runtime's chain,
//! a readiness condition. Other tools rewrite the same file, so it is looked at twice a second for as long as we run.
//! A pod that starts between such a rewrite and our mending starts bare and is enrolled by the watch a moment later.
//! Absent on purpose: credentials on the node. The plugin asks the agent, and the agent alone asks Kubernetes.

pub mod chain;
pub mod files;
pub mod leave;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use lateen_rt::{drain::Drain, ready::Condition};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::time::Instant;

use self::{
    chain::{ChainError, Edit, Shape},
    files::{FileError, Stamp},
};
use crate::catalogue::{INSTALL_READY, INSTALLS};

/// The plugin's file and its type in the chain.
pub const PLUGIN: &str = "lateen-cni";
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Not oftener than this is a file written that somebody else keeps rewriting.
const BETWEEN_WRITES: Duration = Duration::from_secs(1);
/// So many writes, each within this of the one before, are a fight.
const FIGHT_WRITES: u32 = 5;
const FIGHT_WINDOW: Duration = Duration::from_secs(5);

/// Where things are, as this process sees the node's files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    /// MOUNTED_CNI_NET_DIR: the runtime's configurations.
    pub net_dir: PathBuf,
    /// MOUNTED_CNI_BIN_DIR: the runtime's plugins.
    pub bin_dir: PathBuf,
    /// CNI_CONF_NAME: the configuration to append to; without it the first valid one, as runtimes choose.
    pub conf_name: Option<String>,
    /// Our plugin, in our image.
    pub source: PathBuf,
}

/// What of the agent's settings the plugin is told.
#[derive(Debug, Clone)]
pub struct Told<'a> {
    /// The agent's run directory as the node sees it.
    pub run_dir: &'a Path,
    /// The agent's own namespace.
    pub namespace: &'a str,
    /// Namespaces whose pods are never ours.
    pub excluded: &'a [String],
}

/// Why the plugin is not installed.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// Nothing to append to.
    #[error("no valid network configuration in {}; waiting for the cluster's network plugin to write one", .0.display())]
    NoConfiguration(PathBuf),
    /// One that cannot be extended.
    #[error("{}: {source}", path.display())]
    Chain {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: ChainError,
    },
    /// Reading or writing.
    #[error(transparent)]
    File(#[from] FileError),
}

/// What had to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Done {
    /// All was as it should be.
    Nothing,
    /// The binary or the configuration was written.
    Wrote(PathBuf),
}

/// The plugin on this node.
#[derive(Debug, Clone)]
pub struct Installer {
    places: Places,
    entry: Value,
    /// The binary as we last saw it to be ours.
    placed: Arc<Mutex<Option<Stamp>>>,
}

impl Installer {
    /// Installs nothing yet.
    pub fn new(places: Places, told: &Told<'_>) -> Self {
        let entry = json!({
            "type": PLUGIN,
            "cni_agent_run_dir": told.run_dir,
            "ambient_enabled": true,
            "exclude_namespaces": told.excluded,
            "pod_namespace": told.namespace,
        });
        Self { places, entry, placed: Arc::default() }
    }

    /// Keeps the plugin installed until the drain begins. `ready` holds while it is.
    pub async fn run(self, ready: Condition, drain: Drain) {
        let mut fight = Fight::default();
        let mut last_reason = String::new();
        loop {
            let installer = self.clone();
            let outcome = tokio::task::spawn_blocking(move || installer.put_right()).await;
            let Ok(outcome) = outcome else { return };
            ready.set(outcome.is_ok());
            metrics::gauge!(INSTALL_READY).set(if outcome.is_ok() { 1.0 } else { 0.0 });
            let wait = match outcome {
                Ok(Done::Nothing) => LOOK_EVERY,
                Ok(Done::Wrote(path)) => {
                    metrics::counter!(INSTALLS, "result" => "SUCCESS").increment(1);
                    tracing::info!(path = %path.display(), "the plugin was installed");
                    if fight.write(Instant::now()) {
                        tracing::warn!(
                            path = %path.display(),
                            "another program keeps taking our plugin out of this file; if that is Cilium, set cni.exclusive=false"
                        );
                    }
                    last_reason.clear();
                    BETWEEN_WRITES
                }
                Err(error) => {
                    let reason = error.to_string();
                    if reason != last_reason {
                        metrics::counter!(INSTALLS, "result" => "FAILURE").increment(1);
                        tracing::warn!(reason, "the plugin is not installed; looking again twice a second");
                        last_reason = reason;
                    }
                    LOOK_EVERY
                }
            };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = drain.draining() => return,
            }
        }
    }

    /// Makes binary and chain what they should be, in this order: a chain never names what is not there.
    pub fn put_right(&self) -> Result<Done, InstallError> {
        let target = self.places.bin_dir.join(PLUGIN);
        let seen = files::stamp(&target);
        let mut done = Done::Nothing;
        if seen.is_none() || seen != *self.placed.lock() {
            if !files::same_content(&self.places.source, &target)? {
                files::copy(&self.places.source, &target)?;
                done = Done::Wrote(target.clone());
            }
            *self.placed.lock() = files::stamp(&target);
        }
        match self.extend()? {
            Done::Nothing => Ok(done),
            wrote @ Done::Wrote(_) => Ok(wrote),
        }
    }

    fn extend(&self) -> Result<Done, InstallError> {
        let (path, shape, bytes) = self.configuration()?;
        let edit = chain::extend(&bytes, shape, &self.entry)
            .map_err(|source| InstallError::Chain { path: path.clone(), source })?;
        let Edit::Write(text) = edit else { return Ok(Done::Nothing) };
        let target = path.with_extension("conflist");
        files::write(&target, &path, text.as_bytes())?;
        if shape == Shape::Single {
            // A list of the same plugin is there now; two files would be two networks.
            files::remove(&path)?;
        }
        Ok(Done::Wrote(target))
    }

    /// The configuration runtimes choose: the first valid one in the order of names.
    fn configuration(&self) -> Result<(PathBuf, Shape, Vec<u8>), InstallError> {
        let directory = &self.places.net_dir;
        let names = match &self.places.conf_name {
            Some(name) => vec![directory.join(name)],
            None => files::names(directory)?,
        };
        let mut first_error = None;
        for path in names {
            let Some(shape) = Shape::of(&path) else { continue };
            let Some(bytes) = files::read(&path)? else { continue };
            match chain::check(&bytes, shape) {
                Ok(()) => return Ok((path, shape, bytes)),
                Err(source) => {
                    first_error.get_or_insert(InstallError::Chain { path, source });
                }
            }
        }
        Err(first_error.unwrap_or_else(|| InstallError::NoConfiguration(directory.clone())))
    }

    /// Takes the plugin out of every chain, then the binary away. Goes on after errors; out: the first.
    pub fn remove(&self) -> Result<(), InstallError> {
        let mut outcome = Ok(());
        let directory = files::names(&self.places.net_dir).map_err(InstallError::from);
        for path in directory.as_ref().map(Vec::as_slice).unwrap_or_default() {
            outcome = outcome.and(shorten(path));
        }
        let binary = files::remove(&self.places.bin_dir.join(PLUGIN)).map_err(InstallError::from);
        directory.map(|_| ()).and(outcome).and(binary)
    }
}

fn shorten(path: &Path) -> Result<(), InstallError> {
    if Shape::of(path) != Some(Shape::List) {
        return Ok(());
    }
    let Some(bytes) = files::read(path)? else { return Ok(()) };
    match chain::shorten(&bytes, PLUGIN) {
        // What we cannot read does not hold an entry of ours.
        Err(_) | Ok(Edit::Same) => Ok(()),
        Ok(Edit::Write(text)) => Ok(files::write(path, path, text.as_bytes())?),
    }
}

/// Notices that somebody undoes our writes.
#[derive(Debug, Default)]
struct Fight {
    last: Option<Instant>,
    in_a_row: u32,
}

impl Fight {
    /// A write at `now`. Out: whether to say that this is a fight, which it does once for each.
    fn write(&mut self, now: Instant) -> bool {
        let close = self.last.is_some_and(|last| now.duration_since(last) <= FIGHT_WINDOW);
        self.in_a_row = if close { self.in_a_row.saturating_add(1) } else { 1 };
        self.last = Some(now);
        self.in_a_row == FIGHT_WRITES
    }
}

#[cfg(test)]
mod tests;
