//! `docs/validation.md`, written from the list of invalid inputs, so that it says what is said.

use std::path::PathBuf;

use serde_json::{Map, Value};

use super::cases::{Case, cases};

const INTRODUCTION: &str = "\
# What is refused, and in which words

Objects are judged when they are applied, by the controller's validating webhook, and before that by `lateen validate -f`; both
are the same code and say the same. An **error** refuses the object, a **warning** does not. Every finding names the field, what
is wrong there and what would be right. Where the API server refuses an object by the schema of its kind before it asks
anybody (unknown fields, wrong types, words of no closed set, nulls in lists), `kubectl apply` shows the schema's words; the entry
says so, and what `lateen validate` says. Objects that were stored before stay, and may be touched elsewhere and deleted.

The letters and numbers are the rows of the list the suites go through: `crates/cluster/src/validate/cases/`. The same files are
given to `lateen validate` (`cli/tests/validate.rs`) and, over `kubectl apply`, to a real webhook
(`controller/tests/cluster/admission.rs`). This page is written from them; a test fails when it differs.

What needs other objects to judge is not here but in the objects' status: whether a waypoint, a target or a backend exists and
may be used.

`exportTo` hides a ServiceEntry: `.` from all but its own namespace, `~` from everybody, and `serviceEntryVisibility` of the mesh
config, where it is set, decides instead. On a Service it hides nothing at layer 4: to a proxy that does not know an address it
is none of the mesh's, so that hiding one would take its traffic out of mTLS and around its waypoint; use an AuthorizationPolicy.

A WorkloadGroup is kept and judged, and nothing else comes of it: no virtual machine registers itself with this controller.
";

const CHAPTERS: [(&str, &str); 13] = [
    ("C", "What several kinds share"),
    ("A", "AuthorizationPolicy"),
    ("R", "RequestAuthentication"),
    ("P", "PeerAuthentication"),
    ("V", "VirtualService"),
    ("D", "DestinationRule"),
    ("G", "Gateway"),
    ("S", "ServiceEntry"),
    ("W", "WorkloadEntry"),
    ("WG", "WorkloadGroup"),
    ("X", "Sidecar, Telemetry, ProxyConfig, extensions"),
    ("gateway", "Gateway API"),
    ("labels", "Labels and annotations of any object"),
];
/// Longer texts are cut in examples.
const TEXT_MAX: usize = 72;

fn file() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/validation.md")
}

fn page() -> String {
    let (cases, mut page) = (cases(), INTRODUCTION.to_owned());
    for (prefix, title) in CHAPTERS {
        page.push_str(&format!("\n## {title}\n"));
        for case in cases.iter().filter(|case| chapter(&case.row) == prefix) {
            page.push_str(&entry(case));
        }
    }
    page
}

/// The letters of a row.
fn chapter(row: &str) -> &str {
    match row.find(|c: char| c.is_ascii_digit()) {
        Some(end) => row.get(..end).unwrap_or(row),
        None => row,
    }
}

fn entry(case: &Case) -> String {
    let object = case.object();
    let kind = object["kind"].as_str().unwrap_or_default();
    let mut shown = Map::new();
    for field in ["labels", "annotations"] {
        if let Some(given) = object["metadata"].get(field) {
            shown.insert(field.to_owned(), given.clone());
        }
    }
    if object["metadata"]["name"] != "it" {
        shown.insert("name".to_owned(), object["metadata"]["name"].clone());
    }
    shown.insert("spec".to_owned(), object["spec"].clone());
    let mut shown = Value::Object(shown);
    cut(&mut shown);
    let mut entry = format!("\n**{}** {kind} `{}`\n\n", case.row, shown.to_string().replace('`', "'"));
    match case.schema.as_deref() {
        Some("") => entry.push_str("* by the schema: the null is dropped, and the rest is taken\n"),
        Some(words) => entry.push_str(&format!("* by the schema: `{words}`\n")),
        None => {}
    }
    // What is said of every object of a kind is said above.
    for finding in case.finds.iter().filter(|finding| !finding.starts_with("warning kind: ")) {
        entry.push_str(&format!("* {}\n", one(finding)));
    }
    entry
}

/// `error spec.a: why; mend`, with the field set apart.
fn one(finding: &str) -> String {
    let (level, words) = finding.split_once(' ').unwrap_or(("", finding));
    let (field, words) = words.split_once(": ").unwrap_or(("", words));
    let words = words.replace('*', "\\*").replace('<', "\\<").replace('_', "\\_");
    format!("{level} `{field}`: {}", words.chars().take(400).collect::<String>())
}

fn cut(value: &mut Value) {
    match value {
        Value::String(text) if text.chars().count() > TEXT_MAX => {
            *text = format!("{}…", text.chars().take(TEXT_MAX).collect::<String>());
        }
        Value::Array(items) => items.iter_mut().for_each(cut),
        Value::Object(members) => members.values_mut().for_each(cut),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[test]
fn the_page_says_what_is_said() {
    let kept = std::fs::read_to_string(file()).unwrap_or_default();
    assert!(
        kept == page(),
        "docs/validation.md differs; write it anew with: cargo test -p lateen-cluster -- --ignored write_page"
    );
}

#[test]
#[ignore = "writes docs/validation.md; run it by name after changing a rule"]
fn write_page() {
    std::fs::write(file(), page()).expect("writable");
}

#[test]
fn every_row_has_a_chapter() {
    let lost: Vec<String> = cases()
        .into_iter()
        .map(|case| case.row)
        .filter(|row| {
            !["none", "later"].contains(&row.as_str()) && !CHAPTERS.iter().any(|(prefix, _)| chapter(row) == *prefix)
        })
        .collect();
    assert!(lost.is_empty(), "{lost:?}");
}
