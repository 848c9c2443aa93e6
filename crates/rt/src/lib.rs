//! How our programs run: owned tasks and threads, two-step shutdown, readiness, pacing, deadlines, the merging inbox, the
//! environment.
//!
//! In: futures and names. Out: the same, with an owner, an end and a limit.
//! Absent on purpose: any protocol, any socket.

pub mod backoff;
pub mod deadline;
pub mod drain;
pub mod inbox;
pub mod ready;
pub mod tasks;
pub mod threads;
pub mod vars;
