//! The process that outlives the measuring: however that ends, nothing remains.
//!
//! In: work. Out: its exit code. The same program runs twice: the outer one only waits, for the inner one or for a signal;
//! the inner one measures. Labs and load die with the inner one, by the kernel's hand.

use std::{
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Command, ExitCode},
    time::Duration,
};

use anyhow::Context as _;
use nix::{
    sys::{
        prctl::set_pdeathsig,
        signal::{SigSet, Signal},
    },
    unistd::alarm,
};

/// Where labs keep their state; set for the inner process.
const STATE: &str = "LATEEN_LAB_STATE";
/// Marks the inner process.
const INNER: &str = "lateen-bench-inner";

/// Does `work` in an inner process, which has so long.
pub(crate) fn guarded(bound: Duration, work: impl FnOnce() -> anyhow::Result<ExitCode>) -> anyhow::Result<ExitCode> {
    if std::env::args_os().next().is_some_and(|name| name == INNER) {
        set_pdeathsig(Signal::SIGKILL).context("asking to end with the outer process")?;
        // The outer process blocks them for itself, but what is blocked is inherited, and perf, for one, records until it
        // hears SIGCHLD.
        watched().thread_unblock().context("letting signals through")?;
        return work();
    }
    let state = tempfile::Builder::new().prefix("lateen-bench").tempdir().context("making a directory for the labs")?;
    let watched = watched();
    watched.thread_block().context("blocking signals")?;
    // Nothing that hangs keeps us longer.
    alarm::set(u32::try_from(bound.as_secs()).unwrap_or(u32::MAX));
    let code = inner(&watched, state.path())?;
    state.close().context("removing the labs' directory")?;
    Ok(code)
}

/// What the outer process waits for.
fn watched() -> SigSet {
    SigSet::from_iter([Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGALRM])
}

fn inner(watched: &SigSet, state: &Path) -> anyhow::Result<ExitCode> {
    let mut command = Command::new("/proc/self/exe");
    command.arg0(INNER).args(std::env::args_os().skip(1)).env(STATE, state);
    let mut inner = command.spawn().context("starting the inner process")?;
    loop {
        if let Some(end) = inner.try_wait().context("waiting for the inner process")? {
            return Ok(ExitCode::from(end.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)));
        }
        let signal = watched.wait().context("waiting for a signal")?;
        if signal != Signal::SIGCHLD {
            eprintln!("lateen-bench: {}", if signal == Signal::SIGALRM { "it hangs: ended" } else { "interrupted" });
            inner.kill().context("ending the inner process")?;
            inner.wait().context("waiting for the inner process")?;
            return Ok(ExitCode::from(130));
        }
    }
}
