//! What we send: data gathered into records, records gathered into one write.
//!
//! In: data and messages, in order. Out: bytes for the socket. A record is kept open for more data until it is full or
//! somebody flushes. Absent on purpose: when to flush.
//!
//! ```text
//! 0        sent          sealed              sealed + header + open
//! │ written │ sealed records │ header │ open record's plaintext │ room for data │ room for alerts, key updates │
//! ```

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::AsyncWrite;

use super::{
    buffers::{Buffer, CONTROL_ROOM},
    error::StreamError,
    keys::{HEADER, Kind, OVERHEAD, PLAIN_MAX, Sealer},
};

pub(super) struct Outgoing {
    sealer: Sealer,
    buffer: Buffer,
    sent: usize,
    sealed: usize,
    /// How much plaintext the open record holds.
    open: usize,
}

impl Outgoing {
    pub(super) fn new(sealer: Sealer) -> Self {
        Self { sealer, buffer: Buffer::default(), sent: 0, sealed: 0, open: 0 }
    }

    /// Whether nothing waits to be written.
    pub(super) fn is_empty(&self) -> bool {
        self.sent == self.sealed && self.open == 0
    }

    /// Whether nothing can be put before something is written.
    pub(super) fn is_full(&self) -> bool {
        !self.buffer.is_empty() && self.room() == 0
    }

    /// Whether the key should be changed soon.
    pub(super) fn is_worn(&self) -> bool {
        self.sealer.is_worn()
    }

    /// Takes as much of `data` as there is room for and says how much.
    pub(super) fn put(&mut self, data: &[u8]) -> Result<usize, StreamError> {
        self.buffer.lend();
        let mut rest = data;
        while !rest.is_empty() {
            let room = self.room();
            if room == 0 {
                break;
            }
            if self.open == 0 && room >= PLAIN_MAX && rest.len() >= PLAIN_MAX {
                let (now, later) = rest.split_at(PLAIN_MAX);
                self.sealed += self.sealer.seal(Kind::DATA, now, &mut self.buffer[self.sealed..])?;
                rest = later;
                continue;
            }
            let (now, later) = rest.split_at(rest.len().min(room).min(PLAIN_MAX - self.open));
            let at = self.sealed + HEADER + self.open;
            self.buffer[at..at + now.len()].copy_from_slice(now);
            self.open += now.len();
            rest = later;
            if self.open == PLAIN_MAX {
                self.close_record()?;
            }
        }
        Ok(data.len() - rest.len())
    }

    /// Puts an alert or a handshake message behind all data. There is room for some; when there is none, nothing is
    /// done and the answer is false.
    pub(super) fn put_message(&mut self, kind: Kind, message: &[u8]) -> Result<bool, StreamError> {
        self.buffer.lend();
        self.close_record()?;
        let room = &mut self.buffer[self.sealed..];
        if room.len() < message.len() + OVERHEAD {
            return Ok(false);
        }
        self.sealed += self.sealer.seal(kind, message, room)?;
        Ok(true)
    }

    /// From here on another key seals.
    pub(super) fn change(&mut self, sealer: Sealer) {
        self.sealer = sealer;
    }

    /// Seals what is open, then writes until nothing waits.
    pub(super) fn poll_write_out<S: AsyncWrite + Unpin>(
        &mut self,
        context: &mut Context<'_>,
        socket: &mut S,
    ) -> Poll<io::Result<()>> {
        self.close_record()?;
        while self.sent < self.sealed {
            let waiting = &self.buffer[self.sent..self.sealed];
            match ready!(Pin::new(&mut *socket).poll_write(context, waiting))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.sent += written,
            }
        }
        (self.sent, self.sealed) = (0, 0);
        self.buffer.give_back();
        Poll::Ready(Ok(()))
    }

    fn close_record(&mut self) -> Result<(), StreamError> {
        if self.open > 0 {
            let plain = std::mem::take(&mut self.open);
            self.sealed += self.sealer.seal_in_place(Kind::DATA, plain, &mut self.buffer[self.sealed..])?;
        }
        Ok(())
    }

    /// How much data fits before the room for messages.
    fn room(&self) -> usize {
        self.buffer.len().saturating_sub(CONTROL_ROOM + self.sealed + OVERHEAD + self.open)
    }
}

#[cfg(test)]
impl Outgoing {
    pub(super) fn pretend_sealed(&mut self, records: u64) {
        *self.sealer.sequence() = records;
    }

    pub(super) fn sealed_with_this_key(&mut self) -> u64 {
        *self.sealer.sequence()
    }

    pub(super) fn holds_a_buffer(&self) -> bool {
        !self.buffer.is_empty()
    }
}
