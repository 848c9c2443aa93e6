//! What a run found, as a file: written after every measure, read again by a run that goes on and by the README.
//!
//! In: rows, latencies, notes. Out: `results.json`, one object a measure below a header. Absent on purpose: words about
//! the numbers.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use lateen_load::histogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::{
    config::{NONE, OURS, PASSTHROUGH, PEER},
    header::Header,
    table::{Row, Summary, Table},
    target::{self, Verdict},
};

/// Shares of all requests at which latency is kept.
const SHARES: [f64; 16] = [0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 0.995, 0.999, 0.9999];

/// Everything a run found.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Results {
    /// What ran, and where.
    pub header: Header,
    /// The numbers.
    #[serde(with = "objects")]
    pub measures: Table,
    /// Latencies of measures that have any.
    pub latency: Vec<Curve>,
    /// Measures that were taken to their end.
    pub done: Vec<String>,
    /// What makes numbers doubtful.
    pub doubts: Vec<Note>,
    /// What could not be measured, and why.
    pub missing: Vec<Note>,
    /// Where the cycles of our proxies went, by measure.
    #[serde(default)]
    pub profiles: Vec<Profile>,
}

/// A word about a measure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Note {
    /// Which.
    pub measure: String,
    /// In which column; empty for all.
    pub column: String,
    /// The word.
    pub text: String,
}

/// The latencies of one column.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Curve {
    /// The measure.
    pub measure: String,
    /// The column.
    pub column: String,
    /// Requests.
    pub count: u64,
    /// A share of all requests, and the microseconds that it does not exceed.
    pub points: Vec<(f64, f64)>,
}

/// Where cycles went.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Profile {
    /// The measure.
    pub measure: String,
    /// Shares by kind of work.
    pub shares: BTreeMap<String, f64>,
}

impl Curve {
    /// Of all latencies of a column.
    pub fn new(measure: &str, column: &str, all: &Histogram) -> Self {
        let seen = SHARES.iter().filter(|share| all.total() as f64 * (1.0 - **share) >= 1.0);
        let points = seen.map(|share| (*share, all.percentile(*share) as f64 / 1e3)).collect();
        Self { measure: measure.to_owned(), column: column.to_owned(), count: all.total(), points }
    }
}

impl Results {
    /// Reads what was kept.
    pub fn read(file: &Path) -> anyhow::Result<Self> {
        let text = fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
        serde_json::from_str(&text).with_context(|| format!("{} holds no results of ours", file.display()))
    }

    /// Writes everything, at once or not at all.
    pub fn write(&self, file: &Path) -> anyhow::Result<()> {
        self.write_with(file, target::verdicts(self))
    }

    /// The same, beside other targets.
    pub fn write_with(&self, file: &Path, targets: Vec<Verdict>) -> anyhow::Result<()> {
        let text = serde_json::to_string_pretty(&Whole { targets, results: self });
        replace(file, &(text.context("writing results")? + "\n"))
    }

    /// A row.
    pub fn row(&self, measure: &str, what: &str) -> Option<&Row> {
        self.measures.rows.iter().find(|row| row.measure == measure && row.what == what)
    }

    /// Forgets what is known of a measure, so that it can be taken again.
    pub fn forget(&mut self, measure: &str) {
        self.measures.rows.retain(|row| row.measure != measure);
        self.latency.retain(|curve| curve.measure != measure);
        self.done.retain(|done| done != measure);
        self.doubts.retain(|note| note.measure != measure);
        self.missing.retain(|note| note.measure != measure);
        self.profiles.retain(|profile| profile.measure != measure);
    }

    /// Takes in what another run, or part of one, found.
    pub fn merge(&mut self, other: Self) {
        self.measures.rows.extend(other.measures.rows);
        self.latency.extend(other.latency);
        self.done.extend(other.done);
        self.doubts.extend(other.doubts);
        self.missing.extend(other.missing);
        self.profiles.extend(other.profiles);
    }
}

/// Writes beside `file` and moves it there.
pub(crate) fn replace(file: &Path, text: &str) -> anyhow::Result<()> {
    let mut beside = file.as_os_str().to_owned();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    fs::write(&beside, text).with_context(|| format!("writing {}", beside.display()))?;
    fs::rename(&beside, file).with_context(|| format!("writing {}", file.display()))
}

#[derive(Serialize)]
struct Whole<'a> {
    #[serde(flatten)]
    results: &'a Results,
    targets: Vec<Verdict>,
}

/// Rows as the file shows them: with medians and ratios, which are computed again when it is read.
mod objects {
    use serde::{Deserializer, Serializer};

    use super::*;

    #[derive(Serialize)]
    struct Object<'a> {
        name: String,
        #[serde(flatten)]
        row: &'a Row,
        none: Option<f64>,
        passthrough: Option<f64>,
        ours: Option<f64>,
        peer: Option<f64>,
        ratio: Option<f64>,
        ratio_min: Option<f64>,
        ratio_max: Option<f64>,
        min: BTreeMap<&'a String, f64>,
        max: BTreeMap<&'a String, f64>,
    }

    pub(super) fn serialize<S: Serializer>(table: &Table, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(table.rows.iter().map(object))
    }

    pub(super) fn deserialize<'a, D: Deserializer<'a>>(from: D) -> Result<Table, D::Error> {
        Vec::<Row>::deserialize(from).map(|rows| Table { rows })
    }

    fn object(row: &Row) -> Object<'_> {
        let all = |pick: fn(Summary) -> f64| -> BTreeMap<&String, f64> {
            row.runs.keys().filter_map(|column| Some((column, pick(row.summary(column)?)))).collect()
        };
        let median = |column| row.summary(column).map(|summary| summary.median);
        let ratio = row.ratio(OURS, PEER);
        Object {
            name: row.name(),
            row,
            none: median(NONE),
            passthrough: median(PASSTHROUGH),
            ours: median(OURS),
            peer: median(PEER),
            ratio: ratio.map(|ratio| ratio.median),
            ratio_min: ratio.map(|ratio| ratio.min),
            ratio_max: ratio.map(|ratio| ratio.max),
            min: all(|summary| summary.min),
            max: all(|summary| summary.max),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::Number;

    fn results() -> Results {
        let mut results = Results::default();
        for (column, value) in [(OURS, 4.0), (PEER, 2.0), (OURS, 9.0), (PEER, 3.0)] {
            results.measures.add("same.tcp1.up", column, &Number { what: "throughput", unit: "Gbit/s", value });
        }
        results.done.push("same.tcp1.up".to_owned());
        results
    }

    #[test]
    fn what_is_written_is_read_again_and_shows_ratios() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("results.json");
        results().write(&file).expect("written");
        assert_eq!(Results::read(&file).expect("read"), results());
        let shown: serde_json::Value = serde_json::from_str(&fs::read_to_string(&file).expect("a file")).expect("JSON");
        let first = &shown["measures"][0];
        assert_eq!((first["ratio"].as_f64(), first["ratio_max"].as_f64()), (Some(2.5), Some(3.0)));
        assert_eq!(first["name"], "same.tcp1.up: throughput");
        assert!(shown["targets"].as_array().is_some_and(|all| all.len() > 10));
        assert_eq!(fs::read_dir(directory.path()).expect("listed").count(), 1, "nothing is left beside it");
    }

    #[test]
    fn a_measure_is_forgotten_whole() {
        let mut all = results();
        all.forget("same.tcp1.up");
        assert_eq!(all, Results::default());
    }

    #[test]
    fn shares_that_no_request_reached_are_not_claimed() {
        let mut histogram = Histogram::default();
        (1..=100).for_each(|micros| histogram.record(micros * 1000));
        let curve = Curve::new("m", "c", &histogram);
        assert_eq!(curve.points.last().map(|point| point.0), Some(0.99));
    }
}
