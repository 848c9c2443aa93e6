//! What suites take from their environment: how pods of one node reach each other, and other meshes' parts.
//!
//! In: `SAME_NODE`, `LATEEN_TEST_PARTS`. Out: variables for a ztunnel, words for `lateen lab up`.
//! Absent on purpose: what a suite itself chooses, which comes first.
#![expect(clippy::disallowed_methods, reason = "this is where the environment is read")]

use std::{os::unix::fs::PermissionsExt as _, path::Path};

/// What a ztunnel is told of pods of one node when the suite does not say: `make test` runs the suites both ways.
pub fn same_node() -> Option<(&'static str, String)> {
    std::env::var("SAME_NODE").ok().map(|value| ("SAME_NODE", value))
}

/// Further words for `lateen lab up`: another mesh's programs, or our ztunnel told `SAME_NODE`, by a script in `dir`.
pub fn parts(dir: &Path, ztunnel: &Path) -> Vec<String> {
    let given = std::env::var("LATEEN_TEST_PARTS").unwrap_or_default();
    let mut parts: Vec<String> = given.split_whitespace().map(str::to_owned).collect();
    let named = parts.iter().any(|word| word.starts_with("--ztunnel"));
    if let (Some((name, value)), false) = (same_node(), named) {
        let script = dir.join("ztunnel-as-told");
        // The script may be called by another root: an ordinary user's lab shows the machine's files under one.
        let (own, real) = (script.display(), ztunnel.display());
        let text = format!("#!/bin/sh\n{name}={value} exec \"${{0%{own}}}{real}\" \"$@\"\n");
        std::fs::write(&script, text).expect("a script is written");
        std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).expect("it may be run");
        parts.extend(["--ztunnel".to_owned(), script.display().to_string()]);
    }
    parts
}
