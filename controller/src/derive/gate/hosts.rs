//! Hosts as listeners, servers and routes write them: `a.example.com`, `*.example.com`, `*`.

use crate::derive::host_matches;

/// All of them.
pub const ALL: &str = "*";

/// Nothing written is all.
pub fn written(host: &str) -> &str {
    if host.is_empty() { ALL } else { host }
}

/// Whether `pattern` stands for everything that `host` stands for.
pub fn covers(pattern: &str, host: &str) -> bool {
    pattern == ALL || host_matches(pattern, host)
}

/// What both stand for.
pub fn intersection(one: &str, other: &str) -> Option<String> {
    let (one, other) = (written(one), written(other));
    if covers(one, other) {
        return Some(other.to_owned());
    }
    covers(other, one).then(|| one.to_owned())
}

/// The greater is looked at first: whole names before longer ends before shorter ones.
pub fn rank(host: &str) -> (bool, usize) {
    (!host.starts_with('*'), host.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_meet() {
        let check = |one: &str, other: &str, expected: Option<&str>| {
            assert_eq!(intersection(one, other).as_deref(), expected, "{one} {other}");
            assert_eq!(intersection(other, one).as_deref(), expected, "{other} {one}");
        };
        check("", "", Some("*"));
        check("", "a.example.com", Some("a.example.com"));
        check("*.example.com", "a.example.com", Some("a.example.com"));
        check("*.example.com", "b.a.example.com", Some("b.a.example.com"));
        check("*.example.com", "*.a.example.com", Some("*.a.example.com"));
        check("*.example.com", "example.com", None);
        check("a.example.com", "b.example.com", None);
        assert!(rank("a.b") > rank("*.long.example.com") && rank("*.a.b") > rank("*.b") && rank("*.b") > rank("*"));
    }
}
