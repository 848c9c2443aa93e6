//! Answers of our own.
//!
//! In: why we answer. Out: status, headers and body as the reference's; for gRPC a 200 whose headers say it all (trailers
//! only). Absent on purpose: edits, which hold for every answer.

use std::{borrow::Cow, fmt::Write as _};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};

use super::{DENIED_BODY, context::Context};
use crate::{
    filter::{
        direct::DirectResponse,
        fault::ABORT_BODY,
        redirect::{Asked, Redirect},
    },
    http::hop::Malformed,
    upstream::failure::Failure,
};

static OVERLOADED: HeaderName = HeaderName::from_static("x-envoy-overloaded");
static GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
static GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// One answer.
#[derive(Debug)]
pub struct Local {
    status: StatusCode,
    /// In the place of what the status means to gRPC.
    grpc: Option<u32>,
    flag: Option<&'static str>,
    details: Cow<'static, str>,
    body: Bytes,
    /// Boxed: few answers have any.
    headers: Option<Box<HeaderMap>>,
    /// Whether it is an error that gRPC is told in its own way.
    is_error: bool,
}

impl Local {
    /// An error.
    pub fn error(
        status: StatusCode,
        flag: Option<&'static str>,
        details: impl Into<Cow<'static, str>>,
        body: impl Into<Bytes>,
    ) -> Self {
        Self { status, grpc: None, flag, details: details.into(), body: body.into(), headers: None, is_error: true }
    }

    /// No route.
    pub fn no_route() -> Self {
        Self::error(StatusCode::NOT_FOUND, Some("NR"), "route_not_found", "")
    }

    /// The connection was made to another host, which may know its clients in another way.
    pub fn misdirected() -> Self {
        Self::error(StatusCode::MISDIRECTED_REQUEST, None, "misdirected_request", "")
    }

    /// The request is no valid one.
    pub fn malformed(why: Malformed) -> Self {
        Self::error(why.status(), None, why.to_string(), "")
    }

    /// Policy refuses it.
    pub fn denied(details: String) -> Self {
        Self::error(StatusCode::FORBIDDEN, None, details, DENIED_BODY)
    }

    /// The attempts failed.
    pub fn failed(failure: &Failure) -> Self {
        let mut local = Self::error(failure.status(), Some(failure.flag().0), failure.details(), failure.body());
        if *failure == Failure::Overflow {
            local.header(OVERLOADED.clone(), HeaderValue::from_static("true"));
        }
        local
    }

    /// The destination is not one.
    pub fn no_cluster(status: StatusCode) -> Self {
        Self::failed(&Failure::NoCluster(status))
    }

    /// The configuration answers.
    pub fn direct(direct: &DirectResponse) -> Self {
        let error = Self::error(direct.status, None, "direct_response", direct.body.clone());
        Self { is_error: false, ..error }
    }

    /// The configuration sends the client elsewhere.
    pub fn redirect(redirect: &Redirect, asked: &Asked<'_>) -> Self {
        let location = redirect.location(asked);
        Self::moved(redirect.status, &location, "direct_response")
    }

    /// The client is sent to `location`.
    pub fn moved(status: StatusCode, location: &str, details: &'static str) -> Self {
        let Ok(location) = HeaderValue::from_str(location) else {
            return Self::error(StatusCode::BAD_REQUEST, None, "invalid_location", "");
        };
        let mut local = Self { is_error: false, ..Self::error(status, None, details, "") };
        local.header(header::LOCATION, location);
        local
    }

    /// An answer to a question about other origins.
    pub fn preflight(headers: Option<HeaderMap>) -> Self {
        let local = Self { is_error: false, ..Self::error(StatusCode::OK, None, "cors_response", "") };
        Self { headers: headers.map(Box::new), ..local }
    }

    /// It goes wrong on purpose.
    pub fn fault(status: StatusCode) -> Self {
        Self::error(status, Some("FI"), "fault_filter_abort", ABORT_BODY)
    }

    /// It goes wrong on purpose, in gRPC's words.
    pub fn fault_grpc(status: u32) -> Self {
        let local = Self::error(StatusCode::OK, Some("FI"), "fault_filter_abort", ABORT_BODY);
        Self { grpc: Some(status), ..local }
    }

    fn header(&mut self, name: HeaderName, value: HeaderValue) {
        self.headers.get_or_insert_default().insert(name, value);
    }

    /// The answer; what the record says of it goes into `context`.
    pub fn into_response(self, context: &mut Context) -> Response<Bytes> {
        context.flags.extend(self.flag);
        context.details = self.details;
        let is_grpc = self.grpc.is_some() || (self.is_error && context.is_grpc);
        let mut response = Response::new(Bytes::new());
        *response.headers_mut() = self.headers.map(|headers| *headers).unwrap_or_default();
        if is_grpc {
            let code = self.grpc.unwrap_or_else(|| grpc_code(self.status));
            let headers = response.headers_mut();
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
            headers.insert(GRPC_STATUS.clone(), HeaderValue::from(code));
            if let Some(message) = grpc_message(&self.body) {
                headers.insert(GRPC_MESSAGE.clone(), message);
            }
            return response;
        }
        *response.status_mut() = self.status;
        if !self.body.is_empty() {
            let kind = HeaderValue::from_static("text/plain");
            response.headers_mut().entry(header::CONTENT_TYPE).or_insert(kind);
            *response.body_mut() = self.body;
        }
        response
    }
}

/// What a status means to gRPC where nobody has said it.
fn grpc_code(status: StatusCode) -> u32 {
    match status.as_u16() {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502 | 503 | 504 => 14,
        _ => 2,
    }
}

/// A message as a header has it: percent-encoded (gRPC over HTTP/2, "Responses").
fn grpc_message(body: &[u8]) -> Option<HeaderValue> {
    if body.is_empty() {
        return None;
    }
    let mut text = String::with_capacity(body.len());
    for byte in body {
        match byte {
            b' '..=b'~' if *byte != b'%' => text.push(char::from(*byte)),
            other => write!(text, "%{other:02X}").ok()?,
        }
    }
    HeaderValue::try_from(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_told_to_grpc() {
        let rows =
            [(400, 13), (401, 16), (403, 7), (404, 12), (429, 14), (502, 14), (503, 14), (504, 14), (500, 2), (418, 2)];
        for (status, code) in rows {
            assert_eq!(grpc_code(StatusCode::from_u16(status).expect("valid")), code, "{status}");
        }
        assert_eq!(grpc_message(b"no 100%\n\xc3\xa9").expect("text"), "no 100%25%0A%C3%A9");
        assert!(grpc_message(b"").is_none());
    }
}
