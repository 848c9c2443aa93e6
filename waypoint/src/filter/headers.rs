//! Edits of headers: what is removed, set and added, in this order.
//!
//! In: headers and the facts their values may hold. Out: the same headers, edited. Absent on purpose: the order of levels
//! (the route's edits come first, then the destination's); the host, whose edit is a rewrite.

use http::{HeaderMap, HeaderName, HeaderValue};

use super::format::{Facts, Format, Messages, RequestLine};

/// The edits of one level.
#[derive(Debug, Clone, Default)]
pub struct HeaderEdits {
    /// All values go.
    pub remove: Box<[HeaderName]>,
    /// Takes the place of all values.
    pub set: Box<[Edit]>,
    /// Comes beside what is there.
    pub add: Box<[Edit]>,
}

/// A header and its value.
#[derive(Debug, Clone)]
pub struct Edit {
    /// Its name.
    pub name: HeaderName,
    /// Its value.
    pub value: Value,
}

/// A value, fixed or made for each request. One that turns out empty, or is no valid value, changes nothing.
#[derive(Debug, Clone)]
pub enum Value {
    /// The same for all.
    Fixed(HeaderValue),
    /// With facts in it.
    Made(Format),
}

/// Whose headers are edited.
#[derive(Debug, Clone, Copy)]
pub enum Side<'a> {
    /// The request's.
    Request,
    /// The answer's; operators may read the request's too.
    Answer {
        /// The request.
        request: &'a HeaderMap,
    },
}

impl HeaderEdits {
    /// Whether it changes nothing.
    pub fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.set.is_empty() && self.add.is_empty()
    }

    /// Edits `headers`.
    pub fn apply(&self, headers: &mut HeaderMap, side: Side<'_>, line: RequestLine<'_>, facts: &Facts<'_>) {
        for name in &self.remove {
            headers.remove(name);
        }
        for edit in &self.set {
            if let Some(value) = edit.value.of(headers, side, line, facts) {
                headers.insert(edit.name.clone(), value);
            }
        }
        for edit in &self.add {
            if let Some(value) = edit.value.of(headers, side, line, facts) {
                headers.append(edit.name.clone(), value);
            }
        }
    }
}

impl Value {
    fn of(&self, headers: &HeaderMap, side: Side<'_>, line: RequestLine<'_>, facts: &Facts<'_>) -> Option<HeaderValue> {
        let format = match self {
            Self::Fixed(value) => return Some(value.clone()),
            Self::Made(format) => format,
        };
        let messages = match side {
            Side::Request => Messages { request: headers, response: None, line },
            Side::Answer { request } => Messages { request, response: Some(headers), line },
        };
        let text = format.text(facts, &messages);
        if text.is_empty() {
            return None;
        }
        HeaderValue::try_from(text).ok()
    }
}
