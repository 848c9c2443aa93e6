//! What the API server asks of a node: a pod's log.
//!
//! The lab implements it; without one, such requests are refused. Absent on purpose: exec and attach, which need SPDY or WebSocket.

use bytes::Bytes;
use futures::{future::BoxFuture, stream::BoxStream};
use serde_json::Value;

/// Which lines of a log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogQuery {
    /// The container; always named.
    pub container: String,
    /// Go on as lines are written.
    pub follow: bool,
    /// Of the instance before the last restart.
    pub previous: bool,
    /// Each line with its time in front.
    pub timestamps: bool,
    /// Only the last lines.
    pub tail_lines: Option<u64>,
    /// Only lines younger than this.
    pub since_seconds: Option<u64>,
    /// No more than this many bytes.
    pub limit_bytes: Option<u64>,
}

/// Why a node could not answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct NodeError {
    /// For the user, in full.
    pub message: String,
    /// Whether the request was at fault (400), not the node (500).
    pub bad_request: bool,
}

/// The log as it comes; it ends by itself unless it follows.
pub type LogStream = BoxStream<'static, Bytes>;

/// The node side. The pod is given as stored.
pub trait NodeProxy: Send + Sync + std::fmt::Debug {
    /// The log of one container.
    fn logs(&self, pod: &Value, query: LogQuery) -> BoxFuture<'static, Result<LogStream, NodeError>>;
}
