//! One path for routes, policies and the application.
//!
//! In: path and query as they came. Out: the same where it is normal already (nothing is allocated then), a new one, a
//! redirect, or why it is refused.
//!
//! | step | when |
//! | --- | --- |
//! | the fragment is cut off | always |
//! | an escape that is none, `%00` | refused, unless nothing is normalised |
//! | `%2F` and `%5C` | by what is asked for them; `DECODE_AND_MERGE_SLASHES` makes `/` of them |
//! | escapes of unreserved characters are decoded, `\` becomes `/`, `.` and `..` are resolved | from `BASE` on |
//! | runs of `/` become one | from `MERGE_SLASHES` on, or where asked |
//!
//! Every escape is looked at once: what decoding makes is not decoded again. The query is left alone, as are `*` and what
//! CONNECT names.

use crate::book::proxy::{EscapedSlashes, Options, PathNormalization};

/// What is to be done with paths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PathRules {
    /// Decode unreserved characters, turn `\`, resolve dots.
    base: bool,
    /// Make one `/` of several.
    merge: bool,
    escaped: EscapedSlashes,
}

/// Why a path is refused, with 400.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadPath {
    /// A `%` that two hexadecimal digits do not follow.
    #[error("path_normalization_failed")]
    Escape,
    /// `%00`.
    #[error("path_normalization_failed")]
    Nul,
    /// `%2F` or `%5C`, where that is refused.
    #[error("path_normalization_failed")]
    EscapedSlash,
}

/// What became of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cleaned {
    /// It was normal.
    Same,
    /// This path and query take its place.
    Changed(String),
    /// The client is sent there, with 307.
    Redirect(String),
}

impl PathRules {
    /// What the proxy's options ask for.
    pub fn of(options: &Options) -> Self {
        Self::new(options.path_normalization, options.merge_slashes, options.escaped_slashes)
    }

    /// These rules.
    pub fn new(mode: PathNormalization, merge: bool, escaped: EscapedSlashes) -> Self {
        let merges =
            matches!(mode, PathNormalization::MergeSlashes | PathNormalization::DecodeAndMergeSlashes) || merge;
        let decodes = mode == PathNormalization::DecodeAndMergeSlashes && escaped == EscapedSlashes::Keep;
        Self {
            base: mode != PathNormalization::None,
            merge: merges,
            escaped: if decodes { EscapedSlashes::UnescapeAndForward } else { escaped },
        }
    }

    fn looks_at_escapes(&self) -> bool {
        self.base || self.escaped != EscapedSlashes::Keep
    }
}

/// Cleans a target, which is a path with its query, `*`, or what CONNECT names.
pub fn clean_path(target: &str, rules: &PathRules) -> Result<Cleaned, BadPath> {
    if !target.starts_with('/') {
        return Ok(Cleaned::Same);
    }
    let kept = target.split_once('#').map_or(target, |(kept, _)| kept);
    let (path, query) = kept.split_at(kept.find('?').unwrap_or(kept.len()));
    if is_normal(path, rules)? {
        return Ok(if kept.len() == target.len() { Cleaned::Same } else { Cleaned::Changed(kept.to_owned()) });
    }
    let (mut clean, unescaped_slash) = decoded(path, rules)?;
    if rules.base {
        clean = without_dots(&clean);
    }
    if rules.merge {
        // Two in a row only; `dedup` would need the bytes.
        let mut last = None;
        clean.retain(|c| last.replace(c) != Some('/') || c != '/');
    }
    clean.push_str(query);
    match unescaped_slash && rules.escaped == EscapedSlashes::UnescapeAndRedirect {
        true => Ok(Cleaned::Redirect(clean)),
        false => Ok(Cleaned::Changed(clean)),
    }
}

/// Whether nothing is to be done; what is refused may be found only when something is.
fn is_normal(path: &str, rules: &PathRules) -> Result<bool, BadPath> {
    let bytes = path.as_bytes();
    for (at, byte) in bytes.iter().enumerate() {
        let is_normal = match byte {
            b'%' if rules.looks_at_escapes() => match (escape(&bytes[at..])?, rules.escaped) {
                (b'/' | b'\\', EscapedSlashes::Keep) => true,
                (b'/' | b'\\', EscapedSlashes::Reject) => return Err(BadPath::EscapedSlash),
                (b'/' | b'\\', EscapedSlashes::UnescapeAndRedirect | EscapedSlashes::UnescapeAndForward) => false,
                (byte, _) => !(rules.base && is_unreserved(byte)),
            },
            b'\\' => !rules.base,
            b'/' => {
                let next = &bytes[at + 1..];
                let is_dots = next.starts_with(b".") && {
                    let end = next.iter().position(|byte| *byte == b'/').unwrap_or(next.len());
                    matches!(&next[..end], b"." | b"..")
                };
                !(rules.base && is_dots || rules.merge && next.starts_with(b"/"))
            }
            _ => true,
        };
        if !is_normal {
            return Ok(false);
        }
    }
    Ok(true)
}

/// What the escape at the start of `bytes` stands for.
fn escape(bytes: &[u8]) -> Result<u8, BadPath> {
    let digit = |at: usize| bytes.get(at).and_then(|byte| char::from(*byte).to_digit(16)).ok_or(BadPath::Escape);
    match u8::try_from(digit(1)? * 16 + digit(2)?) {
        Ok(0) => Err(BadPath::Nul),
        Ok(byte) => Ok(byte),
        Err(_) => Err(BadPath::Escape),
    }
}

/// RFC 3986 §2.3: what an escape of these says is what they say themselves.
fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

/// The path with its escapes looked at, and whether there was an escaped slash among those that were decoded.
fn decoded(path: &str, rules: &PathRules) -> Result<(String, bool), BadPath> {
    let (mut clean, mut unescaped_slash) = (String::with_capacity(path.len()), false);
    let mut rest = path;
    while let Some(at) = rest.find(['%', '\\']) {
        clean.push_str(&rest[..at]);
        rest = &rest[at..];
        if rest.starts_with('\\') {
            clean.push(if rules.base { '/' } else { '\\' });
            rest = &rest[1..];
            continue;
        }
        if !rules.looks_at_escapes() {
            clean.push('%');
            rest = &rest[1..];
            continue;
        }
        let byte = escape(rest.as_bytes())?;
        match (byte, rules.escaped) {
            (b'/' | b'\\', EscapedSlashes::Reject) => return Err(BadPath::EscapedSlash),
            (b'/' | b'\\', EscapedSlashes::UnescapeAndRedirect | EscapedSlashes::UnescapeAndForward) => {
                unescaped_slash = true;
                clean.push('/');
            }
            (byte, _) if rules.base && is_unreserved(byte) => clean.push(char::from(byte)),
            _ => clean.push_str(&rest[..3]),
        }
        rest = &rest[3..];
    }
    clean.push_str(rest);
    Ok((clean, unescaped_slash))
}

/// RFC 3986 §5.2.4: `.` and `..` resolved, never above the root.
fn without_dots(path: &str) -> String {
    let mut segments: Vec<&str> = Vec::new();
    let mut ends_open = false;
    for segment in path.split('/').skip(1) {
        ends_open = matches!(segment, "." | "..");
        match segment {
            "." => {}
            ".." => drop(segments.pop()),
            _ => segments.push(segment),
        }
    }
    if ends_open {
        // What ended in dots named a directory.
        segments.push("");
    }
    format!("/{}", segments.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(mode: PathNormalization) -> PathRules {
        PathRules::new(mode, false, EscapedSlashes::Keep)
    }

    fn cleaned(target: &str, rules: &PathRules) -> Result<String, BadPath> {
        match clean_path(target, rules)? {
            Cleaned::Same => Ok(target.to_owned()),
            Cleaned::Changed(path) => {
                assert_ne!(path, target, "what is the same is not made anew");
                Ok(path)
            }
            Cleaned::Redirect(path) => Ok(format!("307 {path}")),
        }
    }

    /// Target, then what NONE, BASE, MERGE_SLASHES and DECODE_AND_MERGE_SLASHES make of it; "" is a refusal.
    const ROWS: [(&str, [&str; 4]); 32] = [
        ("/", ["/"; 4]),
        ("/a/b", ["/a/b"; 4]),
        ("*", ["*"; 4]),
        ("example.com:443", ["example.com:443"; 4]),
        ("/a#frag", ["/a"; 4]),
        ("/a?x=1#frag", ["/a?x=1"; 4]),
        ("/a?x=/../%zz//", ["/a?x=/../%zz//"; 4]),
        ("/x/../admin", ["/x/../admin", "/admin", "/admin", "/admin"]),
        ("/%61dmin", ["/%61dmin", "/admin", "/admin", "/admin"]),
        ("//admin", ["//admin", "//admin", "/admin", "/admin"]),
        ("/a%2fb", ["/a%2fb", "/a%2fb", "/a%2fb", "/a/b"]),
        ("/a%5Cb", ["/a%5Cb", "/a%5Cb", "/a%5Cb", "/a/b"]),
        ("/admin\\..\\x", ["/admin\\..\\x", "/x", "/x", "/x"]),
        ("/a/./b", ["/a/./b", "/a/b", "/a/b", "/a/b"]),
        ("/a/.", ["/a/.", "/a/", "/a/", "/a/"]),
        ("/a/..", ["/a/..", "/", "/", "/"]),
        ("/a/b/..?q", ["/a/b/..?q", "/a/?q", "/a/?q", "/a/?q"]),
        ("/../../etc", ["/../../etc", "/etc", "/etc", "/etc"]),
        ("/..", ["/..", "/", "/", "/"]),
        ("/%2e%2E/x", ["/%2e%2E/x", "/x", "/x", "/x"]),
        ("/a/%2e%2e%2fb", ["/a/%2e%2e%2fb", "/a/..%2fb", "/a/..%2fb", "/b"]),
        ("/a/..%2fb", ["/a/..%2fb", "/a/..%2fb", "/a/..%2fb", "/b"]),
        ("/a/...", ["/a/..."; 4]),
        ("/.a/..b/c.", ["/.a/..b/c."; 4]),
        ("/a//../b", ["/a//../b", "/a/b", "/a/b", "/a/b"]),
        ("/a///b//", ["/a///b//", "/a///b//", "/a/b/", "/a/b/"]),
        ("/%252e%252e/x", ["/%252e%252e/x"; 4]),
        ("/%7Ea%2D;v=%20", ["/%7Ea%2D;v=%20", "/~a-;v=%20", "/~a-;v=%20", "/~a-;v=%20"]),
        ("/a%00", ["/a%00", "", "", ""]),
        ("/x/../a%0", ["/x/../a%0", "", "", ""]),
        ("/a%zz", ["/a%zz", "", "", ""]),
        ("/%25%32%65", ["/%25%32%65", "/%252e", "/%252e", "/%252e"]),
    ];

    const MODES: [PathNormalization; 4] = [
        PathNormalization::None,
        PathNormalization::Base,
        PathNormalization::MergeSlashes,
        PathNormalization::DecodeAndMergeSlashes,
    ];

    #[test]
    fn each_mode_makes_of_a_path_what_the_spec_says() {
        for (target, expected) in ROWS {
            for (mode, expected) in MODES.into_iter().zip(expected) {
                let found = cleaned(target, &of(mode)).unwrap_or_default();
                assert_eq!(found, expected, "{target} in {mode:?}");
            }
        }
    }

    #[test]
    fn what_was_made_normal_stays_as_it_is() {
        for (target, _) in ROWS {
            for rules in MODES.map(of) {
                let Ok(once) = cleaned(target, &rules) else { continue };
                assert_eq!(clean_path(&once, &rules), Ok(Cleaned::Same), "{target}, {once} by {rules:?}");
            }
        }
    }

    #[test]
    fn escaped_slashes_are_treated_as_asked() {
        let base = |escaped| PathRules::new(PathNormalization::Base, false, escaped);
        for (escaped, target, expected) in [
            (EscapedSlashes::Keep, "/a%2Fb", Ok("/a%2Fb")),
            (EscapedSlashes::Reject, "/a%2Fb", Err(BadPath::EscapedSlash)),
            (EscapedSlashes::Reject, "/./a%5cb", Err(BadPath::EscapedSlash)),
            (EscapedSlashes::Reject, "/a/./b", Ok("/a/b")),
            (EscapedSlashes::UnescapeAndForward, "/a%2fb?%2f", Ok("/a/b?%2f")),
            (EscapedSlashes::UnescapeAndRedirect, "/a%2f..%2fb?q", Ok("307 /b?q")),
            (EscapedSlashes::UnescapeAndRedirect, "/a/../b", Ok("/b")),
        ] {
            assert_eq!(cleaned(target, &base(escaped)).as_deref(), expected.as_deref(), "{target} {escaped:?}");
        }
        let none = PathRules::new(PathNormalization::None, true, EscapedSlashes::UnescapeAndForward);
        assert_eq!(cleaned("/a%2f%2e//b\\", &none).as_deref(), Ok("/a/%2e/b\\"));
        let decode = PathRules::new(PathNormalization::DecodeAndMergeSlashes, false, EscapedSlashes::Reject);
        assert_eq!(cleaned("/a%2fb", &decode), Err(BadPath::EscapedSlash), "what is asked for them counts");
    }
}
