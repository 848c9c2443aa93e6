//! Texts with `%OPERATORS%`, as header values have them: those of the access log that a request knows while it is served.
//!
//! In: a text, once; the facts of a request. Out: the text with the facts in it. A fact that is not known is the empty
//! text. Absent on purpose: the access log's own format, and operators whose facts come only when a request has ended.

use std::{fmt::Write as _, net::SocketAddr};

use http::{HeaderMap, HeaderName};
use jiff::Timestamp;

use crate::route::query_value;

/// What a request knows while it is served. What is `None`, or empty, is not known (yet).
#[derive(Debug, Clone, Copy, Default)]
pub struct Facts<'a> {
    /// When the request began.
    pub start: Option<Timestamp>,
    /// `HTTP/1.1`, `HTTP/2` …
    pub protocol: &'a str,
    /// The client, as forwarding headers or the tunnel name it.
    pub client: Option<SocketAddr>,
    /// The other end of the connection itself.
    pub peer: Option<SocketAddr>,
    /// Our end of the connection: what the client dialled.
    pub local: Option<SocketAddr>,
    /// The client's identity, `spiffe://…`.
    pub peer_identity: Option<&'a str>,
    /// Our own identity.
    pub own_identity: Option<&'a str>,
    /// What the ClientHello named.
    pub server_name: Option<&'a str>,
    /// `TLSv1.3` …
    pub tls_version: Option<&'a str>,
    /// The query of the request.
    pub query: Option<&'a str>,
    /// The route's name.
    pub route: Option<&'a str>,
    /// The cluster's name.
    pub cluster: Option<&'a str>,
    /// The endpoint.
    pub upstream: Option<SocketAddr>,
    /// The name of the proxy's own host.
    pub hostname: Option<&'a str>,
    /// The status of the answer.
    pub status: Option<u16>,
    /// Flags of the answer.
    pub flags: Option<&'a str>,
}

/// The headers that operators read.
#[derive(Debug, Clone, Copy)]
pub struct Messages<'a> {
    /// Of the request.
    pub request: &'a HeaderMap,
    /// Of the answer.
    pub response: Option<&'a HeaderMap>,
    /// The request line, by the names of HTTP/2.
    pub line: RequestLine<'a>,
}

/// The parts of a request that are no headers in HTTP/1.
#[derive(Debug, Clone, Copy, Default)]
pub struct RequestLine<'a> {
    /// `:method`
    pub method: &'a str,
    /// `:path`, with the query.
    pub path: &'a str,
    /// `:authority`
    pub authority: &'a str,
    /// `:scheme`
    pub scheme: &'a str,
}

/// A compiled text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Format(Box<[Piece]>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(Box<str>),
    Operator {
        operator: Operator,
        /// No more characters than these.
        length_max: Option<usize>,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Operator {
    Request(Names),
    Response(Names),
    QueryParameter(Box<str>),
    StartTime(Box<str>),
    Client(Show),
    Peer(Show),
    Local(Show),
    Upstream(Show),
    Word(Word),
    Status,
}

/// A header and the one to read where it is missing.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Names {
    first: Name,
    otherwise: Option<Name>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Name {
    Header(HeaderName),
    Method,
    Path,
    Authority,
    Scheme,
    Status,
}

/// Which part of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Show {
    All,
    WithoutPort,
    Port,
}

/// A fact that is a text already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Word {
    Protocol,
    PeerIdentity,
    OwnIdentity,
    ServerName,
    TlsVersion,
    Route,
    Cluster,
    Hostname,
    Flags,
}

/// Why a text cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// A percent sign opens an operator that does not end.
    #[error("a % opens an operator that does not end; write %% for a percent sign")]
    Open,
    /// There is no such operator for headers.
    #[error("%{0}% is no operator that headers can use")]
    Unknown(String),
    /// What is in the brackets makes no sense.
    #[error("%{0}%: what stands in brackets cannot be used")]
    Argument(String),
}

impl Format {
    /// Compiles a text.
    pub fn compile(text: &str) -> Result<Self, FormatError> {
        let (mut pieces, mut literal) = (Vec::new(), String::new());
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('%') {
            literal.push_str(before);
            if let Some(after) = after.strip_prefix('%') {
                literal.push('%');
                rest = after;
                continue;
            }
            let end = operator_end(after).ok_or(FormatError::Open)?;
            if !literal.is_empty() {
                pieces.push(Piece::Text(std::mem::take(&mut literal).into()));
            }
            pieces.push(operator(&after[..end])?);
            rest = &after[end + 1..];
        }
        literal.push_str(rest);
        if !literal.is_empty() || pieces.is_empty() {
            pieces.push(Piece::Text(literal.into()));
        }
        Ok(Self(pieces.into()))
    }

    /// The text, where there is no operator in it.
    pub fn literal(&self) -> Option<&str> {
        match &*self.0 {
            [Piece::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// The text with the facts in it.
    pub fn text(&self, facts: &Facts<'_>, messages: &Messages<'_>) -> String {
        let mut text = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(literal) => text.push_str(literal),
                Piece::Operator { operator, length_max } => {
                    let from = text.len();
                    operator.write(facts, messages, &mut text);
                    if let Some((at, _)) = length_max.and_then(|max| text[from..].char_indices().nth(max)) {
                        text.truncate(from + at);
                    }
                }
            }
        }
        text
    }
}

/// Where the operator at the start of `text` ends; a percent sign in brackets does not end it.
fn operator_end(text: &str) -> Option<usize> {
    let end = text.find('%')?;
    match text.find('(') {
        Some(open) if open < end => {
            let close = text.find(')')?;
            text[close..].find('%').map(|after| close + after)
        }
        Some(_) | None => Some(end),
    }
}

/// `NAME`, `NAME(argument)` or `NAME(argument):length`.
fn operator(text: &str) -> Result<Piece, FormatError> {
    let bad = || FormatError::Argument(text.to_owned());
    let (name, argument, rest) = match text.split_once('(') {
        Some((name, rest)) => {
            let (argument, rest) = rest.split_once(')').ok_or_else(bad)?;
            (name, Some(argument), rest)
        }
        None => {
            (text.split_once(':').map_or(text, |(name, _)| name), None, text.find(':').map_or("", |at| &text[at..]))
        }
    };
    let length_max = match rest.strip_prefix(':') {
        Some(length) => Some(length.parse().map_err(|_| bad())?),
        None if rest.is_empty() => None,
        None => return Err(bad()),
    };
    let operator = match argument {
        Some(argument) => with_argument(name, argument).ok_or_else(bad)?,
        None => alone(name),
    };
    operator
        .map(|operator| Piece::Operator { operator, length_max })
        .ok_or_else(|| FormatError::Unknown(name.to_owned()))
}

/// `None`: the argument is bad; `Some(None)`: there is no such operator.
fn with_argument(name: &str, argument: &str) -> Option<Option<Operator>> {
    Some(Some(match name {
        "REQ" => Operator::Request(names(argument)?),
        "RESP" => Operator::Response(names(argument)?),
        "QUERY_PARAM" => Operator::QueryParameter(argument.into()),
        "START_TIME" => Operator::StartTime(time_format(argument)?),
        _ => return Some(None),
    }))
}

fn alone(name: &str) -> Option<Operator> {
    Some(match name {
        "START_TIME" => Operator::StartTime(START_TIME.into()),
        "DOWNSTREAM_REMOTE_ADDRESS" => Operator::Client(Show::All),
        "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT" => Operator::Client(Show::WithoutPort),
        "DOWNSTREAM_REMOTE_PORT" => Operator::Client(Show::Port),
        "DOWNSTREAM_DIRECT_REMOTE_ADDRESS" => Operator::Peer(Show::All),
        "DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT" => Operator::Peer(Show::WithoutPort),
        "DOWNSTREAM_DIRECT_REMOTE_PORT" => Operator::Peer(Show::Port),
        "DOWNSTREAM_LOCAL_ADDRESS" => Operator::Local(Show::All),
        "DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT" => Operator::Local(Show::WithoutPort),
        "DOWNSTREAM_LOCAL_PORT" => Operator::Local(Show::Port),
        "UPSTREAM_HOST" | "UPSTREAM_REMOTE_ADDRESS" => Operator::Upstream(Show::All),
        "UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT" => Operator::Upstream(Show::WithoutPort),
        "UPSTREAM_REMOTE_PORT" => Operator::Upstream(Show::Port),
        "PROTOCOL" => Operator::Word(Word::Protocol),
        "DOWNSTREAM_PEER_URI_SAN" => Operator::Word(Word::PeerIdentity),
        "DOWNSTREAM_LOCAL_URI_SAN" => Operator::Word(Word::OwnIdentity),
        "DOWNSTREAM_TLS_VERSION" => Operator::Word(Word::TlsVersion),
        "REQUESTED_SERVER_NAME" => Operator::Word(Word::ServerName),
        "ROUTE_NAME" => Operator::Word(Word::Route),
        "UPSTREAM_CLUSTER" | "UPSTREAM_CLUSTER_RAW" => Operator::Word(Word::Cluster),
        "HOSTNAME" => Operator::Word(Word::Hostname),
        "RESPONSE_FLAGS" => Operator::Word(Word::Flags),
        "RESPONSE_CODE" => Operator::Status,
        _ => return None,
    })
}

const START_TIME: &str = "%Y-%m-%dT%H:%M:%S.%3fZ";

/// The format, if a time can be written with it.
fn time_format(text: &str) -> Option<Box<str>> {
    let text = if text.is_empty() { START_TIME } else { text };
    let written = jiff::fmt::strtime::format(text, Timestamp::UNIX_EPOCH);
    written.is_ok().then(|| text.into())
}

/// `name` or `name?otherwise`.
fn names(argument: &str) -> Option<Names> {
    let (first, otherwise) = match argument.split_once('?') {
        Some((first, otherwise)) => (first, Some(otherwise)),
        None => (argument, None),
    };
    let otherwise = match otherwise {
        Some(text) => Some(name(text)?),
        None => None,
    };
    Some(Names { first: name(first)?, otherwise })
}

fn name(text: &str) -> Option<Name> {
    let Some(pseudo) = text.strip_prefix(':') else {
        return HeaderName::from_bytes(text.as_bytes()).ok().map(Name::Header);
    };
    Some(match pseudo.to_ascii_lowercase().as_str() {
        "method" => Name::Method,
        "path" => Name::Path,
        "authority" => Name::Authority,
        "scheme" => Name::Scheme,
        "status" => Name::Status,
        _ => return None,
    })
}

impl Operator {
    fn write(&self, facts: &Facts<'_>, messages: &Messages<'_>, text: &mut String) {
        match self {
            Self::Request(names) => names.write(Some(messages.request), facts, messages, text),
            Self::Response(names) => names.write(messages.response, facts, messages, text),
            Self::QueryParameter(key) => text.push_str(query_value(facts.query, key).unwrap_or_default()),
            Self::StartTime(format) => write_time(format, facts.start, text),
            Self::Client(show) => show.write(facts.client, text),
            Self::Peer(show) => show.write(facts.peer, text),
            Self::Local(show) => show.write(facts.local, text),
            Self::Upstream(show) => show.write(facts.upstream, text),
            Self::Word(word) => text.push_str(word.of(facts).unwrap_or_default()),
            Self::Status => write_status(facts.status, text),
        }
    }
}

fn write_time(format: &str, start: Option<Timestamp>, text: &mut String) {
    // The format was tried when it was compiled.
    let written = start.and_then(|start| jiff::fmt::strtime::format(format, start).ok());
    text.push_str(&written.unwrap_or_default());
}

fn write_status(status: Option<u16>, text: &mut String) {
    if let Some(status) = status {
        write!(text, "{status}").expect("a String takes everything");
    }
}

impl Names {
    fn write(&self, headers: Option<&HeaderMap>, facts: &Facts<'_>, messages: &Messages<'_>, text: &mut String) {
        let from = text.len();
        for name in [Some(&self.first), self.otherwise.as_ref()].into_iter().flatten() {
            match name {
                Name::Header(name) => {
                    let value = headers.and_then(|headers| headers.get(name));
                    text.push_str(value.and_then(|value| value.to_str().ok()).unwrap_or_default());
                }
                Name::Method => text.push_str(messages.line.method),
                Name::Path => text.push_str(messages.line.path),
                Name::Authority => text.push_str(messages.line.authority),
                Name::Scheme => text.push_str(messages.line.scheme),
                Name::Status => write_status(facts.status, text),
            }
            if text.len() > from {
                return;
            }
        }
    }
}

impl Show {
    fn write(self, address: Option<SocketAddr>, text: &mut String) {
        let Some(address) = address else { return };
        let written = match self {
            Self::All => write!(text, "{address}"),
            Self::WithoutPort => write!(text, "{}", address.ip()),
            Self::Port => write!(text, "{}", address.port()),
        };
        written.expect("a String takes everything");
    }
}

impl Word {
    fn of<'a>(self, facts: &Facts<'a>) -> Option<&'a str> {
        match self {
            Self::Protocol => Some(facts.protocol),
            Self::PeerIdentity => facts.peer_identity,
            Self::OwnIdentity => facts.own_identity,
            Self::ServerName => facts.server_name,
            Self::TlsVersion => facts.tls_version,
            Self::Route => facts.route,
            Self::Cluster => facts.cluster,
            Self::Hostname => facts.hostname,
            Self::Flags => facts.flags,
        }
    }
}
