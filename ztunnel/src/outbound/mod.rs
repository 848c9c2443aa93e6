//! Connections a pod opens: look up, choose, connect, copy.

pub mod plan;
pub mod upstream;
