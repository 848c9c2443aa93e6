//! Numbers of many windows, side by side. Pure.
//!
//! In: one number at a time, each of a measure, a column and a round. Out: medians, spreads, ratios.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// All numbers of one kind.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Row {
    /// The measure.
    pub measure: String,
    /// What of it.
    pub what: String,
    /// In what.
    pub unit: String,
    /// By column, in the order of rounds.
    pub runs: BTreeMap<String, Vec<f64>>,
}

/// Rows in the order in which they were first seen.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Table {
    /// The rows.
    pub rows: Vec<Row>,
}

/// What many runs of one number come to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Summary {
    /// The middle one.
    pub median: f64,
    /// The least.
    pub min: f64,
    /// The most.
    pub max: f64,
}

impl Table {
    /// Adds a run of a number. `what` and `unit` go with the measure.
    pub fn add(&mut self, measure: &str, column: &str, number: &crate::measure::Number) {
        let same = |row: &&mut Row| row.measure == measure && row.what == number.what;
        let row = match self.rows.iter_mut().find(same) {
            Some(row) => row,
            None => {
                let (what, unit) = (number.what.to_owned(), number.unit.to_owned());
                self.rows.push(Row { measure: measure.to_owned(), what, unit, runs: BTreeMap::new() });
                let last = self.rows.len() - 1;
                &mut self.rows[last]
            }
        };
        row.runs.entry(column.to_owned()).or_default().push(number.value);
    }
}

impl Row {
    /// A column's summary, if it has runs.
    pub fn summary(&self, column: &str) -> Option<Summary> {
        summary(self.runs.get(column)?)
    }

    /// The row's name.
    pub fn name(&self) -> String {
        format!("{}: {}", self.measure, self.what)
    }

    /// How two columns compare: the summary of the rounds' own ratios, so that a round in which the machine was slow is
    /// slow for both.
    pub fn ratio(&self, of: &str, to: &str) -> Option<Summary> {
        let ratios: Vec<f64> = self.runs.get(of)?.iter().zip(self.runs.get(to)?).map(|(of, to)| of / to).collect();
        summary(&ratios)
    }

    /// How what two columns add to a third one compares, round by round.
    pub fn added(&self, of: &str, to: &str, base: &str) -> Option<Summary> {
        let both = self.runs.get(of)?.iter().zip(self.runs.get(to)?);
        let ratios = both.zip(self.runs.get(base)?).map(|((of, to), base)| (of - base).max(0.0) / (to - base).max(0.0));
        summary(&ratios.collect::<Vec<f64>>())
    }
}

/// Median, least and most; none of nothing, or of what is no number.
fn summary(runs: &[f64]) -> Option<Summary> {
    let mut sorted = runs.to_vec();
    sorted.retain(|value| value.is_finite());
    sorted.sort_by(f64::total_cmp);
    let (first, last) = (*sorted.first()?, *sorted.last()?);
    let middle = sorted.len() / 2;
    let median = if sorted.len() % 2 == 1 { sorted[middle] } else { f64::midpoint(sorted[middle - 1], sorted[middle]) };
    Some(Summary { median, min: first, max: last })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::Number;

    fn table(runs: &[(&str, f64)]) -> Table {
        let mut table = Table::default();
        for (column, value) in runs {
            table.add("m", column, &Number { what: "rate", unit: "/s", value: *value });
        }
        table
    }

    #[test]
    fn medians_are_of_odd_and_even_counts() {
        let row = &table(&[("a", 3.0), ("a", 1.0), ("a", 9.0), ("b", 4.0), ("b", 2.0)]).rows[0];
        assert_eq!(row.summary("a"), Some(Summary { median: 3.0, min: 1.0, max: 9.0 }));
        assert_eq!(row.summary("b"), Some(Summary { median: 3.0, min: 2.0, max: 4.0 }));
        assert_eq!(row.summary("c"), None);
    }

    #[test]
    fn ratios_are_taken_round_by_round() {
        // The second round was slow for both.
        let row = &table(&[("a", 10.0), ("b", 5.0), ("a", 2.0), ("b", 1.0), ("a", 9.0), ("b", 3.0)]).rows[0];
        assert_eq!(row.ratio("a", "b"), Some(Summary { median: 2.0, min: 2.0, max: 3.0 }));
        assert_eq!(row.ratio("a", "none"), None);
    }

    #[test]
    fn what_is_added_to_a_base_is_compared() {
        let row = &table(&[("a", 3.0), ("b", 5.0), ("none", 1.0)]).rows[0];
        assert_eq!(row.added("a", "b", "none").map(|added| added.median), Some(0.5));
        // A column that adds nothing cannot be compared with.
        let row = &table(&[("a", 3.0), ("b", 1.0), ("none", 1.0)]).rows[0];
        assert_eq!(row.added("a", "b", "none"), None);
    }

    #[test]
    fn what_is_no_number_is_left_out() {
        let row = &table(&[("a", 0.0), ("b", 0.0)]).rows[0];
        assert_eq!(row.ratio("a", "b"), None);
    }
}
