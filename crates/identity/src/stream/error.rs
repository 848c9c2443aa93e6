//! What can go wrong on an established TLS connection, apart from the socket.
//!
//! In: what was received. Out: a reason for us and an alert for the peer.

use std::io;

use super::keys::Kind;

/// Why a TLS connection cannot go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    /// A record is longer than TLS allows.
    #[error("a TLS record of {0} bytes is too long")]
    RecordTooLong(usize),
    /// A record was changed on its way, or was not meant for us.
    #[error("a TLS record cannot be decrypted")]
    Undecryptable,
    /// A record is of a kind that has no place here.
    #[error("a TLS record of kind {0} is not expected")]
    UnexpectedRecord(u8),
    /// A handshake message has no place after the handshake.
    #[error("a TLS handshake message of type {0} is not expected")]
    UnexpectedMessage(u8),
    /// A message does not hold what it must.
    #[error("a malformed TLS {0}")]
    Malformed(&'static str),
    /// The peer sends messages that make work and carry nothing.
    #[error("too many TLS messages without data")]
    TooManyMessages,
    /// The peer gave up.
    #[error("the peer ended TLS with alert {0}")]
    Alerted(u8),
    /// A key protected as much as it may.
    #[error("a TLS key is used up")]
    KeyUsedUp,
    /// The handshake agreed on keys we cannot use.
    #[error("the keys of the TLS handshake cannot be used")]
    Keys,
}

impl StreamError {
    /// The alert that tells the peer (RFC 8446 §6.2); `None` where it already knows.
    pub(super) fn alert(self) -> Option<u8> {
        match self {
            Self::RecordTooLong(_) => Some(22),
            Self::Undecryptable => Some(20),
            Self::UnexpectedRecord(_) | Self::UnexpectedMessage(_) | Self::TooManyMessages => Some(10),
            Self::Malformed(_) => Some(50),
            Self::KeyUsedUp | Self::Keys => Some(80),
            Self::Alerted(_) => None,
        }
    }

    pub(super) fn unexpected(kind: Kind) -> Self {
        Self::UnexpectedRecord(kind.0)
    }
}

impl From<StreamError> for io::Error {
    fn from(error: StreamError) -> Self {
        Self::new(io::ErrorKind::InvalidData, error)
    }
}
