//! The authorization vectors of the L4 specification, from the objects a user applies to the verdict a proxy gives.
//!
//! In: AuthorizationPolicy and PeerAuthentication objects. They go through the controller's graph, become messages,
//! are decoded into a proxy's world, and decide. Out: the verdict of every vector.
//! Absent on purpose: sockets; what a verdict does to a connection is tested in namespaces.

mod encoded;
mod live;
mod mesh;
mod vectors;
