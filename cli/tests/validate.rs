//! `lateen validate` as people run it: the process, its words and its exit code.

#[path = "../../crates/cluster/src/validate/tests/cases.rs"]
mod cases;

use std::{
    collections::BTreeMap,
    io::Write as _,
    path::Path,
    process::{Command, Output, Stdio},
};

use cases::{Case, cases};
use serde_json::Value;

fn validate(arguments: &[&str], input: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lateen"));
    command.arg("validate").args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("it starts");
    child.stdin.take().expect("piped").write_all(input.as_bytes()).expect("it reads, or has no need to");
    child.wait_with_output().expect("it ends")
}

/// Each case has a file of its own.
fn name(at: usize, case: &Case) -> String {
    format!("{at:03}-{}.yaml", case.row)
}

/// JSON is YAML too.
fn write(folder: &Path, cases: &[&Case]) {
    for (at, case) in cases.iter().enumerate() {
        std::fs::write(folder.join(name(at, case)), case.object().to_string()).expect("writable");
    }
}

#[test]
fn every_row_is_found_in_its_words_and_fails_if_it_is_an_error() {
    let (all, folder) = (cases(), tempfile::tempdir().expect("a folder"));
    write(folder.path(), &all.iter().collect::<Vec<_>>());
    let given = folder.path().to_str().expect("text");

    let ran = validate(&["-f", given], "");
    assert_eq!(ran.status.code(), Some(1), "{}", String::from_utf8_lossy(&ran.stderr));
    let text = String::from_utf8(ran.stdout).expect("text");
    let (lines, last) = text.trim_end().rsplit_once('\n').expect("lines");
    let lines: Vec<&str> = lines.lines().collect();
    let expected: Vec<String> = all.iter().enumerate().flat_map(|(at, case)| printed(given, at, case)).collect();
    assert_eq!(lines, expected);
    let count = |level: &str| all.iter().flat_map(|case| &case.finds).filter(|one| one.starts_with(level)).count();
    assert_eq!(last, format!("{} objects, {} errors, {} warnings", all.len(), count("error "), count("warning ")));

    let ran = validate(&["-f", given, "-o", "json"], "");
    assert_eq!(ran.status.code(), Some(1));
    let views: Vec<Value> = serde_json::from_slice(&ran.stdout).expect("JSON");
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for view in &views {
        let text = |field: &str| view[field].as_str().unwrap_or_default();
        let words = format!("{} {}: {}; {}", text("level"), text("field"), text("reason"), text("mend"));
        found.entry(text("file").to_owned()).or_default().push(words);
    }
    let finds = |(at, case): (usize, &Case)| (format!("{given}/{}", name(at, case)), case.finds.clone());
    assert_eq!(found, all.iter().enumerate().map(finds).filter(|(_, finds)| !finds.is_empty()).collect());
}

fn printed(folder: &str, at: usize, case: &Case) -> Vec<String> {
    let object = case.object();
    let word = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    let who = format!("{} {}/{}", word("/kind"), word("/metadata/namespace"), word("/metadata/name"));
    let line = |finding: &String| {
        let (level, words) = finding.split_once(' ').expect("level and words");
        format!("{folder}/{}: {who}: {level}: {words}", name(at, case))
    };
    case.finds.iter().map(line).collect()
}

#[test]
fn what_is_no_error_does_not_fail() {
    // What the API server would refuse by itself is no matter of taste here either.
    let is_error = |case: &Case| case.finds.iter().any(|finding| finding.starts_with("error "));
    assert!(cases().iter().filter(|case| case.schema.is_some()).all(is_error));
    let (all, folder) = (cases(), tempfile::tempdir().expect("a folder"));
    let fine: Vec<&Case> =
        all.iter().filter(|case| case.finds.iter().all(|finding| finding.starts_with("warning "))).collect();
    assert!(fine.iter().any(|case| !case.finds.is_empty()) && fine.iter().any(|case| case.finds.is_empty()));
    write(folder.path(), &fine);
    let ran = validate(&["-f", folder.path().to_str().expect("text")], "");
    assert_eq!(ran.status.code(), Some(0), "{}", String::from_utf8_lossy(&ran.stdout));
}

#[test]
fn standard_input_is_read_and_what_cannot_be_read_is_named() {
    let bad =
        "kind: AuthorizationPolicy\napiVersion: security.istio.io/v1\nmetadata: {name: p}\nspec: {action: DENY}\n";
    let ran = validate(&["-f", "-"], bad);
    assert_eq!(ran.status.code(), Some(1));
    let expected = "-: AuthorizationPolicy p: error: spec.rules: a DENY policy without rules refuses nothing; add a rule; \
                    {} is everything\n1 objects, 1 errors, 0 warnings\n";
    assert_eq!(String::from_utf8_lossy(&ran.stdout), expected);
    for (arguments, input, named) in [
        (&["-f", "/nowhere/at-all.yaml"][..], "", "/nowhere/at-all.yaml"),
        (&["-f", "-"], "a: [", "-"),
        (&[], "", "-f"),
    ] {
        let ran = validate(arguments, input);
        let (code, said) = (ran.status.code(), String::from_utf8_lossy(&ran.stderr).into_owned());
        assert!(code.is_some_and(|code| code != 0) && said.contains(named), "{arguments:?}: {code:?} {said}");
    }
}
