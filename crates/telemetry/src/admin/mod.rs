//! A small HTTP/1 server for operators: metrics, readiness, dumps, log level.
//!
//! In: listeners and a [`Router`] of closures. Out: answers, under limits and deadlines.
//! Absent on purpose: request bodies (no route needs one), TLS, keep-alive beyond a minute.

mod routes;
mod serve;
#[cfg(test)]
mod tests;

pub use routes::{logging, ready};
pub use serve::{Limits, serve};

use std::{collections::HashMap, future::Future, io::Write as _, pin::Pin, sync::Arc};

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};

/// What a route is given.
#[derive(Debug, Clone)]
pub struct Request {
    /// Upper case: `GET`.
    pub method: String,
    /// Without the query.
    pub path: String,
    /// After `?`, undecoded.
    pub query: Option<String>,
    headers: http::HeaderMap,
}

impl Request {
    fn new(parts: &http::request::Parts) -> Self {
        Self {
            method: parts.method.as_str().to_owned(),
            path: parts.uri.path().to_owned(),
            query: parts.uri.query().map(str::to_owned),
            headers: parts.headers.clone(),
        }
    }

    #[cfg(test)]
    pub(crate) fn test(method: &str, target: &str, headers: &[(&str, &str)]) -> Self {
        let request =
            headers.iter().fold(http::Request::builder().method(method).uri(target), |request, (name, value)| {
                request.header(*name, *value)
            });
        Self::new(&request.body(()).expect("a valid request").into_parts().0)
    }

    /// The values of a header joined by commas, where they are text.
    pub fn header(&self, name: &str) -> Option<String> {
        let values: Vec<&str> = self.headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).collect();
        (!values.is_empty()).then(|| values.join(","))
    }

    /// The query's parameters in order; one without `=` has an empty value.
    pub fn parameters(&self) -> Vec<(String, String)> {
        let query = self.query.as_deref().unwrap_or_default();
        let pairs = query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (percent_decoded(key), percent_decoded(value))
        });
        pairs.collect()
    }
}

/// `%41` and `+` decoded; a broken escape stays as it is.
fn percent_decoded(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let escape = || u8::from_str_radix(std::str::from_utf8(tail.get(..2)?).ok()?, 16).ok();
        match (first, escape()) {
            (b'%', Some(byte)) => {
                out.push(byte);
                rest = &tail[2..];
            }
            (b'+', _) => {
                out.push(b' ');
                rest = tail;
            }
            _ => {
                out.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// What a route answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The body's type.
    pub content_type: &'static str,
    /// Further headers.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: Bytes,
}

/// Below this size compression costs more than it saves.
const COMPRESS_MIN: usize = 32;

impl Answer {
    /// An answer with a body.
    pub fn new(status: u16, content_type: &'static str, body: impl Into<Bytes>) -> Self {
        Self { status, content_type, headers: Vec::new(), body: body.into() }
    }

    /// A short text.
    pub fn text(status: u16, body: impl Into<String>) -> Self {
        Self::new(status, "text/plain; charset=utf-8", body.into())
    }

    /// 405 with a word on what would be right.
    pub fn wrong_method(help: &str) -> Self {
        Self::text(405, help)
    }

    /// The same, compressed with gzip if the request takes it and the body is worth it.
    pub fn compressed_for(mut self, request: &Request) -> Self {
        if self.body.len() < COMPRESS_MIN || !takes_gzip(request) {
            return self;
        }
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        // Writing to memory cannot fail; if it did, the plain body is right too.
        if let Ok(zipped) = encoder.write_all(&self.body).and_then(|()| encoder.finish()) {
            self.body = zipped.into();
            self.headers.push(("content-encoding", "gzip".to_owned()));
            self.headers.push(("vary", "accept-encoding".to_owned()));
        }
        self
    }
}

/// RFC 9110 §12.5.3: gzip is taken if it is named without `q=0`.
fn takes_gzip(request: &Request) -> bool {
    request.header("accept-encoding").is_some_and(|accepted| {
        accepted.split(',').any(|element| {
            let mut parts = element.split(';').map(str::trim);
            let named = parts.next().is_some_and(|coding| coding.eq_ignore_ascii_case("gzip"));
            let weight = parts.find_map(|part| part.strip_prefix("q=")).and_then(|q| q.parse::<f32>().ok());
            named && weight != Some(0.0)
        })
    })
}

type Answering = Pin<Box<dyn Future<Output = Answer> + Send>>;
type Route = Arc<dyn Fn(Request) -> Answering + Send + Sync>;

/// Paths and what answers them. Paths match exactly; anything else is 404.
#[derive(Clone, Default)]
pub struct Router {
    routes: HashMap<&'static str, Route>,
}

impl Router {
    /// A router that answers 404 to everything.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a route that answers at once.
    pub fn route(self, path: &'static str, answer: impl Fn(Request) -> Answer + Send + Sync + 'static) -> Self {
        self.route_async(path, move |request| {
            let answer = answer(request);
            async move { answer }
        })
    }

    /// Adds a route that may wait.
    pub fn route_async<F>(mut self, path: &'static str, answer: impl Fn(Request) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Answer> + Send + 'static,
    {
        self.routes.insert(path, Arc::new(move |request| Box::pin(answer(request))));
        self
    }

    /// The answer to `request`.
    pub async fn answer(&self, request: Request) -> Answer {
        match self.routes.get(request.path.as_str()) {
            Some(route) => route(request).await,
            None => Answer::text(404, "not found\n"),
        }
    }
}
