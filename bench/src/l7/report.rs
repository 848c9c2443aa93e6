//! Results as a page. Pure but for reading and writing files.
//!
//! In: results. Out: `l7.json`, `L7.md`. Absent on purpose: numbers of its own.

use std::{fs, path::Path};

use anyhow::Context as _;

use super::targets;
use crate::{
    markdown,
    results::{Results, replace},
    target::Fate,
};

const RESULTS: &str = "l7.json";
const REPORT: &str = "L7.md";
/// Why targets are missed, and what is next.
const REASONS: &str = include_str!("../../l7-missed.txt");

/// Writes both files.
pub(crate) fn keep(out: &Path, results: &Results) -> anyhow::Result<()> {
    fs::create_dir_all(out).with_context(|| format!("making {}", out.display()))?;
    results.write_with(&out.join(RESULTS), targets::verdicts(results))?;
    replace(&out.join(REPORT), &page(results))
}

/// Writes the page again, from what is in `out` already.
pub(crate) fn again(out: &Path) -> anyhow::Result<()> {
    replace(&out.join(REPORT), &page(&Results::read(&out.join(RESULTS))?))
}

fn page(results: &Results) -> String {
    let verdicts = targets::verdicts(results);
    let mut text = String::from(
        "# Requests through one proxy, beside Envoy\n\nWritten by `make bench-l7` (`bench/README.md` says how); the same numbers, \
         run by run, are in `l7.json`. Numbers are medians\n(least to most); ratios are taken round by round, then their \
         median. Each proxy has one worker and one processor; the load\nand the server share the other.\n\n",
    );
    text.push_str(&markdown::header_lines(results));
    text.push_str("\n## Targets\n\n");
    text.push_str(&markdown::targets(&verdicts));
    let missed: Vec<String> = verdicts
        .iter()
        .filter(|verdict| matches!(verdict.fate, Fate::Missed(_)))
        .map(|verdict| {
            let name = format!("{}: {}, {}", verdict.target.measure, verdict.target.what, verdict.target.wish());
            let reason = markdown::reason_among(REASONS, &name).unwrap_or("not explained yet");
            format!("* {name}: {reason}\n")
        })
        .collect();
    if !missed.is_empty() {
        text.push_str(&format!("\n### Missed, and why\n\n{}", missed.concat()));
    }
    text.push_str(&markdown::notes(results));
    text.push_str(&markdown::numbers(results, &verdicts));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_says_what_the_results_say() {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        if !here.join(RESULTS).exists() {
            assert!(!here.join(REPORT).exists(), "a report of no results");
            return;
        }
        let results = Results::read(&here.join(RESULTS)).expect("results");
        let report = fs::read_to_string(here.join(REPORT)).expect("the report");
        assert_eq!(report, page(&results), "run `lateen-bench l7-report`");
    }

    #[test]
    fn every_target_names_a_measure_and_reasons_are_of_targets() {
        let names: Vec<String> =
            targets::all().iter().map(|it| format!("{}: {}, {}", it.measure, it.what, it.wish())).collect();
        assert!(targets::all().iter().all(|target| super::super::measures::ALL.contains(&target.measure.as_str())));
        for (pattern, words) in REASONS.lines().filter_map(|line| line.split_once(" = ")) {
            let found = names.iter().any(|name| markdown::reason_among(REASONS, name) == Some(words));
            assert!(found, "{pattern} fits no target, or another line comes before it");
        }
    }
}
