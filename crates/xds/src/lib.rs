//! Delta xDS: the protocol as a pure state machine for both ends, and a driver on tonic for each.
//!
//! In: resources with names, versions and bytes; a channel, or a stream of requests. Out: the same resources at the other
//! end, through losses, repeats and reconnects. Absent on purpose: what a resource means, TLS, who may ask.

pub mod client;
pub mod resource;
pub mod server;
pub mod session;
