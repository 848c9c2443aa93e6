//! What the mesh reads from Kubernetes: its own resource types, the label words, who is enrolled, clients and stores.
//!
//! In: Kubernetes objects. Out: typed specs, [`labels`] constants, the [`enrol`] decision, followed collections, findings.
//! Absent on purpose: mesh resources (the controller derives those) and anything that writes to the cluster.

// The list of cases is read by suites of other crates too, and calls this one by its name there.
#[cfg(test)]
extern crate self as lateen_cluster;

pub mod api;
pub mod client;
pub mod crds;
pub mod enrol;
pub mod fields;
pub mod labels;
pub mod store;
pub mod validate;
