//! What operations may cost.
//!
//! In: `bench/micro/budgets.txt` and counts. Out: what is over its budget, without one, or no longer there.

use anyhow::{Context as _, bail};

use crate::{
    callgrind::{Counted, Counts},
    scenario,
};

/// How much of a count a new budget adds to it, in percent.
const HEADROOM: f64 = 10.0;

/// A scenario's budget.
#[derive(Debug, Clone, PartialEq)]
pub struct Budget {
    /// The scenario's name.
    pub name: String,
    /// The most each may be.
    pub counts: Counts,
}

/// Reads the file: `name instructions allocations` by line, `#` begins a comment.
pub fn read(text: &str) -> anyhow::Result<Vec<Budget>> {
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
    lines.filter(|line| !line.is_empty()).map(|line| one(line).with_context(|| format!("{line:?}"))).collect()
}

fn one(line: &str) -> anyhow::Result<Budget> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [name, instructions, allocations] = words.as_slice() else {
        bail!("it must be: name instructions allocations")
    };
    let counts = Counts { instructions: instructions.parse()?, allocations: allocations.parse()? };
    Ok(Budget { name: (*name).to_owned(), counts })
}

/// Scenarios without a budget, and budgets without a scenario.
pub fn strangers(budgets: &[Budget]) -> Vec<String> {
    let without = scenario::ALL.iter().filter(|scenario| of(budgets, scenario.name).is_none());
    let mut found: Vec<String> = without.map(|scenario| format!("{} has no budget", scenario.name)).collect();
    let gone = budgets.iter().filter(|budget| !scenario::ALL.iter().any(|scenario| scenario.name == budget.name));
    found.extend(gone.map(|budget| format!("{} has a budget but is no scenario", budget.name)));
    found
}

/// What costs more than it may.
pub fn over(budgets: &[Budget], counted: &[Counted]) -> Vec<String> {
    let of_one = |one: &Counted| {
        let budget = of(budgets, one.name)?.counts;
        let too_much = one.counts.instructions > budget.instructions || one.counts.allocations > budget.allocations;
        too_much.then(|| {
            let Counts { instructions, allocations } = one.counts;
            format!(
                "{}: {instructions:.0} instructions (budget {}), {allocations:.1} allocations (budget {}); if that is \
                 worth it, its budget is: {}",
                one.name,
                budget.instructions,
                budget.allocations,
                line(one)
            )
        })
    };
    counted.iter().filter_map(of_one).collect()
}

/// The budget of `name`.
pub fn of<'b>(budgets: &'b [Budget], name: &str) -> Option<&'b Budget> {
    budgets.iter().find(|budget| budget.name == name)
}

/// A new budget for what was counted.
pub fn line(counted: &Counted) -> String {
    let instructions = (counted.counts.instructions * (1.0 + HEADROOM / 100.0)).ceil();
    // Whole allocations do not vary; what happens now and then, as when a buffer grows, may.
    let allocations = (counted.counts.allocations - 0.05).max(0.0).ceil();
    format!("{:<22} {instructions:>12.0} {allocations:>11.0}", counted.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(name: &'static str, instructions: f64, allocations: f64) -> Counted {
        Counted { name, counts: Counts { instructions, allocations } }
    }

    #[test]
    fn what_is_over_its_budget_is_told() {
        let budgets = read("# all\nplan.address 1000 2 # why\n\n").expect("readable");
        let over = |instructions, allocations| over(&budgets, &[counted("plan.address", instructions, allocations)]);
        assert_eq!((over(1000.0, 2.0).len(), over(1000.5, 2.0).len(), over(10.0, 2.01).len()), (0, 1, 1));
        assert!(
            over(1200.0, 1.0)[0].ends_with(&format!("{:<22} {:>12} {:>11}", "plan.address", 1320, 1)),
            "{:?}",
            over(1200.0, 1.0)
        );
        assert!(read("plan.address 1000").is_err() && read("plan.address 1k 2").is_err());
    }

    #[test]
    fn scenarios_and_budgets_are_held_against_each_other() {
        let strangers = strangers(&read("plan.address 1 1\nplan.adress 1 1\n").expect("readable"));
        assert!(strangers.contains(&"plan.adress has a budget but is no scenario".to_owned()));
        assert_eq!(strangers.len(), scenario::ALL.len());
    }
}
