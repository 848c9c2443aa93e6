//! What becomes of every field of every kind: it does what it says, it does nothing and why, or it is refused and what to
//! write in its place.
//!
//! In: the schemas of the kinds, the exceptions below. Out: the one answer that the validator warns by, that objects'
//! statuses name, and that `docs/supported-fields.md` is written from. What is no exception does what it says.

mod exceptions;
#[cfg(test)]
mod list;
#[cfg(test)]
mod page;
#[cfg(test)]
mod routes;

use serde_json::Value;

use self::exceptions::EXCEPTIONS;

/// What becomes of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It does what it says.
    Supported,
    /// It does nothing, by design: why.
    Ignored(&'static str),
    /// It is not done: what to write in its place, or what happens.
    Refused(&'static str),
}

/// Something in an object that does nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unused {
    /// Where, as `spec.http[0].match[0].sourceLabels`.
    pub path: String,
    /// What becomes of it.
    pub standing: Standing,
}

impl std::fmt::Display for Unused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.standing {
            Standing::Supported => write!(f, "{} does what it says", self.path),
            Standing::Ignored(why) => write!(f, "{} does nothing: {why}", self.path),
            Standing::Refused(instead) => write!(f, "{} is not supported: {instead}", self.path),
        }
    }
}

/// What becomes of a field of `kind`, by its path below `spec`, with `[]` for the entries of lists.
fn standing(kind: &str, path: &str) -> Standing {
    let of = |end: &str| path == end || path.strip_suffix(end).is_some_and(|before| before.ends_with('.'));
    let found = EXCEPTIONS.iter().find(|one| one.kinds.contains(&kind) && of(one.path));
    found.map_or(Standing::Supported, |one| one.standing)
}

/// Everything in `object` that does nothing; of what lies within such a thing nothing more is said.
pub fn unused(kind: &str, object: &Value) -> Vec<Unused> {
    let mut all = Vec::new();
    if let Some(spec) = object.get("spec") {
        walk(kind, spec, ("", "spec".to_owned()), &mut all);
    }
    all
}

fn walk(kind: &str, value: &Value, (path, place): (&str, String), all: &mut Vec<Unused>) {
    match value {
        Value::Object(members) => {
            for (name, below) in members.iter().filter(|(_, below)| !below.is_null()) {
                let inner = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                let there = format!("{place}.{name}");
                match standing(kind, &inner) {
                    Standing::Supported => walk(kind, below, (&inner, there), all),
                    standing => all.push(Unused { path: there, standing }),
                }
            }
        }
        Value::Array(items) => {
            for (at, below) in items.iter().enumerate() {
                walk(kind, below, (&format!("{path}[]"), format!("{place}[{at}]")), all);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{list::paths, *};

    #[test]
    fn what_does_nothing_is_found_where_it_stands() {
        let object = json!({"spec": {"hosts": ["a"], "http": [{"match": [{"uri": {"prefix": "/"}}, {
            "sourceLabels": {"app": "x"}, "headers": {"sourceLabels": {"exact": "y"}}}]}]}});
        let found: Vec<String> = unused("VirtualService", &object).into_iter().map(|one| one.path).collect();
        assert_eq!(found, ["spec.http[0].match[1].sourceLabels"]);
        assert!(unused("ServiceEntry", &object).is_empty(), "of another kind");
    }

    /// An exception that names no field would be forgotten silently.
    #[test]
    fn every_exception_is_a_field() {
        for exception in EXCEPTIONS {
            for kind in exception.kinds {
                let groups = ["networking.istio.io", "security.istio.io", routes::GROUP];
                let all = groups.iter().flat_map(|group| paths(group, kind)).collect::<Vec<_>>();
                let ends = |path: &String| path == exception.path || path.ends_with(&format!(".{}", exception.path));
                assert!(all.iter().any(ends), "{kind} has no {}", exception.path);
            }
        }
    }
}
