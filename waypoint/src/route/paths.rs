//! The index of routes by their paths.
//!
//! In: path matches in the order of their routes. Out: for a path, the first route whose other conditions hold too.
//! Absent on purpose: those conditions.

use std::collections::HashMap;

use regex::bytes::RegexSet;
use smallvec::SmallVec;

use super::{
    regexes::{PatternError, whole_set},
    trie::{Numbers, Of, Trie},
};

/// How a path is compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PathMatch {
    /// The whole path.
    Exact {
        /// The path.
        path: Box<str>,
        /// Letters of ASCII are alike in both cases.
        ignore_case: bool,
    },
    /// It begins with this text.
    Prefix {
        /// The text.
        prefix: Box<str>,
        /// Letters of ASCII are alike in both cases.
        ignore_case: bool,
    },
    /// It begins with these elements.
    ElementPrefix {
        /// They; a slash at the end means nothing.
        prefix: Box<str>,
        /// Letters of ASCII are alike in both cases.
        ignore_case: bool,
    },
    /// The whole path matches.
    Regex(Box<str>),
}

/// Paths as they are, and paths in lower case for those routes that do not mind.
#[derive(Debug, Default)]
pub(super) struct Paths {
    exact: HashMap<Box<[u8]>, Numbers>,
    prefixes: Trie,
    lower_exact: HashMap<Box<[u8]>, Numbers>,
    lower_prefixes: Trie,
    regexes: Option<Regexes>,
}

#[derive(Debug)]
struct Regexes {
    set: RegexSet,
    /// The route of each, ascending.
    numbers: Box<[u32]>,
}

impl Paths {
    pub(super) fn new(matches: &[Option<PathMatch>]) -> Result<Self, PatternError> {
        let mut paths = Self::default();
        let mut patterns: Vec<(u32, &str)> = Vec::new();
        for (number, path) in (0..).zip(matches) {
            match path {
                Some(PathMatch::Regex(pattern)) => patterns.push((number, pattern)),
                Some(PathMatch::Exact { path, ignore_case }) => paths.add_exact(path, *ignore_case, number),
                Some(PathMatch::Prefix { prefix, ignore_case }) => {
                    paths.add_prefix(prefix, Of::Text, *ignore_case, number);
                }
                Some(PathMatch::ElementPrefix { prefix, ignore_case }) => {
                    let prefix = prefix.trim_end_matches('/');
                    // Every path has the root's elements, also "*".
                    let of = if prefix.is_empty() { Of::Text } else { Of::Elements };
                    paths.add_prefix(prefix, of, *ignore_case, number);
                }
                None => paths.add_prefix("", Of::Text, false, number),
            }
        }
        if !patterns.is_empty() {
            let set = whole_set(patterns.iter().map(|(_, pattern)| *pattern))?;
            let numbers = patterns.iter().map(|(number, _)| *number).collect();
            paths.regexes = Some(Regexes { set, numbers });
        }
        Ok(paths)
    }

    fn add_exact(&mut self, path: &str, ignore_case: bool, number: u32) {
        match ignore_case {
            false => self.exact.entry(path.as_bytes().into()).or_default().push(number),
            true => {
                let lower = path.to_ascii_lowercase().into_bytes();
                self.lower_exact.entry(lower.into()).or_default().push(number);
            }
        }
    }

    fn add_prefix(&mut self, prefix: &str, of: Of, ignore_case: bool, number: u32) {
        match ignore_case {
            false => self.prefixes.insert(prefix.as_bytes(), of, number),
            true => self.lower_prefixes.insert(prefix.to_ascii_lowercase().as_bytes(), of, number),
        }
    }

    /// The smallest number whose path matches and which `holds`.
    pub(super) fn first(&self, path: &str, holds: impl Fn(u32) -> bool) -> Option<u32> {
        let mut best = None;
        // The narrowest first: where authors put those first too, the wider lists end at once.
        if let Some(numbers) = self.exact.get(path.as_bytes()) {
            improve(&mut best, numbers, &holds);
        }
        for numbers in self.prefixes.prefixes(path.as_bytes(), |byte| byte).iter().rev() {
            improve(&mut best, numbers, &holds);
        }
        self.first_of_any_case(path, &mut best, &holds);
        if let Some(regexes) = &self.regexes {
            regexes.improve(&mut best, path, &holds);
        }
        best
    }

    fn first_of_any_case(&self, path: &str, best: &mut Option<u32>, holds: &impl Fn(u32) -> bool) {
        if !self.lower_exact.is_empty() {
            let lower: SmallVec<[u8; 256]> = path.bytes().map(|byte| byte.to_ascii_lowercase()).collect();
            if let Some(numbers) = self.lower_exact.get(&lower[..]) {
                improve(best, numbers, holds);
            }
        }
        if !self.lower_prefixes.is_empty() {
            let fold = |byte: u8| byte.to_ascii_lowercase();
            for numbers in self.lower_prefixes.prefixes(path.as_bytes(), fold).iter().rev() {
                improve(best, numbers, holds);
            }
        }
    }
}

impl Regexes {
    fn improve(&self, best: &mut Option<u32>, path: &str, holds: &impl Fn(u32) -> bool) {
        let is_later = |best: u32| self.numbers.first().is_none_or(|first| *first > best);
        // Asking whether any matches needs no memory, asking which does.
        if best.is_some_and(is_later) || !self.set.is_match(path.as_bytes()) {
            return;
        }
        let matched: Numbers = self.set.matches(path.as_bytes()).iter().map(|at| self.numbers[at]).collect();
        improve(best, &matched, holds);
    }
}

/// Puts the first of `numbers` that holds in the place of `best`, if it is smaller.
fn improve(best: &mut Option<u32>, numbers: &[u32], holds: &impl Fn(u32) -> bool) {
    let earlier = numbers.iter().copied().take_while(|number| best.is_none_or(|best| *number < best));
    if let Some(number) = earlier.into_iter().find(|number| holds(*number)) {
        *best = Some(number);
    }
}
