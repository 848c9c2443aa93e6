//! Connections that arrive for a pod: prove who calls, check what is asked for, decide, connect, copy.

pub mod check;
