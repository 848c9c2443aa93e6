//! L4 authorization: policies as values, facts about one connection in, a verdict out.
//!
//! In: [`model::Policy`] (already chosen for the destination by `lateen-state`) and [`decide::Facts`]. Out:
//! [`decide::Verdict`], and for people [`explain::explain`].
//! Absent on purpose: IO, clocks, logging, protocol buffers, choosing which policies concern a workload.

#![forbid(unsafe_code)]

pub mod compile;
pub mod decide;
pub mod explain;
pub mod model;

#[cfg(test)]
mod tests;
