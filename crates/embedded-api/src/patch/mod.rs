//! The four ways to change an object by patch, all pure: object and patch in, object or refusal out.

pub mod apply;
pub mod fields;
pub mod json;
pub mod shape;
pub mod strategic;

use serde_json::Value;

/// RFC 7386, on a copy.
pub fn merge(object: &Value, patch: &Value) -> Value {
    let mut merged = object.clone();
    json_patch::merge(&mut merged, patch);
    merged
}
