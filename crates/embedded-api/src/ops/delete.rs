//! Deleting: at once, after finalizers, after dependents, or after the kubelet.

use serde_json::{Value, json};

use crate::{
    api::{Api, Target},
    object,
    ops::{follow_up, replace::is_finished},
    selector::{FieldSelector, LabelSelector},
    status::{ApiError, FieldError},
};

/// What becomes of dependents.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Propagation {
    /// They go after it.
    #[default]
    Background,
    /// They go before it.
    Foreground,
    /// They stay.
    Orphan,
}

/// How a deletion is meant.
#[derive(Debug, Clone, Default)]
pub struct DeleteMode {
    /// What becomes of dependents.
    pub propagation: Propagation,
    /// Seconds a pod gets; none for its own wish.
    pub grace: Option<i64>,
    /// Only if this is its uid.
    pub uid: Option<String>,
    /// Only if this is its version.
    pub version: Option<String>,
    /// Do everything but the deleting.
    pub dry_run: bool,
}

impl DeleteMode {
    /// From a DeleteOptions body.
    pub fn parse(body: &Value) -> Result<Self, ApiError> {
        let word = |pointer: &str| body.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
        let propagation = match (word("/propagationPolicy").as_deref(), body.get("orphanDependents")) {
            (Some("Foreground"), _) => Propagation::Foreground,
            (Some("Orphan"), _) | (None, Some(Value::Bool(true))) => Propagation::Orphan,
            (Some("Background") | None, _) => Propagation::Background,
            (Some(other), _) => {
                let allowed = ["Foreground", "Background", "Orphan"];
                let error = FieldError::unsupported("propagationPolicy", other, &allowed);
                let about = crate::status::About { group: "meta.k8s.io", resource: "DeleteOptions", name: "" };
                return Err(ApiError::invalid(about, &[error]));
            }
        };
        let dry_run = object::texts(body, "/dryRun").contains(&"All");
        let grace = body.get("gracePeriodSeconds").and_then(Value::as_i64);
        Ok(Self {
            propagation,
            grace,
            uid: word("/preconditions/uid"),
            version: word("/preconditions/resourceVersion"),
            dry_run,
        })
    }
}

/// What a deletion did.
#[derive(Debug)]
pub enum Deleted {
    /// It is gone; this was its last state.
    Gone(Value),
    /// It goes when nothing holds it any more; this is its state now.
    Going(Value),
}

/// Deletes one object.
pub fn delete(api: &Api, target: &Target, mode: &DeleteMode) -> Result<Deleted, ApiError> {
    let _writer = api.writer.lock();
    delete_locked(api, target, mode)
}

/// [`delete`] for callers that hold the writer lock.
pub fn delete_locked(api: &Api, target: &Target, mode: &DeleteMode) -> Result<Deleted, ApiError> {
    let kind = &target.resource.stored_as;
    let old = crate::ops::replace::current(api, target)?;
    check_preconditions(target, &old, mode)?;
    if target.resource.is("", "namespaces") && matches!(target.name.as_str(), "default" | "kube-system" | "kube-public")
    {
        return Err(ApiError::forbidden(target.resource.about(&target.name), "this namespace may not be deleted"));
    }
    let mut object = (*old).clone();
    mark(target, &mut object, mode);
    if mode.dry_run {
        return Ok(Deleted::Going(target.shown(&object)));
    }
    if mode.propagation == Propagation::Orphan {
        crate::gc::orphan(api, object::uid(&object));
    }
    if is_finished(target, &object) {
        let last = api.store.remove(kind, &target.key());
        follow_up(api, target, false, &object);
        return Ok(Deleted::Gone(target.shown(last.as_deref().unwrap_or(&object))));
    }
    let stored = api.store.put(kind, object);
    follow_up(api, target, false, &stored);
    Ok(Deleted::Going(target.shown(&stored)))
}

fn check_preconditions(target: &Target, old: &Value, mode: &DeleteMode) -> Result<(), ApiError> {
    let about = target.resource.about(&target.name);
    if let Some(uid) = mode.uid.as_deref().filter(|uid| *uid != object::uid(old)) {
        let why = format!("Precondition failed: UID in precondition: {uid}, UID in object meta: {}", object::uid(old));
        return Err(ApiError::conflict(about, &why));
    }
    let present = object::text(old, "/metadata/resourceVersion");
    if let Some(version) = mode.version.as_deref().filter(|version| *version != present) {
        let why = format!(
            "Precondition failed: ResourceVersion in precondition: {version}, ResourceVersion in object meta: {present}"
        );
        return Err(ApiError::conflict(about, &why));
    }
    Ok(())
}

/// Marks an object as going, with all that holds it.
fn mark(target: &Target, object: &mut Value, mode: &DeleteMode) {
    let grace = grace_of(target, object, mode.grace);
    let already = object.pointer("/metadata/deletionGracePeriodSeconds").and_then(Value::as_i64);
    if !object::is_terminating(object) || already.is_some_and(|already| grace < already) {
        let end = jiff::Timestamp::now().as_second() + grace;
        object::set(object, &["metadata", "deletionTimestamp"], object::stamp(end));
        object::set(object, &["metadata", "deletionGracePeriodSeconds"], grace);
        if let Some(generation) = object.pointer("/metadata/generation").and_then(Value::as_i64) {
            object::set(object, &["metadata", "generation"], generation + 1);
        }
    }
    if mode.propagation == Propagation::Foreground {
        add_finalizer(object, "foregroundDeletion");
    }
    if target.resource.is("", "namespaces") {
        object::set(object, &["status", "phase"], "Terminating");
    }
    if target.resource.is("apiextensions.k8s.io", "customresourcedefinitions") {
        add_finalizer(object, crate::gc::CRD_FINALIZER);
    }
}

fn add_finalizer(object: &mut Value, finalizer: &str) {
    let mut finalizers = object::list(object, "/metadata/finalizers").to_vec();
    if !finalizers.iter().any(|present| present == finalizer) {
        finalizers.push(finalizer.into());
        object::set(object, &["metadata", "finalizers"], finalizers);
    }
}

/// Only a pod that some kubelet may be running is given time.
fn grace_of(target: &Target, object: &Value, asked: Option<i64>) -> i64 {
    let ended = matches!(object::text(object, "/status/phase"), "Succeeded" | "Failed");
    if !target.resource.is("", "pods") || object::text(object, "/spec/nodeName").is_empty() || ended {
        return 0;
    }
    let own = object.pointer("/spec/terminationGracePeriodSeconds").and_then(Value::as_i64);
    asked.or(own).unwrap_or(30).max(0)
}

/// Deletes all selected objects of a collection and returns them as a list.
pub fn delete_collection(
    api: &Api,
    target: &Target,
    labels: &LabelSelector,
    fields: &FieldSelector,
    mode: &DeleteMode,
) -> Result<Value, ApiError> {
    let _writer = api.writer.lock();
    let namespace = (!target.namespace.is_empty()).then_some(target.namespace.as_str());
    let snapshot = api.store.list(&target.resource.stored_as, namespace);
    let mut list = crate::api::empty_list(target, snapshot.revision);
    let mut items = Vec::new();
    for object in snapshot.objects.iter().filter(|object| labels.matches(object) && fields.matches(object)) {
        let one = Target {
            namespace: object::namespace(object).to_owned(),
            name: object::name(object).to_owned(),
            ..target.clone()
        };
        match delete_locked(api, &one, mode)? {
            Deleted::Gone(object) | Deleted::Going(object) => items.push(object),
        }
    }
    list["items"] = json!(items);
    Ok(list)
}
