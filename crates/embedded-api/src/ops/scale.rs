//! The scale subresource: replicas, without the rest of the object.

use serde_json::{Value, json};

use crate::{
    api::{Api, Target},
    object,
    ops::{
        WriteMode,
        patch::PatchKind,
        replace::{Next, Tracked, commit, current},
    },
    patch,
    resource::Scale,
    status::{ApiError, FieldError},
};

/// Reads it.
pub fn get(api: &Api, target: &Target) -> Result<Value, ApiError> {
    let scale = traits(target)?;
    Ok(shown(&*current(api, target)?, &scale))
}

/// Replaces it.
pub fn update(api: &Api, target: &Target, body: &Value, mode: &WriteMode) -> Result<Value, ApiError> {
    let _writer = api.writer.lock();
    write(api, target, body, mode)
}

/// Patches it.
pub fn patch(api: &Api, target: &Target, body: &Value, kind: PatchKind, mode: &WriteMode) -> Result<Value, ApiError> {
    let _writer = api.writer.lock();
    let before = shown(&*current(api, target)?, &traits(target)?);
    let mut after = match kind {
        PatchKind::Json => patch::json::apply(&before, body, target.resource.about_kind(&target.name))?,
        _ => patch::merge(&before, body),
    };
    if body.pointer("/metadata/resourceVersion").is_none() {
        object::remove(&mut after, &["metadata", "resourceVersion"]);
    }
    write(api, target, &after, mode)
}

fn traits(target: &Target) -> Result<Scale, ApiError> {
    target.traits()?.scale.clone().ok_or_else(ApiError::no_such_path)
}

fn write(api: &Api, target: &Target, body: &Value, mode: &WriteMode) -> Result<Value, ApiError> {
    let scale = traits(target)?;
    let old = current(api, target)?;
    let replicas = body.pointer("/spec/replicas").and_then(Value::as_i64).unwrap_or(0);
    if replicas < 0 {
        let error = FieldError::invalid("spec.replicas", replicas, "must be greater than or equal to 0");
        return Err(ApiError::invalid(target.resource.about_kind(&target.name), &[error]));
    }
    let mut next = target.shown(&old);
    let path: Vec<&str> = scale.spec.split('/').skip(1).collect();
    object::set(&mut next, &path, replicas);
    match body.pointer("/metadata/resourceVersion") {
        Some(version) => object::set(&mut next, &["metadata", "resourceVersion"], version.clone()),
        None => drop(object::remove(&mut next, &["metadata", "resourceVersion"])),
    }
    let stored = commit(api, target, &old, Next { object: next, tracked: Tracked::ByDifference }, mode)?;
    Ok(shown(&stored, &scale))
}

fn shown(object: &Value, scale: &Scale) -> Value {
    let number = |pointer: &str| object.pointer(pointer).and_then(Value::as_i64).unwrap_or(0);
    let metadata = json!({
        "name": object::name(object), "namespace": object::namespace(object), "uid": object::uid(object),
        "resourceVersion": object::text(object, "/metadata/resourceVersion"),
        "creationTimestamp": object::text(object, "/metadata/creationTimestamp"),
    });
    let mut shown = json!({
        "kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": metadata,
        "spec": { "replicas": number(&scale.spec) }, "status": { "replicas": number(&scale.status) },
    });
    match object.pointer(&scale.selector) {
        Some(Value::String(text)) => shown["status"]["selector"] = text.clone().into(),
        Some(selector @ Value::Object(_)) => shown["status"]["selector"] = selector_text(selector).into(),
        _ => {}
    }
    shown
}

/// A LabelSelector object as text.
pub fn selector_text(selector: &Value) -> String {
    let labels = selector.get("matchLabels").and_then(Value::as_object);
    let mut parts: Vec<String> =
        labels.into_iter().flatten().map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or(""))).collect();
    for expression in object::list(selector, "/matchExpressions") {
        let key = object::text(expression, "/key");
        let values = object::texts(expression, "/values").join(",");
        parts.push(match object::text(expression, "/operator") {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "DoesNotExist" => format!("!{key}"),
            _ => key.to_owned(),
        });
    }
    parts.join(",")
}
