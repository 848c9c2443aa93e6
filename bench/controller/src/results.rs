//! What was measured, as it is kept.

use std::{fs, path::Path};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

pub use crate::proc::Memory;

/// A whole run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Results {
    /// As typed, without directories.
    pub command: String,
    /// When it began.
    pub date: String,
    /// The state of the sources.
    pub commit: String,
    /// The processor, its cores, the kernel.
    pub machine: String,
    /// The crowd.
    pub nodes: usize,
    /// Pods beside the proxies' own.
    pub pods: usize,
    /// Services.
    pub services: usize,
    /// Services each proxy uses, on demand.
    pub used: usize,
    /// One for each program and each way of asking.
    pub columns: Vec<Column>,
}

/// One controller's run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Column {
    /// The program's name here.
    pub program: String,
    /// The directory it came from by its last name, which cargo calls after the profile.
    pub build: String,
    /// What proxies asked for: `all`, `on demand`.
    pub ask: String,
    /// From start to readiness: lists read, first picture derived.
    pub ready: Phase,
    /// From readiness until every proxy, all connecting at once, had acknowledged all there was.
    pub full: Phase,
    /// What one proxy was sent for that.
    pub full_resources: f64,
    /// Their bytes.
    pub full_bytes: f64,
    /// While pods came and went.
    pub churn: Churned,
    /// Streams that ended before they should, and why the last one did.
    pub failed_streams: u64,
    /// Why.
    pub failure: String,
}

/// Up to a point.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Phase {
    /// How long it took.
    pub seconds: f64,
    /// The controller's CPU.
    pub cpu_seconds: f64,
    /// The controller's memory at its end.
    pub memory: Memory,
}

/// Under churn.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Churned {
    /// Changes made.
    pub changes: usize,
    /// Changes a second that were asked for.
    pub asked_rate: f64,
    /// Changes a second that were made.
    pub rate: f64,
    /// Until every acknowledgement had come.
    pub phase: Phase,
    /// CPU of the API server meanwhile.
    pub api_cpu_seconds: f64,
    /// CPU of proxies and churn meanwhile.
    pub proxies_cpu_seconds: f64,
    /// Batches the controller published; none where it counts otherwise.
    pub batches: Option<f64>,
    /// Responses that proxies were sent, all together.
    pub responses: u64,
    /// Resources in them.
    pub resources: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Pairs of a change and a proxy that it concerns.
    pub expected: u64,
    /// Pairs acknowledged.
    pub heard: u64,
    /// From a change to one concerned proxy's acknowledgement.
    pub to_one: Times,
    /// From a change to the last concerned proxy's.
    pub to_all: Times,
}

/// Milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Times {
    /// Half are faster.
    pub p50: f64,
    /// All but one in a hundred.
    pub p99: f64,
    /// All but one in a thousand.
    pub p999: f64,
}

impl Results {
    /// From a file.
    pub fn read(file: &Path) -> anyhow::Result<Self> {
        let text = fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
        serde_json::from_str(&text).with_context(|| format!("{} is not results of this program", file.display()))
    }
}

impl Churned {
    /// Pairs of a change and any of `proxies`.
    pub fn pairs(&self, proxies: usize) -> f64 {
        (self.changes * proxies) as f64
    }
}
