//! Reading and writing places inside a stored object.
//!
//! In: a JSON object and a path. Out: the value there, or a change to it.
//! Absent on purpose: any knowledge of kinds.

use serde_json::{Map, Value};

/// The text at a JSON pointer; empty where there is none.
pub fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or("")
}

/// `metadata.name`.
pub fn name(object: &Value) -> &str {
    text(object, "/metadata/name")
}

/// `metadata.namespace`; empty for cluster-scoped objects.
pub fn namespace(object: &Value) -> &str {
    text(object, "/metadata/namespace")
}

/// `metadata.uid`.
pub fn uid(object: &Value) -> &str {
    text(object, "/metadata/uid")
}

/// Whether deletion has been asked for.
pub fn is_terminating(object: &Value) -> bool {
    !text(object, "/metadata/deletionTimestamp").is_empty()
}

/// The list at a pointer; empty where there is none.
pub fn list<'a>(object: &'a Value, pointer: &str) -> &'a [Value] {
    object.pointer(pointer).and_then(Value::as_array).map(Vec::as_slice).unwrap_or(&[])
}

/// The texts of the list at a pointer.
pub fn texts<'a>(object: &'a Value, pointer: &str) -> Vec<&'a str> {
    list(object, pointer).iter().filter_map(Value::as_str).collect()
}

/// Writes `value` at `path`, making (or replacing what is no map by) maps on the way.
pub fn set(object: &mut Value, path: &[&str], value: impl Into<Value>) {
    let mut at = object;
    for step in path {
        at = map_of(at).entry(*step).or_insert(Value::Null);
    }
    *at = value.into();
}

/// As [`set`], but keeps a value that is already there.
pub fn set_default(object: &mut Value, path: &[&str], value: impl Into<Value>) {
    let mut at = &*object;
    for step in path {
        match at.get(step) {
            Some(next) => at = next,
            None => return set(object, path, value),
        }
    }
    if at.is_null() {
        set(object, path, value);
    }
}

/// Removes what is at `path`.
pub fn remove(object: &mut Value, path: &[&str]) -> Option<Value> {
    let (last, way) = path.split_last()?;
    let mut at = object;
    for step in way {
        at = at.get_mut(step)?;
    }
    at.as_object_mut()?.remove(*last)
}

/// `value` as a map; anything else becomes an empty one.
pub fn map_of(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    match value {
        Value::Object(map) => map,
        _ => unreachable!("made a map above"),
    }
}

/// Removes null members everywhere, as a decoder into typed structures would.
pub fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, member| !member.is_null());
            map.values_mut().for_each(drop_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

/// Now, to the second, as Kubernetes writes times.
pub fn now() -> String {
    stamp(jiff::Timestamp::now().as_second())
}

/// A time given in seconds since 1970, as Kubernetes writes it.
pub fn stamp(second: i64) -> String {
    jiff::Timestamp::from_second(second).map(|t| t.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()).unwrap_or_default()
}

/// A fresh random uid (version 4).
pub fn new_uid() -> String {
    let mut bytes: [u8; 16] = rand::random();
    bytes[6] = (bytes[6] & 0x0f) | 0x40;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{}-{}-{}-{}-{}", &hex[0..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..32])
}

/// `len` random letters and digits that cannot spell words, as generated names end in.
pub fn random_suffix(len: usize) -> String {
    const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let byte = || ALPHABET[rand::random::<u32>() as usize % ALPHABET.len()];
    (0..len).map(|_| char::from(byte())).collect()
}
