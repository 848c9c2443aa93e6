//! The form of access records: text with `%OPERATORS%`, or JSON whose values are such texts.
//!
//! In: a format, once; a [`Record`]. Out: one line. A value that is not known is `-` in text and null in JSON. An operator
//! that a request does not know is a fault of the configuration.

mod operator;
#[cfg(test)]
mod tests;
mod value;

use std::fmt::Write as _;

use http::HeaderName;

use self::{
    operator::{Operator, Wanted},
    value::Value,
};
use super::record::Record;

/// The reference's default text.
const DEFAULT_TEXT: &str = "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" \
    %RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% \
    \"%UPSTREAM_TRANSPORT_FAILURE_REASON%\" %BYTES_RECEIVED% %BYTES_SENT% %DURATION% \
    %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \"%REQ(X-FORWARDED-FOR)%\" \"%REQ(USER-AGENT)%\" \"%REQ(X-REQUEST-ID)%\" \
    \"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\" %UPSTREAM_CLUSTER_RAW% %UPSTREAM_LOCAL_ADDRESS% \
    %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% %REQUESTED_SERVER_NAME% %ROUTE_NAME%\n";

/// The reference's default keys of JSON.
const DEFAULT_JSON: [(&str, &str); 23] = [
    ("start_time", "%START_TIME%"),
    ("route_name", "%ROUTE_NAME%"),
    ("method", "%REQ(:METHOD)%"),
    ("path", "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%"),
    ("protocol", "%PROTOCOL%"),
    ("response_code", "%RESPONSE_CODE%"),
    ("response_flags", "%RESPONSE_FLAGS%"),
    ("response_code_details", "%RESPONSE_CODE_DETAILS%"),
    ("connection_termination_details", "%CONNECTION_TERMINATION_DETAILS%"),
    ("bytes_received", "%BYTES_RECEIVED%"),
    ("bytes_sent", "%BYTES_SENT%"),
    ("duration", "%DURATION%"),
    ("upstream_service_time", "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%"),
    ("x_forwarded_for", "%REQ(X-FORWARDED-FOR)%"),
    ("user_agent", "%REQ(USER-AGENT)%"),
    ("request_id", "%REQ(X-REQUEST-ID)%"),
    ("authority", "%REQ(:AUTHORITY)%"),
    ("upstream_host", "%UPSTREAM_HOST%"),
    ("upstream_cluster", "%UPSTREAM_CLUSTER_RAW%"),
    ("upstream_local_address", "%UPSTREAM_LOCAL_ADDRESS%"),
    ("downstream_local_address", "%DOWNSTREAM_LOCAL_ADDRESS%"),
    ("downstream_remote_address", "%DOWNSTREAM_REMOTE_ADDRESS%"),
    ("requested_server_name", "%REQUESTED_SERVER_NAME%"),
];

/// What is not known, in text.
const UNKNOWN: &str = "-";

/// A compiled format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Format {
    shape: Shape,
    wanted: Wanted,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Shape {
    Text(Pieces),
    Json(Vec<(String, Node)>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Node {
    Text(Pieces),
    Object(Vec<(String, Node)>),
}

/// Text and operators in turn.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Pieces(Vec<Piece>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Operator {
        operator: Operator,
        /// No more characters than these.
        length_max: Option<usize>,
    },
}

/// Why a format cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// A percent sign opens an operator that does not end.
    #[error("a % opens an operator that does not end; write %% for a percent sign")]
    Open,
    /// There is no such operator.
    #[error("%{0}% is no operator that this proxy knows; remove it")]
    Unknown(String),
    /// What is in the brackets makes no sense.
    #[error("%{0}%: what stands in brackets cannot be used")]
    Argument(String),
    /// The labels are no JSON object of texts.
    #[error("{0}; use a JSON object whose values are texts or such objects")]
    Labels(String),
}

impl Format {
    /// A format of text; empty is the default one.
    pub fn text(text: &str) -> Result<Self, FormatError> {
        let mut text = if text.is_empty() { DEFAULT_TEXT.to_owned() } else { text.to_owned() };
        if !text.ends_with('\n') {
            text.push('\n');
        }
        let mut wanted = Wanted::default();
        let shape = Shape::Text(Pieces::read(&text, &mut wanted)?);
        Ok(Self { shape, wanted })
    }

    /// A format of JSON: an object of keys and texts; empty is the default one.
    pub fn json(labels: &str) -> Result<Self, FormatError> {
        let mut wanted = Wanted::default();
        let members = if labels.is_empty() {
            let one = |(key, text): (&str, &str)| Ok((key.to_owned(), Node::Text(Pieces::read(text, &mut wanted)?)));
            DEFAULT_JSON.into_iter().map(one).collect::<Result<_, FormatError>>()?
        } else {
            let labels: serde_json::Value =
                serde_json::from_str(labels).map_err(|error| FormatError::Labels(error.to_string()))?;
            object(&labels, &mut wanted)?
        };
        Ok(Self { shape: Shape::Json(members), wanted })
    }

    /// The headers of requests that must be kept for the record, in the order in which they are kept.
    pub(super) fn request_headers(&self) -> &[HeaderName] {
        &self.wanted.request
    }

    /// As [`Self::request_headers`], of answers.
    pub(super) fn response_headers(&self) -> &[HeaderName] {
        &self.wanted.response
    }

    /// As [`Self::request_headers`], of trailers.
    pub(super) fn trailers(&self) -> &[HeaderName] {
        &self.wanted.trailers
    }

    /// Appends the line of a record.
    pub(super) fn write(&self, record: &Record, out: &mut String) {
        match &self.shape {
            Shape::Text(pieces) => pieces.write(record, out),
            Shape::Json(members) => {
                write_object(members, record, out);
                out.push('\n');
            }
        }
    }
}

fn object(value: &serde_json::Value, wanted: &mut Wanted) -> Result<Vec<(String, Node)>, FormatError> {
    let wrong = |what: &str| FormatError::Labels(format!("{what} is not what labels can be"));
    let members = value.as_object().ok_or_else(|| wrong(&value.to_string()))?;
    let mut node = |value: &serde_json::Value| match value {
        serde_json::Value::String(text) => Ok(Node::Text(Pieces::read(text, wanted)?)),
        serde_json::Value::Object(_) => Ok(Node::Object(object(value, wanted)?)),
        other => Err(wrong(&other.to_string())),
    };
    members.iter().map(|(key, value)| Ok((key.clone(), node(value)?))).collect()
}

fn write_object(members: &[(String, Node)], record: &Record, out: &mut String) {
    for (at, (key, node)) in members.iter().enumerate() {
        out.push(if at == 0 { '{' } else { ',' });
        write_string(key, out);
        out.push(':');
        match node {
            Node::Object(members) => write_object(members, record, out),
            Node::Text(pieces) => pieces.write_json(record, out),
        }
    }
    out.push_str(if members.is_empty() { "{}" } else { "}" });
}

impl Pieces {
    fn read(text: &str, wanted: &mut Wanted) -> Result<Self, FormatError> {
        let (mut pieces, mut literal) = (Vec::new(), String::new());
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('%') {
            literal.push_str(before);
            if let Some(after) = after.strip_prefix('%') {
                literal.push('%');
                rest = after;
                continue;
            }
            let end = operator::end(after).ok_or(FormatError::Open)?;
            if !literal.is_empty() {
                pieces.push(Piece::Text(std::mem::take(&mut literal)));
            }
            let (operator, length_max) = operator::read(&after[..end], wanted)?;
            pieces.push(Piece::Operator { operator, length_max });
            rest = &after[end + 1..];
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            pieces.push(Piece::Text(literal));
        }
        Ok(Self(pieces))
    }

    fn write(&self, record: &Record, out: &mut String) {
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => out.push_str(text),
                Piece::Operator { operator, length_max } => {
                    let from = out.len();
                    match operator.value(record) {
                        Value::Unknown => out.push_str(UNKNOWN),
                        Value::Number(number) => infallible(write!(out, "{number}")),
                        Value::Text(text) => out.push_str(&text),
                    }
                    // A header cannot end the line or forge another one.
                    if let Some((at, _)) = length_max.and_then(|max| out[from..].char_indices().nth(max)) {
                        out.truncate(from + at);
                    }
                }
            }
        }
    }

    /// One operator alone keeps its kind; everything else is text.
    fn write_json(&self, record: &Record, out: &mut String) {
        if let [Piece::Operator { operator, length_max: None }] = &self.0[..] {
            match operator.value(record) {
                Value::Unknown => out.push_str("null"),
                Value::Number(number) => infallible(write!(out, "{number}")),
                Value::Text(text) => write_string(&text, out),
            }
            return;
        }
        let mut text = String::new();
        self.write(record, &mut text);
        write_string(&text, out);
    }
}

fn write_string(text: &str, out: &mut String) {
    out.push_str(&serde_json::Value::from(text).to_string());
}

fn infallible(written: std::fmt::Result) {
    written.expect("a String takes everything");
}
