//! The node proxy: every connection of the pods it is given, in and out, as authorised mTLS tunnels.
//!
//! In: pods and their network namespaces (from the node agent), the mesh's picture (from the control plane), identities
//! (from the CA). Out: connections, one access record and metrics for each. Absent on purpose: HTTP (see the waypoint).

pub mod admin;
pub mod app;
pub mod catalogue;
pub mod config;
pub mod conns;
pub mod dns;
pub mod enrol;
pub mod feed;
#[cfg(test)]
mod fixtures;
pub mod inbound;
pub mod local;
pub mod near;
pub mod operators;
pub mod outbound;
pub mod pod;
pub mod pods;
pub mod prefetch;
pub mod report;
pub mod settings;
#[cfg(test)]
mod sizes;
