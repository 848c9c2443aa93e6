//! Keeping a client with its endpoint: a token that names the endpoint, sealed so that clients can neither read nor make
//! one.
//!
//! In: the secret of the mesh, an endpoint's address, a nonce, the time. Out: a token, and of a token the address, if we
//! sealed it for this cluster and it has not run out. Absent on purpose: randomness and clocks.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    digest,
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::book::Upstream;

/// How the clients of one route stay with their endpoints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// What carries the token.
    pub carrier: Carrier,
    /// How long a token is good; `None`: as long as the client keeps it.
    pub lifetime: Option<Duration>,
    /// The credential whose secret seals tokens.
    pub key: Arc<str>,
}

/// What carries the token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Carrier {
    /// A cookie.
    Cookie {
        /// Its name.
        name: Box<str>,
        /// Its path.
        path: Box<str>,
        /// Whether it says how long it lasts; else clients forget it with their own session.
        says_lifetime: bool,
    },
    /// A header, in both directions.
    Header(HeaderName),
}

/// Seals and opens tokens. Prints nothing of its key.
pub struct Sealer(LessSafeKey);

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealer")
    }
}

/// Shorter secrets could be guessed.
pub const SECRET_MIN: usize = 16;
/// Seconds since 1970, of the token's end; then the port, then the address.
const HEAD: usize = 8 + 2;

/// A nonce, to be drawn anew for each token.
pub type NonceBytes = [u8; NONCE_LEN];

impl Sealer {
    /// With a secret of at least [`SECRET_MIN`] bytes; `None` if it is shorter.
    pub fn new(secret: &[u8]) -> Option<Self> {
        if secret.len() < SECRET_MIN {
            return None;
        }
        // Whatever its length, 32 bytes of it make the key.
        let key = digest::digest(&digest::SHA256, secret);
        UnboundKey::new(&AES_256_GCM, key.as_ref()).ok().map(|key| Self(LessSafeKey::new(key)))
    }

    /// A token for `endpoint` of `upstream`'s service, good until `ends` (since 1970).
    pub fn seal(&self, nonce: NonceBytes, upstream: &Upstream, endpoint: SocketAddr, ends: Option<Duration>) -> String {
        let mut token = nonce.to_vec();
        token.extend_from_slice(&ends.map_or(u64::MAX, |ends| ends.as_secs()).to_be_bytes());
        token.extend_from_slice(&endpoint.port().to_be_bytes());
        match endpoint.ip() {
            IpAddr::V4(ip) => token.extend_from_slice(&ip.octets()),
            IpAddr::V6(ip) => token.extend_from_slice(&ip.octets()),
        }
        let mut sealed = token.split_off(NONCE_LEN);
        let nonce = Nonce::assume_unique_for_key(nonce);
        // It fails for messages of gigabytes only; an empty token is one that opens to nothing.
        if self.0.seal_in_place_append_tag(nonce, Aad::from(context(upstream)), &mut sealed).is_err() {
            return String::new();
        }
        token.append(&mut sealed);
        URL_SAFE_NO_PAD.encode(token)
    }

    /// The endpoint of `upstream` that a token names, if it is ours and good at `now` (since 1970).
    pub fn open(&self, token: &[u8], upstream: &Upstream, now: Duration) -> Option<SocketAddr> {
        let mut bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
        let (nonce, sealed) = bytes.split_at_mut_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let plain = self.0.open_in_place(nonce, Aad::from(context(upstream)), sealed).ok()?;
        let (head, ip) = plain.split_at_checked(HEAD)?;
        let (ends, port) = head.split_at_checked(8)?;
        if u64::from_be_bytes(ends.try_into().ok()?) < now.as_secs() {
            return None;
        }
        let ip = lateen_types::addr::ip_from_bytes(ip).ok()?;
        Some(SocketAddr::new(ip, u16::from_be_bytes(port.try_into().ok()?)))
    }
}

/// A token of one service is worth nothing at another; its subsets share theirs.
fn context(upstream: &Upstream) -> Vec<u8> {
    format!("lateen session {}:{}", upstream.service, upstream.port).into_bytes()
}

impl Session {
    /// The token a request carries.
    pub fn token<'h>(&self, headers: &'h HeaderMap) -> Option<&'h [u8]> {
        match &self.carrier {
            Carrier::Header(name) => headers.get(name).map(HeaderValue::as_bytes),
            Carrier::Cookie { name, .. } => cookie(headers, name),
        }
    }

    /// Gives the client a new token; not needed where it came with one that still names its endpoint.
    pub fn write(&self, token: &str, answer: &mut HeaderMap) {
        match &self.carrier {
            Carrier::Header(name) => {
                if let Ok(value) = HeaderValue::from_str(token) {
                    answer.insert(name.clone(), value);
                }
            }
            Carrier::Cookie { name, path, says_lifetime } => {
                let mut text = format!("{name}=\"{token}\"");
                if let Some(lifetime) = self.lifetime.filter(|_| *says_lifetime) {
                    text.push_str(&format!("; Max-Age={}", lifetime.as_secs()));
                }
                if !path.is_empty() {
                    text.push_str(&format!("; Path={path}"));
                }
                text.push_str("; HttpOnly");
                if let Ok(value) = HeaderValue::from_str(&text) {
                    answer.append(header::SET_COOKIE, value);
                }
            }
        }
    }
}

/// The value of the cookie `name`, without its quotes.
pub fn cookie<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h [u8]> {
    let texts = headers.get_all(header::COOKIE).into_iter().map(HeaderValue::as_bytes);
    let pairs = texts.flat_map(|text| text.split(|byte| *byte == b';').map(<[u8]>::trim_ascii));
    let value = pairs.into_iter().find_map(|pair| pair.strip_prefix(name.as_bytes())?.strip_prefix(b"="))?;
    Some(value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\"")).unwrap_or(value))
}
