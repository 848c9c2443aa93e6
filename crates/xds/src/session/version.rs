//! A resource's version as it is kept: hundreds of thousands of them, of which nearly all are empty or a digest.
//!
//! In: the text from the wire. Out: the same text. Absent on purpose: order; versions are only equal or not.

use std::fmt;

/// A version; empty ones, which some control planes send throughout, need no memory of their own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Version(Option<Box<Kept>>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kept {
    /// 32 lower-case hexadecimal digits, as our controller sends.
    Digest([u8; 16]),
    Text(Box<str>),
}

impl From<&str> for Version {
    fn from(text: &str) -> Self {
        let kept = || digest(text).map_or_else(|| Kept::Text(text.into()), Kept::Digest);
        Self((!text.is_empty()).then(|| Box::new(kept())))
    }
}

/// Only what is written the same way again.
fn digest(text: &str) -> Option<[u8; 16]> {
    let is_plain = text.len() == 32 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    is_plain.then(|| u128::from_str_radix(text, 16).ok()).flatten().map(u128::to_be_bytes)
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_deref() {
            None => Ok(()),
            Some(Kept::Digest(bytes)) => write!(f, "{:032x}", u128::from_be_bytes(*bytes)),
            Some(Kept::Text(text)) => f.write_str(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_version_is_told_as_it_came() {
        let digest = "00000000000000000123456789abcdef";
        let (upper, signed) = (digest.to_uppercase(), format!("+{}", &digest[1..]));
        for text in ["", "1", digest, &upper, &signed, "2026-11-21T00:00:00Z/17", &digest[1..]] {
            assert_eq!(Version::from(text).to_string(), text);
        }
        assert!(matches!(Version::from(digest).0.as_deref(), Some(Kept::Digest(_))));
        assert_eq!(size_of::<Version>(), 8);
    }
}
