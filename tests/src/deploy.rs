//! What `deploy/` holds, as tests read it.
//!
//! In: files of the source tree. Out: their text, and the objects in their YAML.

use std::path::{Path, PathBuf};

use serde_json::Value;

/// The charts, in the order of their installation.
pub const CHARTS: [&str; 4] = ["base", "controller", "cni", "ztunnel"];

/// Charts of what users have many of; the mesh is complete without them.
pub const GATEWAY_CHARTS: [&str; 2] = ["waypoint", "gateway"];

/// The root of the source tree.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the root").to_owned()
}

/// The text of a file, named from the root.
pub fn text(path: &str) -> String {
    let path = root().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The objects of a YAML text.
pub fn objects(text: &str) -> Vec<Value> {
    let all: Vec<Value> = serde_saphyr::from_multiple(text).expect("YAML");
    all.into_iter().filter(|one| !one.is_null()).collect()
}

/// What the charts render to with their defaults, without the resource kinds.
pub fn rendered() -> Vec<Value> {
    let files = CHARTS.iter().filter(|chart| **chart != "base");
    files.flat_map(|chart| objects(&text(&format!("deploy/manifests/{chart}.yaml")))).collect()
}

/// A member of an object that is text, by its JSON pointer; empty where there is none.
pub fn word<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// A member of an object that is a list; empty where there is none.
pub fn list<'a>(object: &'a Value, pointer: &str) -> &'a [Value] {
    object.pointer(pointer).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

/// A list of words.
pub fn words(object: &Value, pointer: &str) -> Vec<String> {
    list(object, pointer).iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// What tells one object of a cluster from all others, for people.
pub fn key(object: &Value) -> String {
    format!("{} {}", word(object, "/kind"), word(object, "/metadata/name"))
}

/// The one object of this key.
pub fn find<'a>(all: &'a [Value], key_of_it: &str) -> &'a Value {
    all.iter().find(|one| key(one) == key_of_it).unwrap_or_else(|| panic!("there is no {key_of_it}"))
}

/// The objects that run pods.
pub fn workloads(all: &[Value]) -> Vec<&Value> {
    all.iter().filter(|one| one.pointer("/spec/template/spec").is_some()).collect()
}
