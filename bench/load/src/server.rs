//! The server: five ports, five behaviours.
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
    talk::Talk,
};

/// Connections at once.
const CONNECTIONS_MAX: usize = 60_000;
/// Connections accepted in one turn.
const ACCEPTS: usize = 64;
/// Tokens of connections begin after those of doors.
const FIRST: usize = 5;

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
    /// An answer of HTTP/1.1 for every request of it that has no body.
    Http,
}

/// What is answered there: as many bytes of body as a reply has.
static ANSWER: std::sync::LazyLock<Vec<u8>> = std::sync::LazyLock::new(|| {
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ndate: Sat, 21 Nov 2026 12:00:00 GMT\r\n\
         cache-control: no-store\r\ncontent-length: {REPLY}\r\n\r\n"
    );
    [head.as_bytes(), &[b'r'; REPLY]].concat()
});
/// Ends a request's head.
const HEAD_END: [u8; 4] = *b"\r\n\r\n";

impl Door {
    const ALL: [Self; 5] = [Self::Reads, Self::Writes, Self::Replies, Self::RepliesOnce, Self::Http];

    /// The address of this door of a server whose first port is `first`'s.
    pub fn of(self, first: SocketAddr) -> SocketAddr {
        SocketAddr::new(first.ip(), first.port().saturating_add(self as u16))
    }

    /// Where this is spoken: HTTP with exactly the address given, which may be a proxy's.
    pub(crate) fn spoken(self, talk: &Talk, given: SocketAddr) -> SocketAddr {
        match talk {
            Talk::Bytes => self.of(given),
            Talk::Http(_) => given,
        }
    }
}

#[derive(Debug)]
struct Guest {
    stream: TcpStream,
    door: Door,
    want: Want,
    /// Bytes of a request that is not whole yet; of HTTP, how much of its head's end.
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
            Door::Replies | Door::RepliesOnce | Door::Http => guest.answer(&mut self.buffer, &mut self.counts),
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

/// How many heads of requests end in `bytes`; `begun` says how much of an end has come before, and in the end.
fn heads(begun: &mut usize, bytes: &[u8]) -> usize {
    let mut whole = 0;
    for byte in bytes {
        *begun = if *byte == HEAD_END[*begun] { *begun + 1 } else { usize::from(*byte == HEAD_END[0]) };
        if *begun == HEAD_END.len() {
            (whole, *begun) = (whole + 1, 0);
        }
    }
    whole
}

impl Guest {
    /// Bytes of one answer.
    fn reply(&self) -> usize {
        if self.door == Door::Http { ANSWER.len() } else { REPLY }
    }

    fn answer(&mut self, buffer: &mut [u8], counts: &mut Counts) -> After {
        if self.want == Want::Read {
            match socket::read(&self.stream, buffer) {
                Moved::Bytes(bytes) => {
                    counts.sum.read += bytes as u64;
                    let whole = match self.door {
                        Door::Http => heads(&mut self.begun, &buffer[..bytes]),
                        _ => {
                            let all = self.begun + bytes;
                            self.begun = all % REQUEST;
                            all / REQUEST
                        }
                    };
                    self.owed += whole * self.reply();
                    counts.sum.replies += whole as u64;
                }
                Moved::Later => return After::Keep(Want::Read),
                Moved::Ended | Moved::Broken => return After::Close,
            }
        }
        if self.owed == 0 {
            return After::Keep(Want::Read);
        }
        let due: &[u8] = match self.door {
            // The rest of the one that is under way.
            Door::Http => &ANSWER[(ANSWER.len() - self.owed % ANSWER.len()) % ANSWER.len()..],
            _ => &buffer[..self.owed.min(READ)],
        };
        match socket::write(&self.stream, due) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_end_wherever_they_are_cut() {
        let text = b"GET / HTTP/1.1\r\nhost: a\r\n\r\nGET /b HTTP/1.1\r\nhost: a\r\r\n\r\n";
        for cut in 0..text.len() {
            let mut begun = 0;
            let both = heads(&mut begun, &text[..cut]) + heads(&mut begun, &text[cut..]);
            assert_eq!((both, begun), (2, 0), "{cut}");
        }
    }
}
