//! The node agent: enrols this node's pods into the mesh, and takes them out again.
//!
//! In: the CNI plugin's questions, the cluster's pods and namespaces. Out: the plugin installed, rules in pods' network
//! namespaces, the pods ztunnel serves, the redirection annotation. Absent on purpose: traffic (ztunnel carries it) and the API of the mesh.

pub mod annotate;
pub mod app;
pub mod catalogue;
pub mod config;
pub mod decide;
pub mod enrol;
pub mod finder;
pub mod install;
pub mod ledger;
pub mod pods;
pub mod probes;
pub mod repair;
pub mod rules;
pub mod serve;
pub mod verify;
pub mod watch;
pub mod zds;
