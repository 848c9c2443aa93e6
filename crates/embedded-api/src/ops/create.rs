//! Creating objects.

use serde_json::Value;

use crate::{
    admission::{self, Change},
    api::{Api, Target, stamp_new},
    convert, object,
    ops::{Part, WriteMode, Written, check_kind, check_schema, counts_generations, follow_up, shape_body},
    patch::apply,
    resource::Origin,
    status::ApiError,
    store::ObjectKey,
};

/// How often a generated name is tried again when it is taken.
const NAME_TRIES: usize = 8;

/// Creates an object in the target's collection.
pub fn create(api: &Api, target: &Target, mut body: Value, mode: &WriteMode) -> Result<Written, ApiError> {
    check_kind(target, &mut body)?;
    object::drop_nulls(&mut body);
    // Only an apply brings a record of owners with it.
    object::remove(&mut body, &["metadata", "managedFields"]);
    let warnings = shape_body(target, &mut body, mode.unknown)?;
    let _writer = api.writer.lock();
    let object = insert(api, target, body, mode)?;
    Ok(Written { object: target.shown(&object), warnings })
}

/// The part of [`create`] under the writer lock, which the caller holds.
pub fn insert(api: &Api, target: &Target, mut object: Value, mode: &WriteMode) -> Result<Value, ApiError> {
    let managed = object::remove(&mut object, &["metadata", "managedFields"]).unwrap_or_default();
    place(api, target, &mut object)?;
    if !object::text(&object, "/metadata/resourceVersion").is_empty() {
        return Err(ApiError::bad_request("resourceVersion should not be set on objects to be created"));
    }
    for field in ["deletionTimestamp", "deletionGracePeriodSeconds", "selfLink"] {
        object::remove(&mut object, &["metadata", field]);
    }
    choose_name(api, target, &mut object);
    stamp_new(&mut object);
    if counts_generations(target) {
        object::set(&mut object, &["metadata", "generation"], 1);
    }
    if target.traits()?.status && target.resource.origin == Origin::Custom {
        object::remove(&mut object, &["status"]);
    }
    check_namespace(api, target, &object)?;
    convert::to_stored(&target.resource, &mut object);
    let change = Change { resource: &target.resource, old: None };
    let about = |object: &Value| object::name(object).to_owned();
    admission::complete(api, change, &mut object)
        .map_err(|errors| ApiError::invalid(target.resource.about_kind(&about(&object)), &errors))?;
    if target.resource.is("apiextensions.k8s.io", "customresourcedefinitions") {
        crate::crd::complete(&mut object);
    }
    check_schema(target, &mut object)?;
    let errors = admission::check(change, &object);
    if !errors.is_empty() {
        return Err(ApiError::invalid(target.resource.about_kind(object::name(&object)), &errors));
    }
    let key = ObjectKey::of(&object);
    if api.store.get(&target.resource.stored_as, &key).is_some() {
        return Err(ApiError::already_exists(target.resource.about(&key.name)));
    }
    if managed.is_array() {
        object::set(&mut object, &["metadata", "managedFields"], managed);
    } else {
        let writer = apply::Writer { target, manager: &mode.manager, part: Part::Main };
        apply::track(&writer, None, &mut object);
    }
    if mode.dry_run {
        return Ok(object);
    }
    let stored = api.store.put(&target.resource.stored_as, object);
    follow_up(api, target, true, &stored);
    Ok((*stored).clone())
}

/// Puts the object into the request's namespace, or says that it names another.
fn place(_api: &Api, target: &Target, object: &mut Value) -> Result<(), ApiError> {
    let given = object::namespace(object).to_owned();
    if !target.resource.namespaced {
        object::remove(object, &["metadata", "namespace"]);
        return Ok(());
    }
    if target.namespace.is_empty() {
        return Err(ApiError::bad_request("an empty namespace may not be set during creation"));
    }
    if !given.is_empty() && given != target.namespace {
        return Err(ApiError::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    object::set(object, &["metadata", "namespace"], target.namespace.clone());
    Ok(())
}

fn choose_name(api: &Api, target: &Target, object: &mut Value) {
    let prefix = object::text(object, "/metadata/generateName").to_owned();
    if !object::name(object).is_empty() || prefix.is_empty() {
        return;
    }
    let stem: String = prefix.chars().take(58).collect();
    for _ in 0..NAME_TRIES {
        object::set(object, &["metadata", "name"], format!("{stem}{}", object::random_suffix(5)));
        if api.store.get(&target.resource.stored_as, &ObjectKey::of(object)).is_none() {
            return;
        }
    }
}

fn check_namespace(api: &Api, target: &Target, object: &Value) -> Result<(), ApiError> {
    if !target.resource.namespaced {
        return Ok(());
    }
    let about = crate::status::About { group: "", resource: "namespaces", name: &target.namespace };
    let namespace = api.built_in("", "namespaces", "", &target.namespace).ok_or_else(|| ApiError::not_found(about))?;
    if object::is_terminating(&namespace) {
        return Err(ApiError::namespace_terminating(target.resource.about(object::name(object)), &target.namespace));
    }
    if target.resource.is("", "pods") {
        let account = object::text(object, "/spec/serviceAccountName");
        let account = if account.is_empty() { "default" } else { account };
        if api.built_in("", "serviceaccounts", &target.namespace, account).is_none() {
            let why = format!(
                "error looking up service account {}/{account}: serviceaccount \"{account}\" not found",
                target.namespace
            );
            return Err(ApiError::forbidden(target.resource.about(object::name(object)), &why));
        }
    }
    Ok(())
}
