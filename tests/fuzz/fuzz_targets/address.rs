//! The `address` target for `cargo fuzz`; what it does stands in `targets.rs`.
#![no_main]

#[path = "../targets.rs"]
#[allow(dead_code)] // Each program runs one of them.
mod targets;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| targets::address(bytes));
