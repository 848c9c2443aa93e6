//! The L7 proxy of the mesh: tunnels in, requests routed, authorized and sent on to endpoints.
//!
//! In: connections, and the controller's resources. Out: connections to endpoints, access records, metrics.

#![forbid(unsafe_code)]

pub mod authorize;
pub mod balance;
pub mod book;
pub mod filter;
pub mod http;
pub mod report;
pub mod retry;
pub mod route;
pub mod upstream;
