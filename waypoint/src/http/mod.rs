//! HTTP as clients and endpoints speak it.
//!
//! In: streams of bytes. Out: requests and responses, clean of what concerns one connection only. Absent on purpose: where
//! requests go.

pub mod body;
pub mod deadline;
pub mod detect;
pub mod hop;
mod lingering;
pub mod normalize;
mod one;
pub mod replay;
pub mod response;
pub mod serve;
mod signed;
