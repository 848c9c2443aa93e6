//! L7 authorization: may this request, or this connection through an L7 proxy, pass?
//!
//! In: [`model::Policy`] values, gathered into [`decide::Policies`], and [`facts::Facts`]. Out: [`decide::Verdict`].
//! Clauses and their emptiness mean what they mean at L4; lists of names, accounts, blocks and ports are the same code.
//! What differs is that a field here is one of many attributes, and that rules are found by an index (see `index`).
//! Absent on purpose: tokens; a rule that needs one is not expressible, and the controller says so.

pub mod decide;
pub mod facts;
pub mod field;
mod index;
pub mod model;
mod template;
mod text;

#[cfg(test)]
mod tests;

pub use decide::{Decision, DryRun, Policies, Refusal, Speaker, Verdict, decide};
pub use facts::{Facts, Headers, Request};
pub use field::{Attribute, Field, FieldError};
pub use model::{Action, Clause, Match, Policy, Rule};
