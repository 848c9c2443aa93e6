//! Measures taken apart from the labs: start-up, a big mesh told to one proxy, handshakes.
//!
//! In: programs. Out: numbers. Each program runs in a process namespace that ends with us, so that a proxy started by what
//! we start does not outlive an interrupted run.

use std::{
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context as _, bail};
use serde::Deserialize;

use crate::{config::Program, measure::Number, table::Table};

/// From a program's start until it says that it is ready.
pub(crate) const START: &str = "start";
/// 100,000 workloads, then single changes.
pub(crate) const WORLDS: &str = "memory.worlds";
/// What they take in the end.
pub(crate) const SETTLED: &str = "RSS settled";
/// The cost of key exchanges.
pub(crate) const HANDSHAKE: &str = "handshake";
/// The number with a target.
pub(crate) const HYBRID_TO_CLASSIC: &str = "CPU, post-quantum / classical";

/// Workloads of the big mesh.
const WORKLOADS: &str = "100000";
/// Longer than any of them takes.
const TIMEOUT: &str = "120";

/// Lines of a failed program's words that are kept.
const REASON_LINES: usize = 3;

/// What `worlds` prints.
#[derive(Debug, Deserialize)]
struct World {
    ready_seconds: f64,
    idle_bytes: f64,
    settled_bytes: f64,
    peak_bytes: f64,
    load_seconds: f64,
    load_cpu_seconds: f64,
    update_cpu_microseconds: f64,
    after_updates_bytes: f64,
}

/// What `lateen-load handshakes` prints: CPU of both ends together.
#[derive(Debug, Deserialize)]
struct Handshakes {
    classical_microseconds: f64,
    hybrid_microseconds: f64,
}

/// One start with nothing to know.
pub(crate) fn start(worlds: &Path, program: &Program, table: &mut Table) -> anyhow::Result<()> {
    let world: World = asked(Command::new(worlds).arg(&program.path).arg("0"))?;
    let ready = Number { what: "until ready", unit: "ms", value: world.ready_seconds * 1e3 };
    let idle = Number { what: "RSS, no pods", unit: "MB", value: world.idle_bytes / 1e6 };
    [ready, idle].iter().for_each(|number| table.add(START, &program.name, number));
    Ok(())
}

/// One big mesh.
pub(crate) fn world(worlds: &Path, program: &Program, table: &mut Table) -> anyhow::Result<()> {
    let world: World = asked(Command::new(worlds).arg(&program.path).arg(WORKLOADS))?;
    let numbers = [
        (SETTLED, "MB", world.settled_bytes / 1e6),
        ("RSS at most", "MB", world.peak_bytes / 1e6),
        ("RSS after 1,000 single changes", "MB", world.after_updates_bytes / 1e6),
        ("first picture, CPU", "s", world.load_cpu_seconds),
        ("first picture, time with the maker's", "s", world.load_seconds),
        ("one single change, CPU", "us", world.update_cpu_microseconds),
    ];
    numbers.iter().for_each(|(what, unit, value)| {
        table.add(WORLDS, &program.name, &Number { what, unit, value: *value });
    });
    Ok(())
}

/// Some hundred handshakes of each kind.
pub(crate) fn handshake(load: &Path, table: &mut Table) -> anyhow::Result<()> {
    let cost: Handshakes = asked(Command::new(load).arg("handshakes"))?;
    let numbers = [
        ("CPU of both ends, classical", "us", cost.classical_microseconds),
        ("CPU of both ends, post-quantum", "us", cost.hybrid_microseconds),
        (HYBRID_TO_CLASSIC, "x", cost.hybrid_microseconds / cost.classical_microseconds),
    ];
    numbers.iter().for_each(|(what, unit, value)| {
        table.add(HANDSHAKE, crate::config::OURS, &Number { what, unit, value: *value });
    });
    Ok(())
}

/// Runs a command to its end, within reason; its last line is JSON. `setpriv` ends it when we end, `unshare` ends what it
/// started when it ends.
fn asked<T: for<'a> Deserialize<'a>>(command: &Command) -> anyhow::Result<T> {
    let mut guarded = Command::new("setpriv");
    guarded.args(["--pdeathsig", "KILL", "unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]);
    guarded.args(["timeout", "-s", "KILL", TIMEOUT]);
    guarded.arg(command.get_program()).args(command.get_args());
    let output = guarded.stdin(Stdio::null()).output().context("starting setpriv")?;
    // A path says something about this machine only.
    let name = Path::new(command.get_program()).file_name().unwrap_or_default().display();
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr);
        let words: Vec<&str> = words.lines().filter(|line| !line.trim().is_empty()).take(REASON_LINES).collect();
        bail!("{name} failed ({}): {}", output.status, words.join(" "));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let last = text.lines().last().unwrap_or_default();
    serde_json::from_str(last).with_context(|| format!("{name} says {last:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_is_the_answer() {
        let mut command = Command::new("printf");
        command.arg("a word\\n{\"classical_microseconds\":2,\"hybrid_microseconds\":3}\\n");
        let read: Handshakes = asked(&command).expect("an answer; this needs root");
        assert_eq!((read.classical_microseconds, read.hybrid_microseconds), (2.0, 3.0));
        assert!(asked::<Handshakes>(&Command::new("false")).is_err());
        assert!(asked::<Handshakes>(&Command::new("true")).is_err());
    }
}
