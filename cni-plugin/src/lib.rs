//! The CNI plugin: what the container runtime runs for every pod, last in its chain.
//!
//! In: one command by environment and stdin (CNI 0.3.0 to 1.1.0). Out: CNI JSON and an exit code; in between, one
//! question to the node agent. Absent on purpose: rules, Kubernetes, threads that outlive the call, tokio. Which pods
//! belong to the mesh is the agent's to say; the plugin asks about all but those its own configuration exempts.

pub mod args;
pub mod config;
pub mod door;
pub mod result;
pub mod run;
