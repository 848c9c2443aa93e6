//! What the numbers should come to, and whether they do. Pure.
//!
//! In: results. Out: a verdict for each target. A target that was not measured, or is missed, says so and why; none is left out.

use serde::{Serialize, Serializer};

use crate::{
    apart,
    config::{NONE, OURS, PASSTHROUGH, PEER},
    memory,
    results::Results,
    run::EVERYTHING,
    table::{Row, Summary},
};

/// What is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Test {
    /// A column with another one.
    Ratio(&'static str, &'static str),
    /// What ours adds to no mesh with what the peer adds to it.
    Added,
    /// Our number itself.
    Value,
}

/// Which side of the number is good.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Bound {
    /// This or more.
    AtLeast(f64),
    /// This or less.
    AtMost(f64),
}

/// One target.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    /// The measure.
    pub measure: String,
    /// What of it.
    pub what: &'static str,
    /// What is compared.
    pub test: Test,
    /// With what.
    pub bound: Bound,
}

/// How a target fares.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Fate {
    /// It is reached.
    Met(Summary),
    /// It is not.
    Missed(Summary),
    /// Nobody knows, because of this.
    Unmeasured(String),
}

/// A target and how it fares.
#[derive(Debug, Clone)]
pub(crate) struct Verdict {
    /// The target.
    pub target: Target,
    /// How it fares.
    pub fate: Fate,
}

const RATE: &str = "rate";
const CPU: &str = "CPU of the proxies";
const THROUGHPUT: &str = "throughput";

/// All targets, in the order of tables.
pub(crate) fn all() -> Vec<Target> {
    let peers = Test::Ratio(OURS, PEER);
    let mut all = Vec::new();
    let mut add = |measure: &str, what, test, bound| {
        all.push(Target { measure: measure.to_owned(), what, test, bound });
    };
    for way in ["up", "down"] {
        let measure = format!("same.tcp1.{way}");
        add(&measure, THROUGHPUT, peers, Bound::AtLeast(4.0));
        add(&measure, THROUGHPUT, Test::Ratio(OURS, NONE), Bound::AtLeast(0.65));
        add(&measure, CPU, peers, Bound::AtMost(0.12));
    }
    for (measure, rate, cpu) in [
        ("same.requests64", 2.0, 0.4),
        ("same.connects", 2.0, 0.4),
        ("cross.requests64", 1.4, 0.7),
        ("cross.connects", 1.6, 0.6),
    ] {
        add(measure, RATE, peers, Bound::AtLeast(rate));
        add(measure, CPU, peers, Bound::AtMost(cpu));
    }
    for measure in ["cross.tcp1.up", "cross.tcp1.down", "cross.tcp8.up", "cross.tcp8.down"] {
        add(measure, THROUGHPUT, peers, Bound::AtLeast(1.5));
        add(measure, CPU, peers, Bound::AtMost(0.65));
    }
    for measure in ["cross.connects600", "same.connects600"] {
        add(measure, "p99 at the end / at the begin", Test::Value, Bound::AtMost(1.5));
    }
    for (measure, what) in [
        ("cross.latency500", "p50"),
        ("cross.latency500", "p99"),
        ("same.latency500", "p50"),
        ("same.latency500", "p99"),
    ] {
        add(measure, what, Test::Added, Bound::AtMost(0.6));
    }
    for measure in ["cross.tcp1.up", "cross.tcp1.down", "same.tcp1.up", "same.tcp1.down"] {
        add(measure, THROUGHPUT, Test::Ratio(PASSTHROUGH, NONE), Bound::AtLeast(0.85));
    }
    add(memory::IDLE, "RSS", Test::Value, Bound::AtMost(10.0));
    add(memory::HELD, memory::EACH, Test::Value, Bound::AtMost(4096.0));
    add(apart::WORLDS, apart::SETTLED, peers, Bound::AtMost(0.5));
    add(apart::HANDSHAKE, apart::HYBRID_TO_CLASSIC, Test::Value, Bound::AtMost(1.3));
    all
}

/// How all targets fare.
pub(crate) fn verdicts(results: &Results) -> Vec<Verdict> {
    all().into_iter().map(|target| Verdict { fate: target.fate(results), target }).collect()
}

impl Target {
    /// How it fares.
    pub fn fate(&self, results: &Results) -> Fate {
        let row = results.row(&self.measure, self.what);
        match row.and_then(|row| self.value(row)) {
            Some(value) if self.bound.holds(value.median) => Fate::Met(value),
            Some(value) => Fate::Missed(value),
            None => Fate::Unmeasured(self.why(results, row)),
        }
    }

    fn value(&self, row: &Row) -> Option<Summary> {
        match self.test {
            Test::Ratio(of, to) => row.ratio(of, to),
            Test::Added => row.added(OURS, PEER, NONE),
            Test::Value => row.summary(OURS),
        }
    }

    fn why(&self, results: &Results, row: Option<&Row>) -> String {
        let columns = match self.test {
            Test::Ratio(of, to) => vec![of, to],
            Test::Added => vec![OURS, PEER, NONE],
            Test::Value => vec![OURS],
        };
        let noted = results.missing.iter().find(|note| {
            [self.measure.as_str(), EVERYTHING].contains(&note.measure.as_str())
                && (note.column.is_empty() || columns.contains(&note.column.as_str()))
        });
        if let Some(note) = noted {
            return note.text.clone();
        }
        if columns.contains(&PEER) && !results.header.programs.contains_key(PEER) {
            return "no peer was given".to_owned();
        }
        match row {
            None => "not among what this run measured".to_owned(),
            Some(_) => "a column was not measured, or nothing can be divided by it".to_owned(),
        }
    }

    /// What should hold, in few words.
    pub fn wish(&self) -> String {
        let (sign, number) = match self.bound {
            Bound::AtLeast(number) => ("≥", number),
            Bound::AtMost(number) => ("≤", number),
        };
        match self.test {
            Test::Ratio(of, to) => format!("{of}/{to} {sign} {number}x"),
            Test::Added => format!("added, {OURS}/{PEER} {sign} {number}x"),
            Test::Value => format!("{OURS} {sign} {number}"),
        }
    }
}

impl Bound {
    fn holds(self, value: f64) -> bool {
        match self {
            Self::AtLeast(bound) => value >= bound,
            Self::AtMost(bound) => value <= bound,
        }
    }
}

impl Serialize for Verdict {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let (fate, value, why) = match &self.fate {
            Fate::Met(value) => ("met", Some(value.median), None),
            Fate::Missed(value) => ("missed", Some(value.median), None),
            Fate::Unmeasured(why) => ("not measured", None, Some(why)),
        };
        serde_json::json!({
            "name": format!("{}: {}", self.target.measure, self.target.what),
            "target": self.target.wish(),
            "value": value,
            "fate": fate,
            "why": why,
        })
        .serialize(to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{measure::Number, results::Note};

    fn fate(results: &Results, wish: &str, measure: &str) -> Fate {
        let found = verdicts(results).into_iter();
        let mut found = found.filter(|verdict| verdict.target.measure == measure && verdict.target.wish() == wish);
        found.next().expect("a target").fate
    }

    #[test]
    fn bounds_decide_and_edges_are_met() {
        let mut results = Results::default();
        for (column, value) in [(OURS, 8.0), (PEER, 2.0), (NONE, 20.0)] {
            results.measures.add("same.tcp1.up", column, &Number { what: THROUGHPUT, unit: "Gbit/s", value });
        }
        assert!(matches!(fate(&results, "ours/peer ≥ 4x", "same.tcp1.up"), Fate::Met(_)));
        assert!(matches!(fate(&results, "ours/none ≥ 0.65x", "same.tcp1.up"), Fate::Missed(_)));
    }

    #[test]
    fn what_was_not_measured_says_why() {
        let mut results = Results::default();
        assert_eq!(fate(&results, "ours/peer ≥ 4x", "same.tcp1.up"), Fate::Unmeasured("no peer was given".to_owned()));
        let (measure, column) = ("same.tcp1.up".to_owned(), PEER.to_owned());
        results.missing.push(Note { measure, column, text: "it fell over".to_owned() });
        assert_eq!(fate(&results, "ours/peer ≥ 4x", "same.tcp1.up"), Fate::Unmeasured("it fell over".to_owned()));
        assert!(matches!(fate(&results, "ours ≤ 10", memory::IDLE), Fate::Unmeasured(_)));
    }

    #[test]
    fn every_target_names_a_measure() {
        let names: Vec<String> = crate::item::all().iter().map(crate::item::Item::name).collect();
        for target in all() {
            assert!(names.contains(&target.measure), "{}", target.measure);
        }
    }
}
