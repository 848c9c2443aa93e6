//! The walls of the house: what no compiler checks and every change must keep.
//!
//! In: `cargo metadata`, `cargo tree` and the files of the source tree. Out: one failure per broken rule, naming the
//! place and the mend. Absent on purpose: network, databases, anything that needs the code to run.
//!
//! Exceptions stand in tables beside their rule, each with its reason; an exception nobody needs fails too.

mod arrows;
mod crates;
mod shape;
mod tree;
mod words;
