//! The words of the mesh: values that are valid by construction.
//!
//! In: strings and numbers from a border (wire, Kubernetes, flags). Out: newtypes, cheap to clone, compared with `Eq`.
//! Absent on purpose: IO, async, serialization, protocol buffers.

pub mod addr;
pub mod id;
pub mod intern;
pub mod label;
pub mod name;
pub mod retry;

/// Why a string is not one of our words. Says which word, what was given and how to mend it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{word} {given:?} is not valid: {reason}")]
pub struct WordError {
    /// The kind of word, as a user would call it: `SPIFFE id`, `port`, …
    pub word: &'static str,
    /// What was given, cut to 256 bytes.
    pub given: String,
    /// What is wrong and what would be right.
    pub reason: &'static str,
}

impl WordError {
    /// An error about `given`, which is cut so that hostile input cannot fill a log.
    pub fn new(word: &'static str, given: &str, reason: &'static str) -> Self {
        let end =
            given.char_indices().map(|(at, c)| at + c.len_utf8()).take_while(|end| *end <= 256).last().unwrap_or(0);
        Self { word, given: given[..end].to_owned(), reason }
    }
}

/// Declares a cheap-to-clone string newtype with the given meaning.
macro_rules! string_word {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(std::sync::Arc<str>);

        impl $name {
            /// The text as it travels on the wire.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                std::fmt::Debug::fmt(&*self.0, f)
            }
        }
        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}
/// As [`string_word`], for words that any string is valid for (they come from a peer that owns their meaning).
macro_rules! open_word {
    ($(#[$doc:meta])* $name:ident) => {
        $crate::string_word!($(#[$doc])* $name);
        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.into())
            }
        }
        impl From<std::sync::Arc<str>> for $name {
            fn from(text: std::sync::Arc<str>) -> Self {
                Self(text)
            }
        }
        impl From<String> for $name {
            fn from(text: String) -> Self {
                Self(text.into())
            }
        }
    };
}
pub(crate) use {open_word, string_word};
