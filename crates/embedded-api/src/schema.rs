//! Structural schemas of custom resources: pruning, defaulting, validation. All pure.
//!
//! In: a schema (OpenAPI v3 as CRDs carry it) and a value. Out: the value changed, or its field errors.
//! Absent on purpose: evaluating `x-kubernetes-validations` (CEL). Such rules are accepted and stored, and nothing is refused by them.

use regex::Regex;
use serde_json::{Map, Value};

use crate::status::{FieldError, Problem};

/// Deepest nesting that is looked into; deeper values are refused before they get here.
const DEPTH_MAX: usize = 128;

fn flag(schema: &Value, key: &str) -> bool {
    schema.get(key) == Some(&Value::Bool(true))
}

/// Removes members the schema does not know, and returns their paths.
pub fn prune(schema: &Value, value: &mut Value) -> Vec<String> {
    let mut unknown = Vec::new();
    prune_at(schema, value, "", true, &mut unknown);
    unknown
}

fn prune_at(schema: &Value, value: &mut Value, path: &str, is_object: bool, unknown: &mut Vec<String>) {
    match value {
        Value::Array(items) => {
            let Some(below) = schema.get("items") else { return };
            for (at, item) in items.iter_mut().enumerate() {
                prune_at(below, item, &format!("{path}[{at}]"), flag(below, "x-kubernetes-embedded-resource"), unknown);
            }
        }
        Value::Object(map) => prune_map(schema, map, path, is_object, unknown),
        _ => {}
    }
}

fn prune_map(schema: &Value, map: &mut Map<String, Value>, path: &str, is_object: bool, unknown: &mut Vec<String>) {
    let keep_all = flag(schema, "x-kubernetes-preserve-unknown-fields");
    let properties = schema.get("properties").and_then(Value::as_object);
    let additional = schema.get("additionalProperties");
    map.retain(|key, member| {
        if is_object && matches!(key.as_str(), "apiVersion" | "kind" | "metadata") {
            return true;
        }
        let place = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        let below = properties.and_then(|properties| properties.get(key));
        let below = below.or_else(|| additional.filter(|additional| additional.is_object()));
        if let Some(below) = below {
            prune_at(below, member, &place, flag(below, "x-kubernetes-embedded-resource"), unknown);
            return true;
        }
        if keep_all || additional == Some(&Value::Bool(true)) {
            return true;
        }
        unknown.push(place);
        false
    });
}

/// Fills in defaults, also below lists and maps that are present. A null that may not be null is replaced by its default.
pub fn fill_defaults(schema: &Value, value: &mut Value) {
    match value {
        Value::Array(items) => {
            if let Some(below) = schema.get("items") {
                items.iter_mut().for_each(|item| fill_defaults(below, item));
            }
        }
        Value::Object(map) => {
            for (key, below) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
                if let Some(default) = below.get("default")
                    && map.get(key).is_none_or(|present| present.is_null() && !flag(below, "nullable"))
                {
                    map.insert(key.clone(), default.clone());
                }
                if let Some(member) = map.get_mut(key) {
                    fill_defaults(below, member);
                }
            }
            if let Some(below) = schema.get("additionalProperties").filter(|below| below.is_object()) {
                let known = schema.get("properties").and_then(Value::as_object);
                let free = map.iter_mut().filter(|(key, _)| !known.is_some_and(|known| known.contains_key(*key)));
                free.for_each(|(_, member)| fill_defaults(below, member));
            }
        }
        _ => {}
    }
}

/// Field errors of `value`.
pub fn validate(schema: &Value, value: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    validate_at(schema, value, &Place { path: "", depth: 0 }, &mut errors);
    errors
}

struct Place<'a> {
    path: &'a str,
    depth: usize,
}

impl Place<'_> {
    fn member(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    fn name(&self) -> &str {
        if self.path.is_empty() { "<nil>" } else { self.path }
    }

    fn rule(&self, value: &Value, rule: &str, errors: &mut Vec<FieldError>) {
        errors.push(FieldError::invalid(self.name(), value.clone(), format!("{} in body {rule}", self.path)));
    }
}

fn validate_at(schema: &Value, value: &Value, at: &Place<'_>, errors: &mut Vec<FieldError>) {
    if at.depth > DEPTH_MAX {
        return errors.push(FieldError::invalid(at.name(), Value::Null, "is nested too deeply"));
    }
    if value.is_null() && (flag(schema, "nullable") || at.depth == 0) {
        return;
    }
    if !check_type(schema, value, at, errors) {
        return;
    }
    if let Some(allowed) = schema.get("enum").and_then(Value::as_array)
        && !allowed.contains(value)
    {
        let allowed = allowed.iter().map(|v| v.as_str().map_or_else(|| v.to_string(), str::to_owned)).collect();
        errors.push(FieldError { field: at.name().to_owned(), problem: Problem::Unsupported(value.clone(), allowed) });
    }
    match value {
        Value::String(text) => validate_text(schema, text, value, at, errors),
        Value::Number(_) => validate_number(schema, value, at, errors),
        Value::Array(items) => validate_list(schema, items, at, errors),
        Value::Object(map) => validate_map(schema, map, at, errors),
        _ => {}
    }
    validate_logic(schema, value, at, errors);
}

/// Whether the type is right; says so where it is not.
fn check_type(schema: &Value, value: &Value, at: &Place<'_>, errors: &mut Vec<FieldError>) -> bool {
    if flag(schema, "x-kubernetes-int-or-string") {
        let fits = value.is_string() || value.is_i64() || value.is_u64();
        if !fits {
            type_error("integer,string", value, at, errors);
        }
        return fits;
    }
    let Some(wanted) = schema.get("type").and_then(Value::as_str) else { return true };
    let fits = match wanted {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "number" => value.is_number(),
        "integer" => value.is_i64() || value.is_u64() || value.as_f64().is_some_and(|number| number.fract() == 0.0),
        _ => true,
    };
    if !fits {
        type_error(wanted, value, at, errors);
    }
    fits
}

fn type_error(wanted: &str, value: &Value, at: &Place<'_>, errors: &mut Vec<FieldError>) {
    let word = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let why = format!("{} in body must be of type {wanted}: \"{word}\"", at.path);
    errors.push(FieldError { field: at.name().to_owned(), problem: Problem::Type(value.clone(), why) });
}

fn limit(schema: &Value, key: &str) -> Option<u64> {
    schema.get(key).and_then(Value::as_u64)
}

fn validate_text(schema: &Value, text: &str, value: &Value, at: &Place<'_>, errors: &mut Vec<FieldError>) {
    let length = text.chars().count() as u64;
    if let Some(max) = limit(schema, "maxLength").filter(|max| length > *max) {
        errors.push(FieldError { field: at.name().to_owned(), problem: Problem::TooLong(max as usize) });
    }
    if let Some(min) = limit(schema, "minLength").filter(|min| length < *min) {
        at.rule(value, &format!("should be at least {min} chars long"), errors);
    }
    if let Some(pattern) = schema.get("pattern").and_then(Value::as_str) {
        // A pattern that is no expression is refused when the CRD is written.
        if Regex::new(pattern).is_ok_and(|regex| !regex.is_match(text)) {
            at.rule(value, &format!("should match '{pattern}'"), errors);
        }
    }
    if let Some(format) = schema.get("format").and_then(Value::as_str)
        && !has_format(text, format)
    {
        at.rule(value, &format!("must be of type {format}: {value}"), errors);
    }
}

/// Whether text has a format; formats we do not know pass, as in the reference.
fn has_format(text: &str, format: &str) -> bool {
    match format {
        "date-time" => text.parse::<jiff::Timestamp>().is_ok(),
        "date" => text.parse::<jiff::civil::Date>().is_ok(),
        "ipv4" => text.parse::<std::net::Ipv4Addr>().is_ok(),
        "ipv6" => text.parse::<std::net::Ipv6Addr>().is_ok(),
        "cidr" => text.parse::<crate::ipam::Range>().is_ok(),
        "byte" => {
            use base64::Engine as _;
            base64::engine::general_purpose::STANDARD.decode(text).is_ok()
        }
        "uuid" => text.len() == 36 && text.split('-').all(|part| part.bytes().all(|byte| byte.is_ascii_hexdigit())),
        _ => true,
    }
}

fn validate_number(schema: &Value, value: &Value, at: &Place<'_>, errors: &mut Vec<FieldError>) {
    let Some(number) = value.as_f64() else { return };
    let bound = |key: &str| schema.get(key).and_then(Value::as_f64);
    if let Some(min) = bound("minimum") {
        let strict = flag(schema, "exclusiveMinimum");
        if number < min || strict && number == min {
            let words = if strict { "greater than" } else { "greater than or equal to" };
            at.rule(value, &format!("should be {words} {min}"), errors);
        }
    }
    if let Some(max) = bound("maximum") {
        let strict = flag(schema, "exclusiveMaximum");
        if number > max || strict && number == max {
            let words = if strict { "less than" } else { "less than or equal to" };
            at.rule(value, &format!("should be {words} {max}"), errors);
        }
    }
    if let Some(factor) = bound("multipleOf").filter(|factor| *factor != 0.0 && (number / factor).fract() != 0.0) {
        at.rule(value, &format!("should be a multiple of {factor}"), errors);
    }
}

fn validate_list(schema: &Value, items: &[Value], at: &Place<'_>, errors: &mut Vec<FieldError>) {
    if let Some(max) = limit(schema, "maxItems").filter(|max| items.len() as u64 > *max) {
        errors.push(FieldError { field: at.name().to_owned(), problem: Problem::TooMany(items.len(), max as usize) });
    }
    if let Some(min) = limit(schema, "minItems").filter(|min| (items.len() as u64) < *min) {
        at.rule(&Value::from(items.len()), &format!("should have at least {min} items"), errors);
    }
    check_distinct(schema, items, at, errors);
    let Some(below) = schema.get("items") else { return };
    for (index, item) in items.iter().enumerate() {
        let path = format!("{}[{index}]", at.path);
        validate_at(below, item, &Place { path: &path, depth: at.depth + 1 }, errors);
    }
}

/// Sets and keyed lists hold each value or key once.
fn check_distinct(schema: &Value, items: &[Value], at: &Place<'_>, errors: &mut Vec<FieldError>) {
    let keys = schema.get("x-kubernetes-list-map-keys").and_then(Value::as_array);
    let id = |item: &Value| match (schema.get("x-kubernetes-list-type").and_then(Value::as_str), keys) {
        (Some("set"), _) => Some(item.clone()),
        (Some("map"), Some(keys)) => {
            let pairs =
                keys.iter().filter_map(Value::as_str).filter_map(|key| Some((key.to_owned(), item.get(key)?.clone())));
            Some(Value::Object(pairs.collect()))
        }
        _ => None,
    };
    let ids: Vec<Option<Value>> = items.iter().map(id).collect();
    for (index, mine) in ids.iter().enumerate() {
        if let Some(mine) = mine
            && ids[..index].iter().flatten().any(|other| other == mine)
        {
            errors.push(FieldError::duplicate(format!("{}[{index}]", at.path), mine.clone()));
        }
    }
}

fn validate_map(schema: &Value, map: &Map<String, Value>, at: &Place<'_>, errors: &mut Vec<FieldError>) {
    for required in schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str) {
        if !map.contains_key(required) {
            errors.push(FieldError::required(at.member(required), ""));
        }
    }
    if let Some(max) = limit(schema, "maxProperties").filter(|max| map.len() as u64 > *max) {
        errors.push(FieldError { field: at.name().to_owned(), problem: Problem::TooMany(map.len(), max as usize) });
    }
    if let Some(min) = limit(schema, "minProperties").filter(|min| (map.len() as u64) < *min) {
        at.rule(&Value::from(map.len()), &format!("should have at least {min} properties"), errors);
    }
    let properties = schema.get("properties").and_then(Value::as_object);
    for (key, member) in map {
        let below = properties.and_then(|properties| properties.get(key));
        let below = below.or_else(|| schema.get("additionalProperties").filter(|below| below.is_object()));
        if let Some(below) = below {
            validate_at(below, member, &Place { path: &at.member(key), depth: at.depth + 1 }, errors);
        }
    }
}

/// allOf, anyOf, oneOf, not.
fn validate_logic(schema: &Value, value: &Value, at: &Place<'_>, errors: &mut Vec<FieldError>) {
    let place = || Place { path: at.path, depth: at.depth + 1 };
    let holds = |below: &Value| {
        let mut found = Vec::new();
        validate_at(below, value, &place(), &mut found);
        found.is_empty()
    };
    for below in schema.get("allOf").and_then(Value::as_array).into_iter().flatten() {
        validate_at(below, value, &place(), errors);
    }
    let refuse = |why: &str, errors: &mut Vec<FieldError>| {
        let why = format!("\"{}\" {why}", at.path);
        errors.push(FieldError::invalid(at.name(), value.clone(), why));
    };
    if let Some(any) = schema.get("anyOf").and_then(Value::as_array)
        && !any.iter().any(holds)
    {
        refuse("must validate at least one schema (anyOf)", errors);
    }
    if let Some(one) = schema.get("oneOf").and_then(Value::as_array) {
        match one.iter().filter(|below| holds(below)).count() {
            1 => {}
            0 => refuse("must validate one and only one schema (oneOf). Found none valid", errors),
            n => {
                refuse(&format!("must validate one and only one schema (oneOf). Found {n} valid alternatives"), errors)
            }
        }
    }
    if let Some(not) = schema.get("not")
        && holds(not)
    {
        refuse("must not validate the schema (not)", errors);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn schema() -> Value {
        json!({"type": "object", "required": ["spec"], "properties": {"spec": {"type": "object", "required": ["name"], "properties": {
            "name": {"type": "string", "pattern": "^[a-z]+$", "maxLength": 5, "minLength": 2},
            "mode": {"type": "string", "enum": ["A", "B"], "default": "A"},
            "count": {"type": "integer", "minimum": 1, "maximum": 9},
            "port": {"x-kubernetes-int-or-string": true},
            "when": {"type": "string", "format": "date-time"},
            "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
            "labels": {"type": "object", "additionalProperties": {"type": "string"}},
            "list": {"type": "array", "maxItems": 2, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["id"],
                "items": {"type": "object", "properties": {"id": {"type": "integer"}, "on": {"type": "boolean", "default": true}}}},
            "choice": {"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "string"}},
                "oneOf": [{"required": ["a"]}, {"required": ["b"]}]},
            "maybe": {"type": "string", "nullable": true},
        }}}})
    }

    #[test]
    fn errors_are_worded_with_field_and_rule() {
        let table = [
            (json!({}), "spec: Required value"),
            (json!({"spec": {}}), "spec.name: Required value"),
            (
                json!({"spec": {"name": 5}}),
                "spec.name: Invalid value: \"integer\": spec.name in body must be of type string: \"integer\"",
            ),
            (
                json!({"spec": {"name": "AB"}}),
                "spec.name: Invalid value: \"AB\": spec.name in body should match '^[a-z]+$'",
            ),
            (
                json!({"spec": {"name": "a"}}),
                "spec.name: Invalid value: \"a\": spec.name in body should be at least 2 chars long",
            ),
            (json!({"spec": {"name": "aaaaaa"}}), "spec.name: Too long: may not be more than 5 bytes"),
            (
                json!({"spec": {"name": "ab", "mode": "C"}}),
                "spec.mode: Unsupported value: \"C\": supported values: \"A\", \"B\"",
            ),
            (
                json!({"spec": {"name": "ab", "count": 0}}),
                "spec.count: Invalid value: 0: spec.count in body should be greater than or equal to 1",
            ),
            (
                json!({"spec": {"name": "ab", "count": 1.5}}),
                "spec.count: Invalid value: \"number\": spec.count in body must be of type integer: \"number\"",
            ),
            (
                json!({"spec": {"name": "ab", "port": true}}),
                "spec.port: Invalid value: \"boolean\": spec.port in body must be of type integer,string: \"boolean\"",
            ),
            (
                json!({"spec": {"name": "ab", "when": "x"}}),
                "spec.when: Invalid value: \"x\": spec.when in body must be of type date-time: \"x\"",
            ),
            (
                json!({"spec": {"name": "ab", "labels": {"k": 1}}}),
                "spec.labels.k: Invalid value: \"integer\": spec.labels.k in body must be of type string: \"integer\"",
            ),
            (
                json!({"spec": {"name": "ab", "list": [{"id": 1}, {"id": 1}]}}),
                "spec.list[1]: Duplicate value: {\"id\":1}",
            ),
            (
                json!({"spec": {"name": "ab", "list": [{}, {"id": 1}, {"id": 2}]}}),
                "spec.list: Too many: 3: must have at most 2 items",
            ),
            (
                json!({"spec": {"name": "ab", "choice": {}}}),
                "spec.choice: Invalid value: {}: \"spec.choice\" must validate one and only one schema (oneOf). Found none valid",
            ),
        ];
        for (value, expected) in table {
            let errors: Vec<String> = validate(&schema(), &value).iter().map(FieldError::text).collect();
            assert_eq!(errors, [expected], "{value}");
        }
        let good = json!({"spec": {"name": "ab", "port": "http", "when": "2024-01-01T00:00:00Z", "choice": {"a": "x"}, "maybe": null}});
        assert_eq!(validate(&schema(), &good), []);
    }

    #[test]
    fn unknown_members_go_and_defaults_come() {
        let mut value = json!({"apiVersion": "v", "metadata": {"x": 1}, "spec": {"name": "a", "zip": 1, "free": {"any": 1}, "labels": {"k": "v"}, "list": [{"id": 1, "no": 2}]}});
        assert_eq!(prune(&schema(), &mut value), ["spec.list[0].no", "spec.zip"]);
        fill_defaults(&schema(), &mut value);
        assert_eq!(
            value,
            json!({"apiVersion": "v", "metadata": {"x": 1}, "spec": {"name": "a", "mode": "A", "free": {"any": 1}, "labels": {"k": "v"}, "list": [{"id": 1, "on": true}]}})
        );
    }
}
