//! Answers: JSON, text, streams, refusals.

use std::convert::Infallible;

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, combinators::UnsyncBoxBody};
use serde_json::Value;

use crate::{ops::Written, status::ApiError};

/// The body of every answer.
pub type Body = UnsyncBoxBody<Bytes, Infallible>;

/// What a handler returns.
pub type Answer = Result<Response<Body>, ApiError>;

/// JSON with a status.
pub fn json(code: u16, value: &Value) -> Response<Body> {
    bytes(code, "application/json", value.to_string())
}

/// Anything with a status and a type.
pub fn bytes(code: u16, kind: &'static str, body: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(Full::new(body.into()).boxed_unsync());
    *response.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    response
}

/// The outcome of a write, with its warnings.
pub fn written(code: u16, written: &Written) -> Response<Body> {
    let mut response = json(code, &written.object);
    for warning in &written.warnings {
        let text = format!("299 - {:?}", warning);
        if let Ok(value) = HeaderValue::from_str(&text) {
            response.headers_mut().append(header::WARNING, value);
        }
    }
    response
}

/// A refusal.
pub fn refusal(error: &ApiError) -> Response<Body> {
    let mut response = json(error.code, &error.to_status());
    if error.code == 401 {
        response
            .headers_mut()
            .insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"kubernetes-master\""));
    }
    if error.code == 429 {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}
