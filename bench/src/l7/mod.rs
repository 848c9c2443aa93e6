//! Requests through one proxy: ours beside Envoy, each on one thread of its own processor.
//!
//! In: programs. Out: `l7.json` and `L7.md`, and what is printed.
//!
//! ```text
//! a network of its own, loopback only          processor 0: load, server, ends of tunnels   processor 1: the proxies
//!   load ─► ours, N routes, M policies  ─► server           plain HTTP/1.1 in and out
//!   load ─► Envoy, the same             ─► server
//!   load ─► server                                          (none)
//!   load ─► tunnel ═ ours ═ tunnel      ─► server           HBONE in and out
//! ```
//! All proxies are up at once and used in turn. Absent on purpose: nodes, pods, the controller (see the rest of this program).

mod control;
mod envoy;
mod measures;
mod ours;
mod program;
mod report;
mod run;
mod scene;
mod targets;

pub(crate) use report::again;
pub(crate) use run::run;
