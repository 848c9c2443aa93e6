//! Strategic merge patch: lists of known maps merge by key, directives delete, replace and order.
//!
//! In: an object, a patch, the shape of the kind. Out: the patched object, or why the patch makes no sense.

use serde_json::{Map, Value};

use crate::{
    patch::shape::{Field, Shape},
    status::ApiError,
};

const PATCH: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const DELETE_PREFIX: &str = "$deleteFromPrimitiveList/";
const ORDER_PREFIX: &str = "$setElementOrder/";

/// Applies `patch` to a copy of `object`.
pub fn apply(object: &Value, patch: &Value, shape: Shape<'_>) -> Result<Value, ApiError> {
    let patch = patch.as_object().ok_or_else(|| ApiError::bad_request("a strategic merge patch must be an object"))?;
    let map = object.as_object().cloned().unwrap_or_default();
    Ok(merge_map(map, patch, shape)?.map_or(Value::Null, Value::Object))
}

/// The merged map; none where the patch deletes it.
fn merge_map(
    mut map: Map<String, Value>,
    patch: &Map<String, Value>,
    shape: Shape<'_>,
) -> Result<Option<Map<String, Value>>, ApiError> {
    match patch.get(PATCH).map(|word| word.as_str().unwrap_or("")) {
        Some("delete") => return Ok(None),
        Some("replace") => {
            let kept = patch.iter().filter(|(key, _)| *key != PATCH);
            return Ok(Some(kept.map(|(key, value)| (key.clone(), value.clone())).collect()));
        }
        Some("merge") | None => {}
        Some(other) => return Err(unknown_directive(other)),
    }
    if let Some(Value::Array(kept)) = patch.get(RETAIN_KEYS) {
        map.retain(|key, _| kept.iter().any(|keep| keep == key));
    }
    for (key, value) in patch {
        if key == PATCH || key == RETAIN_KEYS || key.starts_with(ORDER_PREFIX) {
            continue;
        }
        if let Some(field) = key.strip_prefix(DELETE_PREFIX) {
            delete_scalars(&mut map, field, value);
        } else {
            merge_member(&mut map, key, value, &shape.field(key))?;
        }
    }
    for (key, order) in patch {
        if let Some(name) = key.strip_prefix(ORDER_PREFIX)
            && let (Some(Value::Array(items)), Some(order)) = (map.get_mut(name), order.as_array())
        {
            sort_like(items, order, shape.field(name).merge_key);
        }
    }
    Ok(Some(map))
}

fn unknown_directive(word: &str) -> ApiError {
    ApiError::bad_request(format!("unknown patch type found: {word}"))
}

fn merge_member(map: &mut Map<String, Value>, key: &str, patch: &Value, field: &Field<'_>) -> Result<(), ApiError> {
    let present = map.remove(key);
    let merged = match (patch, present) {
        (Value::Null, _) => None,
        (Value::Object(patch), Some(Value::Object(present))) => {
            merge_map(present, patch, field.shape)?.map(Value::Object)
        }
        // Nothing to merge with: the directives still must not be stored.
        (Value::Object(patch), _) => merge_map(Map::new(), patch, field.shape)?.map(Value::Object),
        (Value::Array(patch), present) => {
            let present = match present {
                Some(Value::Array(items)) => items,
                _ => Vec::new(),
            };
            Some(Value::Array(merge_list(present, patch, field)?))
        }
        (scalar, _) => Some(scalar.clone()),
    };
    if let Some(merged) = merged {
        map.insert(key.to_owned(), merged);
    }
    Ok(())
}

fn merge_list(present: Vec<Value>, patch: &[Value], field: &Field<'_>) -> Result<Vec<Value>, ApiError> {
    match field.merge_key {
        None => Ok(patch.to_vec()),
        Some("=") => Ok(union(present, patch)),
        Some(key) => merge_keyed(present, patch, key, field.shape),
    }
}

fn union(mut present: Vec<Value>, patch: &[Value]) -> Vec<Value> {
    for item in patch {
        if !present.contains(item) {
            present.push(item.clone());
        }
    }
    present
}

fn merge_keyed(mut present: Vec<Value>, patch: &[Value], key: &str, shape: Shape<'_>) -> Result<Vec<Value>, ApiError> {
    let directive = |item: &Value| item.get(PATCH).and_then(Value::as_str).map(str::to_owned);
    if patch.iter().any(|item| directive(item).as_deref() == Some("replace")) {
        let kept = patch.iter().filter(|item| directive(item).is_none());
        return Ok(kept.cloned().collect());
    }
    for item in patch {
        let Some(members) = item.as_object() else {
            return Err(ApiError::bad_request("a list that merges by key holds something that is no object"));
        };
        let Some(id) = members.get(key) else {
            return Err(ApiError::bad_request(format!("map: {item} does not contain declared merge key: {key}")));
        };
        let at = present.iter().position(|other| other.get(key) == Some(id));
        let base = match at {
            Some(at) => present[at].as_object().cloned().unwrap_or_default(),
            None => Map::new(),
        };
        match (at, merge_map(base, members, shape)?) {
            (Some(at), Some(merged)) => present[at] = Value::Object(merged),
            (Some(at), None) => drop(present.remove(at)),
            (None, Some(merged)) => present.push(Value::Object(merged)),
            (None, None) => {}
        }
    }
    Ok(present)
}

fn delete_scalars(map: &mut Map<String, Value>, field: &str, gone: &Value) {
    if let (Some(Value::Array(items)), Some(gone)) = (map.get_mut(field), gone.as_array()) {
        items.retain(|item| !gone.contains(item));
    }
}

/// Puts the items that `order` names into its order; each other item stays behind the one it stood behind.
fn sort_like(items: &mut Vec<Value>, order: &[Value], key: Option<&str>) {
    let id = |item: &Value| match key {
        Some("=") | None => Some(item.clone()),
        Some(key) => item.get(key).cloned(),
    };
    let rank = |item: &Value| order.iter().position(|wanted| id(wanted) == id(item));
    let mut last = 0;
    let mut ranked: Vec<(usize, Value)> = Vec::with_capacity(items.len());
    for item in items.drain(..) {
        last = rank(&item).unwrap_or(last);
        ranked.push((last, item));
    }
    ranked.sort_by_key(|(rank, _)| *rank);
    items.extend(ranked.into_iter().map(|(_, item)| item));
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn deployment(containers: Value) -> Value {
        json!({"spec": {"template": {"spec": {"containers": containers}}}})
    }

    #[test]
    fn containers_merge_by_name_and_directives_work() {
        let shape = Shape::Type("Deployment");
        let base = deployment(json!([
            {"name": "a", "image": "x", "env": [{"name": "E", "value": "1"}], "ports": [{"containerPort": 80}]},
            {"name": "b", "image": "y"},
        ]));
        let cases = [
            (
                json!([{"name": "a", "image": "z", "env": [{"name": "F", "value": "2"}]}]),
                json!([
                    {"name": "a", "image": "z", "env": [{"name": "E", "value": "1"}, {"name": "F", "value": "2"}], "ports": [{"containerPort": 80}]},
                    {"name": "b", "image": "y"},
                ]),
            ),
            (json!([{"name": "a", "$patch": "delete"}]), json!([{"name": "b", "image": "y"}])),
            (json!([{"$patch": "replace"}, {"name": "c"}]), json!([{"name": "c"}])),
            // The directive in any item replaces the list, as in the reference.
            (json!([{"name": "a", "$patch": "replace", "image": "q"}, {"name": "b"}]), json!([{"name": "b"}])),
        ];
        for (patch, expected) in cases {
            assert_eq!(apply(&base, &deployment(patch), shape), Ok(deployment(expected)));
        }
    }

    #[test]
    fn order_scalars_retained_keys_and_nulls() {
        let shape = Shape::Type("Deployment");
        let base = json!({"metadata": {"finalizers": ["a", "b"], "labels": {"x": "1", "y": "2"}},
            "spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}});
        let patch = json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["a"], "$setElementOrder/finalizers": ["c", "b"],
            "finalizers": ["c"], "labels": {"x": null}}, "spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}});
        let expected = json!({"metadata": {"finalizers": ["c", "b"], "labels": {"y": "2"}}, "spec": {"strategy": {"type": "Recreate"}}});
        assert_eq!(apply(&base, &patch, shape), Ok(expected));
    }

    #[test]
    fn patches_that_make_no_sense_are_refused() {
        let shape = Shape::Type("Pod");
        for patch in [
            json!([]),
            json!({"$patch": "explode"}),
            json!({"spec": {"containers": [{"image": "x"}]}}),
            json!({"spec": {"containers": ["x"]}}),
        ] {
            assert_eq!(apply(&json!({}), &patch, shape).expect_err(&patch.to_string()).code, 400);
        }
    }
}
