//! One direction's key: seals plaintext into records, opens records where they lie (RFC 8446 §5).
//!
//! In: secrets that rustls derived. Out: records, or their content. Every record has its own nonce because the sequence
//! number only grows, and a key is not used beyond the cipher's limit. Absent on purpose: buffers, what the content means.

use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use rustls::ConnectionTrafficSecrets;

use super::error::StreamError;

/// The most plaintext one record holds.
pub(super) const PLAIN_MAX: usize = 16_384;
/// Kind, version, length.
pub(super) const HEADER: usize = 5;
const TAG: usize = 16;
/// What a record adds to its plaintext: the header, the inner kind and the tag.
pub(super) const OVERHEAD: usize = HEADER + 1 + TAG;
/// The longest a record's body may be.
const BODY_MAX: usize = PLAIN_MAX + 256;
/// The longest a record we accept may be.
pub(super) const RECORD_MAX: usize = HEADER + BODY_MAX;

/// Records one AES-GCM key may seal; rustls gives the same number and its derivation.
pub(super) const SEALED_MAX: u64 = 1 << 24;
/// When to ask for the next key: early enough that what is under way still fits.
pub(super) const RENEW_AFTER: u64 = SEALED_MAX - (1 << 16);

/// What a record carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kind(pub(super) u8);

impl Kind {
    pub(super) const ALERT: Self = Self(21);
    pub(super) const HANDSHAKE: Self = Self(22);
    pub(super) const DATA: Self = Self(23);
}

/// A key with its place in the sequence.
struct Key {
    aead: LessSafeKey,
    iv: [u8; NONCE_LEN],
    sequence: u64,
}

impl Key {
    fn new((sequence, secrets): (u64, ConnectionTrafficSecrets)) -> Result<Self, StreamError> {
        let (algorithm, key, iv) = match &secrets {
            ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (&AES_128_GCM, key, iv),
            ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (&AES_256_GCM, key, iv),
            _ => return Err(StreamError::Keys),
        };
        let aead = UnboundKey::new(algorithm, key.as_ref()).map_err(|_| StreamError::Keys)?;
        let iv = iv.as_ref().try_into().map_err(|_| StreamError::Keys)?;
        Ok(Self { aead: LessSafeKey::new(aead), iv, sequence })
    }

    /// The nonce of the next record, which is never given twice.
    fn next_nonce(&mut self) -> Nonce {
        let mut nonce = self.iv;
        for (byte, of_sequence) in nonce[NONCE_LEN - 8..].iter_mut().zip(self.sequence.to_be_bytes()) {
            *byte ^= of_sequence;
        }
        self.sequence += 1;
        Nonce::assume_unique_for_key(nonce)
    }
}

fn header(plain: usize) -> Result<[u8; HEADER], StreamError> {
    let body = u16::try_from(plain + 1 + TAG).map_err(|_| StreamError::RecordTooLong(plain))?;
    let [high, low] = body.to_be_bytes();
    Ok([Kind::DATA.0, 3, 3, high, low])
}

/// Seals what we send.
pub(super) struct Sealer(Key);

impl Sealer {
    pub(super) fn new(secrets: (u64, ConnectionTrafficSecrets)) -> Result<Self, StreamError> {
        Key::new(secrets).map(Self)
    }

    /// Whether the next key should be asked for.
    pub(super) fn is_worn(&self) -> bool {
        self.0.sequence >= RENEW_AFTER
    }

    /// How many records this key has sealed.
    #[cfg(test)]
    pub(super) fn sequence(&mut self) -> &mut u64 {
        &mut self.0.sequence
    }

    /// Seals `plain` into the front of `out` and says how long the record is. `plain` is left as it is.
    pub(super) fn seal(&mut self, kind: Kind, plain: &[u8], out: &mut [u8]) -> Result<usize, StreamError> {
        let header = self.begin(plain.len())?;
        let length = plain.len() + OVERHEAD;
        let record = out.get_mut(..length).ok_or(StreamError::RecordTooLong(length))?;
        let (front, body) = record.split_at_mut(HEADER);
        front.copy_from_slice(&header);
        let (body, end) = body.split_at_mut(plain.len());
        let nonce = self.0.next_nonce();
        let sealed = self.0.aead.seal_out_of_place_scatter(nonce, Aad::from(header), plain, body, &[kind.0], end);
        sealed.map(|()| length).map_err(|_| StreamError::Keys)
    }

    /// Seals the `plain` bytes that lie in `out` behind the header's place, and says how long the record is.
    pub(super) fn seal_in_place(&mut self, kind: Kind, plain: usize, out: &mut [u8]) -> Result<usize, StreamError> {
        let header = self.begin(plain)?;
        let length = plain + OVERHEAD;
        let record = out.get_mut(..length).ok_or(StreamError::RecordTooLong(length))?;
        let (front, body) = record.split_at_mut(HEADER);
        front.copy_from_slice(&header);
        let (body, end) = body.split_at_mut(plain);
        let nonce = self.0.next_nonce();
        let sealed = self.0.aead.seal_in_place_scatter(nonce, Aad::from(header), body, &[kind.0], end);
        sealed.map(|()| length).map_err(|_| StreamError::Keys)
    }

    fn begin(&self, plain: usize) -> Result<[u8; HEADER], StreamError> {
        if self.0.sequence >= SEALED_MAX {
            return Err(StreamError::KeyUsedUp);
        }
        header(plain)
    }
}

/// What lies at the front of received bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Front {
    /// A whole record of so many bytes.
    Record(usize),
    /// Not all of a record yet.
    Incomplete,
}

/// Looks for a record that may be opened at the front of `bytes`.
pub(super) fn front(bytes: &[u8]) -> Result<Front, StreamError> {
    let [kind, _, _, high, low, ..] = *bytes else { return Ok(Front::Incomplete) };
    // Everything after the handshake is protected, and what is protected calls itself data.
    if kind != Kind::DATA.0 {
        return Err(StreamError::UnexpectedRecord(kind));
    }
    let body = usize::from(u16::from_be_bytes([high, low]));
    match body {
        BODY_MAX.. if body > BODY_MAX => Err(StreamError::RecordTooLong(body)),
        // Too short for a kind and a tag.
        0..=TAG => Err(StreamError::Undecryptable),
        _ if bytes.len() < HEADER + body => Ok(Front::Incomplete),
        _ => Ok(Front::Record(HEADER + body)),
    }
}

/// Opens what the peer sends.
pub(super) struct Opener(Key);

impl Opener {
    pub(super) fn new(secrets: (u64, ConnectionTrafficSecrets)) -> Result<Self, StreamError> {
        Key::new(secrets).map(Self)
    }

    /// How many records this key has opened.
    #[cfg(test)]
    pub(super) fn sequence(&mut self) -> &mut u64 {
        &mut self.0.sequence
    }

    /// Opens a whole record where it lies. Its plaintext follows the header and is as long as told.
    pub(super) fn open(&mut self, record: &mut [u8]) -> Result<(Kind, usize), StreamError> {
        let (front, body) = record.split_first_chunk_mut::<HEADER>().ok_or(StreamError::Undecryptable)?;
        // The peer has to change its key long before.
        if self.0.sequence == u64::MAX {
            return Err(StreamError::KeyUsedUp);
        }
        let nonce = self.0.next_nonce();
        let opened = self.0.aead.open_in_place(nonce, Aad::from(*front), body);
        let plain: &[u8] = opened.map_err(|_| StreamError::Undecryptable)?;
        if plain.len() > PLAIN_MAX + 1 {
            return Err(StreamError::RecordTooLong(plain.len()));
        }
        // Behind the content come its kind and as many zeros as the peer likes.
        let end = plain.iter().rposition(|byte| *byte != 0).ok_or(StreamError::UnexpectedRecord(0))?;
        Ok((Kind(plain[end]), end))
    }
}
