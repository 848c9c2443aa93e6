//! Sets of fields: what an object says, path by path, and their written form (FieldsV1).
//!
//! A path is a list of steps in the written form: `f:name`, `k:{"name":"app"}`, `v:"x"`. Scalars, atomic values, empty maps and
//! the items of keyed lists are leaves.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use crate::patch::shape::{Shape, Topology};

/// Steps from the root.
pub type Path = Vec<String>;

/// A set of owned paths.
pub type Fields = BTreeSet<Path>;

/// Every leaf of `value` with what stands there; items of keyed lists stand for themselves with null.
pub fn leaves(value: &Value, shape: Shape<'_>) -> BTreeMap<Path, Value> {
    let mut found = BTreeMap::new();
    for (key, member) in value.as_object().into_iter().flatten() {
        let field = shape.field(key);
        walk(member, &field.topology, field.shape, &vec![format!("f:{key}")], &mut found);
    }
    found
}

fn walk(value: &Value, topology: &Topology, shape: Shape<'_>, path: &Path, found: &mut BTreeMap<Path, Value>) {
    let step = |text: String| path.iter().cloned().chain([text]).collect::<Path>();
    match (value, topology) {
        (Value::Object(map), Topology::Usual) if !map.is_empty() => {
            for (key, member) in map {
                let field = shape.field(key);
                walk(member, &field.topology, field.shape, &step(format!("f:{key}")), found);
            }
        }
        (Value::Array(items), Topology::Set) => {
            for item in items {
                found.insert(step(format!("v:{item}")), item.clone());
            }
        }
        (Value::Array(items), Topology::Keys(keys)) => {
            for item in items {
                let below = step(item_step(item, keys));
                for (key, member) in item.as_object().into_iter().flatten() {
                    let field = shape.field(key);
                    let path: Path = below.iter().cloned().chain([format!("f:{key}")]).collect();
                    walk(member, &field.topology, field.shape, &path, found);
                }
                found.insert(below, Value::Null);
            }
        }
        _ => {
            found.insert(path.clone(), value.clone());
        }
    }
}

/// The step to an item of a keyed list. A missing protocol is TCP, the one default that is part of a key.
pub fn item_step(item: &Value, keys: &[String]) -> String {
    let mut members = BTreeMap::new();
    for key in keys {
        match item.get(key) {
            Some(value) => drop(members.insert(key.clone(), value.clone())),
            None if key == "protocol" => drop(members.insert(key.clone(), json!("TCP"))),
            None => {}
        }
    }
    format!("k:{}", json!(members))
}

/// The written form.
pub fn to_json(fields: &Fields) -> Value {
    let mut root = json!({});
    for path in fields {
        let mut at = &mut root;
        for step in path {
            at = crate::object::map_of(at).entry(step.clone()).or_insert_with(|| json!({}));
        }
        crate::object::map_of(at).insert(".".to_owned(), json!({}));
    }
    tidy(&mut root);
    root
}

/// A leaf is written `{}`, not `{".":{}}`.
fn tidy(node: &mut Value) {
    let Value::Object(map) = node else { return };
    if map.len() == 1 && map.contains_key(".") {
        map.clear();
    }
    map.values_mut().for_each(tidy);
}

/// From the written form.
pub fn from_json(node: &Value) -> Fields {
    let mut fields = Fields::new();
    if let Some(map) = node.as_object() {
        read(map, &mut Vec::new(), &mut fields);
    }
    fields
}

fn read(map: &Map<String, Value>, path: &mut Path, fields: &mut Fields) {
    for (key, below) in map {
        if key == "." {
            fields.insert(path.clone());
            continue;
        }
        path.push(key.clone());
        match below.as_object() {
            Some(below) if !below.is_empty() => read(below, path, fields),
            _ => drop(fields.insert(path.clone())),
        }
        path.pop();
    }
}

/// A path for people: `.spec.containers[name="app"].image`.
pub fn shown(path: &Path) -> String {
    path.iter().map(|step| shown_step(step)).collect()
}

fn shown_step(step: &str) -> String {
    match step.split_once(':') {
        Some(("f", name)) => format!(".{name}"),
        Some(("v", value)) => format!("[={value}]"),
        Some(("k", keys)) => {
            let keys: BTreeMap<String, Value> = serde_json::from_str(keys).unwrap_or_default();
            let keys: Vec<String> = keys.iter().map(|(key, value)| format!("{key}={value}")).collect();
            format!("[{}]", keys.join(","))
        }
        _ => step.to_owned(),
    }
}

/// Removes what is at `path`, and maps that become empty by it.
pub fn remove(value: &mut Value, path: &[String]) {
    let Some((step, rest)) = path.split_first() else { return };
    let (kind, text) = step.split_once(':').unwrap_or(("", step));
    match (kind, value) {
        ("f", Value::Object(map)) => {
            if rest.is_empty() {
                map.remove(text);
            } else if let Some(below) = map.get_mut(text) {
                remove(below, rest);
                if below.as_object().is_some_and(Map::is_empty) || below.as_array().is_some_and(Vec::is_empty) {
                    map.remove(text);
                }
            }
        }
        ("v", Value::Array(items)) => {
            let gone: Option<Value> = serde_json::from_str(text).ok();
            items.retain(|item| Some(item) != gone.as_ref());
        }
        ("k", Value::Array(items)) => {
            let keys: Map<String, Value> = serde_json::from_str(text).unwrap_or_default();
            let names: Vec<String> = keys.keys().cloned().collect();
            let is_it = |item: &Value| item_step(item, &names) == *step;
            if rest.is_empty() {
                items.retain(|item| !is_it(item));
            } else if let Some(item) = items.iter_mut().find(|item| is_it(item)) {
                remove(item, rest);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_written_form_goes_both_ways() {
        let pod = json!({"metadata": {"labels": {"a": "1"}, "finalizers": ["x"]}, "spec": {"containers": [{"name": "c", "ports": [{"containerPort": 80}]}], "tolerations": [{"key": "k"}]}});
        let fields: Fields = leaves(&pod, Shape::Type("Pod")).into_keys().collect();
        let written = json!({
            "f:metadata": {"f:labels": {"f:a": {}}, "f:finalizers": {"v:\"x\"": {}}},
            "f:spec": {
                "f:containers": {"k:{\"name\":\"c\"}": {".": {}, "f:name": {},
                    "f:ports": {"k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {".": {}, "f:containerPort": {}}}}},
                "f:tolerations": {},
            },
        });
        assert_eq!(to_json(&fields), written);
        assert_eq!(from_json(&written), fields);
    }

    #[test]
    fn paths_are_shown_and_removed() {
        let path: Path = ["f:spec", "f:containers", "k:{\"name\":\"c\"}", "f:image"].map(str::to_owned).to_vec();
        assert_eq!(shown(&path), ".spec.containers[name=\"c\"].image");
        let mut pod =
            json!({"spec": {"containers": [{"name": "c", "image": "i"}]}, "metadata": {"labels": {"a": "1"}}});
        remove(&mut pod, &path);
        remove(&mut pod, &["f:metadata", "f:labels", "f:a"].map(str::to_owned));
        assert_eq!(pod, json!({"spec": {"containers": [{"name": "c"}]}}));
        remove(&mut pod, &path[..3]);
        assert_eq!(pod, json!({}));
    }
}
