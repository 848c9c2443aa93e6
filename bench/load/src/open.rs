//! A new connection for every request, or connections that are opened and held.
//!
//! In: how many at once, or a rate. Out: connections, and how long each took from when it was due to its whole reply.
//! The server closes first, so that the state after a connection's end stays with it, and this side's ports are free.

use std::{
    collections::VecDeque,
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context as _, bail};
use tokio::time::Instant;

use crate::{
    control::{Control, INPUT, Next},
    reactor::{Reactor, Want, after, earlier},
    report::Counts,
    schedule::Schedule,
    server::Door,
    socket::{self, Moved},
    talk::{Reply, Talk},
};

/// Connections at once where a rate is given; more wait.
const OPEN_MAX: usize = 4096;
/// Connections opened at once where they are held.
const HOLD_AT_ONCE: usize = 64;
/// Read at once: a reply of HTTP with its head.
const READ: usize = 4096;
/// Due connections that may wait.
const QUEUE_MAX: usize = 100_000;
/// After this a connection counts as failed.
const PATIENCE: Duration = Duration::from_secs(10);
const SWEEP: Duration = Duration::from_secs(1);
/// How long it may take until all that are to be held are. Failed ones are tried again, but not for ever.
const HOLD_TIMEOUT: Duration = Duration::from_secs(60);

/// How many, and how fast.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    at_once: usize,
    rate: Option<f64>,
    /// Held, and no more than this many.
    held: Option<usize>,
}

impl Pace {
    /// Each closes after its reply.
    pub fn renewing(at_once: usize, rate: Option<f64>) -> Self {
        Self { at_once: if rate.is_some() { OPEN_MAX } else { at_once }, rate, held: None }
    }

    /// All stay open.
    pub fn holding(count: usize) -> Self {
        Self { at_once: HOLD_AT_ONCE, rate: None, held: Some(count) }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Connecting,
    Waiting,
    /// Held, or only waiting for the end.
    Answered,
}

struct Try {
    stream: TcpStream,
    due: Instant,
    begun: Instant,
    step: Step,
    heard: Reply,
}

struct Opener<'t> {
    talk: &'t Talk,
    reactor: Reactor,
    to: SocketAddr,
    pace: Pace,
    tries: Vec<Option<Try>>,
    free: Vec<usize>,
    /// Tries under way.
    busy: usize,
    /// Connections begun and not failed, where they are held.
    kept: usize,
    queue: VecDeque<Instant>,
    counts: Counts,
}

/// Opens until standard input ends.
pub(crate) fn run((to, talk): (SocketAddr, &Talk), pace: Pace) -> anyhow::Result<()> {
    let reactor = Reactor::new()?;
    let mut control = Control::new(&reactor)?;
    let door = if pace.held.is_some() { Door::Replies } else { Door::RepliesOnce };
    let mut schedule = match pace.rate {
        Some(rate) => Some(Schedule::new(Instant::now(), rate).context("a rate is a positive number")?),
        None => None,
    };
    let mut opener = Opener {
        talk,
        reactor,
        to: door.spoken(talk, to),
        pace,
        tries: Vec::new(),
        free: Vec::new(),
        busy: 0,
        kept: 0,
        queue: VecDeque::new(),
        counts: Counts::default(),
    };
    let mut told = pace.held.is_none();
    if told {
        control.ready()?;
    }
    let (mut ready, mut sweep, late) = (Vec::new(), after(SWEEP), after(HOLD_TIMEOUT));
    loop {
        opener.begin(schedule.as_mut())?;
        opener.reactor.wait(earlier(schedule.as_ref().map(Schedule::next), Some(sweep)), &mut ready)?;
        for token in &ready {
            if *token == INPUT {
                if control.heard(&mut opener.counts)? == Next::End {
                    return Ok(());
                }
                continue;
            }
            opener.turn(usize::try_from(*token).context("a token of ours")?)?;
        }
        if Instant::now() >= sweep {
            opener.sweep();
            sweep = after(SWEEP);
            if !told && Instant::now() >= late {
                let sum = &opener.counts.sum;
                bail!("{} connections answered and {} failed in {HOLD_TIMEOUT:?}", sum.replies, sum.failed);
            }
        }
        if !told && opener.busy == 0 && Some(opener.kept) == pace.held {
            control.ready()?;
            told = true;
        }
    }
}

impl Opener<'_> {
    /// Begins what is due and may begin.
    fn begin(&mut self, schedule: Option<&mut Schedule>) -> anyhow::Result<()> {
        let now = Instant::now();
        let Some(schedule) = schedule else {
            while self.busy < self.pace.at_once && self.pace.held.is_none_or(|held| self.kept < held) {
                if !self.open(now)? {
                    return Ok(());
                }
            }
            return Ok(());
        };
        while let Some(due) = schedule.due(now) {
            if self.queue.len() < QUEUE_MAX {
                self.queue.push_back(due);
            } else {
                self.counts.sum.dropped += 1;
            }
        }
        while self.busy < self.pace.at_once
            && let Some(due) = self.queue.pop_front()
        {
            self.open(due)?;
        }
        Ok(())
    }

    /// Begins one; false if it failed at once, as without a free port.
    fn open(&mut self, due: Instant) -> anyhow::Result<bool> {
        let Ok(stream) = socket::connecting(self.to) else {
            self.counts.sum.failed += 1;
            return Ok(false);
        };
        let slot = self.free.pop().unwrap_or_else(|| {
            self.tries.push(None);
            self.tries.len() - 1
        });
        self.reactor.add(&stream, slot as u64, Want::Write)?;
        self.tries[slot] =
            Some(Try { stream, due, begun: Instant::now(), step: Step::Connecting, heard: Reply::default() });
        self.busy += 1;
        self.kept += 1;
        Ok(true)
    }

    fn turn(&mut self, slot: usize) -> anyhow::Result<()> {
        let one = self.tries.get_mut(slot).and_then(Option::as_mut).context("a token of ours")?;
        if one.step == Step::Connecting {
            let broken = one.stream.take_error().map_or(true, |error| error.is_some());
            let request = self.talk.request(slot);
            if broken || socket::write(&one.stream, request) != Moved::Bytes(request.len()) {
                self.fail(slot);
                return Ok(());
            }
            one.step = Step::Waiting;
            self.counts.sum.opened += 1;
            self.counts.sum.written += request.len() as u64;
            return self.reactor.change(&one.stream, slot as u64, Want::Read);
        }
        let mut buffer = [0; READ];
        match (socket::read(&one.stream, &mut buffer), one.step) {
            (Moved::Bytes(bytes), Step::Waiting) => {
                self.counts.sum.read += bytes as u64;
                if self.talk.hear(&mut one.heard, &buffer[..bytes])? {
                    one.step = Step::Answered;
                    self.counts.sum.replies += 1;
                    self.counts.latency.record(u64::try_from(one.due.elapsed().as_nanos())?);
                    if self.pace.held.is_some() {
                        self.busy -= 1;
                    }
                }
            }
            (Moved::Later, _) => {}
            (Moved::Ended | Moved::Broken, Step::Answered) if self.pace.held.is_none() => self.close(slot),
            _ => self.fail(slot),
        }
        Ok(())
    }

    /// Gives up what has taken too long; held connections may take forever.
    fn sweep(&mut self) {
        for slot in 0..self.tries.len() {
            let held = |one: &Try| self.pace.held.is_some() && one.step == Step::Answered;
            let stuck = self.tries[slot].as_ref().is_some_and(|one| !held(one) && one.begun.elapsed() > PATIENCE);
            if stuck {
                self.fail(slot);
            }
        }
    }

    fn fail(&mut self, slot: usize) {
        let held = self.pace.held.is_some();
        let answered = self.tries[slot].as_ref().is_some_and(|one| one.step == Step::Answered);
        self.counts.sum.failed += 1;
        self.close(slot);
        if held && answered {
            // It was no longer under way.
            self.busy += 1;
        }
        self.kept -= 1;
    }

    fn close(&mut self, slot: usize) {
        self.tries[slot] = None;
        self.free.push(slot);
        self.busy -= 1;
    }
}
