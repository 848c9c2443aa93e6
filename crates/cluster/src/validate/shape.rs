//! Fields nobody knows, and values of the wrong type, by the schema of the kind.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use serde_json::Value;

use super::at::{At, Report};

/// Deeper than any valid object.
const DEPTH_MAX: usize = 64;

/// Checks the spec against the kind's schema; the rest of the object is the API server's business.
pub(super) fn check(schema: &JSONSchemaProps, root: &At<'_>, report: &mut Report) {
    let below = schema.properties.as_ref().and_then(|properties| properties.get("spec"));
    if let (Some(below), Some(spec)) = (below, root.get("spec")) {
        walk(below, &spec, DEPTH_MAX, report);
    }
}

fn walk(schema: &JSONSchemaProps, at: &At<'_>, left: usize, report: &mut Report) {
    if left == 0 {
        return report.error(&at.path, "it is nested too deeply", "write it flatter");
    }
    let kind = schema.type_.as_deref().unwrap_or_default();
    if !kind.is_empty() && !is_of(kind, at.value) {
        let mend = format!("write {}", in_words(kind));
        return report.error(&at.path, format!("it is {}", name_of(at.value)), mend);
    }
    let one_of: Vec<&str> = schema.enum_.iter().flatten().filter_map(|word| word.0.as_str()).collect();
    if !one_of.is_empty() && !one_of.contains(&at.word()) {
        return report.error(&at.path, format!("there is no {:?}", at.word()), format!("write {}", one_of.join(", ")));
    }
    if let Some(JSONSchemaPropsOrArray::Schema(below)) = &schema.items {
        for item in at.items().iter().filter(|item| !item.value.is_null()) {
            walk(below, item, left - 1, report);
        }
    }
    members(schema, at, left, report);
}

fn members(schema: &JSONSchemaProps, at: &At<'_>, left: usize, report: &mut Report) {
    let Some(members) = at.value.as_object() else { return };
    let free = match &schema.additional_properties {
        Some(JSONSchemaPropsOrBool::Schema(below)) => Some(below),
        Some(JSONSchemaPropsOrBool::Bool(_)) | None => None,
    };
    let keeps_all = schema.x_kubernetes_preserve_unknown_fields == Some(true);
    for (key, value) in members.iter().filter(|(_, value)| !value.is_null()) {
        let known = schema.properties.as_ref().and_then(|properties| properties.get(key));
        match (known, free) {
            (Some(below), _) => walk(below, &At { value, path: at.field(key) }, left - 1, report),
            (None, Some(below)) => walk(below, &At { value, path: at.entry(key) }, left - 1, report),
            (None, None) if keeps_all => {}
            (None, None) => {
                report.error(at.field(key), "there is no such field", nearest(key, schema));
            }
        }
    }
}

/// The field that may have been meant, by its spelling.
fn nearest(key: &str, schema: &JSONSchemaProps) -> String {
    let known: Vec<&String> = schema.properties.iter().flatten().map(|(known, _)| known).collect();
    let plain = |text: &str| text.to_lowercase().replace(['_', '-'], "");
    match known.iter().find(|known| plain(known).trim_end_matches('s') == plain(key).trim_end_matches('s')) {
        Some(meant) => format!("write {meant}"),
        None => "remove it, or correct its spelling and indentation".to_owned(),
    }
}

fn is_of(kind: &str, value: &Value) -> bool {
    match kind {
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        _ => true,
    }
}

fn in_words(kind: &str) -> &'static str {
    match kind {
        "string" => "text, in quotes if it looks like a number",
        "boolean" => "true or false",
        "integer" => "a whole number, without quotes",
        "number" => "a number, without quotes",
        "array" => "a list",
        _ => "a map",
    }
}

fn name_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a map",
    }
}
