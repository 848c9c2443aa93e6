//! The shape of files: not too long, each with a word about itself.

use crate::tree::{assert_none, rust_files};

const LINES_MAX: usize = 600;

#[test]
fn files_are_short_enough_to_read() {
    let findings: Vec<String> = rust_files()
        .iter()
        .map(|file| (file, file.text.lines().count()))
        .filter(|(_, lines)| *lines > LINES_MAX)
        .map(|(file, lines)| format!("{}: {lines} lines; split it by purpose", file.path))
        .collect();
    assert_none(&format!("files over {LINES_MAX} lines:"), &findings);
}

#[test]
fn every_module_says_what_it_is() {
    let of_tests = |path: &str| path.ends_with("tests.rs") || path.contains("/tests/");
    let findings: Vec<String> = rust_files()
        .iter()
        .filter(|file| !of_tests(&file.path) && !file.text.starts_with("//!"))
        .map(|file| {
            format!("{}: begins without a //! header (what comes in, what goes out, what is absent)", file.path)
        })
        .collect();
    assert_none("modules without a header:", &findings);
}

#[test]
fn crate_headers_say_more_than_a_name() {
    let roots = |path: &str| path.ends_with("src/lib.rs") || path.ends_with("src/main.rs");
    let words = |text: &str| {
        let header = text.lines().take_while(|line| line.starts_with("//!"));
        header.flat_map(|line| line.trim_start_matches("//!").split_whitespace()).count()
    };
    let findings: Vec<String> = rust_files()
        .iter()
        .filter(|file| roots(&file.path) && words(&file.text) < 5)
        .map(|file| format!("{}: its header is no sentence", file.path))
        .collect();
    assert_none("crates that do not say what they are:", &findings);
}
