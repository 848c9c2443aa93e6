//! JSON patch (RFC 6902), refused as the reference refuses it.

use serde_json::Value;

use crate::status::{About, ApiError};

/// Most operations in one patch, the reference's number.
const OPERATIONS_MAX: usize = 10_000;

/// Applies `patch`; nothing is changed unless every operation can be.
pub fn apply(object: &Value, patch: &Value, about: About<'_>) -> Result<Value, ApiError> {
    let operations: json_patch::Patch = serde_json::from_value(patch.clone())
        .map_err(|error| ApiError::bad_request(format!("error decoding patch: {error}")))?;
    if operations.0.len() > OPERATIONS_MAX {
        return Err(ApiError::too_large(OPERATIONS_MAX));
    }
    let mut patched = object.clone();
    json_patch::patch(&mut patched, &operations.0).map_err(|error| unprocessable(about, &error))?;
    Ok(patched)
}

fn unprocessable(about: About<'_>, error: &json_patch::PatchError) -> ApiError {
    let mut refused = ApiError::invalid(about, &[]);
    refused.message = format!("the server rejected our request due to an error in our request: {error}");
    refused
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn operations_apply_all_or_nothing() {
        let about = About { group: "", resource: "Pod", name: "a" };
        let object = json!({"a": {"b": [1, 2]}});
        let patch = json!([{"op": "test", "path": "/a/b/0", "value": 1}, {"op": "add", "path": "/a/b/-", "value": 3}]);
        assert_eq!(apply(&object, &patch, about), Ok(json!({"a": {"b": [1, 2, 3]}})));
        let patch = json!([{"op": "add", "path": "/c", "value": 1}, {"op": "remove", "path": "/none"}]);
        assert_eq!(apply(&object, &patch, about).expect_err("no such path").code, 422);
        assert_eq!(apply(&object, &json!({"a": 1}), about).expect_err("not a list").code, 400);
    }
}
