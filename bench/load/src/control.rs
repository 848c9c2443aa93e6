//! The conversation with whoever measures.
//!
//! In: lines on standard input. Out: lines on standard output. The input's end is the job's.

use std::io::{Read as _, Write as _};

use anyhow::{Context as _, bail};
use tokio::time::Instant;

use crate::{
    reactor::{Reactor, Want},
    report::Counts,
};

/// Standard input's token.
pub(crate) const INPUT: u64 = u64::MAX;
/// More than any line.
const LINE_MAX: usize = 4096;

/// Whether the job goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// It does.
    Go,
    /// It is over.
    End,
}

/// Standard input and output.
#[derive(Debug)]
pub(crate) struct Control {
    start: Instant,
    begun: Vec<u8>,
}

impl Control {
    /// Listens to standard input with `reactor`.
    pub fn new(reactor: &Reactor) -> anyhow::Result<Self> {
        reactor.add(&std::io::stdin(), INPUT, Want::Read).context("watching standard input")?;
        Ok(Self { start: Instant::now(), begun: Vec::new() })
    }

    /// Says that the job runs.
    pub fn ready(&self) -> anyhow::Result<()> {
        say("ready")
    }

    /// Reads what was asked and answers it.
    pub fn heard(&mut self, counts: &mut Counts) -> anyhow::Result<Next> {
        let mut chunk = [0; LINE_MAX];
        let read = std::io::stdin().read(&mut chunk).context("reading standard input")?;
        if read == 0 {
            return Ok(Next::End);
        }
        self.begun.extend_from_slice(&chunk[..read]);
        while let Some(end) = self.begun.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.begun.drain(..=end).collect();
            match line.as_slice() {
                b"report\n" => say(&counts.line(u64::try_from(self.start.elapsed().as_nanos())?))?,
                other => bail!("{:?} is not known; say report", String::from_utf8_lossy(other)),
            }
        }
        if self.begun.len() > LINE_MAX {
            bail!("a line of more than {LINE_MAX} bytes");
        }
        Ok(Next::Go)
    }
}

fn say(line: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).context("writing standard output")
}
