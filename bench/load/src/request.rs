//! Requests on connections that stay: as many as possible, or at a rate.
//!
//! In: connections, a rate or none. Out: replies, and how long each took from when it was due. Without a rate a request is
//! due when its connection is free; with one it waits in its connection's queue.

use std::{
    collections::VecDeque,
    net::{SocketAddr, TcpStream},
};

use anyhow::{Context as _, bail};
use tokio::time::Instant;

use crate::{
    control::{Control, INPUT, Next},
    reactor::{Reactor, Want},
    report::Counts,
    schedule::Schedule,
    server::Door,
    socket::{self, Moved},
    talk::{Reply, Talk},
};

/// Requests that may wait for one connection.
const QUEUE_MAX: usize = 4096;
/// Read at once: a reply of HTTP with its head.
const READ: usize = 4096;

struct Line<'t> {
    talk: &'t Talk,
    stream: TcpStream,
    /// When the request on its way was due; none if the connection is free.
    due: Option<Instant>,
    heard: Reply,
    /// Requests asked; lines begin at different ones.
    turn: usize,
    queue: VecDeque<Instant>,
}

/// Asks until standard input ends.
pub(crate) fn run((to, talk): (SocketAddr, &Talk), connections: usize, rate: Option<f64>) -> anyhow::Result<()> {
    let reactor = Reactor::new()?;
    let mut control = Control::new(&reactor)?;
    let mut counts = Counts::default();
    let mut lines = Vec::with_capacity(connections);
    for token in 0..connections {
        let stream = socket::connected(Door::Replies.spoken(talk, to))?;
        reactor.add(&stream, token as u64, Want::Read)?;
        lines.push(Line { talk, stream, due: None, heard: Reply::default(), turn: token, queue: VecDeque::new() });
    }
    counts.sum.opened = lines.len() as u64;
    control.ready()?;
    let now = Instant::now();
    let mut schedule = match rate {
        Some(rate) => Some(Schedule::new(now, rate).context("a rate is a positive number")?),
        None => None,
    };
    if schedule.is_none() {
        lines.iter_mut().try_for_each(|line| line.ask(now, &mut counts))?;
    }
    let (mut ready, mut turn) = (Vec::new(), 0);
    loop {
        reactor.wait(schedule.as_ref().map(Schedule::next), &mut ready)?;
        for token in &ready {
            if *token == INPUT {
                if control.heard(&mut counts)? == Next::End {
                    return Ok(());
                }
                continue;
            }
            let line = usize::try_from(*token).ok().and_then(|at| lines.get_mut(at)).context("a token of ours")?;
            line.hear(&mut counts, schedule.is_none())?;
        }
        let Some(schedule) = &mut schedule else { continue };
        let now = Instant::now();
        while let Some(due) = schedule.due(now) {
            lines[turn].enqueue(due, &mut counts)?;
            turn = (turn + 1) % connections;
        }
    }
}

impl Line<'_> {
    fn enqueue(&mut self, due: Instant, counts: &mut Counts) -> anyhow::Result<()> {
        if self.due.is_none() {
            return self.ask(due, counts);
        }
        if self.queue.len() < QUEUE_MAX {
            self.queue.push_back(due);
        } else {
            counts.sum.dropped += 1;
        }
        Ok(())
    }

    fn ask(&mut self, due: Instant, counts: &mut Counts) -> anyhow::Result<()> {
        let request = self.talk.request(self.turn);
        // One request on a free connection always fits into its buffer.
        if socket::write(&self.stream, request) != Moved::Bytes(request.len()) {
            bail!("a request could not be written");
        }
        (self.due, self.heard, self.turn) = (Some(due), Reply::default(), self.turn + 1);
        counts.sum.written += request.len() as u64;
        Ok(())
    }

    fn hear(&mut self, counts: &mut Counts, at_once: bool) -> anyhow::Result<()> {
        let mut buffer = [0; READ];
        let bytes = match socket::read(&self.stream, &mut buffer) {
            Moved::Bytes(bytes) => bytes,
            Moved::Later => return Ok(()),
            Moved::Ended | Moved::Broken => bail!("a connection ended early"),
        };
        counts.sum.read += bytes as u64;
        if !self.talk.hear(&mut self.heard, &buffer[..bytes])? {
            return Ok(());
        }
        let now = Instant::now();
        let due = self.due.take().context("a reply nobody asked for")?;
        counts.latency.record(u64::try_from((now - due).as_nanos())?);
        counts.sum.replies += 1;
        let next = if at_once { Some(now) } else { self.queue.pop_front() };
        next.map_or(Ok(()), |due| self.ask(due, counts))
    }
}
