//! What the suites share. The suites themselves are in `tests/`.

pub mod deploy;
pub mod harness;
pub mod lab;
