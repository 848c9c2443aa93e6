//! Starting a lab, watching it come up, and ending it, from the user's side.
//!
//! In: what the user asked for. Out: a running lab, or the reason it did not come up.
//! Runs without threads, on the host. The lab reports through its progress file, one line a step.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    os::{fd::OwnedFd, unix::process::CommandExt as _},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, bail};
use nix::{
    errno::Errno,
    sys::signal::{SigSet, Signal, kill},
};
use tokio::time::Instant;

use super::{session, state::StateDir};
use crate::{
    config::{LabConfig, Mesh, NODES_MAX},
    verbs,
};

/// The progress line of a lab that is up.
pub(crate) const READY: &str = "ready";
/// How the progress line of a lab that failed begins.
pub(crate) const FAILED: &str = "failed: ";

/// How long a lab may take to end after it was asked to, and again after it was killed.
const END_TIMEOUT: Duration = Duration::from_secs(10);
/// How often files and locks are looked at: they cannot be waited for.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What to start.
#[derive(Debug)]
pub struct Start {
    /// The lab's name.
    pub name: String,
    /// How many nodes.
    pub nodes: u8,
    /// The port of the API on 127.0.0.1; 0 takes a free one.
    pub port: u16,
    /// The mesh.
    pub mesh: Mesh,
    /// Whether the lab lives on after the caller.
    pub life: Life,
    /// How long it may take until nodes and mesh are ready.
    pub timeout: Duration,
}

/// How long a lab lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    /// Until the caller ends.
    WithCaller,
    /// Until it is ended by [`down`].
    OnItsOwn,
}

/// A lab that came up.
#[derive(Debug)]
pub struct Running {
    /// Its files.
    pub state: StateDir,
    session: Child,
}

/// Starts a lab and waits until it is ready. `say` hears each step.
pub fn up(start: &Start, mut say: impl FnMut(&str)) -> anyhow::Result<Running> {
    if start.nodes == 0 || start.nodes > NODES_MAX {
        bail!("--nodes {}: a lab has 1 to {NODES_MAX} nodes", start.nodes);
    }
    let state = StateDir::named(&start.name)?;
    if state.alive()? {
        bail!("the lab {:?} runs already; end it with `lateen lab down --name {}`", start.name, start.name);
    }
    state.create()?;
    let mut running = launch(start, state)?;
    match watch(&mut running, start.timeout, &mut say) {
        Ok(()) => Ok(running),
        Err(error) => {
            let log = tail(&running.state);
            running.end().context("ending the lab that did not come up")?;
            Err(error.context(format!("the lab did not come up; the end of its log:\n{log}")))
        }
    }
}

/// Ends the lab called `name` and removes its state; false if there was none.
pub fn down(name: &str) -> anyhow::Result<bool> {
    let state = StateDir::named(name)?;
    let was = state.path().exists();
    stop(&state)?;
    state.remove()?;
    Ok(was)
}

impl Running {
    /// Waits until the lab ends or the user asks for its end (SIGINT, SIGTERM), then removes what remains.
    pub fn stay(mut self) -> anyhow::Result<()> {
        let watched = SigSet::from_iter([Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT]);
        watched.thread_block().context("blocking signals")?;
        loop {
            if let Some(end) = self.session.try_wait().context("waiting for the lab")? {
                self.state.remove()?;
                return if end.success() { Ok(()) } else { bail!("the lab ended unexpectedly: {end}") };
            }
            if watched.wait().context("waiting for a signal")? != Signal::SIGCHLD {
                return self.end();
            }
        }
    }

    /// Ends the lab and removes its state directory.
    pub fn end(&mut self) -> anyhow::Result<()> {
        stop(&self.state)?;
        self.session.wait().context("waiting for the lab's session")?;
        self.state.remove()
    }
}

/// Makes the API's socket in our own network namespace and starts the session that carries it into the lab.
fn launch(start: &Start, state: StateDir) -> anyhow::Result<Running> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, start.port));
    let socket = TcpListener::bind(address).with_context(|| format!("listening on {address} for the API"))?;
    let config = LabConfig {
        name: start.name.clone(),
        nodes: start.nodes,
        program: std::env::current_exe().context("looking for our own program")?,
        state_dir: state.path().to_owned(),
        api: socket.local_addr().context("the API's own address")?,
        mesh: start.mesh.clone(),
    };
    state.write(&state.config(), &serde_json::to_vec_pretty(&config).context("writing the configuration")?)?;
    state.say("starting")?;
    let log = fs::File::create(state.log()).with_context(|| format!("making {}", state.log().display()))?;
    let parent = match start.life {
        Life::WithCaller => std::process::id().to_string(),
        Life::OnItsOwn => session::DETACHED.to_owned(),
    };
    let session = Command::new("/proc/self/exe")
        .arg0("lateen")
        .arg(verbs::SESSION)
        .arg(state.config())
        .arg(parent)
        .stdin(Stdio::from(OwnedFd::from(socket)))
        .stdout(log.try_clone().context("sharing the log")?)
        .stderr(log)
        .spawn()
        .context("starting the lab's session")?;
    Ok(Running { state, session })
}

/// Passes progress on until the lab is ready.
fn watch(running: &mut Running, timeout: Duration, say: &mut dyn FnMut(&str)) -> anyhow::Result<()> {
    let deadline = Instant::now() + timeout;
    let mut told = 0;
    let mut last = String::from("starting");
    loop {
        let ended = running.session.try_wait().context("waiting for the lab")?;
        let text = fs::read_to_string(running.state.progress()).context("reading the progress")?;
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        for line in whole.lines().skip(told) {
            told += 1;
            if line == READY {
                return Ok(());
            }
            if let Some(reason) = line.strip_prefix(FAILED) {
                bail!("{reason}");
            }
            say(line);
            line.clone_into(&mut last);
        }
        if let Some(end) = ended {
            bail!("the lab ended ({end}) while: {last}");
        }
        if Instant::now() > deadline {
            bail!("not ready after {timeout:?}; the last step was: {last}");
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// Asks PID 1 to end, then kills it. Returns when the session's lock is free.
fn stop(state: &StateDir) -> anyhow::Result<()> {
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        if !state.alive()? {
            return Ok(());
        }
        match kill(state.pid()?, signal) {
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(error) => return Err(error).context("ending the lab's first process"),
        }
        let deadline = Instant::now() + END_TIMEOUT;
        while state.alive()? && Instant::now() < deadline {
            std::thread::sleep(LOOK_EVERY);
        }
    }
    if state.alive()? { bail!("the lab's processes do not end") } else { Ok(()) }
}

fn tail(state: &StateDir) -> String {
    let text = fs::read(state.log()).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}
