//! HBONE: TCP streams inside HTTP/2 CONNECT streams, both ends.
//!
//! In: secured streams of bytes and CONNECT requests. Out: tunnels that read and write like TCP.
//! Absent on purpose: certificates, policy, and where to dial; callers bring these.

pub mod client;
pub mod ping;
pub mod pool;
pub mod request;
pub mod server;
pub mod settings;
pub mod stream;

#[cfg(test)]
mod testing;
