//! Results as tables for people. Pure.
//!
//! In: results. Out: `RESULTS.md`, and the README's section. Absent on purpose: numbers of its own; whatever stands here stands
//! in `results.json`.

use anyhow::Context as _;

use crate::{
    config::{NONE, OURS, PASSTHROUGH, PEER},
    plot::Picture,
    results::Results,
    table::{Row, Summary},
    target::{self, Fate, Verdict},
};

const BEGIN: &str = "<!-- bench:begin (written by `lateen-bench readme` from bench/results.json) -->";
const END: &str = "<!-- bench:end -->";
const NOTHING: &str = "No results are published yet; a run of `make bench` writes them here.";
/// Why targets are missed, and what is next: lines of a pattern (see `reason`), ` = `, and the words.
const REASONS: &str = include_str!("../missed.txt");

/// `RESULTS.md`, with its pictures in `plots/`.
pub(crate) fn report(results: &Results, pictures: &[Picture]) -> String {
    let verdicts = target::verdicts(results);
    let mut text = String::from(
        "# Results\n\nWritten by the run itself (`bench/README.md` says how); the same numbers, run by run, are in \
         `results.json`. Numbers are medians\n(least to most); ratios are taken round by round, then their median. Rates of \
         a shared machine drift, so only ratios within\none run and CPU per unit mean something.\n\n",
    );
    text.push_str(&header(results));
    text.push_str("\n## Targets\n\n");
    text.push_str(&targets(&verdicts));
    text.push_str(&missed(results, &verdicts));
    text.push_str(&notes(results));
    if !pictures.is_empty() {
        text.push_str("\n## Plots\n\n");
        pictures.iter().for_each(|picture| text.push_str(&format!("![{}](plots/{})\n\n", picture.title, picture.file)));
    }
    text.push_str(&numbers(results, &verdicts));
    text
}

/// All rows, by measure.
pub(crate) fn numbers(results: &Results, verdicts: &[Verdict]) -> String {
    let mut text = String::from("\n## All numbers\n");
    let mut last = "";
    for row in &results.measures.rows {
        if row.measure != last {
            text.push_str(&format!("\n### {}\n\n{}", row.measure, head(results, &row.measure)));
            last = &row.measure;
        }
        text.push_str(&line(results, row, verdicts));
    }
    text
}

/// The README's table with its marks.
fn section(results: &Results) -> String {
    let verdicts = target::verdicts(results);
    let count = |met: fn(&Fate) -> bool| verdicts.iter().filter(|verdict| met(&verdict.fate)).count();
    let (met, missed) = (count(|fate| matches!(fate, Fate::Met(_))), count(|fate| matches!(fate, Fate::Missed(_))));
    format!(
        "{BEGIN}\n{met} of {} targets are met, {missed} missed, {} not measured; why, and all other numbers, with plots: \
         [bench/RESULTS.md](bench/RESULTS.md).\n\n{}\n{}{END}\n",
        verdicts.len(),
        verdicts.len() - met - missed,
        header(results),
        targets(&verdicts)
    )
}

/// `readme` with its section replaced.
pub(crate) fn with_section(readme: &str, results: Option<&Results>) -> anyhow::Result<String> {
    let begin = readme.find(BEGIN).with_context(|| format!("the README has no line {BEGIN}"))?;
    let end = readme[begin..].find(END).with_context(|| format!("the README has no line {END}"))?;
    let after = readme[begin + end + END.len()..].trim_start_matches('\n');
    let section = results.map_or_else(|| format!("{BEGIN}\n{NOTHING}\n{END}\n"), section);
    Ok(format!("{}{section}\n{after}", &readme[..begin]))
}

fn header(results: &Results) -> String {
    let mut text = header_lines(results);
    if !results.header.programs.contains_key(PEER) {
        text.push_str("* No peer was given (`PEER_ZTUNNEL=PATH make bench`): targets beside it are not measured.\n");
    }
    text
}

/// What ran, and on what.
pub(crate) fn header_lines(results: &Results) -> String {
    let header = &results.header;
    let mut text = format!(
        "* `{}`, {}, sources {}\n* {}, {} cores, Linux {}\n* {} rounds of {} s; spread of our numbers (most less least, over the \
         median; the middle of all rows): {}\n",
        header.command,
        header.date,
        header.commit,
        header.cpu,
        header.cores,
        header.kernel,
        header.rounds,
        header.seconds,
        spread(results)
    );
    for (column, subject) in &header.programs {
        text.push_str(&format!("* {column}: {} (profile {})\n", subject.version, subject.build));
    }
    text
}

fn spread(results: &Results) -> String {
    let of = |row: &Row| {
        let summary = row.summary(OURS).filter(|_| row.runs.get(OURS).is_some_and(|runs| runs.len() > 1))?;
        Some((summary.max - summary.min) / summary.median).filter(|spread| spread.is_finite())
    };
    let mut spreads: Vec<f64> = results.measures.rows.iter().filter_map(of).collect();
    spreads.sort_by(f64::total_cmp);
    spreads.get(spreads.len() / 2).map_or_else(|| "unknown".to_owned(), |middle| format!("{:.0} %", middle * 100.0))
}

/// A table of targets.
pub(crate) fn targets(verdicts: &[Verdict]) -> String {
    let mut text = String::from("| measure | of it | target | measured | |\n| --- | --- | --- | --- | --- |\n");
    for Verdict { target, fate } in verdicts {
        let (measured, word) = match fate {
            Fate::Met(value) => (spanned(*value), "met".to_owned()),
            Fate::Missed(value) => (spanned(*value), "**MISSED**".to_owned()),
            Fate::Unmeasured(why) => ("–".to_owned(), format!("not measured: {}", plain(why))),
        };
        text.push_str(&format!("| {} | {} | {} | {measured} | {word} |\n", target.measure, target.what, target.wish()));
    }
    text
}

/// Why, and what is next, for every missed target.
fn missed(results: &Results, verdicts: &[Verdict]) -> String {
    let missed: Vec<&Verdict> = verdicts.iter().filter(|verdict| matches!(verdict.fate, Fate::Missed(_))).collect();
    if missed.is_empty() {
        return String::new();
    }
    let mut text = String::from("\n### Missed, and why\n\n");
    for Verdict { target, .. } in missed {
        let name = format!("{}: {}, {}", target.measure, target.what, target.wish());
        let reason = reason(&name).unwrap_or("not explained yet");
        text.push_str(&format!("* {name}: {reason}\n"));
        for profile in results.profiles.iter().filter(|profile| profile.measure == target.measure) {
            let mut shares: Vec<(&String, &f64)> = profile.shares.iter().collect();
            shares.sort_by(|one, other| other.1.total_cmp(one.1));
            let shares: Vec<String> =
                shares.iter().map(|(kind, share)| format!("{kind} {:.0} %", *share * 100.0)).collect();
            text.push_str(&format!(
                "  Cycles of our proxies ([flame graph](flames/{}.svg)): {}.\n",
                target.measure,
                shares.join(", ")
            ));
        }
    }
    text
}

fn reason(name: &str) -> Option<&'static str> {
    reason_among(REASONS, name)
}

/// The first that fits: a name's begin and, after a star, a word that it holds.
pub(crate) fn reason_among<'r>(reasons: &'r str, name: &str) -> Option<&'r str> {
    let fits = |pattern: &str| {
        let (begin, word) = pattern.split_once('*').unwrap_or((pattern, ""));
        name.starts_with(begin) && name.contains(word)
    };
    let mut lines = reasons.lines().filter_map(|line| line.split_once(" = "));
    lines.find(|(pattern, _)| fits(pattern)).map(|(_, words)| words)
}

/// What was not measured, and what is doubtful.
pub(crate) fn notes(results: &Results) -> String {
    let mut text = String::new();
    for (title, notes) in [("Not measured", &results.missing), ("Doubtful", &results.doubts)] {
        if notes.is_empty() {
            continue;
        }
        text.push_str(&format!("\n## {title}\n\n"));
        for note in notes {
            let column = if note.column.is_empty() { String::new() } else { format!(", {}", note.column) };
            text.push_str(&format!("* {}{column}: {}\n", note.measure, plain(&note.text)));
        }
    }
    text
}

/// The columns of a measure, in the order of tables.
fn columns<'a>(results: &'a Results, measure: &str) -> Vec<&'a str> {
    let rows = || results.measures.rows.iter().filter(|row| row.measure == measure);
    let has = |column: &&str| rows().any(|row| row.runs.contains_key(*column));
    let others = results.header.programs.keys().map(String::as_str).filter(|name| ![OURS, PEER].contains(name));
    [NONE, PASSTHROUGH, OURS, PEER].into_iter().chain(others).filter(has).collect()
}

fn head(results: &Results, measure: &str) -> String {
    let columns = columns(results, measure);
    format!("| | {} | ours/peer | target |\n|{}\n", columns.join(" | "), " --- |".repeat(columns.len() + 3))
}

fn line(results: &Results, row: &Row, verdicts: &[Verdict]) -> String {
    let mut text = format!("| {}, {} |", row.what, row.unit);
    for column in columns(results, &row.measure) {
        text.push_str(&format!(" {} |", row.summary(column).map_or_else(|| "–".to_owned(), spanned)));
    }
    let ratio = row.ratio(OURS, PEER).map_or_else(|| "–".to_owned(), |ratio| format!("{}x", spanned(ratio)));
    let of_row = verdicts.iter().filter(|it| it.target.measure == row.measure && it.target.what == row.what);
    let words: Vec<String> = of_row
        .map(|verdict| match verdict.fate {
            Fate::Met(_) => format!("{}: met", verdict.target.wish()),
            Fate::Missed(_) => format!("{}: **MISSED**", verdict.target.wish()),
            Fate::Unmeasured(_) => format!("{}: not measured", verdict.target.wish()),
        })
        .collect();
    text + &format!(" {ratio} | {} |\n", words.join("; "))
}

fn spanned(summary: Summary) -> String {
    if summary.min == summary.max {
        return short(summary.median);
    }
    format!("{} ({} to {})", short(summary.median), short(summary.min), short(summary.max))
}

/// One line without what a table would take for its own.
fn plain(text: &str) -> String {
    text.replace(['|', '\n', '<', '>'], " ")
}

/// Three digits that matter.
pub(crate) fn short(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        size if size >= 10_000.0 => format!("{:.1}k", value / 1000.0),
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{measure::Number, results::Note};

    fn results() -> Results {
        let mut results = Results::default();
        for (column, value) in [(OURS, 8.0), (PEER, 4.0), (NONE, 30.0), (OURS, 9.0), (PEER, 3.0)] {
            results.measures.add("same.tcp1.up", column, &Number { what: "throughput", unit: "Gbit/s", value });
        }
        results.header.programs = [OURS, PEER].map(|name| (name.to_owned(), Default::default())).into();
        results
    }

    #[test]
    fn every_target_is_shown_and_missed_ones_are_marked() {
        let text = report(&results(), &[]);
        assert!(
            text.contains("| same.tcp1.up | throughput | ours/peer ≥ 4x | 2.50 (2.00 to 3.00) | **MISSED** |"),
            "{text}"
        );
        assert!(text.contains("* same.tcp1.up: throughput, ours/peer ≥ 4x: "), "{text}");
        let table = text.lines().filter(|line| line.starts_with("| ") && line.contains(": ")).count();
        assert!(table >= target::all().len() - 2, "{text}");
        assert!(text.contains("| throughput, Gbit/s | 30.0 | 8.50 (8.00 to 9.00) | 3.50 (3.00 to 4.00) |"), "{text}");
    }

    #[test]
    fn what_failed_says_so() {
        let mut results = results();
        let note = |text: &str| Note { measure: "cross.connects".into(), column: PEER.into(), text: text.into() };
        results.missing.push(note("it fell | over"));
        let text = report(&results, &[]);
        assert!(text.contains("* cross.connects, peer: it fell   over"), "{text}");
        assert!(text.contains("not measured: it fell   over"), "{text}");
    }

    #[test]
    fn the_section_is_replaced_and_nothing_else() {
        let readme = format!("before\n\n{BEGIN}\nold\n{END}\n\nafter\n");
        let once = with_section(&readme, Some(&results())).expect("marks");
        assert!(
            once.starts_with("before\n\n<!--") && once.ends_with("-->\n\nafter\n") && !once.contains("old"),
            "{once}"
        );
        assert_eq!(with_section(&once, Some(&results())).expect("marks"), once);
        assert!(with_section("no marks", None).is_err());
    }

    #[test]
    fn reasons_are_of_targets() {
        let names = target::all().into_iter().map(|it| format!("{}: {}, {}", it.measure, it.what, it.wish()));
        let found: std::collections::BTreeSet<&str> = names.filter_map(|name| reason(&name)).collect();
        for (pattern, words) in REASONS.lines().filter_map(|line| line.split_once(" = ")) {
            assert!(found.contains(words), "{pattern} fits no target, or another line comes before it");
        }
    }

    #[test]
    fn digits_that_matter() {
        assert_eq!([0.0, 0.123, 12.34, 123.4, 12_345.0].map(short), ["0", "0.12", "12.3", "123", "12.3k"]);
    }
}
