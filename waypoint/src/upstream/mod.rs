//! Sending a request to one endpoint.
//!
//! In: a cluster, an endpoint, a request. Out: a response, or which of few ways it failed. Absent on purpose: choosing the
//! endpoint (see `balance`), trying again (see `retry`).

pub mod announce;
pub mod connection;
pub mod dial;
pub mod endpoint;
pub mod failure;
pub mod health;
pub mod opaque;
pub mod pool;
pub mod resolve;
pub mod send;
pub mod terms;
pub mod through;
pub mod tls;
pub mod wire;
