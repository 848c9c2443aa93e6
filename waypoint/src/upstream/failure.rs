//! Why an attempt brought no response, in the reference's words.
//!
//! In: what went wrong. Out: status, response flag, body and details of the answer we make. Absent on purpose: whether
//! to try again (see `retry`).

use std::{fmt, sync::Arc};

use http::StatusCode;

use super::dial::DialError;

/// One attempt that failed before there were response headers, or no attempt at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// No connection: refused, unreachable, TLS, a tunnel that was not opened. What was said of it.
    Connect(Arc<str>),
    /// No connection: policies of the endpoint's own refuse it. That says nothing of the endpoint's health: others may be let
    /// in, and a client that is not must not be able to have it taken from them. What was said of it.
    Denied(Arc<str>),
    /// No connection was tried: we lack what it would take, such as a credential. Why.
    Unready(Arc<str>),
    /// No connection within the connect timeout.
    ConnectTimeout,
    /// A limit of the cluster was reached.
    Overflow,
    /// The endpoint closed the connection before it answered.
    Termination {
        /// Nothing of the request can have been looked at.
        before_request: bool,
    },
    /// The endpoint reset the stream before it answered.
    Reset {
        /// It said that it had not looked at it (REFUSED_STREAM, or GOAWAY before it).
        refused: bool,
    },
    /// What came back is not HTTP.
    Protocol(Arc<str>),
    /// The try took longer than it may.
    PerTryTimeout,
    /// The whole request took longer than it may.
    Timeout,
    /// Nothing passed for longer than it may: whether the request had come whole.
    Idle {
        /// It had: the endpoint is silent.
        received: bool,
    },
    /// The request took longer to arrive than it may.
    Late,
    /// There is no endpoint that may be chosen.
    NoHealthyUpstream,
    /// The cluster is unknown or must not be used: why, and how it is answered.
    NoCluster(StatusCode),
    /// The name of the endpoint is not known to DNS.
    Dns(Arc<str>),
    /// The client went away, or broke the protocol, while its request was being sent.
    Downstream,
}

impl From<DialError> for Failure {
    fn from(error: DialError) -> Self {
        match error {
            DialError::Name { reason, .. } => Self::Dns(reason),
            error if error.is_timeout() => Self::ConnectTimeout,
            error if error.is_denied() => Self::Denied(error.to_string().into()),
            error => Self::Connect(error.to_string().into()),
        }
    }
}

/// The short response flag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flag(pub &'static str);

impl Failure {
    /// What the client is answered.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::PerTryTimeout | Self::Timeout | Self::Idle { received: true } => StatusCode::GATEWAY_TIMEOUT,
            Self::Idle { received: false } | Self::Late => StatusCode::REQUEST_TIMEOUT,
            Self::Protocol(_) => StatusCode::BAD_GATEWAY,
            Self::NoCluster(status) => *status,
            Self::Downstream => StatusCode::BAD_REQUEST,
            Self::Connect(_)
            | Self::Denied(_)
            | Self::Unready(_)
            | Self::ConnectTimeout
            | Self::Overflow
            | Self::Termination { .. }
            | Self::Reset { .. }
            | Self::NoHealthyUpstream
            | Self::Dns(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// The flag in record and metrics.
    pub fn flag(&self) -> Flag {
        Flag(match self {
            Self::Connect(_) | Self::Denied(_) | Self::Unready(_) | Self::ConnectTimeout => "UF",
            Self::Overflow => "UO",
            Self::Termination { .. } => "UC",
            Self::Reset { .. } => "UR",
            Self::Protocol(_) => "UPE",
            Self::PerTryTimeout | Self::Timeout => "UT",
            Self::Idle { .. } => "SI",
            // The reference has none for it.
            Self::Late => "-",
            Self::NoHealthyUpstream => "UH",
            Self::NoCluster(_) => "NC",
            Self::Dns(_) => "DF",
            Self::Downstream => "DC",
        })
    }

    /// The text of the answer.
    pub fn body(&self) -> String {
        match self {
            Self::NoHealthyUpstream => "no healthy upstream".to_owned(),
            Self::PerTryTimeout | Self::Timeout => "upstream request timeout".to_owned(),
            Self::Idle { .. } => "stream timeout".to_owned(),
            Self::Late => "request timeout".to_owned(),
            Self::NoCluster(_) | Self::Downstream => String::new(),
            other => format!("{BEFORE_HEADERS}. reset reason: {}", Reason(other)),
        }
    }

    /// `%RESPONSE_CODE_DETAILS%`.
    pub fn details(&self) -> String {
        match self {
            Self::NoHealthyUpstream => "no_healthy_upstream".to_owned(),
            Self::PerTryTimeout => "upstream_per_try_timeout".to_owned(),
            Self::Timeout => "upstream_response_timeout".to_owned(),
            Self::Idle { .. } => "stream_idle_timeout".to_owned(),
            Self::Late => "request_overall_timeout".to_owned(),
            Self::NoCluster(_) => "cluster_not_found".to_owned(),
            Self::Downstream => "downstream_remote_disconnect".to_owned(),
            Self::Connect(_)
            | Self::Denied(_)
            | Self::Unready(_)
            | Self::ConnectTimeout
            | Self::Overflow
            | Self::Termination { .. }
            | Self::Reset { .. }
            | Self::Protocol(_)
            | Self::Dns(_) => {
                // Details hold no spaces, as log lines are split at them.
                let reason = Reason(self).to_string().replace(' ', "_");
                format!("upstream_reset_before_response_started{{{reason}}}")
            }
        }
    }

    /// Why the connection's transport failed, where that is what failed.
    pub fn transport(&self) -> Option<&str> {
        match self {
            Self::Connect(why) | Self::Denied(why) | Self::Unready(why) => Some(why),
            _ => None,
        }
    }
}

const BEFORE_HEADERS: &str = "upstream connect error or disconnect/reset before headers";

struct Reason<'f>(&'f Failure);

impl fmt::Display for Reason<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Failure::Connect(why) | Failure::Denied(why) => {
                write!(f, "remote connection failure, transport failure reason: {why}")
            }
            Failure::Unready(why) => write!(f, "local connection failure, transport failure reason: {why}"),
            Failure::ConnectTimeout => f.write_str("connection timeout"),
            Failure::Overflow => f.write_str("overflow"),
            Failure::Termination { .. } => f.write_str("connection termination"),
            Failure::Reset { .. } => f.write_str("remote reset"),
            Failure::Protocol(_) => f.write_str("protocol error"),
            Failure::Dns(_) => f.write_str("dns resolution failure"),
            Failure::PerTryTimeout
            | Failure::Timeout
            | Failure::Idle { .. }
            | Failure::Late
            | Failure::NoHealthyUpstream
            | Failure::NoCluster(_)
            | Failure::Downstream => f.write_str("local reset"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_is_answered_as_the_reference_does() {
        let rows: [(Failure, u16, &str, &str, &str); 11] = [
            (Failure::Late, 408, "-", "request timeout", "request_overall_timeout"),
            (Failure::Idle { received: false }, 408, "SI", "stream timeout", "stream_idle_timeout"),
            (Failure::Idle { received: true }, 504, "SI", "stream timeout", "stream_idle_timeout"),
            (Failure::NoHealthyUpstream, 503, "UH", "no healthy upstream", "no_healthy_upstream"),
            (
                Failure::Overflow,
                503,
                "UO",
                "upstream connect error or disconnect/reset before headers. reset reason: overflow",
                "upstream_reset_before_response_started{overflow}",
            ),
            (
                Failure::Termination { before_request: false },
                503,
                "UC",
                "upstream connect error or disconnect/reset before headers. reset reason: connection termination",
                "upstream_reset_before_response_started{connection_termination}",
            ),
            (
                Failure::Reset { refused: true },
                503,
                "UR",
                "upstream connect error or disconnect/reset before headers. reset reason: remote reset",
                "upstream_reset_before_response_started{remote_reset}",
            ),
            (
                Failure::Protocol("x".into()),
                502,
                "UPE",
                "upstream connect error or disconnect/reset before headers. reset reason: protocol error",
                "upstream_reset_before_response_started{protocol_error}",
            ),
            (Failure::Timeout, 504, "UT", "upstream request timeout", "upstream_response_timeout"),
            (Failure::PerTryTimeout, 504, "UT", "upstream request timeout", "upstream_per_try_timeout"),
            (Failure::NoCluster(StatusCode::INTERNAL_SERVER_ERROR), 500, "NC", "", "cluster_not_found"),
        ];
        for (failure, status, flag, body, details) in rows {
            let found = (failure.status().as_u16(), failure.flag().0, failure.body(), failure.details());
            assert_eq!(found, (status, flag, body.to_owned(), details.to_owned()));
        }
        let refused = Failure::Connect("Connection refused".into());
        assert!(refused.body().ends_with("remote connection failure, transport failure reason: Connection refused"));
        assert!(!refused.details().contains(' '));
    }
}
