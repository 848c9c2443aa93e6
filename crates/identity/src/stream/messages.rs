//! What may be said between data on an established connection: alerts, key updates, tickets.
//!
//! In: the content of records. Out: what follows from it. Absent on purpose: doing it.

use super::error::StreamError;

const NEW_SESSION_TICKET: u8 = 4;
const KEY_UPDATE: u8 = 24;
const CLOSE_NOTIFY: u8 = 0;
const USER_CANCELED: u8 = 90;

/// The longest message joined from fragments. The largest a peer may send is a ticket, which is far smaller.
const MESSAGE_MAX: usize = 16 * 1024;
/// How many messages may follow each other without data between.
const IN_A_ROW_MAX: u32 = 32;

/// Ours, telling that what follows is sealed with the next key.
pub(super) const OUR_KEY_UPDATE: [u8; 5] = [KEY_UPDATE, 0, 0, 1, 0];
/// Ours, telling that no more will come.
pub(super) const OUR_CLOSE: [u8; 2] = [1, CLOSE_NOTIFY];

/// A fatal alert.
pub(super) fn fatal(description: u8) -> [u8; 2] {
    [2, description]
}

/// What an alert means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Alert {
    /// No more will come.
    Close,
    /// Nothing by itself.
    Ignore,
}

/// Reads an alert. In TLS 1.3 its level says nothing, and all but two are fatal.
pub(super) fn alert(content: &[u8]) -> Result<Alert, StreamError> {
    match *content {
        [_, CLOSE_NOTIFY] => Ok(Alert::Close),
        [_, USER_CANCELED] => Ok(Alert::Ignore),
        [_, description] => Err(StreamError::Alerted(description)),
        _ => Err(StreamError::Malformed("alert")),
    }
}

/// What a record of handshake messages means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
    /// Nothing to be done.
    Nothing,
    /// What follows is sealed with the peer's next key.
    KeyUpdate {
        /// Whether we have to change ours as well.
        ours_too: bool,
    },
}

/// Joins the messages of a connection and judges them.
#[derive(Debug, Default)]
pub(super) struct Messages {
    partial: Vec<u8>,
    in_a_row: u32,
}

impl Messages {
    /// Data came. It must not come inside a message.
    pub(super) fn data(&mut self) -> Result<(), StreamError> {
        if !self.partial.is_empty() {
            return Err(StreamError::Malformed("handshake message"));
        }
        self.in_a_row = 0;
        Ok(())
    }

    /// Takes the content of a handshake record. `tickets` says whether the peer may send some, as servers do.
    pub(super) fn take(&mut self, content: &[u8], tickets: bool) -> Result<Told, StreamError> {
        self.count()?;
        if content.is_empty() || self.partial.len() + content.len() > MESSAGE_MAX {
            return Err(StreamError::Malformed("handshake message"));
        }
        let mut joined = std::mem::take(&mut self.partial);
        joined.extend_from_slice(content);
        let mut rest = joined.as_slice();
        while let [kind, a, b, c, body @ ..] = rest {
            let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
            match *kind {
                NEW_SESSION_TICKET if tickets => {}
                KEY_UPDATE if length == 1 => {}
                KEY_UPDATE => return Err(StreamError::Malformed("key update")),
                other => return Err(StreamError::UnexpectedMessage(other)),
            }
            if length > MESSAGE_MAX {
                return Err(StreamError::Malformed("handshake message"));
            }
            let Some((body, after)) = body.split_at_checked(length) else { break };
            if *kind == KEY_UPDATE {
                return key_update(body, after);
            }
            // We never resume, so a ticket is worth nothing to us.
            self.count()?;
            rest = after;
        }
        self.partial = rest.to_vec();
        Ok(Told::Nothing)
    }

    /// Counts what carries no data: messages, fragments of them, empty records, alerts without meaning.
    pub(super) fn count(&mut self) -> Result<(), StreamError> {
        self.in_a_row += 1;
        if self.in_a_row > IN_A_ROW_MAX { Err(StreamError::TooManyMessages) } else { Ok(()) }
    }
}

/// It changes the key, so nothing may follow it in its record.
fn key_update(body: &[u8], after: &[u8]) -> Result<Told, StreamError> {
    match (body, after) {
        ([0], []) => Ok(Told::KeyUpdate { ours_too: false }),
        ([1], []) => Ok(Told::KeyUpdate { ours_too: true }),
        _ => Err(StreamError::Malformed("key update")),
    }
}
