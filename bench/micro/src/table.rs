//! The counts as a table for people.

use std::fmt::Write as _;

use crate::{
    budget::{self, Budget},
    callgrind::Counted,
    scenario,
};

/// One line for each scenario: its counts beside its budget.
pub fn table(counted: &[Counted], budgets: &[Budget]) -> String {
    let mut out =
        format!("{:<20} {:>13} {:>10} {:>14} {:>7}  what\n", "name", "instructions", "budget", "allocations", "budget");
    for one in counted {
        let what = scenario::ALL.iter().find(|scenario| scenario.name == one.name).map_or("", |scenario| scenario.what);
        let budget = budget::of(budgets, one.name);
        let of = |number: Option<f64>| number.map_or_else(|| "none".to_owned(), |number| number.to_string());
        let _infallible = writeln!(
            out,
            "{:<20} {:>13.0} {:>10} {:>14.1} {:>7}  {what}",
            one.name,
            one.counts.instructions,
            of(budget.map(|budget| budget.counts.instructions)),
            one.counts.allocations,
            of(budget.map(|budget| budget.counts.allocations)),
        );
    }
    out
}
