//! Which of our crates may use which.
//!
//! A crate may use crates of lower rows only. Rows 0 to 3 are shared, then come the lab's two crates, which programs do
//! not see, then the programs, then what tests them.

use std::collections::{BTreeMap, BTreeSet};

use cargo_metadata::{Metadata, MetadataCommand, Package};

use crate::tree::{assert_none, host, root};

/// Our crates by row, without the common prefix.
const ROWS: &[&[&str]] = &[
    &["types", "wire"],
    &["rt"],
    &["telemetry", "net", "policy", "cluster"],
    &["identity", "hbone", "xds", "state", "embedded-api"],
    &["lab"],
    &["ztunnel", "waypoint", "controller", "cli", "cni-plugin", "cni-agent", "load"],
    &["tests", "bench", "micro", "bench-controller"],
];

/// Who may use the lab: it is a place to run programs in, never a part of one. Tests of a program may.
const LAB: [&str; 2] = ["lab", "embedded-api"];
const USERS_OF_THE_LAB: [&str; 5] = ["lab", "cli", "tests", "bench", "bench-controller"];

/// Arrows the rows forbid, with the reason each is right.
const EXCEPTIONS: &[(&str, &str, &str)] =
    &[("cni-agent", "cni-plugin", "both ends of one door: the messages between plugin and agent are written once")];

/// Third-party crates some of ours must not reach, by whatever way.
const FORBIDDEN: &[(&str, &str, &str)] = &[
    ("cni-plugin", "tokio", "the runtime waits for the plugin at every pod; it is small and synchronous"),
    ("policy", "tokio", "policy decides and never waits"),
    ("policy", "prost", "policy sees domain values, never messages"),
    ("types", "tokio", "values do not wait"),
    ("types", "prost", "domain values are not wire formats"),
];

/// Third-party crates some of ours must not name. (Others may bring them along: metadata also lists what no chosen
/// feature builds.)
const FORBIDDEN_BY_NAME: &[(&str, &str, &str)] = &[
    ("types", "serde", "domain values are not wire formats"),
    ("policy", "serde", "dumps are made from view types"),
    ("state", "serde", "dumps are made from view types"),
];

const PREFIX: &str = "lateen-";

fn metadata() -> Metadata {
    let platform = ["--locked", "--offline", "--filter-platform", &host()].map(str::to_owned);
    MetadataCommand::new().current_dir(root()).other_options(platform).exec().expect("cargo metadata")
}

fn row(name: &str) -> Option<usize> {
    ROWS.iter().position(|row| row.contains(&name))
}

fn short(name: &str) -> Option<&str> {
    name.strip_prefix(PREFIX)
}

fn ours(metadata: &Metadata) -> Vec<&Package> {
    metadata.workspace_packages()
}

#[test]
fn every_crate_of_ours_has_a_row_and_the_prefix() {
    let metadata = metadata();
    let mut findings = Vec::new();
    let mut present = BTreeSet::new();
    for package in ours(&metadata) {
        match short(&package.name).filter(|name| row(name).is_some()) {
            Some(name) => {
                present.insert(name.to_owned());
            }
            None => findings.push(format!("{}: not in ROWS; decide which crates it may use", package.name)),
        }
    }
    let gone = ROWS.iter().copied().flatten().filter(|name| !present.contains(**name));
    findings.extend(gone.map(|name| format!("{name}: in ROWS, but no such crate")));
    assert_none("crates without a row (tests/tests/tidy/arrows.rs):", &findings);
}

#[test]
fn arrows_point_down() {
    let metadata = metadata();
    let mut findings = Vec::new();
    let mut unused: BTreeSet<(&str, &str)> = EXCEPTIONS.iter().map(|(from, to, _)| (*from, *to)).collect();
    for package in ours(&metadata) {
        let Some(from) = short(&package.name) else { continue };
        for dependency in &package.dependencies {
            let Some(to) = short(&dependency.name) else { continue };
            let only_tests = dependency.kind == cargo_metadata::DependencyKind::Development;
            if unused.remove(&(from, to)) || EXCEPTIONS.iter().any(|(a, b, _)| (*a, *b) == (from, to)) {
                continue;
            }
            if row(to) >= row(from) {
                findings.push(format!("{from} -> {to}: {to} is not in a lower row"));
            }
            if LAB.contains(&to) && !USERS_OF_THE_LAB.contains(&from) && !only_tests {
                findings.push(format!("{from} -> {to}: only cli, tests and bench run the lab"));
            }
        }
    }
    findings.extend(unused.iter().map(|(from, to)| format!("{from} -> {to}: an exception nobody needs")));
    assert_none("arrows that point the wrong way:", &findings);
}

#[test]
fn some_crates_stay_away_from_some_others() {
    let metadata = metadata();
    let resolve = metadata.resolve.as_ref().expect("resolved");
    let names: BTreeMap<_, _> =
        metadata.packages.iter().map(|package| (&package.id, package.name.to_string())).collect();
    let uses: BTreeMap<_, Vec<_>> = resolve
        .nodes
        .iter()
        .map(|node| {
            // What tests and build scripts use is not in the program.
            let normal = node
                .deps
                .iter()
                .filter(|dep| dep.dep_kinds.iter().any(|kind| kind.kind == cargo_metadata::DependencyKind::Normal));
            (&node.id, normal.map(|dep| &dep.pkg).collect())
        })
        .collect();
    let mut findings = Vec::new();
    for (from, to, reason) in FORBIDDEN {
        let start = ours(&metadata).into_iter().find(|package| short(&package.name) == Some(from)).expect("the crate");
        let (mut seen, mut next) = (BTreeSet::new(), vec![&start.id]);
        while let Some(id) = next.pop() {
            if seen.insert(id) {
                next.extend(uses.get(id).into_iter().flatten());
            }
        }
        if seen.iter().any(|id| names[*id] == *to) {
            findings.push(format!("{from} reaches {to}: {reason}"));
        }
    }
    for (from, to, reason) in FORBIDDEN_BY_NAME {
        let package =
            ours(&metadata).into_iter().find(|package| short(&package.name) == Some(from)).expect("the crate");
        if package.dependencies.iter().any(|dependency| dependency.name == *to) {
            findings.push(format!("{from} names {to}: {reason}"));
        }
    }
    assert_none("crates that reach what they must not:", &findings);
}

#[test]
fn every_member_takes_the_houses_lints_and_words() {
    let mut findings = Vec::new();
    for package in ours(&metadata()) {
        let manifest = std::fs::read_to_string(&package.manifest_path).expect("a manifest");
        for wanted in ["[lints]\nworkspace = true", "version.workspace = true", "license.workspace = true"] {
            if !manifest.contains(wanted) {
                findings.push(format!("{}: lacks {wanted:?}", package.manifest_path));
            }
        }
        let pinned = manifest.lines().filter(|line| line.contains("path = ") || line.contains("version = \""));
        let pinned = pinned.filter(|line| !line.trim_start().starts_with("path = \"src/"));
        findings.extend(pinned.map(|line| {
            format!(
                "{}: {line:?}: name it once in [workspace.dependencies], use it with workspace = true",
                package.manifest_path
            )
        }));
    }
    assert_none("manifests that go their own way:", &findings);
}
