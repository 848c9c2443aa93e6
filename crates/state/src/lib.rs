//! What the mesh looks like: workloads, services and policies, as one snapshot that is swapped whole.
//!
//! In: resources from the control plane or a local file. Out: [`world::World`] with its look-ups, and waiting for it to
//! change. Absent on purpose: the delta protocol (see `lateen-xds`), deciding where a connection goes.

mod claims;
pub mod decode;
mod endpoints;
pub mod gateway;
pub mod index;
pub mod lookup;
pub mod service;
mod shards;
mod table;
pub mod unusable;
pub mod wait;
pub mod workload;
pub mod world;

#[cfg(test)]
mod tests;
