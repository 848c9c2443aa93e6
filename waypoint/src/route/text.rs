//! One comparison of one text.
//!
//! In: what was configured; bytes of a request. Out: yes or no. Absent on purpose: where the text comes from.

use regex::bytes::Regex;

/// How a text is compared. Presence is asked before there is a text to compare.
#[derive(Debug, Clone)]
pub struct StringMatch {
    comparison: Comparison,
    ignore_case: bool,
}

/// What a text is compared with.
#[derive(Debug, Clone)]
pub enum Comparison {
    /// The same text.
    Exact(Box<str>),
    /// Begins with.
    Prefix(Box<str>),
    /// Ends with.
    Suffix(Box<str>),
    /// The whole of it matches.
    Regex(Box<Regex>),
    /// It is there, whatever it is.
    Present,
    /// It is not there.
    Absent,
}

impl StringMatch {
    /// A comparison; letters of ASCII are alike in both cases, except for a regex, if `ignore_case`.
    pub fn new(comparison: Comparison, ignore_case: bool) -> Self {
        Self { comparison, ignore_case }
    }

    /// Whether only being there counts.
    pub fn is_presence(&self) -> bool {
        matches!(self.comparison, Comparison::Present | Comparison::Absent)
    }

    /// Whether it holds for `text`, or for its absence.
    pub fn holds(&self, text: Option<&[u8]>) -> bool {
        match (&self.comparison, text) {
            (Comparison::Present, text) => text.is_some(),
            (Comparison::Absent, text) => text.is_none(),
            (_, None) => false,
            (Comparison::Exact(same), Some(text)) => text.len() == same.len() && self.same(text, same),
            (Comparison::Prefix(start), Some(text)) => {
                text.get(..start.len()).is_some_and(|head| self.same(head, start))
            }
            (Comparison::Suffix(end), Some(text)) => {
                let from = text.len().checked_sub(end.len());
                from.is_some_and(|from| self.same(&text[from..], end))
            }
            (Comparison::Regex(regex), Some(text)) => regex.is_match(text),
        }
    }

    fn same(&self, text: &[u8], other: &str) -> bool {
        match self.ignore_case {
            false => text == other.as_bytes(),
            true => text.eq_ignore_ascii_case(other.as_bytes()),
        }
    }
}
