//! Bulk data, as fast as it goes.
//!
//! In: a number of connections and a direction. Out: bytes moved. Who writes counts what its kernel took; the reader's
//! count is the one to measure with.

use std::net::{SocketAddr, TcpStream};

use anyhow::{Context as _, bail};
use clap::ValueEnum;

use crate::{
    control::{Control, INPUT, Next},
    reactor::{Reactor, Want},
    report::Counts,
    server::Door,
    socket::{self, Moved},
};

/// Bytes of one read.
pub(crate) const READ: usize = 256 << 10;
/// Bytes of one write.
pub(crate) const WRITE: usize = 128 << 10;

/// Which way the bytes go, as the client sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Direction {
    /// Client to server.
    Up,
    /// Server to client.
    Down,
}

/// Streams until standard input ends.
pub(crate) fn run(to: SocketAddr, connections: usize, direction: Direction) -> anyhow::Result<()> {
    let reactor = Reactor::new()?;
    let mut control = Control::new(&reactor)?;
    let mut counts = Counts::default();
    let (door, want) = match direction {
        Direction::Up => (Door::Reads, Want::Write),
        Direction::Down => (Door::Writes, Want::Read),
    };
    let streams: Vec<TcpStream> =
        (0..connections).map(|_| socket::connected(door.of(to))).collect::<anyhow::Result<_>>()?;
    for (token, stream) in (0..).zip(&streams) {
        reactor.add(stream, token, want)?;
    }
    counts.sum.opened = streams.len() as u64;
    control.ready()?;
    let mut buffer = vec![0; READ];
    let mut ready = Vec::new();
    loop {
        reactor.wait(None, &mut ready)?;
        for token in &ready {
            if *token == INPUT {
                if control.heard(&mut counts)? == Next::End {
                    return Ok(());
                }
                continue;
            }
            let stream = usize::try_from(*token).ok().and_then(|at| streams.get(at)).context("a token of ours")?;
            let (moved, count) = match direction {
                Direction::Up => (socket::write(stream, &buffer[..WRITE]), &mut counts.sum.written),
                Direction::Down => (socket::read(stream, &mut buffer), &mut counts.sum.read),
            };
            match moved {
                Moved::Bytes(bytes) => *count += bytes as u64,
                Moved::Later => {}
                // A stream that ends makes the whole measure wrong.
                Moved::Ended | Moved::Broken => bail!("a stream ended early"),
            }
        }
    }
}
