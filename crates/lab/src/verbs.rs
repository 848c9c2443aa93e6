//! The hidden verbs by which our binary becomes one of the lab's inner processes.
//!
//! In: argv. Out: that process's exit code, or nothing if this is an ordinary start.
//! Must be asked first thing in `main`, before any thread exists: namespaces are entered by single-threaded processes.

use std::{path::Path, process::ExitCode};

use crate::{books, echo, node, veth, world};

/// The lab's processes; the text is the first argument.
pub(crate) const SESSION: &str = "__lab-session";
pub(crate) const INIT: &str = "__lab-init";
pub(crate) const RUN: &str = "__lab-run";
pub(crate) const MACHINE: &str = "__lab-machine";
pub(crate) const NODE_INIT: &str = "__lab-node-init";
pub(crate) const NODE: &str = "__lab-node";
pub(crate) const CONTAINER: &str = "__lab-container";
pub(crate) const ENTER: &str = "__lab-enter";
pub(crate) const ASK: &str = "__lab-ask";
pub(crate) const FETCH: &str = "__lab-fetch";
/// Programs the lab offers as images.
pub(crate) const ECHO: &str = "__lab-echo";
pub(crate) const PAUSE: &str = "__lab-pause";
pub(crate) const BOOKS: &str = "__lab-books";
pub(crate) const LINES: &str = "__lab-lines";

/// Runs the inner process this binary was started as. `None`: it was started by a person.
pub fn dispatch() -> Option<ExitCode> {
    let arguments: Vec<String> = std::env::args().collect();
    let name = arguments.first().and_then(|name| Path::new(name).file_name());
    if name.is_some_and(|name| name == veth::NAME) {
        return Some(veth::main());
    }
    let verb = arguments.get(1)?.as_str();
    let rest = &arguments[2..];
    let end = match (verb, rest) {
        (SESSION, [config, parent]) => world::session::run(Path::new(config), parent),
        (INIT, [config]) => world::init::run(Path::new(config)),
        (RUN, [config]) => world::run::run(Path::new(config)),
        (MACHINE, [config]) => node::machine::run(Path::new(config)),
        (NODE_INIT, [config]) => node::machine::init(Path::new(config)),
        (NODE, [config]) => node::run(Path::new(config)),
        (CONTAINER, [launch]) => node::launch::run(Path::new(launch)),
        (ENTER, [pid, command @ ..]) => world::enter::become_command(pid, command),
        (ASK, [state, place @ .., port, path]) => world::enter::print_fetched(Path::new(state), place, port, path),
        (FETCH, [pid, port, path]) => world::enter::print_answer(pid, port, path),
        (ECHO, rest) => echo::run(rest),
        (PAUSE, []) => echo::pause(),
        (BOOKS, rest) => books::run(rest),
        (LINES, rest) => books::lines(rest),
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
