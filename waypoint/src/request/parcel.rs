//! What of a request is sent with each attempt: its head and its body, as far as they can be sent again.
//!
//! In: a head and a body. Out: both for an attempt, as often as they are whole. An attempt consumes its head, and few requests
//! need a second one: of headers that are sent only the bytes are kept, in one piece, and read again when they are wanted
//! (a copy of the map costs two allocations and a reference count for each name and value, when made and when dropped).
//! Absent on purpose: whether to try again.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, request::Parts};

use crate::http::{body::RequestBody, replay::Replay};

/// The head.
pub struct Head {
    parts: Parts,
    keeps: bool,
    headers: Headers,
}

/// Where the headers are.
enum Headers {
    /// In the parts.
    Here,
    /// Sent, and kept.
    Kept(Box<Kept>),
    /// Sent.
    Gone,
}

impl Head {
    /// A head that nobody has sent; `keeps`: it may be wanted again.
    pub fn new(parts: Parts, keeps: bool) -> Self {
        Self { parts, keeps, headers: Headers::Here }
    }

    /// Whether it can be sent, or looked at.
    pub fn is_there(&self) -> bool {
        !matches!(self.headers, Headers::Gone)
    }

    /// The whole of it, unless it is gone.
    pub fn whole(&mut self) -> Option<&mut Parts> {
        match &self.headers {
            Headers::Here => {}
            Headers::Kept(kept) => {
                self.parts.headers = kept.read()?;
                self.headers = Headers::Here;
            }
            Headers::Gone => return None,
        }
        Some(&mut self.parts)
    }

    /// Its headers for an attempt, and the rest of it, whose own are gone.
    pub fn send(&mut self) -> (HeaderMap, &Parts) {
        let headers = self.whole().map(|parts| std::mem::take(&mut parts.headers)).unwrap_or_default();
        self.headers = if self.keeps { Headers::Kept(Box::new(Kept::of(&headers))) } else { Headers::Gone };
        (headers, &self.parts)
    }
}

/// Headers as one piece of text.
struct Kept {
    text: Vec<u8>,
    lines: Vec<Line>,
}

/// What follows what came before it: a name and its value.
struct Line {
    name: usize,
    value: usize,
    /// HTTP/2 must not put it into tables that both ends keep.
    is_sensitive: bool,
}

impl Kept {
    fn of(headers: &HeaderMap) -> Self {
        let length = headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
        let mut kept = Self { text: Vec::with_capacity(length), lines: Vec::with_capacity(headers.len()) };
        for (name, value) in headers {
            kept.text.extend_from_slice(name.as_str().as_bytes());
            kept.text.extend_from_slice(value.as_bytes());
            let (name, is_sensitive) = (name.as_str().len(), value.is_sensitive());
            kept.lines.push(Line { name, value: value.len(), is_sensitive });
        }
        kept
    }

    fn read(&self) -> Option<HeaderMap> {
        let mut text = Bytes::copy_from_slice(&self.text);
        let mut headers = HeaderMap::with_capacity(self.lines.len());
        for line in &self.lines {
            let name = HeaderName::from_bytes(&text.split_to(line.name)).ok()?;
            let mut value = HeaderValue::from_maybe_shared(text.split_to(line.value)).ok()?;
            value.set_sensitive(line.is_sensitive);
            headers.append(name, value);
        }
        Some(headers)
    }
}

/// The body, as far as it can be sent.
pub enum Body {
    /// There is none.
    None,
    /// Once, unless nobody has seen it.
    Once(Option<RequestBody>),
    /// As often as it is whole.
    Kept(Replay),
}

impl Body {
    /// Whether it can be sent.
    pub fn is_there(&self) -> bool {
        match self {
            Self::None => true,
            Self::Once(body) => body.is_some(),
            Self::Kept(replay) => replay.is_whole(),
        }
    }

    /// For an attempt.
    pub fn take(&mut self) -> RequestBody {
        match self {
            Self::None => RequestBody::empty(),
            Self::Once(body) => body.take().unwrap_or_else(RequestBody::empty),
            Self::Kept(replay) => RequestBody::kept(replay.reader()),
        }
    }
}

#[cfg(test)]
mod tests {
    use http::{Request, header};

    use super::*;

    fn parts() -> Parts {
        let mut secret = HeaderValue::from_static("Bearer x");
        secret.set_sensitive(true);
        let request = Request::builder().uri("/a?b").method("PURGE").header(header::HOST, "shop.example");
        let request = request.header("x-own", "1").header("x-own", "").header(header::AUTHORIZATION, secret);
        let request = request.header("x-bytes", HeaderValue::from_bytes(b"\tl\xe9\xff").expect("a value"));
        request.body(()).expect("a request").into_parts().0
    }

    #[test]
    fn a_head_is_sent_as_often_as_it_is_wanted() {
        let told = parts().headers;
        let mut head = Head::new(parts(), true);
        for attempt in 1..4 {
            let whole = head.whole().expect("it is kept");
            assert_eq!(whole.headers, told, "before attempt {attempt}");
            let (sent, rest) = head.send();
            assert_eq!((&sent, rest.method.as_str(), rest.uri.path()), (&told, "PURGE", "/a"));
            let order = |headers: &HeaderMap| headers.keys().cloned().collect::<Vec<_>>();
            assert_eq!(order(&sent), order(&told));
            assert!(sent[header::AUTHORIZATION].is_sensitive() && !sent["x-own"].is_sensitive());
            assert!(head.is_there());
        }
        // What is changed between attempts stays.
        head.whole().expect("kept").headers.insert("x-own", HeaderValue::from_static("2"));
        drop(head.send());
        assert_eq!(head.whole().expect("kept").headers["x-own"], "2");
    }

    #[test]
    fn what_is_not_kept_is_sent_once() {
        let mut head = Head::new(parts(), false);
        assert!(head.is_there() && head.whole().is_some());
        assert_eq!(head.send().0, parts().headers);
        assert!(!head.is_there() && head.whole().is_none());
        assert!(head.send().0.is_empty());
    }
}
