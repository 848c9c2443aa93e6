//! The short cut between two pods that this process serves both.
//!
//! ```text
//! client app ─► :15001 in its pod ─► plan says near ─► check, register, judge ─► dial inside the server's pod ─► app
//! ```
//! It decides what the tunnel decides, with the same facts and the same functions; only TLS and HTTP/2 are not there,
//! because there is nobody between the two ends. Absent on purpose: anything a tunnel to an application tunnel, to
//! another network or through a waypoint would need; those plans stay tunnels.

pub mod handle;
pub mod neighbours;
