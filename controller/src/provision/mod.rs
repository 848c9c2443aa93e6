//! Runs the proxies of Gateways: what has to be in the cluster so that a waypoint or gateway is there, and stays so.
//!
//! ```text
//! Gateway, class, overlays ──► plan (pure) ──► objects ──► apply ──► the cluster
//!      ▲  told: Accepted, Programmed, addresses                 │ changed or deleted: planned and applied again
//!      └──────────────────────── report (pure) ◄────────────────┘
//! ```
//! In: Gateways, their classes, ConfigMaps with overlays, the objects as they are. Out: a ServiceAccount, Deployment,
//! Service, PodDisruptionBudget and perhaps HorizontalPodAutoscaler for each Gateway, and the Gateway's status.
//! Absent on purpose: what the proxy does (see `derive`), deleting what a Gateway leaves behind (owner references do).
//! Only the leader writes.

mod apply;
mod classes;
mod defaults;
mod facts;
mod features;
mod overlay;
mod plan;
mod pod;
mod present;
mod report;
mod run;

pub use classes::{Class, Role};
pub use defaults::{Defaults, DefaultsError};
pub use run::{Place, Provisioner};

#[cfg(test)]
mod tests;
