//! How a program shows itself: its log, its metrics, its access record, its small HTTP server.
//!
//! In: events and samples from every room, HTTP requests from operators. Out: lines on stdout, OpenMetrics text, answers.
//! Absent on purpose: what the events mean, and the names of any program's metrics (each program has its own table).

pub mod access;
pub mod admin;
pub mod log;
pub mod metrics;
pub mod seldom;
