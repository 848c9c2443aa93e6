//! Words that must not stand in the tree.
//!
//! Clippy bans calls by path (`clippy.toml`) and sees most of them. Here is what it cannot see: macros in cold code,
//! allowances that hide its findings, comments, and text that is no Rust. This file's own words are cut in two, so that
//! they are not findings.

use crate::tree::{SourceFile, assert_none, files, rust_files};

/// A banned piece of Rust code, outside comments and literals.
struct Ban {
    words: &'static [&'static str],
    /// Where it may stand.
    except: &'static [&'static str],
    reason: &'static str,
}

const BANS: &[Ban] = &[
    Ban {
        words: &["unsafe {", "unsafe fn", "unsafe impl", "allow(unsafe_code"],
        except: &["crates/net/"],
        reason: "only crates/net talks to the kernel directly",
    },
    Ban { words: &["todo!(", "unimplemented!("], except: &[], reason: "finish it, or leave the path out" },
    Ban {
        words: &["tokio::spawn(", "tokio::task::spawn(", "tokio::task::spawn_local("],
        except: &[],
        reason: "every task has an owner: rt::tasks::Tasks",
    },
    Ban {
        words: &["unbounded_channel", "mpsc::unbounded", "Box::leak"],
        except: &[],
        reason: "everything has a bound",
    },
    Ban {
        words: &["#[ignore"],
        // Each writes the golden files that the test beside it compares with; those of the waypoint are run by a test beside
        // them, in a process of their own; the last needs a cluster (`make test-cluster`).
        except: &[
            "crates/cluster/src/crds/mod.rs",
            "crates/cluster/src/fields/page.rs",
            "crates/cluster/src/validate/tests/page.rs",
            "cni-plugin/agent/src/rules/plan.rs",
            "tests/tests/deploy/values.rs",
            "waypoint/tests/data_path/named.rs",
            "waypoint/tests/data_path/roots.rs",
            "tests/tests/kubernetes/",
        ],
        reason: "a test runs, or it is removed with a reason in the catalogue",
    },
    Ban { words: &["process::abort"], except: &["crates/net/src/netns.rs"], reason: "drops and drains must run" },
    Ban { words: &["allow(clippy::unwrap_used", "expect(clippy::unwrap_used"], except: &[], reason: "expect says why" },
];

/// Files that may allow themselves what `clippy.toml` disallows, with the reason.
const ALLOWANCES: &[(&str, &str)] = &[("crates/policy/src/tests/random.rs", "reads the seed to repeat")];

/// Banned text in any file, comments included.
fn banned_text() -> Vec<(String, &'static str)> {
    let joined = |head: &str, tail: &str| format!("{head}{tail}");
    vec![
        (joined("/wo", "rk/"), "a path of one machine"),
        (joined("/ro", "ot/"), "a path of one machine"),
        (joined("/ho", "me/"), "a path of one machine"),
        (joined("crates", ".io"), "a registry's host; a crate's name is enough"),
        (joined("pypi", ".org"), "a registry's host"),
        (joined("npmjs", ".com"), "a registry's host"),
        (joined("proxy.golang", ".org"), "a registry's host"),
    ]
}

#[test]
fn banned_code_is_absent() {
    let mut findings = Vec::new();
    for file in rust_files().iter().filter(|file| !is_this_wall(file)) {
        let code = code_of(&file.text);
        for ban in BANS.iter().filter(|ban| !ban.except.iter().any(|except| file.path.starts_with(except))) {
            for (at, line) in code.lines().enumerate() {
                if let Some(word) = ban.words.iter().find(|word| line.contains(**word)) {
                    findings.push(format!("{}:{}: {word:?}: {}", file.path, at + 1, ban.reason));
                }
            }
        }
    }
    assert_none("banned code:", &findings);
}

#[test]
fn banned_text_is_absent() {
    let banned = banned_text();
    let mut findings = Vec::new();
    for file in files() {
        for (at, line) in file.text.lines().enumerate() {
            for (text, reason) in banned.iter().filter(|(text, _)| line.contains(text.as_str())) {
                findings.push(format!("{}:{}: {text:?}: {reason}", file.path, at + 1));
            }
        }
    }
    assert_none("banned text:", &findings);
}

#[test]
fn promises_carry_an_issue() {
    let promises = [format!("{}{}", "TO", "DO"), format!("{}{}", "FIX", "ME"), format!("{}{}", "XX", "X")];
    let has_issue = |line: &str| line.split('#').skip(1).any(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    let mut findings = Vec::new();
    for file in rust_files() {
        for (at, line) in file.text.lines().enumerate() {
            let words = line.split(|c: char| !c.is_ascii_alphanumeric());
            if words.into_iter().any(|word| promises.iter().any(|promise| promise == word)) && !has_issue(line) {
                findings.push(format!("{}:{}: {}", file.path, at + 1, line.trim()));
            }
        }
    }
    assert_none("promises without an issue number:", &findings);
}

/// `clippy.toml` disallows calls; a module may allow itself one only where the house says so.
#[test]
fn allowances_stand_in_config_modules_only() {
    let mut unused: Vec<&str> = ALLOWANCES.iter().map(|(path, _)| *path).collect();
    let mut findings = Vec::new();
    for file in rust_files().iter().filter(|file| !is_this_wall(file)) {
        let allows = |line: &str| line.contains("(clippy::disallowed") || line.contains(" clippy::disallowed");
        let Some(at) = code_of(&file.text).lines().position(allows) else { continue };
        let is_config = file.path.split('/').any(|part| part == "config" || part == "config.rs");
        let listed = ALLOWANCES.iter().any(|(path, _)| *path == file.path);
        unused.retain(|path| *path != file.path);
        if !is_config && !listed {
            findings.push(format!("{}:{}: allows itself a disallowed call", file.path, at + 1));
        }
    }
    findings.extend(unused.iter().map(|path| format!("{path}: an allowance nobody needs")));
    assert_none("allowances (tests/tests/tidy/words.rs):", &findings);
}

fn is_this_wall(file: &SourceFile) -> bool {
    file.path.starts_with("tests/tests/tidy/")
}

/// The text with comments and the insides of literals blanked, line by line.
fn code_of(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let skipped = literal_or_comment(rest);
        if skipped > 0 {
            code.extend(rest[..skipped].chars().filter(|c| *c == '\n'));
            rest = &rest[skipped..];
        } else {
            code.push(c);
            rest = &rest[c.len_utf8()..];
        }
    }
    code
}

/// How many bytes at the start of `text` are a comment or a literal.
fn literal_or_comment(text: &str) -> usize {
    if text.starts_with("//") {
        return text.find('\n').unwrap_or(text.len());
    }
    if text.starts_with("/*") {
        return text.find("*/").map_or(text.len(), |end| end + 2);
    }
    if let Some(end) = raw_string(text) {
        return end;
    }
    if text.starts_with('"') {
        return quoted(text);
    }
    // A quote in a character literal would otherwise open a string.
    ["'\"'", "'\\\"'", "'\\''"].iter().find(|literal| text.starts_with(**literal)).map_or(0, |literal| literal.len())
}

fn raw_string(text: &str) -> Option<usize> {
    let hashes = text.strip_prefix('r')?.chars().take_while(|c| *c == '#').count();
    if !text[1 + hashes..].starts_with('"') {
        return None;
    }
    let close = format!("\"{}", "#".repeat(hashes));
    let start = hashes + 2;
    Some(text[start..].find(&close).map_or(text.len(), |end| start + end + close.len()))
}

fn quoted(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

#[test]
fn comments_and_literals_are_not_code() {
    let code = code_of("a(\"un\\\"safe {\"); // unsafe {\n/* unsafe\n{ */ b(r#\"unsafe { \"x\" \"#, '\"'); c()");
    assert_eq!(code, "a(); \n\n b(, ); c()");
    assert_eq!(code_of("r_value(0)"), "r_value(0)");
}
