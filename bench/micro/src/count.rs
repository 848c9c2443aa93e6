//! The loop that is counted.
//!
//! In: a scenario. Out: nothing; who counts watches [`counted`] from outside, by its name.

use std::hint::black_box;

use crate::scenario::Scenario;

/// Operations before those that are counted: they fill what is filled once (the linker's table, threads' buffers).
pub const WARM: u32 = 16;
/// Operations that are counted. A multiple of the number of addresses that scenarios take in turn.
pub const TIMES: u32 = 256;

/// The name of [`counted`] in the program.
pub const COUNTED: &str = "lateen_micro::count::counted";
/// The name of [`finished`] in the program.
pub const FINISHED: &str = "lateen_micro::count::finished";

/// Does a scenario once.
pub fn count(scenario: &Scenario) {
    let mut operation = (scenario.prepare)();
    for _ in 0..WARM {
        operation();
    }
    counted(TIMES, &mut *operation);
    finished(scenario.name);
}

/// What is counted: every instruction between entering and leaving. A function of its own, without generic parts, so
/// that there is exactly one by this name, and without closures, which would carry its name too.
#[inline(never)]
pub fn counted(times: u32, operation: &mut dyn FnMut()) {
    for _ in 0..times {
        operation();
    }
}

/// Entering it tells that a scenario has been counted.
#[inline(never)]
pub fn finished(name: &str) {
    black_box(name);
}
