//! Replacing an object by a new version of itself: the common end of update and patch.

use serde_json::{Map, Value};

use crate::{
    admission::{self, Change},
    api::{Api, Target},
    convert, object,
    ops::{Part, WriteMode, Written, check_kind, check_schema, counts_generations, follow_up, shape_body},
    patch::apply,
    resource::Origin,
    status::{About, ApiError, FieldError},
};

/// Metadata that only the server changes.
const FIXED: &[&str] = &[
    "uid",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "generation",
    "selfLink",
    "generateName",
];

/// Replaces an object by what the client sent.
pub fn update(api: &Api, target: &Target, mut body: Value, mode: &WriteMode) -> Result<Written, ApiError> {
    check_kind(target, &mut body)?;
    object::drop_nulls(&mut body);
    let warnings = shape_body(target, &mut body, mode.unknown)?;
    let _writer = api.writer.lock();
    let old = current(api, target)?;
    mode.seen.check(Some(&old))?;
    let named = object::name(&body);
    if !named.is_empty() && named != target.name {
        let message = format!("the name of the object ({named}) does not match the name on the URL ({})", target.name);
        return Err(ApiError::bad_request(message));
    }
    let unversioned = object::text(&body, "/metadata/resourceVersion").is_empty();
    if unversioned && target.resource.origin == Origin::Custom {
        let error = FieldError::invalid("metadata.resourceVersion", 0, "must be specified for an update");
        return Err(ApiError::invalid(target.resource.about_kind(&target.name), &[error]));
    }
    let tracked = Tracked::ByDifference;
    let object = commit(api, target, &old, Next { object: body, tracked }, mode)?;
    Ok(Written { object: target.shown(&object), warnings })
}

/// The stored object, or 404.
pub fn current(api: &Api, target: &Target) -> Result<std::sync::Arc<Value>, ApiError> {
    let found = api.store.get(&target.resource.stored_as, &target.key());
    found.ok_or_else(|| ApiError::not_found(target.resource.about(&target.name)))
}

/// An object about to replace the stored one.
#[derive(Debug)]
pub struct Next {
    /// In the client's version.
    pub object: Value,
    /// How its managed fields come about.
    pub tracked: Tracked,
}

/// How managed fields come about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tracked {
    /// The writer owns what changed.
    ByDifference,
    /// An apply has already written them.
    Already,
}

/// Checks and stores; the caller holds the writer lock. Returns the stored form.
pub fn commit(api: &Api, target: &Target, old: &Value, next: Next, mode: &WriteMode) -> Result<Value, ApiError> {
    let mut object = next.object;
    check_preconditions(target.resource.about(&target.name), old, &object)?;
    convert::to_stored(&target.resource, &mut object);
    keep_fixed(target, old, &mut object);
    keep_other_parts(target, old, &mut object, mode.part)?;
    let change = Change { resource: &target.resource, old: Some(old) };
    let refuse = |errors: &[FieldError]| Err(ApiError::invalid(target.resource.about_kind(&target.name), errors));
    if mode.part != Part::Status {
        if let Err(errors) = admission::complete(api, change, &mut object) {
            return refuse(&errors);
        }
        if target.resource.is("apiextensions.k8s.io", "customresourcedefinitions") {
            crate::crd::complete(&mut object);
        }
    }
    check_schema(target, &mut object)?;
    if mode.part == Part::Main {
        let errors = admission::check(change, &object);
        if !errors.is_empty() {
            return refuse(&errors);
        }
    }
    if counts_generations(target) && spec_of(target, &object) != spec_of(target, old) {
        let generation = old.pointer("/metadata/generation").and_then(Value::as_i64).unwrap_or(0) + 1;
        object::set(&mut object, &["metadata", "generation"], generation);
    }
    if next.tracked == Tracked::ByDifference {
        let writer = apply::Writer { target, manager: &mode.manager, part: mode.part };
        apply::track(&writer, Some(old), &mut object);
    }
    if mode.dry_run {
        return Ok(object);
    }
    Ok(store(api, target, object))
}

/// Stores, or removes what was only waiting for its finalizers.
fn store(api: &Api, target: &Target, object: Value) -> Value {
    let kind = &target.resource.stored_as;
    let stored = api.store.put(kind, object);
    let gone = is_finished(target, &stored);
    if gone {
        let last = api.store.remove(kind, &target.key());
        follow_up(api, target, false, &stored);
        return last.map_or_else(|| (*stored).clone(), |last| (*last).clone());
    }
    follow_up(api, target, false, &stored);
    (*stored).clone()
}

/// Whether nothing holds a terminating object any more.
pub fn is_finished(target: &Target, object: &Value) -> bool {
    let graceful = object.pointer("/metadata/deletionGracePeriodSeconds").and_then(Value::as_i64).unwrap_or(0) > 0;
    let held_by_spec = target.resource.is("", "namespaces") && !object::list(object, "/spec/finalizers").is_empty();
    object::is_terminating(object)
        && object::list(object, "/metadata/finalizers").is_empty()
        && !graceful
        && !held_by_spec
}

fn check_preconditions(about: About<'_>, old: &Value, object: &Value) -> Result<(), ApiError> {
    let uid = object::uid(object);
    if !uid.is_empty() && uid != object::uid(old) {
        let why = format!("Precondition failed: UID in precondition: {uid}, UID in object meta: {}", object::uid(old));
        return Err(ApiError::conflict(about, &why));
    }
    let version = object::text(object, "/metadata/resourceVersion");
    if !version.is_empty() && version != "0" && version != object::text(old, "/metadata/resourceVersion") {
        return Err(ApiError::modified(about));
    }
    Ok(())
}

fn keep_fixed(target: &Target, old: &Value, object: &mut Value) {
    object::set(object, &["metadata", "name"], object::name(old));
    if target.resource.namespaced {
        object::set(object, &["metadata", "namespace"], object::namespace(old));
    }
    for field in FIXED {
        match old.pointer(&format!("/metadata/{field}")) {
            Some(value) => object::set(object, &["metadata", field], value.clone()),
            None => drop(object::remove(object, &["metadata", field])),
        }
    }
    if object.pointer("/metadata/managedFields").is_none()
        && let Some(managed) = old.pointer("/metadata/managedFields")
    {
        object::set(object, &["metadata", "managedFields"], managed.clone());
    }
}

/// Takes what this write may not change from the old object.
fn keep_other_parts(target: &Target, old: &Value, object: &mut Value, part: Part) -> Result<(), ApiError> {
    match part {
        Part::Whole => {}
        Part::Main if target.traits()?.status => copy_member(old, object, "status"),
        Part::Main => {}
        Part::Status => {
            let status = object::remove(object, &["status"]);
            let managed = object::remove(object, &["metadata", "managedFields"]);
            let mut kept = old.clone();
            kept["apiVersion"] = object["apiVersion"].clone();
            // The real server's strategies: status writes of built-in kinds may also annotate and label, which the
            // node agent relies on; those of custom resources may not.
            if target.resource.origin == Origin::BuiltIn {
                for member in ["annotations", "labels"] {
                    copy_metadata(object, &mut kept, member);
                }
            }
            *object = kept;
            match status {
                Some(status) => object::set(object, &["status"], status),
                None => drop(object::remove(object, &["status"])),
            }
            if let Some(managed) = managed {
                object::set(object, &["metadata", "managedFields"], managed);
            }
        }
        Part::EphemeralContainers => {
            let containers =
                object.pointer("/spec/ephemeralContainers").cloned().unwrap_or_else(|| Value::Array(Vec::new()));
            *object = old.clone();
            object::set(object, &["spec", "ephemeralContainers"], containers);
        }
    }
    Ok(())
}

fn copy_metadata(from: &Value, to: &mut Value, member: &str) {
    match from.pointer("/metadata").and_then(|metadata| metadata.get(member)) {
        Some(value) => object::set(to, &["metadata", member], value.clone()),
        None => drop(object::remove(to, &["metadata", member])),
    }
}

fn copy_member(from: &Value, to: &mut Value, member: &str) {
    match from.get(member) {
        Some(value) => object::set(to, &[member], value.clone()),
        None => drop(object::remove(to, &[member])),
    }
}

/// What a generation counts: everything but metadata and status for custom resources, else the spec (or rules).
fn spec_of(target: &Target, object: &Value) -> Map<String, Value> {
    let outside = |key: &str| {
        matches!(key, "metadata" | "apiVersion" | "kind")
            || key == "status" && target.resource.version(&target.version).is_some_and(|v| v.status)
    };
    object
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(key, _)| !outside(key))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}
