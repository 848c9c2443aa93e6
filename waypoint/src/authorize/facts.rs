//! A request's headers as policies ask for them.
//!
//! In: hyper's headers and the request line. Out: values by name; the names of HTTP/2's pseudo-headers are understood, and
//! `host` is the authority, wherever it was written.

use std::borrow::Cow;

use http::{HeaderMap, HeaderValue};
use lateen_policy::l7::Headers;

/// The headers of one request.
#[derive(Debug, Clone, Copy)]
pub struct HeadersOf<'a> {
    /// Those that were sent.
    pub headers: &'a HeaderMap,
    /// `:method`
    pub method: &'a str,
    /// `:path`, with the query.
    pub path_and_query: &'a str,
    /// `:authority`
    pub authority: &'a str,
    /// `:scheme`
    pub scheme: &'a str,
}

impl Headers for HeadersOf<'_> {
    fn value(&self, name: &str) -> Option<Cow<'_, str>> {
        match name {
            ":method" => return Some(Cow::Borrowed(self.method)),
            ":path" => return Some(Cow::Borrowed(self.path_and_query)),
            ":authority" | "host" => return Some(Cow::Borrowed(self.authority)),
            ":scheme" => return Some(Cow::Borrowed(self.scheme)),
            _ => {}
        }
        let mut values = self.headers.get_all(name).iter();
        let first = values.next()?;
        let Some(second) = values.next() else { return Some(text(first)) };
        let mut joined = text(first).into_owned();
        for value in [second].into_iter().chain(values) {
            joined.push(',');
            joined.push_str(&text(value));
        }
        Some(Cow::Owned(joined))
    }
}

/// Bytes that are no text cannot be what a policy names; the rest of the value still can.
fn text(value: &HeaderValue) -> Cow<'_, str> {
    String::from_utf8_lossy(value.as_bytes())
}
