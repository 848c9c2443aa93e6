//! Label and field selectors.
//!
//! In: the query's text. Out: a checked selector that says whether an object matches, or why the text is no selector.

use serde_json::Value;

use crate::{names, object, status::ApiError};

/// A conjunction of label requirements.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LabelSelector {
    requirements: Vec<LabelRequirement>,
}

#[derive(Debug, Clone, PartialEq)]
enum LabelRequirement {
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
    Exists(String),
    Absent(String),
    Above(String, i64),
    Below(String, i64),
}

impl LabelSelector {
    /// Parses `a=b,c!=d,e in (f,g),h notin (i),j,!k,l>1,m<2`.
    pub fn parse(text: &str) -> Result<Self, ApiError> {
        let refuse = |why: String| ApiError::bad_request(format!("unable to parse requirement: {why}"));
        let requirements = split_outside_parentheses(text)
            .into_iter()
            .map(str::trim)
            .filter(|part| !part.is_empty())
            .map(|part| LabelRequirement::parse(part).map_err(refuse))
            .collect::<Result<_, _>>()?;
        Ok(Self { requirements })
    }

    /// Whether everything matches.
    pub fn is_empty(&self) -> bool {
        self.requirements.is_empty()
    }

    /// Whether the object's labels meet every requirement.
    pub fn matches(&self, object: &Value) -> bool {
        let labels = object.pointer("/metadata/labels");
        let label = |key: &str| labels.and_then(|labels| labels.get(key)).and_then(Value::as_str);
        self.requirements.iter().all(|requirement| match requirement {
            LabelRequirement::In(key, values) => label(key).is_some_and(|value| values.iter().any(|v| v == value)),
            LabelRequirement::NotIn(key, values) => !label(key).is_some_and(|value| values.iter().any(|v| v == value)),
            LabelRequirement::Exists(key) => label(key).is_some(),
            LabelRequirement::Absent(key) => label(key).is_none(),
            LabelRequirement::Above(key, than) => label(key).and_then(number).is_some_and(|value| value > *than),
            LabelRequirement::Below(key, than) => label(key).and_then(number).is_some_and(|value| value < *than),
        })
    }
}

fn number(text: &str) -> Option<i64> {
    text.parse().ok()
}

impl LabelRequirement {
    fn parse(part: &str) -> Result<Self, String> {
        if let Some(key) = part.strip_prefix('!') {
            return Ok(Self::Absent(checked_key(key)?));
        }
        if let Some((key, value)) = part.split_once("!=") {
            return Ok(Self::NotIn(checked_key(key)?, vec![checked_value(value)?]));
        }
        if let Some((key, value)) = part.split_once("==").or_else(|| part.split_once('=')) {
            return Ok(Self::In(checked_key(key)?, vec![checked_value(value)?]));
        }
        if let Some((key, value)) = part.split_once('>') {
            return Ok(Self::Above(checked_key(key)?, checked_number(value)?));
        }
        if let Some((key, value)) = part.split_once('<') {
            return Ok(Self::Below(checked_key(key)?, checked_number(value)?));
        }
        let Some((head, values)) = part.split_once('(') else { return Ok(Self::Exists(checked_key(part)?)) };
        let values = values.strip_suffix(')').ok_or_else(|| format!("found '{part}', expected: ')'"))?;
        let values = values.split(',').map(checked_value).collect::<Result<Vec<_>, _>>()?;
        let mut words = head.split_whitespace();
        match (words.next(), words.next(), words.next()) {
            (Some(key), Some("in"), None) => Ok(Self::In(checked_key(key)?, values)),
            (Some(key), Some("notin"), None) => Ok(Self::NotIn(checked_key(key)?, values)),
            _ => Err(format!("found '{head}', expected: in, notin, =, ==, !=, gt, lt")),
        }
    }
}

fn checked_key(text: &str) -> Result<String, String> {
    let key = text.trim();
    match names::qualified_name(key) {
        Ok(()) => Ok(key.to_owned()),
        Err(why) => Err(format!("key: Invalid value: \"{key}\": {why}")),
    }
}

fn checked_value(text: &str) -> Result<String, String> {
    let value = text.trim();
    match names::label_value(value) {
        Ok(()) => Ok(value.to_owned()),
        Err(why) => Err(format!("values[0]: Invalid value: \"{value}\": {why}")),
    }
}

fn checked_number(text: &str) -> Result<i64, String> {
    number(text.trim()).ok_or_else(|| {
        format!("values[0]: Invalid value: \"{}\": for 'Gt', 'Lt' operators, the value must be an integer", text.trim())
    })
}

/// Splits at commas that are not between parentheses.
fn split_outside_parentheses(text: &str) -> Vec<&str> {
    let mut depth = 0usize;
    text.split(move |letter| {
        match letter {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        letter == ',' && depth == 0
    })
    .collect()
}

/// A conjunction of field comparisons.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FieldSelector {
    terms: Vec<FieldTerm>,
}

#[derive(Debug, Clone, PartialEq)]
struct FieldTerm {
    field: String,
    value: String,
    equal: bool,
}

impl FieldSelector {
    /// Parses `a=b,c!=d`; `allowed` are the fields this resource can be selected by.
    pub fn parse(text: &str, allowed: &[&str]) -> Result<Self, ApiError> {
        let mut terms = Vec::new();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (field, value, equal) = if let Some((field, value)) = part.split_once("!=") {
                (field, value, false)
            } else if let Some((field, value)) = part.split_once("==").or_else(|| part.split_once('=')) {
                (field, value, true)
            } else {
                return Err(ApiError::bad_request(format!("invalid selector: '{text}'; can't understand '{part}'")));
            };
            if !allowed.contains(&field) {
                return Err(ApiError::bad_request(format!("field label not supported: {field}")));
            }
            terms.push(FieldTerm { field: field.to_owned(), value: value.to_owned(), equal });
        }
        Ok(Self { terms })
    }

    /// Whether everything matches.
    pub fn is_empty(&self) -> bool {
        self.terms.is_empty()
    }

    /// Whether the object meets every term.
    pub fn matches(&self, object: &Value) -> bool {
        self.terms.iter().all(|term| (field_text(object, &term.field) == term.value) == term.equal)
    }
}

/// A field as text; a missing one is empty, as in the reference.
fn field_text(object: &Value, field: &str) -> String {
    let pointer = format!("/{}", field.replace('.', "/"));
    match object.pointer(&pointer) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Bool(flag)) => flag.to_string(),
        Some(Value::Number(number)) => number.to_string(),
        _ if field == "spec.unschedulable" || field == "spec.hostNetwork" => "false".to_owned(),
        _ if field == "source" => object::text(object, "/source/component").to_owned(),
        _ => String::new(),
    }
}

/// The fields that objects of a built-in resource can be selected by; of others only name and namespace.
pub fn selectable_fields(resource: &str) -> &'static [&'static str] {
    match resource {
        "pods" => &[
            "metadata.name",
            "metadata.namespace",
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.nominatedNodeName",
        ],
        "events" => &[
            "metadata.name",
            "metadata.namespace",
            "involvedObject.kind",
            "involvedObject.namespace",
            "involvedObject.name",
            "involvedObject.uid",
            "involvedObject.apiVersion",
            "involvedObject.resourceVersion",
            "involvedObject.fieldPath",
            "reason",
            "reportingComponent",
            "source",
            "type",
            "regarding.kind",
            "regarding.namespace",
            "regarding.name",
            "regarding.uid",
        ],
        "nodes" => &["metadata.name", "metadata.namespace", "spec.unschedulable"],
        "namespaces" => &["metadata.name", "metadata.namespace", "status.phase"],
        "secrets" => &["metadata.name", "metadata.namespace", "type"],
        "services" => &["metadata.name", "metadata.namespace", "spec.clusterIP", "spec.type"],
        "replicasets" | "replicationcontrollers" => &["metadata.name", "metadata.namespace", "status.replicas"],
        "jobs" => &["metadata.name", "metadata.namespace", "status.successful"],
        _ => &["metadata.name", "metadata.namespace"],
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_label_grammar() {
        let object = json!({"metadata": {"labels": {"app": "web", "tier": "2", "x.io/on": ""}}});
        for (text, expected) in [
            ("", true),
            ("app=web", true),
            ("app==web", true),
            ("app = web , tier=2", true),
            ("app!=web", false),
            ("missing!=web", true),
            ("app in (api, web)", true),
            ("app in (api)", false),
            ("app notin (api),tier", true),
            ("missing notin (api)", true),
            ("!app", false),
            ("!missing", true),
            ("x.io/on", true),
            ("x.io/on=", true),
            ("tier>1", true),
            ("tier<2", false),
            ("missing>0", false),
        ] {
            let selector = LabelSelector::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(selector.matches(&object), expected, "{text}");
        }
        for text in ["a in b", "a in (b", "=b", "a=b c", "a b (c)", "tier>x", "-a=b"] {
            assert_eq!(LabelSelector::parse(text).expect_err(text).code, 400, "{text}");
        }
    }

    #[test]
    fn field_terms_and_unknown_fields() {
        let pod = json!({"metadata": {"name": "a"}, "spec": {"nodeName": "n1"}});
        let fields = selectable_fields("pods");
        for (text, expected) in [
            ("metadata.name=a", true),
            ("spec.nodeName==n1,metadata.name!=b", true),
            ("spec.nodeName=", false),
            ("status.phase=", true),
            ("spec.hostNetwork=false", true),
        ] {
            assert_eq!(FieldSelector::parse(text, fields).expect(text).matches(&pod), expected, "{text}");
        }
        let error = FieldSelector::parse("spec.image=x", fields).expect_err("not selectable");
        assert_eq!(error.message, "field label not supported: spec.image");
        assert!(FieldSelector::parse("metadata.name", fields).is_err());
    }
}
