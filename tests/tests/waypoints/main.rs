//! Waypoints and gateways on a lab, with clients and servers that others wrote. All share one lab.
//!
//! They are not run once more without the short cut between pods of one node, as the suites called `mesh_*` are: what passes a
//! waypoint never takes it.

mod behalf;
mod call;
mod change;
mod command;
mod hostile;
mod rolling;
mod spoken;
mod switched;
mod tasks;
