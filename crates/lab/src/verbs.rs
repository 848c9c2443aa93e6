//! The hidden verbs by which our binary becomes one of the lab's inner processes.
//!
//! In: argv. Out: that process's exit code, or nothing if this is an ordinary start.
//! Must be asked first thing in `main`, before any thread exists: namespaces are entered by single-threaded processes.

use std::{path::Path, process::ExitCode};

use crate::world;

/// The lab's processes; the text is the first argument.
pub(crate) const SESSION: &str = "__lab-session";
pub(crate) const INIT: &str = "__lab-init";
pub(crate) const RUN: &str = "__lab-run";

/// Runs the inner process this binary was started as. `None`: it was started by a person.
pub fn dispatch() -> Option<ExitCode> {
    let arguments: Vec<String> = std::env::args().collect();
    let verb = arguments.get(1)?.as_str();
    let rest = &arguments[2..];
    let end = match (verb, rest) {
        (SESSION, [config, parent]) => world::session::run(Path::new(config), parent),
        (INIT, [config]) => world::init::run(Path::new(config)),
        (RUN, [config]) => world::run::run(Path::new(config)),
        _ => return None,
    };
    Some(end.unwrap_or_else(|error| {
        complain(verb, &error);
        ExitCode::FAILURE
    }))
}

/// Inner processes have the lab's log as standard error, and some fail before logging is set up.
#[allow(clippy::print_stderr)]
fn complain(verb: &str, error: &anyhow::Error) {
    eprintln!("{}: {error:#}", verb.trim_start_matches("__"));
}
