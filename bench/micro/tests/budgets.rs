//! Counts of the data path's operations, held against `bench/micro/budgets.txt`.
//!
//! Counting needs our crates optimised (`bench/micro/optimised.toml`): `make test` and `make bench-micro` build them so and
//! come here a second time. The everyday build only looks whether each scenario has its budget.

use lateen_micro::budget;

const BUDGETS: &str = include_str!("../budgets.txt");

#[test]
fn every_scenario_has_a_budget() {
    let strangers = budget::strangers(&budget::read(BUDGETS).expect("readable"));
    assert!(strangers.is_empty(), "bench/micro/budgets.txt:\n  {}\n", strangers.join("\n  "));
}

/// Not in the everyday build, where it would count debug assertions and calls that nobody makes.
#[cfg(not(debug_assertions))]
#[test]
fn no_operation_costs_more_than_its_budget() {
    use lateen_micro::{callgrind, table::table};

    let budgets = budget::read(BUDGETS).expect("readable");
    let directory = tempfile::tempdir().expect("a directory");
    let program = env!("CARGO_BIN_EXE_lateen-micro");
    let counted = callgrind::count(program.as_ref(), directory.path()).expect("counted");
    println!("{}", table(&counted, &budgets));
    let over = budget::over(&budgets, &counted);
    assert!(over.is_empty(), "over budget (bench/micro/budgets.txt):\n  {}\n", over.join("\n  "));
}
