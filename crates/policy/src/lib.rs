//! Authorization: policies as values, facts about one connection or request in, a verdict out.
//!
//! At L4, in: [`model::Policy`] (already chosen for the destination by `lateen-state`) and [`decide::Facts`]. Out:
//! [`decide::Verdict`], and for people [`explain::explain`]. At L7 (what waypoints and gateways decide): [`l7`]; the
//! regular expressions of routes: [`patterns`].
//! Absent on purpose: IO, clocks, logging, protocol buffers, choosing which policies concern a workload.

#![forbid(unsafe_code)]

pub mod compile;
pub mod decide;
pub mod explain;
pub mod l7;
pub mod model;
pub mod patterns;

#[cfg(test)]
mod tests;
