//! CustomResourceDefinitions: what they define, and the conditions they get.
//!
//! In: CRD objects. Out: resources to serve, CRDs completed, their field errors.
//! All versions share one stored form (conversion None); webhook conversion is refused.

use std::sync::Arc;

use regex::Regex;
use serde_json::{Value, json};

use crate::{
    object,
    resource::{Origin, Resource, Scale, Version},
    status::FieldError,
    store::GroupResource,
    table::Column,
};

/// Fills in a CRD and accepts its names; it is served as soon as it is written.
pub fn complete(crd: &mut Value) {
    let kind = object::text(crd, "/spec/names/kind").to_owned();
    object::set_default(crd, &["spec", "names", "singular"], kind.to_lowercase());
    object::set_default(crd, &["spec", "names", "listKind"], format!("{kind}List"));
    object::set_default(crd, &["spec", "conversion", "strategy"], "None");
    let storage = object::list(crd, "/spec/versions").iter().find(|version| version["storage"] == true);
    let storage = storage.map(|version| object::text(version, "/name").to_owned()).unwrap_or_default();
    let mut stored: Vec<Value> = object::list(crd, "/status/storedVersions").to_vec();
    if !stored.contains(&Value::from(storage.as_str())) {
        stored.push(storage.into());
    }
    object::set(crd, &["status", "storedVersions"], stored);
    object::set(crd, &["status", "acceptedNames"], crd["spec"]["names"].clone());
    let since = object::text(crd, "/metadata/creationTimestamp").to_owned();
    let condition = |kind: &str, reason: &str, message: &str| json!({ "type": kind, "status": "True", "lastTransitionTime": since, "reason": reason, "message": message });
    let conditions = json!([
        condition("NamesAccepted", "NoConflicts", "no conflicts found"),
        condition("Established", "InitialNamesAccepted", "the initial names have been accepted"),
    ]);
    object::set(crd, &["status", "conditions"], conditions);
}

/// The resource a CRD defines.
pub fn resource(crd: &Value) -> Resource {
    let word = |pointer: &str| object::text(crd, pointer).to_owned();
    let words = |pointer: &str| object::texts(crd, pointer).into_iter().map(str::to_owned).collect::<Vec<_>>();
    let all = object::list(crd, "/spec/versions");
    let mut versions: Vec<Version> = all.iter().filter(|version| version["served"] == true).map(version).collect();
    versions.sort_by_key(|version| std::cmp::Reverse(priority(&version.name)));
    let storage = all.iter().find(|version| version["storage"] == true).or(all.first());
    Resource {
        group: word("/spec/group"),
        kind: word("/spec/names/kind"),
        list_kind: word("/spec/names/listKind"),
        plural: word("/spec/names/plural"),
        singular: word("/spec/names/singular"),
        short_names: words("/spec/names/shortNames"),
        categories: words("/spec/names/categories"),
        namespaced: object::text(crd, "/spec/scope") == "Namespaced",
        versions,
        storage_version: storage.map(|version| object::text(version, "/name").to_owned()).unwrap_or_default(),
        stored_as: GroupResource::new(object::text(crd, "/spec/group"), object::text(crd, "/spec/names/plural")),
        origin: Origin::Custom,
    }
}

fn version(version: &Value) -> Version {
    let pointer = |path: &str| path.replace('.', "/");
    let scale = version.pointer("/subresources/scale").map(|scale| Scale {
        spec: pointer(object::text(scale, "/specReplicasPath")),
        status: pointer(object::text(scale, "/statusReplicasPath")),
        selector: pointer(object::text(scale, "/labelSelectorPath")),
    });
    let column = |column: &Value| Column {
        name: object::text(column, "/name").to_owned(),
        kind: object::text(column, "/type").to_owned(),
        format: object::text(column, "/format").to_owned(),
        description: object::text(column, "/description").to_owned(),
        priority: column.get("priority").and_then(Value::as_i64).unwrap_or(0),
        json_path: object::text(column, "/jsonPath").to_owned(),
    };
    Version {
        name: object::text(version, "/name").to_owned(),
        schema: version.pointer("/schema/openAPIV3Schema").cloned().map(Arc::new),
        columns: object::list(version, "/additionalPrinterColumns").iter().map(column).collect(),
        status: version.pointer("/subresources/status").is_some(),
        scale,
    }
}

/// The order of versions: v2 before v1 before v1beta2 before v1alpha1 before anything else.
fn priority(name: &str) -> (u8, u64, u64) {
    let Some(rest) = name.strip_prefix('v') else { return (0, 0, 0) };
    let digits = rest.len() - rest.trim_start_matches(|letter: char| letter.is_ascii_digit()).len();
    let Ok(major) = rest[..digits].parse() else { return (0, 0, 0) };
    let level = &rest[digits..];
    if level.is_empty() {
        return (3, major, 0);
    }
    let stage =
        [("beta", 2), ("alpha", 1)].into_iter().find_map(|(word, rank)| Some((rank, level.strip_prefix(word)?)));
    match stage.map(|(rank, number)| (rank, number.parse())) {
        Some((rank, Ok(minor))) => (rank, major, minor),
        _ => (0, 0, 0),
    }
}

/// Field errors of a CRD.
pub fn check(crd: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for field in ["group", "scope"] {
        if object::text(crd, &format!("/spec/{field}")).is_empty() {
            errors.push(FieldError::required(format!("spec.{field}"), ""));
        }
    }
    for field in ["plural", "kind"] {
        if object::text(crd, &format!("/spec/names/{field}")).is_empty() {
            errors.push(FieldError::required(format!("spec.names.{field}"), ""));
        }
    }
    let scope = object::text(crd, "/spec/scope");
    if !matches!(scope, "" | "Cluster" | "Namespaced") {
        errors.push(FieldError::unsupported("spec.scope", scope, &["Cluster", "Namespaced"]));
    }
    let expected = format!("{}.{}", object::text(crd, "/spec/names/plural"), object::text(crd, "/spec/group"));
    if object::name(crd) != expected {
        let why = "must be spec.names.plural+\".\"+spec.group";
        errors.push(FieldError::invalid("metadata.name", object::name(crd), why));
    }
    if object::text(crd, "/spec/conversion/strategy") == "Webhook" {
        errors.push(FieldError::unsupported("spec.conversion.strategy", "Webhook", &["None"]));
    }
    check_versions(object::list(crd, "/spec/versions"), &mut errors);
    errors
}

fn check_versions(versions: &[Value], errors: &mut Vec<FieldError>) {
    if versions.is_empty() {
        errors.push(FieldError::required("spec.versions", "must have exactly one version marked as storage version"));
        return;
    }
    if versions.iter().filter(|version| version["storage"] == true).count() != 1 {
        let why = "must have exactly one version marked as storage version";
        errors.push(FieldError::invalid("spec.versions", Value::Array(versions.to_vec()), why));
    }
    for (at, version) in versions.iter().enumerate() {
        let place = format!("spec.versions[{at}]");
        if let Err(why) = crate::names::label_1035(object::text(version, "/name")) {
            errors.push(FieldError::invalid(format!("{place}.name"), object::text(version, "/name"), why));
        }
        let root = format!("{place}.schema.openAPIV3Schema");
        match version.pointer("/schema/openAPIV3Schema") {
            None => errors.push(FieldError::required(root, "schemas are required")),
            Some(schema) => check_schema(schema, &root, errors),
        }
    }
}

/// A schema must be structural: typed everywhere, patterns that are expressions.
fn check_schema(schema: &Value, place: &str, errors: &mut Vec<FieldError>) {
    let free = schema.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(true))
        || schema.get("x-kubernetes-int-or-string") == Some(&Value::Bool(true));
    let kind = object::text(schema, "/type");
    if kind.is_empty() && !free {
        errors.push(FieldError::required(format!("{place}.type"), "must not be empty for specified object fields"));
    }
    let kinds = ["array", "boolean", "integer", "number", "object", "string"];
    if !kind.is_empty() && !kinds.contains(&kind) {
        errors.push(FieldError::unsupported(format!("{place}.type"), kind, &kinds));
    }
    if let Some(pattern) = schema.get("pattern").and_then(Value::as_str)
        && let Err(error) = Regex::new(pattern)
    {
        errors.push(FieldError::invalid(
            format!("{place}.pattern"),
            pattern,
            format!("must be a valid regular expression: {error}"),
        ));
    }
    for (key, below) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
        check_schema(below, &format!("{place}.properties[{key}]"), errors);
    }
    if let Some(below) = schema.get("items") {
        check_schema(below, &format!("{place}.items"), errors);
    } else if kind == "array" {
        errors.push(FieldError::required(format!("{place}.items"), "must be specified"));
    }
    if let Some(below) = schema.get("additionalProperties").filter(|below| below.is_object()) {
        check_schema(below, &format!("{place}.additionalProperties"), errors);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ordered_as_the_reference_orders_them() {
        let mut names = vec!["foo1", "v1alpha1", "v1beta2", "v11beta2", "v1", "v10", "v2"];
        names.sort_by_key(|name| std::cmp::Reverse(priority(name)));
        assert_eq!(names, ["v10", "v2", "v1", "v11beta2", "v1beta2", "v1alpha1", "foo1"]);
    }

    #[test]
    fn a_crd_without_types_or_storage_is_refused() {
        let crd = json!({"metadata": {"name": "as.x.io"}, "spec": {"group": "x.io", "scope": "Cluster", "names": {"plural": "as", "kind": "A"},
            "versions": [{"name": "v1", "served": true, "storage": false, "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": {"pattern": "("}}}}}]}});
        let errors: Vec<String> = check(&crd).iter().map(|error| error.field.clone()).collect();
        let root = "spec.versions[0].schema.openAPIV3Schema.properties[spec]";
        assert_eq!(errors, ["spec.versions".to_owned(), format!("{root}.type"), format!("{root}.pattern")]);
    }
}
