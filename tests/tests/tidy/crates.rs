//! Crates of others: one version of each, licences we may use, providers we do not want.
//!
//! `cargo tree` is asked, not `cargo metadata`: the latter also lists crates that no chosen feature builds.

use std::collections::{BTreeMap, BTreeSet};

use crate::tree::{assert_none, cargo, host};

/// Crates that are there twice, and why we cannot change that.
const DUPLICATES: &[(&str, &str)] = &[
    ("base64", "tonic, k8s-openapi and jsonwebtoken use 0.22; kube-client uses 0.23"),
    ("foldhash", "follows hashbrown"),
    ("getrandom", "rand 0.10 and tempfile use 0.4, ahash uses 0.3"),
    ("hashbrown", "indexmap, kube-runtime and petgraph (build only) each use their own"),
    ("pem", "kube-client and rcgen use 4, jsonwebtoken uses 3"),
    ("syn", "macros at build time; the ecosystem is between 2 and 3"),
    ("synstructure", "follows syn"),
    ("unicode-width", "build only: protox's error reports use 0.1"),
    ("untrusted", "aws-lc-rs uses 0.7, rustls-webpki 0.9"),
];

/// Licences whose terms Apache-2.0 software can meet by naming them.
const LICENCES: [&str; 12] = [
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "CC0-1.0",
    "ISC",
    "MIT",
    "MIT-0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// Crates that must not be built into anything.
const UNWANTED: &[(&str, &str)] = &[
    ("ring", "one cryptography provider: aws-lc-rs"),
    ("openssl-sys", "one TLS stack: rustls"),
    ("native-tls", "one TLS stack: rustls"),
    ("chrono", "one calendar: jiff"),
    ("async-std", "one runtime: tokio"),
];

/// One crate in one version.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Crate {
    name: String,
    version: String,
    licence: String,
}

/// Everything that is built for the workspace and its tests on this machine.
fn built() -> BTreeSet<Crate> {
    let host = host();
    let format = ["tree", "--workspace", "--prefix", "none", "--no-dedupe", "--format", "{p}|{l}", "--target", &host];
    let text = cargo(&format);
    let crates: BTreeSet<Crate> = text.lines().filter_map(parse).collect();
    assert!(crates.len() > 100, "cargo tree names only {} crates", crates.len());
    crates
}

/// `name v1.2.3 (path or mark)|licence`
fn parse(line: &str) -> Option<Crate> {
    let (package, licence) = line.split_once('|')?;
    let mut words = package.split(' ');
    let (name, version) = (words.next()?, words.next()?.strip_prefix('v')?);
    Some(Crate { name: name.to_owned(), version: version.to_owned(), licence: licence.to_owned() })
}

#[test]
fn each_crate_is_there_once() {
    let mut versions: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for one in built() {
        versions.entry(one.name).or_default().insert(one.version);
    }
    versions.retain(|_, versions| versions.len() > 1);
    let allowed: BTreeSet<&str> = DUPLICATES.iter().map(|(name, _)| *name).collect();
    let mut findings: Vec<String> = versions
        .iter()
        .filter(|(name, _)| !allowed.contains(name.as_str()))
        .map(|(name, versions)| format!("{name}: {versions:?}; see who brings it: cargo tree -i {name}@<version>"))
        .collect();
    let single = allowed.iter().filter(|name| !versions.contains_key(**name));
    findings.extend(single.map(|name| format!("{name}: there once only; remove it from DUPLICATES")));
    assert_none("crates in several versions (tests/tests/tidy/crates.rs):", &findings);
}

#[test]
fn licences_are_ones_we_may_use() {
    let mut used = BTreeSet::new();
    let mut findings = Vec::new();
    for one in built() {
        match chosen(&one.licence) {
            Some(licences) => used.extend(licences),
            None => findings.push(format!("{} {}: {:?}", one.name, one.version, one.licence)),
        }
    }
    assert_none("crates whose licence is not on the list (tests/tests/tidy/crates.rs):", &findings);
    assert!(used.contains("MIT"), "the licences were read");
}

/// The licences by which an SPDX expression can be met; `None` if it cannot. `A/B` is the old way to write `A OR B`.
fn chosen(expression: &str) -> Option<Vec<&'static str>> {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ").replace(" WITH ", "_WITH_");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut rest = words.as_slice();
    let met = any(&mut rest)?;
    if rest.is_empty() { met.0 } else { None }
}

/// What an expression needs, where it can be met.
struct Needs(Option<Vec<&'static str>>);

fn any(rest: &mut &[&str]) -> Option<Needs> {
    let mut met = all(rest)?;
    while let ["OR", after @ ..] = *rest {
        *rest = after;
        let other = all(rest)?;
        met = Needs(met.0.or(other.0));
    }
    Some(met)
}

fn all(rest: &mut &[&str]) -> Option<Needs> {
    let mut met = one(rest)?;
    while let ["AND", after @ ..] = *rest {
        *rest = after;
        let other = one(rest)?;
        met = Needs(met.0.zip(other.0).map(|(mut these, those)| {
            these.extend(those);
            these
        }));
    }
    Some(met)
}

fn one(rest: &mut &[&str]) -> Option<Needs> {
    match *rest {
        ["(", after @ ..] => {
            *rest = after;
            let met = any(rest)?;
            let [")", after @ ..] = *rest else { return None };
            *rest = after;
            Some(met)
        }
        [name, after @ ..] => {
            *rest = after;
            let name = name.replace("_WITH_", " WITH ");
            Some(Needs(LICENCES.iter().find(|allowed| **allowed == name).map(|allowed| vec![*allowed])))
        }
        [] => None,
    }
}

#[test]
fn licence_expressions_are_read_right() {
    for (expression, met) in [
        ("MIT", true),
        ("GPL-3.0", false),
        ("GPL-3.0 OR MIT", true),
        ("GPL-3.0 AND MIT", false),
        ("MIT/Apache-2.0", true),
        ("ISC AND (GPL-3.0 OR Apache-2.0)", true),
        ("(MIT OR GPL-3.0) AND GPL-3.0", false),
        ("Apache-2.0 WITH LLVM-exception", true),
        ("", false),
        ("(MIT", false),
        ("MIT MIT", false),
    ] {
        assert_eq!(chosen(expression).is_some(), met, "{expression:?}");
    }
}

#[test]
fn unwanted_crates_are_absent() {
    let names: BTreeSet<String> = built().into_iter().map(|one| one.name).collect();
    let present = UNWANTED.iter().filter(|(name, _)| names.contains(*name));
    let findings: Vec<String> = present.map(|(name, reason)| format!("{name}: {reason}")).collect();
    assert_none("unwanted crates (see who brings one: cargo tree -i NAME):", &findings);
}
