//! Regular expressions as the reference reads them: RE2's.
//!
//! The controller refuses what cannot be compiled, and proxies compile it: both by the same rules.
//! In: patterns. Out: expressions that never take more than linear time. Absent on purpose: back references, which RE2
//! has not either.
//!
//! RE2's `\w`, `\d`, `\s` and `\b` are of ASCII, and so are these. A pattern that names letters beyond ASCII is compiled
//! once more with Unicode classes. Headers may hold any bytes, so all of it works on bytes.

use regex::bytes::{Regex, RegexBuilder, RegexSet, RegexSetBuilder};

/// Why a pattern cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the regular expression {pattern:?} cannot be used: {reason}")]
pub struct PatternError {
    /// The pattern, cut.
    pub pattern: String,
    /// What is wrong with it.
    pub reason: String,
}

/// A compiled expression may take so many bytes; RE2's default program size is of the same order.
const SIZE_MAX: usize = 8 << 20;
/// And so many of a set, which thousands share.
const SET_SIZE_MAX: usize = 256 << 20;
/// As much of a pattern as an error repeats.
const SHOWN_MAX: usize = 128;

/// An expression that is looked for anywhere.
pub fn searching(pattern: &str) -> Result<Regex, PatternError> {
    build(pattern).or_else(|_| build(&format!("(?u:{pattern})"))).map_err(|error| PatternError::new(pattern, &error))
}

/// An expression that must match the whole text.
pub fn whole(pattern: &str) -> Result<Regex, PatternError> {
    let anchored = anchored(pattern)?;
    build(&anchored).map_err(|error| PatternError::new(pattern, &error))
}

/// Several expressions, each of which must match the whole text.
pub fn whole_set<'p>(patterns: impl Iterator<Item = &'p str>) -> Result<RegexSet, PatternError> {
    let anchored: Vec<String> = patterns.map(anchored).collect::<Result<_, _>>()?;
    let built = RegexSetBuilder::new(&anchored).unicode(false).size_limit(SET_SIZE_MAX).build();
    built.map_err(|error| PatternError::new("(all of a list)", &error))
}

/// The pattern between the ends of the text. It is compiled alone first, so that nothing in it can close the group it is
/// put into.
fn anchored(pattern: &str) -> Result<String, PatternError> {
    if build(pattern).is_ok() {
        return Ok(format!("^(?:{pattern})$"));
    }
    searching(pattern)?;
    Ok(format!("^(?u:{pattern})$"))
}

fn build(pattern: &str) -> Result<Regex, regex::Error> {
    RegexBuilder::new(pattern).unicode(false).size_limit(SIZE_MAX).build()
}

impl PatternError {
    fn new(pattern: &str, error: &regex::Error) -> Self {
        // The last line says what; those before draw the pattern once more.
        let text = error.to_string();
        let reason = text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
        Self { pattern: pattern.chars().take(SHOWN_MAX).collect(), reason }
    }
}
