//! Which endpoint a request goes to.
//!
//! In: endpoints, where the proxy is, how to choose, dice. Out: an endpoint. Absent on purpose: connections, clocks.

pub mod policy;
