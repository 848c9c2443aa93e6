//! Connections that arrive for a pod: prove who calls, check what is asked for, decide, connect, copy.

pub mod admit;
pub mod arrival;
pub mod check;
pub mod handle;
pub mod origin;
pub mod passthrough;
pub mod proxy_header;
