//! The part of JSONPath that printer columns use: members, indexes, `[*]`, and `[?(@.member=="text")]`.

use serde_json::Value;

/// What `path` finds in `value`. Paths we cannot read find nothing.
pub fn find<'a>(value: &'a Value, path: &str) -> Vec<&'a Value> {
    let path = path.trim().trim_start_matches('{').trim_end_matches('}').trim_start_matches('$');
    let mut found = vec![value];
    let mut rest = path;
    while !rest.is_empty() {
        let Some((step, after)) = next_step(rest) else { return Vec::new() };
        found = found.into_iter().flat_map(|value| take(value, step)).collect();
        rest = after;
    }
    found
}

#[derive(Clone, Copy)]
enum Step<'p> {
    Member(&'p str),
    Index(i64),
    All,
    Where(&'p str, &'p str),
}

fn next_step(path: &str) -> Option<(Step<'_>, &str)> {
    if let Some(inner) = path.strip_prefix('[') {
        let end = if inner.starts_with("?(") { inner.find(")]")? + 1 } else { inner.find(']')? };
        let (inside, after) = (inner.get(..end)?, inner.get(end + 1..)?);
        return Some((bracket(inside)?, after));
    }
    let path = path.strip_prefix('.').unwrap_or(path);
    let mut escaped = false;
    let end = path.find(|letter| {
        let stop = !escaped && (letter == '.' || letter == '[');
        escaped = letter == '\\';
        stop
    });
    let (name, after) = path.split_at(end.unwrap_or(path.len()));
    Some((if name == "*" { Step::All } else { Step::Member(name) }, after))
}

fn bracket(inside: &str) -> Option<Step<'_>> {
    if inside == "*" {
        return Some(Step::All);
    }
    if let Some(filter) = inside.strip_prefix("?(").and_then(|text| text.strip_suffix(')')) {
        let (member, text) = filter.split_once("==")?;
        let member = member.trim().strip_prefix("@.")?;
        return Some(Step::Where(member, text.trim().trim_matches(|c| c == '"' || c == '\'')));
    }
    match inside.parse() {
        Ok(index) => Some(Step::Index(index)),
        Err(_) => Some(Step::Member(inside.trim_matches(|c| c == '"' || c == '\''))),
    }
}

fn take<'a>(value: &'a Value, step: Step<'_>) -> Vec<&'a Value> {
    match (step, value) {
        (Step::Member(name), Value::Object(map)) => map.get(&name.replace('\\', "")).into_iter().collect(),
        (Step::Index(index), Value::Array(items)) => {
            let at = if index < 0 { items.len() as i64 + index } else { index };
            usize::try_from(at).ok().and_then(|at| items.get(at)).into_iter().collect()
        }
        (Step::All, Value::Array(items)) => items.iter().collect(),
        (Step::All, Value::Object(map)) => map.values().collect(),
        (Step::Where(member, text), Value::Array(items)) => {
            let wanted = |value: &Value| match value {
                Value::String(own) => own == text,
                other => format!("{other}") == text,
            };
            items.iter().filter(|item| item.get(member).is_some_and(wanted)).collect()
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn paths_of_printer_columns() {
        let value = json!({"spec": {"a": [1, 2], "m": {"x.io/y": "v"}}, "status": {"conditions": [{"type": "Ready", "status": "True"}, {"type": "Other", "status": "False"}]}});
        for (path, expected) in [
            (".spec.a", vec![json!([1, 2])]),
            (".spec.a[1]", vec![json!(2)]),
            (".spec.a[-1]", vec![json!(2)]),
            (".spec.a[*]", vec![json!(1), json!(2)]),
            (".spec.m.x\\.io/y", vec![json!("v")]),
            (".spec.m['x.io/y']", vec![json!("v")]),
            (".status.conditions[?(@.type==\"Ready\")].status", vec![json!("True")]),
            (".spec.none", vec![]),
            (".spec.a[", vec![]),
            (".spec.a[?(@.x)]", vec![]),
        ] {
            let found: Vec<Value> = find(&value, path).into_iter().cloned().collect();
            assert_eq!(found, expected, "{path}");
        }
    }
}
