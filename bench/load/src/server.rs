//! The server: four ports, four behaviours.
//!
//! In: connections. Out: counts, and what the port's behaviour says. One thread; a connection gets one read or write a
//! turn, so that none starves.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};

use anyhow::Context as _;

use crate::{
    REPLY, REQUEST,
    control::{Control, INPUT, Next},
    reactor::{Reactor, Want},
    report::Counts,
    socket::{self, Moved},
    stream::{READ, WRITE},
};

/// Connections at once.
const CONNECTIONS_MAX: usize = 60_000;
/// Connections accepted in one turn.
const ACCEPTS: usize = 64;
/// Tokens of connections begin after those of doors.
const FIRST: usize = 4;

/// How a port behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// Reads everything.
    Reads,
    /// Writes without end.
    Writes,
    /// A reply for every request.
    Replies,
    /// One reply, then it closes.
    RepliesOnce,
}

impl Door {
    const ALL: [Self; 4] = [Self::Reads, Self::Writes, Self::Replies, Self::RepliesOnce];

    /// The address of this door of a server whose first port is `first`'s.
    pub fn of(self, first: SocketAddr) -> SocketAddr {
        SocketAddr::new(first.ip(), first.port().saturating_add(self as u16))
    }
}

#[derive(Debug)]
struct Guest {
    stream: TcpStream,
    door: Door,
    want: Want,
    /// Bytes of a request that is not whole yet.
    begun: usize,
    /// Bytes of replies not written yet.
    owed: usize,
}

/// What becomes of a connection after a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum After {
    Keep(Want),
    Close,
}

struct Server {
    reactor: Reactor,
    doors: Vec<TcpListener>,
    guests: Vec<Option<Guest>>,
    free: Vec<usize>,
    counts: Counts,
    buffer: Vec<u8>,
}

/// Serves on `port` and the three above until standard input ends.
pub(crate) fn run(port: u16) -> anyhow::Result<()> {
    let reactor = Reactor::new()?;
    let mut control = Control::new(&reactor)?;
    let first = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
    let doors: Vec<TcpListener> =
        Door::ALL.iter().map(|door| socket::listen(door.of(first))).collect::<anyhow::Result<_>>()?;
    for (token, door) in (0..).zip(&doors) {
        reactor.add(door, token, Want::Read)?;
    }
    let counts = Counts::default();
    let mut server = Server { reactor, doors, guests: Vec::new(), free: Vec::new(), counts, buffer: vec![0; READ] };
    control.ready()?;
    let mut ready = Vec::new();
    loop {
        server.reactor.wait(None, &mut ready)?;
        for token in &ready {
            match usize::try_from(*token) {
                _ if *token == INPUT => {
                    if control.heard(&mut server.counts)? == Next::End {
                        return Ok(());
                    }
                }
                Ok(door) if door < FIRST => server.welcome(door)?,
                Ok(guest) => server.turn(guest - FIRST)?,
                Err(_) => {}
            }
        }
    }
}

impl Server {
    fn welcome(&mut self, at: usize) -> anyhow::Result<()> {
        let door = Door::ALL[at];
        for _ in 0..ACCEPTS {
            let Some(stream) = socket::accept(&self.doors[at]) else { return Ok(()) };
            let taken = self.free.pop().or_else(|| {
                (self.guests.len() < CONNECTIONS_MAX).then(|| {
                    self.guests.push(None);
                    self.guests.len() - 1
                })
            });
            // A full house closes the door in the guest's face.
            let Some(slot) = taken else { continue };
            let want = if door == Door::Writes { Want::Write } else { Want::Read };
            self.reactor.add(&stream, (slot + FIRST) as u64, want)?;
            self.guests[slot] = Some(Guest { stream, door, want, begun: 0, owed: 0 });
            self.counts.sum.opened += 1;
        }
        Ok(())
    }

    fn turn(&mut self, slot: usize) -> anyhow::Result<()> {
        let guest = self.guests.get_mut(slot).and_then(Option::as_mut).context("a token of ours")?;
        let after = match guest.door {
            Door::Reads => match socket::read(&guest.stream, &mut self.buffer) {
                Moved::Bytes(bytes) => {
                    self.counts.sum.read += bytes as u64;
                    After::Keep(Want::Read)
                }
                Moved::Later => After::Keep(Want::Read),
                Moved::Ended | Moved::Broken => After::Close,
            },
            Door::Writes => match socket::write(&guest.stream, &self.buffer[..WRITE]) {
                Moved::Bytes(bytes) => {
                    self.counts.sum.written += bytes as u64;
                    After::Keep(Want::Write)
                }
                Moved::Later => After::Keep(Want::Write),
                Moved::Ended | Moved::Broken => After::Close,
            },
            Door::Replies | Door::RepliesOnce => guest.answer(&mut self.buffer, &mut self.counts),
        };
        match after {
            After::Close => {
                self.guests[slot] = None;
                self.free.push(slot);
            }
            After::Keep(want) if want != guest.want => {
                guest.want = want;
                self.reactor.change(&guest.stream, (slot + FIRST) as u64, want)?;
            }
            After::Keep(_) => {}
        }
        Ok(())
    }
}

impl Guest {
    fn answer(&mut self, buffer: &mut [u8], counts: &mut Counts) -> After {
        if self.want == Want::Read {
            match socket::read(&self.stream, buffer) {
                Moved::Bytes(bytes) => {
                    counts.sum.read += bytes as u64;
                    let whole = (self.begun + bytes) / REQUEST;
                    self.begun = (self.begun + bytes) % REQUEST;
                    self.owed += whole * REPLY;
                    counts.sum.replies += whole as u64;
                }
                Moved::Later => return After::Keep(Want::Read),
                Moved::Ended | Moved::Broken => return After::Close,
            }
        }
        if self.owed == 0 {
            return After::Keep(Want::Read);
        }
        match socket::write(&self.stream, &buffer[..self.owed.min(READ)]) {
            Moved::Bytes(bytes) => {
                counts.sum.written += bytes as u64;
                self.owed -= bytes;
            }
            Moved::Later => {}
            Moved::Ended | Moved::Broken => return After::Close,
        }
        match (self.owed, self.door) {
            (0, Door::RepliesOnce) => After::Close,
            (0, _) => After::Keep(Want::Read),
            _ => After::Keep(Want::Write),
        }
    }
}
