//! The behaviour checklists (`tests/catalogue.txt` and those beside it): every case has a test that exists, or a reason why not yet.
//!
//! In: the catalogue and the sources. Out: one failure naming every line that is not true.
//! Absent on purpose: running the tests; that is `cargo test`'s.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
};

/// How many cases each group of the specification has.
const GROUPS: &[(&str, usize)] = &[
    ("OUT", 26),
    ("IN", 14),
    ("LB", 12),
    ("WL", 8),
    ("SVC", 4),
    ("POL", 2),
    ("XDS", 11),
    ("POOL", 8),
    ("CONN", 7),
    ("ID", 14),
    ("DNS", 28),
    ("ZDS", 14),
    ("PROC", 11),
    ("NS", 17),
    ("HOST", 7),
    ("CNI", 14),
    ("CONV", 2),
    ("AUTHZ", 34),
    ("NEAR", 11),
    ("BEHALF", 9),
];

struct Case {
    line: usize,
    id: String,
    held_by: String,
}

fn root() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

fn cases() -> Vec<Case> {
    let text = fs::read_to_string(root().join("tests/catalogue.txt")).expect("the catalogue");
    let lines = text.lines().enumerate().filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|(at, line)| {
            let parts: Vec<&str> = line.split(" | ").collect();
            let [id, _, held_by] = parts[..] else { panic!("line {}: not `id | what | tests`: {line:?}", at + 1) };
            Case { line: at + 1, id: id.to_owned(), held_by: held_by.to_owned() }
        })
        .collect()
}

/// Whether the file holds a test of this name: a function with a test attribute before it.
fn has_test(sources: &mut BTreeMap<String, Option<String>>, path: &str, name: &str) -> bool {
    let read = || fs::read_to_string(root().join(path)).ok();
    let Some(text) = sources.entry(path.to_owned()).or_insert_with(read) else { return false };
    let Some(at) = text.find(&format!("fn {name}(")) else { return false };
    let before = text[..at].trim_end_matches(|c| c != ']' && c != '}' && c != ';');
    let attribute = before.rfind("#[").map_or("", |start| &before[start..]);
    attribute.starts_with("#[test]") || attribute.starts_with("#[tokio::test")
}

/// The rows of the control plane's list, which have no ids.
fn rows() -> Vec<Case> {
    let text = fs::read_to_string(root().join("tests/control-plane.txt")).expect("the rows");
    let lines = text.lines().enumerate().filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|(at, line)| {
            let (row, held_by) = line.split_once(" | ").unwrap_or_else(|| panic!("line {}: {line:?}", at + 1));
            Case { line: at + 1, id: row.to_owned(), held_by: held_by.to_owned() }
        })
        .collect()
}

#[test]
fn every_case_has_a_test_or_a_reason() {
    check("tests/catalogue.txt", cases());
}

#[test]
fn every_row_of_the_control_plane_has_a_test_or_a_reason() {
    check("tests/control-plane.txt", rows());
}

/// The sections of the rules of HTTP.
const PROTOCOL: [&str; 25] = [
    "1.1", "1.2", "1.3", "1.4", "1.5", "2", "3", "4", "5", "6", "7", "8", "9", "10.1", "10.2", "10.3", "10.4", "10.5",
    "10.6", "10.7", "10.8", "10.9", "10.10", "10.11", "10.12",
];

/// The rules of HTTP at a proxy: the same rule in two sections has two lines.
fn rules() -> Vec<Case> {
    let text = fs::read_to_string(root().join("tests/l7-protocol.txt")).expect("the rules");
    let lines = text.lines().enumerate().filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|(at, line)| {
            let parts: Vec<&str> = line.split(" | ").collect();
            let [section, _, held_by] = parts[..] else { panic!("line {}: not `section | rule | tests`", at + 1) };
            let held_by = held_by.split(", ").map(|test| match test.strip_prefix("W/") {
                Some(rest) => format!("waypoint/tests/data_path/{rest}"),
                None => test.to_owned(),
            });
            Case { line: at + 1, id: section.to_owned(), held_by: held_by.collect::<Vec<_>>().join(", ") }
        })
        .collect()
}

#[test]
fn every_rule_of_http_has_a_test_or_a_reason() {
    let rules = rules();
    let found: BTreeSet<&str> = rules.iter().map(|rule| &*rule.id).collect();
    assert_eq!(found, PROTOCOL.into_iter().collect(), "each section has its rules, and there is no other");
    check("tests/l7-protocol.txt", rules);
}

fn check(file: &str, cases: Vec<Case>) {
    let mut sources = BTreeMap::new();
    let mut findings = Vec::new();
    for case in cases {
        if let Some(reason) = case.held_by.strip_prefix("not yet:") {
            if reason.split_whitespace().count() < 3 {
                findings.push(format!("line {}: {}: {reason:?} is no reason", case.line, case.id));
            }
            continue;
        }
        for test in case.held_by.split(", ") {
            let found = test.split_once("::").is_some_and(|(path, name)| has_test(&mut sources, path, name));
            if !found {
                findings.push(format!("line {}: {}: there is no test {test}", case.line, case.id));
            }
        }
    }
    assert!(findings.is_empty(), "{file}:\n  {}", findings.join("\n  "));
}

#[test]
fn no_case_is_missing_or_there_twice() {
    let mut seen = BTreeSet::new();
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    let cases = cases();
    for case in &cases {
        assert!(seen.insert(&case.id), "line {}: {} is there twice", case.line, case.id);
        *counts.entry(case.id.rsplit_once('-').map_or(case.id.as_str(), |(group, _)| group)).or_default() += 1;
    }
    assert_eq!(counts, GROUPS.iter().copied().collect());
}
