//! What we receive: large reads into one buffer, records opened where they lie.
//!
//! In: bytes of the socket. Out: the content of records, in order. Absent on purpose: what it means.
//!
//! ```text
//! 0       plain           start         end
//! │ done  │ opened, unread │ not opened  │ room for the next read │
//! ```

use std::{
    io,
    ops::Range,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, ReadBuf};

use super::{
    buffers::Buffer,
    error::StreamError,
    keys::{Front, HEADER, Kind, Opener, RECORD_MAX, front},
};

pub(super) struct Incoming {
    opener: Opener,
    buffer: Buffer,
    plain: Range<usize>,
    start: usize,
    end: usize,
}

impl Incoming {
    pub(super) fn new(opener: Opener) -> Self {
        Self { opener, buffer: Buffer::default(), plain: 0..0, start: 0, end: 0 }
    }

    /// From here on another key opens.
    pub(super) fn change(&mut self, opener: Opener) {
        self.opener = opener;
    }

    /// Moves opened data into `into`, as much as fits.
    pub(super) fn hand_on(&mut self, into: &mut ReadBuf<'_>) {
        let length = self.plain.len().min(into.remaining());
        if length > 0 {
            into.put_slice(&self.buffer[self.plain.start..self.plain.start + length]);
            self.plain.start += length;
        }
    }

    /// Whether opened data waits to be handed on.
    pub(super) fn has_data(&self) -> bool {
        !self.plain.is_empty()
    }

    /// Opens the next record if all of it is here. Its content is [`Incoming::content`] until the next call; only call
    /// this when no data waits.
    pub(super) fn open(&mut self) -> Result<Option<(Kind, Range<usize>)>, StreamError> {
        let Front::Record(length) = front(&self.buffer[self.start..self.end])? else { return Ok(None) };
        let (kind, plain) = self.opener.open(&mut self.buffer[self.start..self.start + length])?;
        let begin = self.start + HEADER;
        self.start += length;
        Ok(Some((kind, begin..begin + plain)))
    }

    /// What an opened record holds.
    pub(super) fn content(&self, at: Range<usize>) -> &[u8] {
        &self.buffer[at]
    }

    /// The opened record holds data: it is next to be handed on.
    pub(super) fn keep(&mut self, at: Range<usize>) {
        self.plain = at;
    }

    /// Reads more from `socket`; ready with whether there was more. While the socket is silent and nothing waits here,
    /// no buffer is held.
    pub(super) fn poll_fill<S: AsyncRead + Unpin>(
        &mut self,
        context: &mut Context<'_>,
        socket: &mut S,
    ) -> Poll<io::Result<bool>> {
        self.make_room();
        let mut room = ReadBuf::new(&mut self.buffer[self.end..]);
        let polled = Pin::new(socket).poll_read(context, &mut room);
        let read = room.filled().len();
        self.end += read;
        if self.start == self.end {
            self.buffer.give_back();
        }
        polled.map_ok(|()| read > 0)
    }

    /// Makes sure that the record that has begun fits, whatever its length.
    fn make_room(&mut self) {
        self.buffer.lend();
        let begun = self.start..self.end;
        if begun.is_empty() {
            (self.start, self.end) = (0, 0);
        } else if self.buffer.len() - self.start < RECORD_MAX {
            self.buffer.copy_within(begun.clone(), 0);
            (self.start, self.end) = (0, begun.len());
        }
        self.plain = 0..0;
    }

    /// Puts back what the handshake read too much of. It is shorter than the buffer.
    pub(super) fn put_back(&mut self, bytes: &[u8]) -> Result<(), StreamError> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.buffer.lend();
        let room = self.buffer.get_mut(..bytes.len()).ok_or(StreamError::RecordTooLong(bytes.len()))?;
        room.copy_from_slice(bytes);
        self.end = bytes.len();
        Ok(())
    }
}

#[cfg(test)]
impl Incoming {
    pub(super) fn pretend_opened(&mut self, records: u64) {
        *self.opener.sequence() = records;
    }

    pub(super) fn holds_a_buffer(&self) -> bool {
        !self.buffer.is_empty()
    }
}
