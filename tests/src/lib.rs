//! What the suites share. The suites themselves are in `tests/`.

pub mod harness;
pub mod lab;
