//! The lab's main process.
//!
//! In: the configuration; the API's socket as standard input. Out: a running cluster, until SIGTERM.

use std::{path::Path, process::ExitCode};

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};

use super::{init::SHARED, state::StateDir, up};
use crate::config::LabConfig;

/// Runs the cluster until it is asked to end.
pub(crate) fn run(config: &Path) -> anyhow::Result<ExitCode> {
    let lab = LabConfig::read(config)?;
    let runtime = tokio::runtime::Runtime::new().context("starting the runtime")?;
    runtime.block_on(cluster(lab))?;
    Ok(ExitCode::SUCCESS)
}

async fn cluster(_lab: LabConfig) -> anyhow::Result<()> {
    let state = StateDir::at(&Path::new(SHARED).join("state"));
    let mut end = signal(SignalKind::terminate()).context("waiting for SIGTERM")?;
    state.say(up::READY)?;
    end.recv().await;
    Ok(())
}
