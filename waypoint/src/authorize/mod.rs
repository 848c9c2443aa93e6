//! Whether a request, or a connection that is not looked into, may pass.
//!
//! In: policies as the controller sends them, what of them holds for a service, facts. Out: a verdict.
//! Absent on purpose: matching (see `lateen-policy`), the answer to whoever is refused (see `request`).

pub mod decode;
mod facts;
mod guards;
pub mod lasting;
#[cfg(test)]
mod tests;

pub use facts::HeadersOf;
pub use guards::Guards;
pub use lateen_policy::l7::{Decision, DryRun, Facts, Policies, Policy, Refusal, Request, Speaker, Verdict, decide};

/// The body of the answer to whoever is refused; with it go 403 and `text/plain`, and for gRPC status 7.
pub const DENIED_BODY: &str = "RBAC: access denied";
