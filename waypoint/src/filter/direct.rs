//! Answers without an upstream.

use bytes::Bytes;
use http::StatusCode;

/// An answer from the configuration. With a body and no content type of the route's edits it is text/plain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectResponse {
    /// Its status.
    pub status: StatusCode,
    /// Its body, perhaps empty.
    pub body: Bytes,
}
