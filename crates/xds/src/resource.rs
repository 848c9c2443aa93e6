//! A resource as the server holds it: encoded once, shared by every session.
//!
//! In: a message with its name. Out: [`Entry`] with a version that depends on the content alone, so that a proxy that
//! reconnects to another replica, or after a restart, is not sent what it has.

use lateen_wire::discovery::Resource;
use prost::Message;
use prost_types::Any;

/// One published resource.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Primary key.
    pub name: String,
    /// Equal exactly when the content is.
    pub version: String,
    /// Other keys it answers to: `network/ip`.
    pub aliases: Vec<String>,
    /// What it belongs to. A client that asked for a resource named like a group gets the group's members too (a
    /// service's workloads); a client whose peer lists a group as its own gets them unasked (its node's workloads).
    pub groups: Vec<String>,
    /// The encoded message.
    pub any: Any,
}

impl Entry {
    /// Encodes `message` under `name`.
    pub fn new(type_url: &str, name: impl Into<String>, message: &impl Message) -> Self {
        let value = message.encode_to_vec();
        let version = format!("{:032x}", fnv1a_128(&value));
        let any = Any { type_url: type_url.to_owned(), value };
        Self { name: name.into(), version, aliases: Vec::new(), groups: Vec::new(), any }
    }

    /// With these other keys.
    #[must_use]
    pub fn with_aliases(mut self, aliases: Vec<String>) -> Self {
        self.aliases = aliases;
        self
    }

    /// As a member of these groups.
    #[must_use]
    pub fn with_groups(mut self, groups: Vec<String>) -> Self {
        self.groups = groups;
        self
    }

    /// What travels.
    pub fn to_wire(&self) -> Resource {
        Resource {
            version: self.version.clone(),
            resource: Some(self.any.clone()),
            name: self.name.clone(),
            aliases: self.aliases.clone(),
            ttl: None,
        }
    }

    /// About how many bytes [`Self::to_wire`] takes when encoded.
    pub fn wire_size(&self) -> usize {
        // Tags and lengths: at most 8 bytes for each of the six fields, and the same per alias.
        let aliases: usize = self.aliases.iter().map(|alias| alias.len() + 8).sum();
        self.version.len() + self.name.len() + self.any.type_url.len() + self.any.value.len() + aliases + 48
    }
}

/// FNV-1a with 128 bits, <http://www.isthe.com/chongo/tech/comp/fnv/>. The version only saves sending a resource again, so no secret
/// hangs on it; 128 bits make a chance repeat of one name's older version unthinkable.
fn fnv1a_128(bytes: &[u8]) -> u128 {
    const OFFSET: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    bytes.iter().fold(OFFSET, |hash, byte| (hash ^ u128::from(*byte)).wrapping_mul(PRIME))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_follows_the_content() {
        assert_eq!(fnv1a_128(b""), 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d);
        assert_eq!(fnv1a_128(b"a"), 0xd228_cb69_6f1a_8caf_7891_2b70_4e4a_8964);
        let entry = |text: &str| Entry::new("t", "n", &text.to_owned());
        assert_eq!(entry("x").version, entry("x").version);
        assert_ne!(entry("x").version, entry("y").version);
        let entry = entry("x").with_aliases(vec!["/1.2.3.4".into()]);
        assert!(entry.wire_size() >= entry.to_wire().encoded_len());
    }
}
