//! Where a client is sent instead.
//!
//! In: what the client asked for. Out: the text of `location`. Absent on purpose: the answer around it.

use http::StatusCode;

use super::rewrite::PathRewrite;
use crate::route::without_port;

/// One redirect.
#[derive(Debug, Clone)]
pub struct Redirect {
    /// 301, 302, 303, 307 or 308.
    pub status: StatusCode,
    /// `None`: the request's.
    pub scheme: Option<Box<str>>,
    /// `None`: the request's host.
    pub authority: Option<Box<str>>,
    /// The port.
    pub port: RedirectPort,
    /// `None`: the request's path. The query stays, unless a whole path brings its own.
    pub path: Option<PathRewrite>,
}

/// The port of a location. One that is its scheme's own is never written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RedirectPort {
    /// The request's host keeps what it names; but a port that was the old scheme's own goes with that scheme.
    Keep,
    /// The scheme's own.
    OfScheme,
    /// The listener's. Where that is the scheme's own, as `Keep`.
    OfListener,
    /// This one.
    Exactly(u16),
}

/// What a client asked for.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// The scheme.
    pub scheme: &'a str,
    /// The host, with its port if there is one.
    pub authority: &'a str,
    /// The path without the query.
    pub path: &'a str,
    /// The query.
    pub query: Option<&'a str>,
    /// The port of the listener or service, as clients call it.
    pub port: u16,
}

impl Redirect {
    /// Everything to https, as gateways do for plain servers.
    pub fn to_https() -> Self {
        Self {
            status: StatusCode::MOVED_PERMANENTLY,
            scheme: Some("https".into()),
            authority: None,
            port: RedirectPort::OfScheme,
            path: None,
        }
    }

    /// The text of `location`.
    pub fn location(&self, asked: &Asked<'_>) -> String {
        let scheme = self.scheme.as_deref().unwrap_or(asked.scheme);
        let mut location = [scheme, "://", self.host(scheme, asked)].concat();
        if let Some(port) = self.written_port(scheme, asked) {
            location.push_str(&format!(":{port}"));
        }
        let path = self.path.as_ref().and_then(|rewrite| rewrite.path(asked.path));
        let path = path.as_deref().unwrap_or(asked.path);
        location.push_str(path);
        if let Some(query) = asked.query.filter(|_| !path.contains('?')) {
            location.push('?');
            location.push_str(query);
        }
        location
    }

    /// The host, with the port it was given where that stays.
    fn host<'a>(&'a self, scheme: &str, asked: &Asked<'a>) -> &'a str {
        if let Some(authority) = &self.authority {
            return authority;
        }
        let bare = without_port(asked.authority);
        let named = asked.authority[bare.len()..].strip_prefix(':').and_then(|port| port.parse().ok());
        let keeps = match self.port {
            RedirectPort::Exactly(_) | RedirectPort::OfScheme => false,
            RedirectPort::OfListener if own_port(scheme) != Some(asked.port) => false,
            RedirectPort::OfListener | RedirectPort::Keep => {
                scheme == asked.scheme || named.is_none() || named != own_port(asked.scheme)
            }
        };
        if keeps { asked.authority } else { bare }
    }

    /// The port to add.
    fn written_port(&self, scheme: &str, asked: &Asked<'_>) -> Option<u16> {
        let port = match self.port {
            RedirectPort::Keep | RedirectPort::OfScheme => return None,
            RedirectPort::OfListener => asked.port,
            RedirectPort::Exactly(port) => port,
        };
        (own_port(scheme) != Some(port)).then_some(port)
    }
}

/// The port that belongs to a scheme.
fn own_port(scheme: &str) -> Option<u16> {
    match scheme {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    }
}
