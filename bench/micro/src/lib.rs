//! What one operation costs, in instructions and allocations: numbers that noise cannot touch.
//!
//! In: small scenarios, each one operation of the data path. Out: their counts beside their budgets.
//!
//! ```text
//! tests/budgets.rs ─► callgrind ─► lateen-micro: prepare, warm up, ┌ count::counted ┐ for each scenario
//!        ▲                                                         └ one dump each  ┘
//!        └── counts ◄── callgrind's dumps
//! ```
//! Absent on purpose: time. What a call of the kernel, a cache miss or a wake-up costs is measured by `lateen-bench`.

use anyhow::ensure;
use lateen_telemetry::log;

pub mod budget;
pub mod callgrind;
pub mod count;
pub mod scenario;
pub mod table;
mod world;

/// As an operator has it, without the records: those have scenarios of their own, and the log's thread is not counted.
const LOG: &str = "info,access=off";

/// Does the scenarios called `names` (all, if none is named), each as often as it is counted.
pub fn run(names: impl Iterator<Item = String>) -> anyhow::Result<()> {
    // A program without a log takes other ways through `tracing`, which every stream of HTTP/2 does many times.
    let _log = log::init(&log::Config { filter: LOG.to_owned(), ..log::Config::default() })?;
    let names: Vec<String> = names.collect();
    let of = |name: &str| names.is_empty() || names.iter().any(|wanted| wanted == name);
    let chosen: Vec<_> = scenario::ALL.iter().filter(|scenario| of(scenario.name)).collect();
    ensure!(chosen.len() >= names.len(), "not all of {names:?} are scenarios");
    chosen.into_iter().for_each(count::count);
    Ok(())
}
