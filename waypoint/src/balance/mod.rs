//! Which endpoint a request goes to.
//!
//! ```text
//! candidates ─► tiers (near before far) ─► groups (shares of localities) ─► pool: least request, round robin, ring …
//!              └──────────────── built once per policy, endpoints and ejections ───────────────┘   └─ asked per request
//! ```
//! In: endpoints with their health, where the proxy is, the policy; per request a hash, what was tried, dice. Out: an
//! endpoint. Absent on purpose: connections, clocks, hearing of changes: whoever owns a [`Chooser`] makes a new one when
//! the policy, the endpoints or the ejections have changed.

mod chooser;
mod edf;
pub mod hash;
mod keeper;
mod load;
mod maglev;
mod plan;
pub mod policy;
mod pool;
mod ring;
#[cfg(test)]
mod tests;
mod tier;

pub use self::{
    chooser::{Ask, Chooser, Chosen, Member},
    keeper::{Keeper, Made, Snapshot},
    tier::{Candidate, Spot},
};
