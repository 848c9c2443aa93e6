//! What a route asks of a request beside its path.
//!
//! In: a request's view. Out: yes or no, without allocating, but for a header with several long values. Absent on
//! purpose: paths, which are indexed.

use http::{HeaderMap, HeaderName, header::ValueIter};
use smallvec::SmallVec;

use super::{View, text::StringMatch};

/// One condition.
#[derive(Debug)]
pub enum Condition {
    /// Of the request line.
    Part {
        /// Which part.
        part: Part,
        /// How it is compared.
        value: StringMatch,
        /// The outcome is turned round.
        invert: bool,
    },
    /// Of a header.
    Header(HeaderMatch),
    /// Of the query.
    Query(QueryMatch),
}

/// A part of the request line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The method.
    Method,
    /// The scheme.
    Scheme,
    /// The host.
    Authority,
}

/// A condition of a header.
#[derive(Debug)]
pub struct HeaderMatch {
    /// Its name.
    pub name: HeaderName,
    /// How its values, joined with ",", are compared.
    pub value: StringMatch,
    /// The outcome is turned round; a missing header is the empty text then, unless only presence is asked.
    pub invert: bool,
    /// Only the first value counts.
    pub first_only: bool,
}

/// A condition of the first value of a key in the query, as it stands there.
#[derive(Debug)]
pub struct QueryMatch {
    /// The key.
    pub name: Box<str>,
    /// How its value is compared.
    pub value: StringMatch,
}

impl Condition {
    /// Whether it holds.
    pub fn holds(&self, view: &View<'_>) -> bool {
        match self {
            Self::Part { part, value, invert } => value.holds(Some(part.of(view).as_bytes())) != *invert,
            Self::Header(header) => header.holds(view.headers),
            Self::Query(query) => query.value.holds(query_value(view.query, &query.name).map(str::as_bytes)),
        }
    }
}

impl Part {
    fn of<'a>(self, view: &View<'a>) -> &'a str {
        match self {
            Self::Method => view.method,
            Self::Scheme => view.scheme,
            Self::Authority => view.authority,
        }
    }
}

impl HeaderMatch {
    fn holds(&self, headers: &HeaderMap) -> bool {
        let mut values = headers.get_all(&self.name).iter();
        let Some(first) = values.next() else {
            let instead = (self.invert && !self.value.is_presence()).then_some(&b""[..]);
            return self.value.holds(instead) != self.invert;
        };
        let several = !self.first_only && values.size_hint().1 != Some(0);
        let holds = match several {
            false => self.value.holds(Some(first.as_bytes())),
            true => self.value.holds(Some(&joined(first.as_bytes(), values))),
        };
        holds != self.invert
    }
}

/// All values as one text.
fn joined(first: &[u8], rest: ValueIter<'_, http::HeaderValue>) -> SmallVec<[u8; 256]> {
    let mut text = SmallVec::from_slice(first);
    for value in rest {
        text.push(b',');
        text.extend_from_slice(value.as_bytes());
    }
    text
}

/// The first value of `key`; empty where the key stands alone.
pub(crate) fn query_value<'q>(query: Option<&'q str>, key: &str) -> Option<&'q str> {
    let pairs = query?.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    pairs.into_iter().find(|(name, _)| *name == key).map(|(_, value)| value)
}
