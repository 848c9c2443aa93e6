//! Rules for `metadata`, the same for every kind.

use serde_json::Value;

use crate::{admission::Change, names, object, resource::Origin, status::FieldError};

/// Field errors of `metadata`.
pub fn check(change: Change<'_>, object: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    check_name(change, object, &mut errors);
    if let Some(labels) = object.pointer("/metadata/labels") {
        names::check_labels(labels, "metadata.labels", &mut errors);
    }
    if let Some(annotations) = object.pointer("/metadata/annotations") {
        names::check_annotations(annotations, "metadata.annotations", &mut errors);
    }
    check_owners(object, &mut errors);
    check_finalizers(change.old, object, &mut errors);
    errors
}

fn check_name(change: Change<'_>, object: &Value, errors: &mut Vec<FieldError>) {
    if change.old.is_some() {
        return;
    }
    let name = object::name(object);
    if name.is_empty() {
        errors.push(FieldError::required("metadata.name", "name or generateName is required"));
        return;
    }
    let resource = change.resource;
    let grammar: fn(&str) -> Result<(), String> = match (resource.group.as_str(), resource.plural.as_str()) {
        _ if resource.origin == Origin::Custom => names::subdomain,
        ("rbac.authorization.k8s.io", _) => names::path_segment,
        ("", "services") => names::label_1035,
        ("", "namespaces") => names::label,
        _ => names::subdomain,
    };
    if let Err(why) = grammar(name) {
        errors.push(FieldError::invalid("metadata.name", name, why));
    }
}

fn check_owners(object: &Value, errors: &mut Vec<FieldError>) {
    let mut controllers = 0;
    for (at, owner) in object::list(object, "/metadata/ownerReferences").iter().enumerate() {
        for member in ["apiVersion", "kind", "name", "uid"] {
            if owner.get(member).and_then(Value::as_str).unwrap_or("").is_empty() {
                let why = format!("{member} must not be empty");
                errors.push(FieldError::invalid(format!("metadata.ownerReferences[{at}].{member}"), "", why));
            }
        }
        controllers += u32::from(owner.get("controller") == Some(&Value::Bool(true)));
    }
    if controllers > 1 {
        let why = "Only one reference can have Controller set to true";
        errors.push(FieldError::invalid("metadata.ownerReferences", "", why));
    }
}

fn check_finalizers(old: Option<&Value>, object: &Value, errors: &mut Vec<FieldError>) {
    let finalizers = object::texts(object, "/metadata/finalizers");
    for finalizer in &finalizers {
        if let Err(why) = names::qualified_name(finalizer) {
            errors.push(FieldError::invalid("metadata.finalizers", *finalizer, why));
        }
    }
    let Some(old) = old.filter(|old| object::is_terminating(old)) else { return };
    let before = object::texts(old, "/metadata/finalizers");
    let added: Vec<String> =
        finalizers.iter().filter(|text| !before.contains(text)).map(|text| format!("\"{text}\"")).collect();
    if !added.is_empty() {
        let why = format!(
            "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
            added.join(", ")
        );
        errors.push(FieldError::forbidden("metadata.finalizers", why));
    }
}
