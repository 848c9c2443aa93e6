//! A load process in a pod's network.
//!
//! In: a job. Out: its reports. It ends when this is dropped, and when we end: its input closes.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    os::fd::AsFd as _,
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use anyhow::{Context as _, bail};
use lateen_load::report::Report;
use lateen_net::netns::Netns;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// The longest silence of a load process: ten thousand connections that are being made.
const PATIENCE_SECONDS: u16 = 60;

/// A running load process.
pub(crate) struct Load {
    child: Child,
    /// Taken to end it.
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Load {
    /// Starts `program` with `words` in `netns` and waits until it says that it runs.
    pub fn start(program: &Path, netns: &Netns, words: &[String]) -> anyhow::Result<Self> {
        let mut command = Command::new(program);
        command.args(words).stdin(Stdio::piped()).stdout(Stdio::piped());
        let started = netns.spawn(&mut command).context("entering the pod's network")?;
        let mut child = started.with_context(|| format!("starting {}", program.display()))?;
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().context("its output")?);
        let mut load = Self { child, input, output };
        match load.line()?.trim_end() {
            "ready" => Ok(load),
            other => bail!("lateen-load {} says {other:?}", words.join(" ")),
        }
    }

    /// What it counted so far.
    pub fn report(&mut self) -> anyhow::Result<Report> {
        let input = self.input.as_mut().context("it was ended")?;
        writeln!(input, "report").context("asking the load process; it has ended")?;
        let line = self.line()?;
        serde_json::from_str(&line).with_context(|| format!("the load process says {line:?}"))
    }

    /// One line; it comes whole, so that whoever waits for its begin need not wait for its end.
    fn line(&mut self) -> anyhow::Result<String> {
        if self.output.buffer().is_empty() {
            let mut watched = [PollFd::new(self.output.get_ref().as_fd(), PollFlags::POLLIN)];
            let heard = poll(&mut watched, PollTimeout::from(PATIENCE_SECONDS * 1000))
                .context("waiting for the load process")?;
            if heard == 0 {
                bail!("the load process has said nothing for {PATIENCE_SECONDS} s");
            }
        }
        let mut line = String::new();
        self.output.read_line(&mut line).context("reading from the load process")?;
        if line.is_empty() {
            bail!("the load process ended; its reason is above");
        }
        Ok(line)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        drop(self.input.take());
        // It may hang in a connection that never comes to be.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
