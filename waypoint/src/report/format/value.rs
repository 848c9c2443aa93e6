//! What a record says to each operator.
//!
//! In: operators, a record. Out: texts and numbers, or that nothing is known.

use std::{borrow::Cow, net::SocketAddr};

use http::{HeaderValue, Version};

use super::operator::{Name, Names, Number, Operator, Place, Show, Trace, Word};
use crate::{
    report::{flags, record::Record},
    route::query_value,
};

/// One answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value<'r> {
    Unknown,
    Number(u64),
    Text(Cow<'r, str>),
}

impl<'r> From<Option<Cow<'r, str>>> for Value<'r> {
    fn from(text: Option<Cow<'r, str>>) -> Self {
        text.filter(|text| !text.is_empty()).map_or(Self::Unknown, Self::Text)
    }
}

fn borrowed<'r>(text: Option<&'r str>) -> Value<'r> {
    text.map(Cow::Borrowed).into()
}

impl Operator {
    pub(super) fn value<'r>(&'r self, record: &'r Record) -> Value<'r> {
        match self {
            Self::StartTime(format) => {
                // The format was tried when it was compiled.
                jiff::fmt::strtime::format(&**format, record.start).ok().map(Cow::Owned).into()
            }
            Self::Request(names) => names.value(record, record.line.as_ref().map_or(&[][..], |line| &line.headers)),
            Self::Response(names) => names.value(record, &record.response),
            Self::Trailer(name) => name.value(record, &record.trailers),
            Self::QueryParameter(key) => {
                borrowed(record.line.as_ref().and_then(|line| query_value(line.target.query(), key)))
            }
            Self::Address(place, show) => match (place.of(record), show) {
                (None, _) => Value::Unknown,
                (Some(address), Show::All) => Value::Text(Cow::Owned(address.to_string())),
                (Some(address), Show::WithoutPort) => Value::Text(Cow::Owned(address.ip().to_string())),
                (Some(address), Show::Port) => Value::Number(address.port().into()),
            },
            Self::Number(number) => number.of(record).map_or(Value::Unknown, Value::Number),
            Self::Word(word) => word.of(record),
            Self::TraceId(trace) => trace.of(record),
        }
    }
}

impl Names {
    fn value<'r>(&self, record: &'r Record, headers: &'r [Option<HeaderValue>]) -> Value<'r> {
        match (self.first.value(record, headers), self.otherwise) {
            (Value::Unknown, Some(otherwise)) => otherwise.value(record, headers),
            (value, _) => value,
        }
    }
}

impl Name {
    fn value<'r>(self, record: &'r Record, headers: &'r [Option<HeaderValue>]) -> Value<'r> {
        let line = record.line.as_ref();
        match self {
            Self::Header(at) => text(headers.get(at).and_then(Option::as_ref)),
            Self::Method => borrowed(line.map(|line| line.method.as_str())),
            Self::Path => borrowed(line.map(|line| line.target.as_str())),
            Self::PathWithoutQuery => borrowed(line.map(|line| line.target.path())),
            Self::Authority => text(line.and_then(|line| line.authority.as_ref())),
            Self::Scheme => borrowed(line.map(|line| line.scheme)),
            Self::Status => Value::Number(record.status.into()),
        }
    }
}

fn text(value: Option<&HeaderValue>) -> Value<'_> {
    value.map(|value| String::from_utf8_lossy(value.as_bytes())).into()
}

impl Place {
    fn of(self, record: &Record) -> Option<SocketAddr> {
        match self {
            Self::Client => Some(record.remote),
            Self::Peer => Some(record.client.hop),
            Self::Local => Some(record.local),
            Self::Upstream => record.upstream.as_ref().and_then(|upstream| upstream.host),
            Self::UpstreamLocal => record.upstream.as_ref().and_then(|upstream| upstream.local),
        }
    }
}

impl Number {
    fn of(self, record: &Record) -> Option<u64> {
        let millis = |time: std::time::Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        match self {
            Self::ResponseCode => Some(record.status.into()),
            Self::BytesReceived => Some(record.received),
            Self::BytesSent => Some(record.sent),
            Self::Duration => Some(millis(record.duration)),
            Self::RequestDuration => record.request_took.map(millis),
            Self::ResponseDuration => record.answered_after.map(millis),
            Self::ResponseTxDuration => {
                record.answered_after.map(|after| millis(record.duration.saturating_sub(after)))
            }
            Self::Attempts => Some(record.upstream.as_ref().map_or(0, |upstream| upstream.attempts.into())),
            Self::GrpcStatus => record.grpc_status.map(u64::from),
        }
    }
}

impl Word {
    fn of(self, record: &Record) -> Value<'_> {
        let client = &record.client;
        match self {
            Self::Protocol => borrowed(record.line.as_ref().map(|line| protocol(line.version))),
            Self::Details => Value::from(Some(without_spaces(&record.details))),
            Self::Termination => Value::from(record.termination.as_deref().map(without_spaces)),
            Self::Flags => Value::from(Some(Cow::Owned(record.flags.join(",")))),
            Self::FlagsLong => {
                let long: Vec<&str> = record.flags.iter().map(|flag| flags::long(flag)).collect();
                Value::from(Some(Cow::Owned(long.join(","))))
            }
            Self::TransportFailure => borrowed(record.transport_failure.as_deref()),
            Self::Cluster => borrowed(record.upstream.as_ref().map(|upstream| upstream.cluster.as_str())),
            Self::UpstreamProtocol => {
                borrowed(record.upstream.as_ref().and_then(|upstream| upstream.version).map(protocol))
            }
            Self::PeerIdentity => Value::from(client.party.principal().map(|id| Cow::Owned(id.to_string()))),
            Self::OwnIdentity => borrowed(client.own_identity.as_deref()),
            Self::ServerName => borrowed(client.server_name.as_deref()),
            Self::TlsVersion => borrowed(client.tls_version),
            Self::Route => borrowed(record.route.as_deref()),
            Self::Hostname => borrowed(Some(&record.hostname)),
            Self::GrpcStatus => Value::from(record.grpc_status.map(grpc_name)),
            Self::Type => borrowed(Some("DownstreamEnd")),
        }
    }
}

/// Details hold no spaces, as lines are split at them.
fn without_spaces(text: &str) -> Cow<'_, str> {
    if text.contains(' ') { Cow::Owned(text.replace(' ', "_")) } else { Cow::Borrowed(text) }
}

fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2",
        _ => "HTTP/1.1",
    }
}

impl Trace {
    /// Of what the request carries: its own trace, or the one that was begun here.
    fn of(self, record: &Record) -> Value<'_> {
        let header = |at: usize| -> Option<&str> { record.line.as_ref()?.headers.get(at)?.as_ref()?.to_str().ok() };
        let part = |at: usize, number: usize| header(at).and_then(|text| text.split('-').nth(number));
        borrowed(part(self.traceparent, 1).or_else(|| header(self.b3_id)).or_else(|| part(self.b3, 0)))
    }
}

fn grpc_name(status: u32) -> Cow<'static, str> {
    const NAMES: [&str; 17] = [
        "OK",
        "Canceled",
        "Unknown",
        "InvalidArgument",
        "DeadlineExceeded",
        "NotFound",
        "AlreadyExists",
        "PermissionDenied",
        "ResourceExhausted",
        "FailedPrecondition",
        "Aborted",
        "OutOfRange",
        "Unimplemented",
        "Internal",
        "Unavailable",
        "DataLoss",
        "Unauthenticated",
    ];
    let known = usize::try_from(status).ok().and_then(|at| NAMES.get(at));
    known.map_or_else(|| Cow::Owned(status.to_string()), |name| Cow::Borrowed(*name))
}
