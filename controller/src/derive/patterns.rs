//! Regular expressions of routes, refused here if proxies could not use them: a listener's routes are one resource, which one
//! of them would take with it.
//!
//! In: a route as it would be sent. Out: the first expression that cannot be compiled, and why. What was compiled once is
//! remembered for a while, since routes are derived again and again.

use std::{collections::HashMap, sync::LazyLock};

use lateen_policy::patterns;
use lateen_wire::proxy::{self as wire, http_route::Action, path_match, rewrite, string_match};
use parking_lot::Mutex;

/// Why a route cannot be carried out.
pub fn check(route: &wire::HttpRoute) -> Result<(), String> {
    let one = route.r#match.as_ref();
    if let Some(path_match::Kind::Regex(pattern)) =
        one.and_then(|one| one.path.as_ref()).and_then(|path| path.kind.as_ref())
    {
        usable(pattern, Use::Whole)?;
    }
    let parts = one.into_iter().flat_map(|one| [&one.method, &one.scheme, &one.authority]).flatten();
    let headers = one.into_iter().flat_map(|one| &one.headers).filter_map(|header| header.value.as_ref());
    let query = one.into_iter().flat_map(|one| &one.query).filter_map(|part| part.value.as_ref());
    let origins = route.cors.iter().flat_map(|cors| &cors.allow_origins);
    for text in parts.chain(headers).chain(query).chain(origins) {
        if let Some(string_match::Kind::Regex(pattern)) = &text.kind {
            usable(pattern, Use::Whole)?;
        }
    }
    let forward = match &route.action {
        Some(Action::Forward(forward)) => Some(forward),
        Some(Action::Redirect(_) | Action::Direct(_)) | None => None,
    };
    let own = forward.into_iter().filter_map(|forward| forward.rewrite.as_ref());
    let shares = forward.into_iter().flat_map(|forward| &forward.destinations).filter_map(|one| one.rewrite.as_ref());
    for found in own.chain(shares) {
        if let Some(rewrite::Path::Regex(regex)) = &found.path {
            let groups = usable(&regex.pattern, Use::Searched)?;
            substitution(&regex.substitution, groups)?;
        }
    }
    Ok(())
}

/// How an expression is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Use {
    Whole,
    Searched,
}

/// As many as are remembered; then it is begun anew.
const KNOWN_MAX: usize = 4096;
type Known = HashMap<(Use, String), Result<usize, String>>;

/// How many groups a pattern has, if it can be used.
fn usable(pattern: &str, used: Use) -> Result<usize, String> {
    static KNOWN: LazyLock<Mutex<Known>> = LazyLock::new(Mutex::default);
    let key = (used, pattern.to_owned());
    if let Some(known) = KNOWN.lock().get(&key) {
        return known.clone();
    }
    let built = match used {
        Use::Whole => patterns::whole(pattern),
        Use::Searched => patterns::searching(pattern),
    };
    let found = built.map(|regex| regex.captures_len() - 1).map_err(|error| error.to_string());
    let mut known = KNOWN.lock();
    if known.len() >= KNOWN_MAX {
        known.clear();
    }
    known.insert(key, found.clone());
    found
}

/// Whether what stands in the place of a match names groups that are there.
fn substitution(text: &str, groups: usize) -> Result<(), String> {
    let mut rest = text.chars();
    while let Some(one) = rest.next() {
        if one != '\\' {
            continue;
        }
        match rest.next() {
            Some('\\') => {}
            Some(digit) if digit.to_digit(10).is_some_and(|named| named as usize <= groups) => {}
            Some(digit) if digit.is_ascii_digit() => {
                return Err(format!("the substitution {text:?} names the group {digit}, and the pattern has {groups}"));
            }
            Some(_) | None => return Err(format!("the substitution {text:?} has a backslash before no digit")),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(pattern: &str) -> wire::HttpRoute {
        let kind = Some(path_match::Kind::Regex(pattern.to_owned()));
        let path = Some(wire::PathMatch { kind, ignore_case: false });
        wire::HttpRoute { r#match: Some(wire::HttpMatch { path, ..Default::default() }), ..Default::default() }
    }

    #[test]
    fn what_proxies_could_not_compile_is_named() {
        assert_eq!(check(&path("/a(b|c)+")), Ok(()));
        for pattern in ["(", r"(a)\1", "(?=a)", "(a{1000}){1000}"] {
            let why = check(&path(pattern)).expect_err(pattern);
            assert!(why.contains("cannot be used"), "{why}");
            assert_eq!(check(&path(pattern)), Err(why), "the same the second time");
        }
    }

    #[test]
    fn substitutions_name_what_is_there() {
        for (text, groups, is_good) in
            [(r"/\1", 1, true), (r"/\2", 1, false), (r"\\\0", 0, true), (r"\x", 1, false), ("\\", 1, false)]
        {
            assert_eq!(substitution(text, groups).is_ok(), is_good, "{text}");
        }
    }
}
