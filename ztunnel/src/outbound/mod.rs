//! Connections a pod opens: look up, choose, connect, copy.

pub mod dial;
pub mod handle;
pub mod plan;
pub mod resolve;
pub mod upstream;
