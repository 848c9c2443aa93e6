//! What belongs to a host: exact names before the longest "*.suffix" before "*".
//!
//! In: patterns with what belongs to them; a host as a request or a ClientHello names it. Out: what belongs to it. Absent
//! on purpose: DNS.

use std::collections::HashMap;

use smallvec::SmallVec;

/// A host, or all below a suffix, or all; in lower case.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum HostPattern {
    /// This one.
    Exact(Box<str>),
    /// All that end with this, which begins with a dot, and are longer.
    Below(Box<str>),
    /// All.
    Any,
}

impl HostPattern {
    /// Reads "a.example.com", "*.example.com" or "*"; `None` where a star stands elsewhere, or nothing does.
    pub fn read(text: &str) -> Option<Self> {
        let text = text.to_ascii_lowercase();
        if text == "*" {
            return Some(Self::Any);
        }
        if let Some(suffix) = text.strip_prefix('*') {
            let is_suffix = suffix.len() > 1 && suffix.starts_with('.') && !suffix.contains('*');
            return is_suffix.then(|| Self::Below(suffix.into()));
        }
        (!text.is_empty() && !text.contains('*')).then(|| Self::Exact(text.into()))
    }
}

/// Things by host.
#[derive(Debug)]
pub struct HostMap<T> {
    exact: HashMap<Box<str>, T>,
    /// By suffix with its dot.
    below: HashMap<Box<str>, T>,
    any: Option<Box<T>>,
}

impl<T> Default for HostMap<T> {
    fn default() -> Self {
        Self { exact: HashMap::new(), below: HashMap::new(), any: None }
    }
}

impl<T> HostMap<T> {
    /// Of two things for one pattern the first counts.
    pub fn new(all: impl IntoIterator<Item = (HostPattern, T)>) -> Self {
        let mut map = Self::default();
        for (pattern, thing) in all {
            match pattern {
                HostPattern::Exact(host) => drop(map.exact.entry(host).or_insert(thing)),
                HostPattern::Below(suffix) => drop(map.below.entry(suffix).or_insert(thing)),
                HostPattern::Any => drop(map.any.get_or_insert_with(|| Box::new(thing))),
            }
        }
        map
    }

    /// What belongs to `host`; its port and its case do not count.
    pub fn find(&self, host: &str) -> Option<&T> {
        let host = without_port(host);
        if !host.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return self.find_lower(host);
        }
        let lower: SmallVec<[u8; 256]> = host.bytes().map(|byte| byte.to_ascii_lowercase()).collect();
        // Lowering letters of ASCII keeps UTF-8 what it is.
        self.find_lower(std::str::from_utf8(&lower).ok()?)
    }

    fn find_lower(&self, host: &str) -> Option<&T> {
        if let Some(thing) = self.exact.get(host) {
            return Some(thing);
        }
        self.find_below(host).or(self.any.as_deref())
    }

    fn find_below(&self, host: &str) -> Option<&T> {
        if self.below.is_empty() {
            return None;
        }
        // The first dot first: the longest suffix. A host that begins with its suffix is not below it.
        let mut dots = host.match_indices('.').map(|(at, _)| at).filter(|at| *at > 0);
        dots.find_map(|at| self.below.get(&host[at..]))
    }

    /// Whether nothing belongs to any host.
    pub fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.below.is_empty() && self.any.is_none()
    }

    /// Everything, in no order.
    pub fn values(&self) -> impl Iterator<Item = &T> {
        self.exact.values().chain(self.below.values()).chain(self.any.as_deref())
    }
}

/// `a:80` is `a`, `[::1]:80` is `[::1]`.
pub(crate) fn without_port(authority: &str) -> &str {
    match authority.rfind(':') {
        // A colon before the bracket is part of the address.
        Some(at) if !authority[at..].contains(']') && !is_bare_v6(authority) => &authority[..at],
        Some(_) | None => authority,
    }
}

/// An IPv6 address without brackets, as nobody should write it, has several colons.
fn is_bare_v6(authority: &str) -> bool {
    !authority.starts_with('[') && authority.bytes().filter(|byte| *byte == b':').count() > 1
}
