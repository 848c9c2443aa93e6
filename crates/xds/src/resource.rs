//! A resource as the server holds it: encoded once, shared by every session.
//!
//! In: a message with its name. Out: [`Entry`] with a version that depends on the content alone, so that a proxy that
//! reconnects to another replica, or after a restart, is not sent what it has.

use std::sync::Arc;

use aws_lc_rs::digest;
use bytes::Bytes;
use lateen_wire::discovery::Resource;
use prost::Message;
use prost_types::Any;

/// One published resource.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Primary key.
    pub name: Arc<str>,
    /// Equal exactly when the content is.
    pub version: Version,
    /// Other keys it answers to: `network/ip`.
    pub aliases: Vec<String>,
    /// What it belongs to. A client that asked for a resource named like a group gets the group's members too (a
    /// service's workloads); a client whose peer lists a group as its own gets them unasked (its node's workloads).
    pub groups: Vec<Arc<str>>,
    /// The whole [`Resource`], as it travels.
    encoded: Bytes,
}

/// A version: a digest of the content, 32 hexadecimal digits on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(u128);

impl Version {
    /// Whether `text` is this version as it was sent.
    pub fn is(self, text: &str) -> bool {
        text.len() == DIGITS && u128::from_str_radix(text, 16) == Ok(self.0)
    }
}

const DIGITS: usize = 32;

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// The aliases of a [`Resource`] and nothing else: appended to the others' bytes they are part of the same message.
#[derive(Clone, PartialEq, Message)]
struct Aliases {
    #[prost(string, repeated, tag = "4")]
    aliases: Vec<String>,
}

impl Entry {
    /// Encodes `message` under `name`.
    pub fn new(type_url: &str, name: impl Into<Arc<str>>, message: &impl Message) -> Self {
        let (name, value) = (name.into(), message.encode_to_vec());
        let version = Version(digest_of(&value));
        let any = Any { type_url: type_url.to_owned(), value };
        let (text, own) = (version.to_string(), (*name).to_owned());
        let resource = Resource { version: text, resource: Some(any), name: own, ..Resource::default() };
        Self { name, version, aliases: Vec::new(), groups: Vec::new(), encoded: resource.encode_to_vec().into() }
    }

    /// With these other keys, which it must not have yet.
    #[must_use]
    pub fn with_aliases(mut self, aliases: Vec<String>) -> Self {
        let more = Aliases { aliases };
        let mut whole = Vec::with_capacity(self.encoded.len() + more.encoded_len());
        whole.extend_from_slice(&self.encoded);
        whole.extend(more.encode_to_vec());
        self.encoded = whole.into();
        self.aliases = more.aliases;
        self
    }

    /// As a member of these groups.
    #[must_use]
    pub fn with_groups(mut self, groups: Vec<Arc<str>>) -> Self {
        self.groups = groups;
        self
    }

    /// What travels; every session sends these very bytes.
    pub fn encoded(&self) -> Bytes {
        self.encoded.clone()
    }

    /// The encoded message, for whoever looks at what is published.
    pub fn content(&self) -> Vec<u8> {
        let resource = Resource::decode(self.encoded()).ok();
        resource.and_then(|resource| resource.resource).map(|any| any.value).unwrap_or_default()
    }

    /// About how many bytes it takes in a response.
    pub fn wire_size(&self) -> usize {
        // The tag and the length.
        self.encoded.len() + 8
    }
}

/// The first half of the content's SHA-256. A proxy that holds a version is not sent it again, so whoever writes policies
/// must not be able to make two contents with one version.
fn digest_of(bytes: &[u8]) -> u128 {
    let whole = digest::digest(&digest::SHA256, bytes);
    whole.as_ref().iter().take(DIGITS / 2).fold(0, |half, byte| half << 8 | u128::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_follows_the_content() {
        // FIPS 180-2, appendix B.1.
        assert_eq!(digest_of(b"abc"), 0xba78_16bf_8f01_cfea_4141_40de_5dae_2223);
        let entry = |text: &str| Entry::new("t", "n", &text.to_owned());
        assert_eq!(entry("x").version, entry("x").version);
        assert_ne!(entry("x").version, entry("y").version);
    }

    #[test]
    fn what_travels_is_one_resource() {
        let content = "x".to_owned();
        let entry = Entry::new("t", "n", &content).with_aliases(vec!["/1.2.3.4".into(), "/::1".into()]);
        let sent = Resource::decode(entry.encoded()).expect("a resource");
        assert!(entry.version.is(&sent.version) && !entry.version.is("") && !entry.version.is(&sent.version[1..]));
        assert_eq!((sent.name.as_str(), &sent.aliases), ("n", &entry.aliases));
        let any = Any { type_url: "t".into(), value: content.encode_to_vec() };
        assert_eq!(sent.resource, Some(any));
        assert!(entry.wire_size() > sent.encoded_len());
    }
}
