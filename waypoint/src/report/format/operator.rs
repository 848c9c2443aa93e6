//! The operators of access formats.
//!
//! In: `NAME`, `NAME(argument)` or `NAME(argument):length`. Out: an operator, and which headers it wants to be kept.

use http::HeaderName;
use jiff::Timestamp;

use super::FormatError;

/// What a record is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Operator {
    StartTime(Box<str>),
    Request(Names),
    Response(Names),
    Trailer(Name),
    QueryParameter(Box<str>),
    Address(Place, Show),
    Number(Number),
    Word(Word),
    TraceId(Trace),
}

/// The headers that carry a trace's id, by their numbers among those that are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Trace {
    pub(super) traceparent: usize,
    pub(super) b3_id: usize,
    pub(super) b3: usize,
}

/// A header and the one to read where it is missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Names {
    pub(super) first: Name,
    pub(super) otherwise: Option<Name>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Name {
    /// By its number among those that are kept.
    Header(usize),
    Method,
    Path,
    PathWithoutQuery,
    Authority,
    Scheme,
    Status,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Client,
    Peer,
    Local,
    Upstream,
    UpstreamLocal,
}

/// Which part of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Show {
    All,
    WithoutPort,
    Port,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Number {
    ResponseCode,
    BytesReceived,
    BytesSent,
    Duration,
    RequestDuration,
    ResponseDuration,
    ResponseTxDuration,
    Attempts,
    GrpcStatus,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Word {
    Protocol,
    Details,
    Termination,
    Flags,
    FlagsLong,
    TransportFailure,
    Cluster,
    UpstreamProtocol,
    PeerIdentity,
    OwnIdentity,
    ServerName,
    TlsVersion,
    Route,
    Hostname,
    GrpcStatus,
    Type,
}

/// Headers that a format reads.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Wanted {
    pub(super) request: Vec<HeaderName>,
    pub(super) response: Vec<HeaderName>,
    pub(super) trailers: Vec<HeaderName>,
}

const START_TIME: &str = "%Y-%m-%dT%H:%M:%S.%3fZ";

/// Where the operator at the start of `text` ends; a percent sign in brackets does not end it.
pub(super) fn end(text: &str) -> Option<usize> {
    let end = text.find('%')?;
    match text.find('(') {
        Some(open) if open < end => {
            let close = text.find(')')?;
            text[close..].find('%').map(|after| close + after)
        }
        Some(_) | None => Some(end),
    }
}

/// Reads an operator and the length it is cut at.
pub(super) fn read(text: &str, wanted: &mut Wanted) -> Result<(Operator, Option<usize>), FormatError> {
    let bad = || FormatError::Argument(text.to_owned());
    let (name, argument, rest) = match text.split_once('(') {
        Some((name, rest)) => {
            let (argument, rest) = rest.split_once(')').ok_or_else(bad)?;
            (name, Some(argument), rest)
        }
        None => text.split_once(':').map_or((text, None, ""), |(name, _)| (name, None, &text[name.len()..])),
    };
    let length_max = match rest.strip_prefix(':') {
        Some(length) => Some(length.parse().map_err(|_| bad())?),
        None if rest.is_empty() => None,
        None => return Err(bad()),
    };
    let operator = match argument {
        Some(argument) => with_argument(name, argument, wanted).map_err(|()| bad())?,
        None if name == "TRACE_ID" => Some(Operator::TraceId(Trace::read(&mut wanted.request))),
        None => alone(name),
    };
    let operator = operator.ok_or_else(|| FormatError::Unknown(name.to_owned()))?;
    Ok((operator, length_max))
}

impl Trace {
    fn read(kept: &mut Vec<HeaderName>) -> Self {
        let mut at = |name| keep(kept, HeaderName::from_static(name));
        Self { traceparent: at("traceparent"), b3_id: at("x-b3-traceid"), b3: at("b3") }
    }
}

fn with_argument(name: &str, argument: &str, wanted: &mut Wanted) -> Result<Option<Operator>, ()> {
    Ok(Some(match name {
        "REQ" => Operator::Request(names(argument, &mut wanted.request)?),
        "REQ_WITHOUT_QUERY" => {
            let without = |name: Name| if name == Name::Path { Name::PathWithoutQuery } else { name };
            let Names { first, otherwise } = names(argument, &mut wanted.request)?;
            Operator::Request(Names { first: without(first), otherwise: otherwise.map(without) })
        }
        "RESP" => Operator::Response(names(argument, &mut wanted.response)?),
        "TRAILER" => Operator::Trailer(one(argument, &mut wanted.trailers)?),
        "QUERY_PARAM" => Operator::QueryParameter(argument.into()),
        "START_TIME" => Operator::StartTime(time_format(argument)?),
        "GRPC_STATUS" if matches!(argument, "CAMEL_STRING" | "") => Operator::Word(Word::GrpcStatus),
        "GRPC_STATUS" if argument == "NUMBER" => Operator::Number(Number::GrpcStatus),
        "GRPC_STATUS" => return Err(()),
        _ => return Ok(None),
    }))
}

fn alone(name: &str) -> Option<Operator> {
    let address = |place, show| Some(Operator::Address(place, show));
    if let Some((place, show)) = place(name) {
        return address(place, show);
    }
    let number = |number| Some(Operator::Number(number));
    let word = |word| Some(Operator::Word(word));
    match name {
        "START_TIME" => Some(Operator::StartTime(START_TIME.into())),
        "RESPONSE_CODE" => number(Number::ResponseCode),
        "BYTES_RECEIVED" => number(Number::BytesReceived),
        "BYTES_SENT" => number(Number::BytesSent),
        "DURATION" => number(Number::Duration),
        "REQUEST_DURATION" => number(Number::RequestDuration),
        "RESPONSE_DURATION" => number(Number::ResponseDuration),
        "RESPONSE_TX_DURATION" => number(Number::ResponseTxDuration),
        "UPSTREAM_REQUEST_ATTEMPT_COUNT" => number(Number::Attempts),
        "GRPC_STATUS_NUMBER" => number(Number::GrpcStatus),
        "GRPC_STATUS" => word(Word::GrpcStatus),
        "PROTOCOL" => word(Word::Protocol),
        "RESPONSE_CODE_DETAILS" => word(Word::Details),
        "CONNECTION_TERMINATION_DETAILS" => word(Word::Termination),
        "RESPONSE_FLAGS" => word(Word::Flags),
        "RESPONSE_FLAGS_LONG" => word(Word::FlagsLong),
        "UPSTREAM_TRANSPORT_FAILURE_REASON" => word(Word::TransportFailure),
        "UPSTREAM_CLUSTER" | "UPSTREAM_CLUSTER_RAW" => word(Word::Cluster),
        "UPSTREAM_PROTOCOL" => word(Word::UpstreamProtocol),
        "DOWNSTREAM_PEER_URI_SAN" => word(Word::PeerIdentity),
        "DOWNSTREAM_LOCAL_URI_SAN" => word(Word::OwnIdentity),
        "DOWNSTREAM_TLS_VERSION" => word(Word::TlsVersion),
        "REQUESTED_SERVER_NAME" => word(Word::ServerName),
        "ROUTE_NAME" => word(Word::Route),
        "HOSTNAME" => word(Word::Hostname),
        "ACCESS_LOG_TYPE" => word(Word::Type),
        _ => None,
    }
}

fn place(name: &str) -> Option<(Place, Show)> {
    Some(match name {
        "DOWNSTREAM_REMOTE_ADDRESS" => (Place::Client, Show::All),
        "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT" => (Place::Client, Show::WithoutPort),
        "DOWNSTREAM_REMOTE_PORT" => (Place::Client, Show::Port),
        "DOWNSTREAM_DIRECT_REMOTE_ADDRESS" => (Place::Peer, Show::All),
        "DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT" => (Place::Peer, Show::WithoutPort),
        "DOWNSTREAM_DIRECT_REMOTE_PORT" => (Place::Peer, Show::Port),
        "DOWNSTREAM_LOCAL_ADDRESS" => (Place::Local, Show::All),
        "DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT" => (Place::Local, Show::WithoutPort),
        "DOWNSTREAM_LOCAL_PORT" => (Place::Local, Show::Port),
        "UPSTREAM_HOST" | "UPSTREAM_REMOTE_ADDRESS" => (Place::Upstream, Show::All),
        "UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT" => (Place::Upstream, Show::WithoutPort),
        "UPSTREAM_REMOTE_PORT" => (Place::Upstream, Show::Port),
        "UPSTREAM_LOCAL_ADDRESS" => (Place::UpstreamLocal, Show::All),
        "UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT" => (Place::UpstreamLocal, Show::WithoutPort),
        "UPSTREAM_LOCAL_PORT" => (Place::UpstreamLocal, Show::Port),
        _ => return None,
    })
}

/// The format, if a time can be written with it.
fn time_format(text: &str) -> Result<Box<str>, ()> {
    let text = if text.is_empty() { START_TIME } else { text };
    let written = jiff::fmt::strtime::format(text, Timestamp::UNIX_EPOCH);
    written.map(|_| text.into()).map_err(|_| ())
}

/// `name` or `name?otherwise`.
fn names(argument: &str, kept: &mut Vec<HeaderName>) -> Result<Names, ()> {
    match argument.split_once('?') {
        Some((first, otherwise)) => Ok(Names { first: one(first, kept)?, otherwise: Some(one(otherwise, kept)?) }),
        None => Ok(Names { first: one(argument, kept)?, otherwise: None }),
    }
}

fn one(text: &str, kept: &mut Vec<HeaderName>) -> Result<Name, ()> {
    Ok(match text.to_ascii_lowercase().as_str() {
        ":method" => Name::Method,
        ":path" => Name::Path,
        ":authority" | "host" => Name::Authority,
        ":scheme" => Name::Scheme,
        ":status" => Name::Status,
        name => Name::Header(keep(kept, HeaderName::from_bytes(name.as_bytes()).map_err(|_| ())?)),
    })
}

fn keep(kept: &mut Vec<HeaderName>, name: HeaderName) -> usize {
    kept.iter().position(|one| *one == name).unwrap_or_else(|| {
        kept.push(name);
        kept.len() - 1
    })
}
