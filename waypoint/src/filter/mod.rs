//! What is done to requests and answers on the way: one file for each filter.
//!
//! In: compiled filters, headers, paths, dice. Out: changed headers, new paths, answers. Absent on purpose: their order,
//! which `request` knows; bodies; clocks and randomness, which come in as values.

pub mod cors;
pub mod direct;
pub mod fault;
pub mod format;
pub mod headers;
pub mod mirror;
pub mod redirect;
pub mod rewrite;
pub mod session;
#[cfg(test)]
mod tests;
