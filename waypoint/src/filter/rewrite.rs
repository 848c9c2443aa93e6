//! What becomes of a request's path and authority.
//!
//! In: the path a route matched. Out: the path to send. The query stays as it is. Absent on purpose: choosing a
//! destination, which the new authority has no part in.

use http::HeaderValue;
use regex::bytes::{Captures, Regex};

use crate::route::regexes::{PatternError, searching};

/// What is rewritten.
#[derive(Debug, Clone, Default)]
pub struct Rewrite {
    /// The path.
    pub path: Option<PathRewrite>,
    /// The authority.
    pub authority: Option<HeaderValue>,
}

/// What becomes of a path.
#[derive(Debug, Clone)]
pub enum PathRewrite {
    /// The text that the route matched is replaced.
    Prefix {
        /// What it matched.
        matched: Box<str>,
        /// What stands there now.
        to: Box<str>,
    },
    /// The elements that the route matched are replaced.
    Elements {
        /// What it matched.
        matched: Box<str>,
        /// What stands there now.
        to: Box<str>,
    },
    /// The whole path is replaced.
    Full(Box<str>),
    /// Every match is replaced.
    Regex(Box<RegexRewrite>),
}

impl PathRewrite {
    /// The new path; `None`: it stays as it is (it does not begin with what the route matched).
    pub fn path(&self, path: &str) -> Option<String> {
        match self {
            Self::Prefix { matched, to } => rest_after(path, matched).map(|rest| [to, rest].concat()),
            Self::Elements { matched, to } => elements(path, matched, to),
            Self::Full(to) => Some(to.to_string()),
            Self::Regex(regex) => regex.path(path),
        }
    }
}

/// What follows `prefix`, which may have been matched without minding case.
fn rest_after<'p>(path: &'p str, prefix: &str) -> Option<&'p str> {
    let (head, rest) = path.split_at_checked(prefix.len())?;
    head.eq_ignore_ascii_case(prefix).then_some(rest)
}

/// `/foo/bar` with `/foo` to `/xyz/` is `/xyz/bar`; with `/foo` to `/` it is `/bar`.
fn elements(path: &str, matched: &str, to: &str) -> Option<String> {
    let rest = rest_after(path, matched.trim_end_matches('/'))?;
    if !(rest.is_empty() || rest.starts_with('/')) {
        return None;
    }
    let whole = [to.trim_end_matches('/'), rest].concat();
    Some(if whole.is_empty() { "/".to_owned() } else { whole })
}

/// Replaces every match of an expression.
#[derive(Debug, Clone)]
pub struct RegexRewrite {
    pattern: Regex,
    substitution: Box<[Piece]>,
}

/// A piece of what stands in the place of a match.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(Box<str>),
    /// What the group of this number matched; 0 is all of it.
    Group(usize),
}

/// Why a substitution cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubstitutionError {
    /// The pattern.
    #[error(transparent)]
    Pattern(#[from] PatternError),
    /// A group is named that the pattern has not.
    #[error("\\{named} names a group, of which the pattern has {there}")]
    Group {
        /// The number named.
        named: usize,
        /// How many there are.
        there: usize,
    },
    /// A backslash before something else than a digit or a backslash.
    #[error("a backslash must be followed by a digit or a backslash")]
    Backslash,
}

impl RegexRewrite {
    /// A pattern in RE2's syntax; `\1` to `\9` in the substitution are its groups, `\0` the whole match.
    pub fn new(pattern: &str, substitution: &str) -> Result<Self, SubstitutionError> {
        let pattern = searching(pattern)?;
        let substitution = pieces(substitution, pattern.captures_len() - 1)?;
        Ok(Self { pattern, substitution })
    }

    fn path(&self, path: &str) -> Option<String> {
        let replaced = self.pattern.replace_all(path.as_bytes(), |found: &Captures<'_>| self.expand(found));
        // A match may end within a letter beyond ASCII; such a path is left alone.
        String::from_utf8(replaced.into_owned()).ok()
    }

    fn expand(&self, found: &Captures<'_>) -> Vec<u8> {
        let bytes = |piece: &Piece| match piece {
            Piece::Text(text) => text.as_bytes().to_vec(),
            Piece::Group(number) => found.get(*number).map(|group| group.as_bytes().to_vec()).unwrap_or_default(),
        };
        self.substitution.iter().flat_map(bytes).collect()
    }
}

fn pieces(substitution: &str, groups: usize) -> Result<Box<[Piece]>, SubstitutionError> {
    let (mut pieces, mut text) = (Vec::new(), String::new());
    let mut rest = substitution.chars();
    while let Some(c) = rest.next() {
        if c != '\\' {
            text.push(c);
            continue;
        }
        match rest.next() {
            Some('\\') => text.push('\\'),
            Some(digit) if digit.is_ascii_digit() => {
                let named = digit as usize - '0' as usize;
                if named > groups {
                    return Err(SubstitutionError::Group { named, there: groups });
                }
                if !text.is_empty() {
                    pieces.push(Piece::Text(std::mem::take(&mut text).into()));
                }
                pieces.push(Piece::Group(named));
            }
            Some(_) | None => return Err(SubstitutionError::Backslash),
        }
    }
    if !text.is_empty() {
        pieces.push(Piece::Text(text.into()));
    }
    Ok(pieces.into())
}
