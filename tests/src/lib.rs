//! What the suites share. The suites themselves are in `tests/`.

mod config;
pub mod deploy;
pub mod harness;
pub mod lab;
