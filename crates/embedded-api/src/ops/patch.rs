//! Patching: read, change by one of the four kinds of patch, store.

use serde_json::Value;

use crate::{
    api::{Api, Target},
    object,
    ops::{
        Part, WriteMode, Written, check_kind,
        create::insert,
        replace::{Next, Tracked, commit, current},
        shape_body,
    },
    patch::{self, apply, shape::Shape},
    resource::Origin,
    status::ApiError,
};

/// The content types of patches.
pub const ACCEPTED: &str = "application/json-patch+json, application/merge-patch+json, application/strategic-merge-patch+json, application/apply-patch+yaml";

/// Which kind of patch a body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PatchKind {
    /// RFC 6902.
    Json,
    /// RFC 7386.
    Merge,
    /// Kubernetes' own, for built-in kinds.
    Strategic,
    /// Server-side apply.
    Apply {
        /// Take fields from other managers.
        force: bool,
    },
}

/// What a patch did.
#[derive(Debug)]
pub struct Patched {
    /// The object.
    pub written: Written,
    /// Whether an apply made it.
    pub created: bool,
}

/// Applies a patch to the target.
pub fn patch(api: &Api, target: &Target, body: &Value, kind: PatchKind, mode: &WriteMode) -> Result<Patched, ApiError> {
    let _writer = api.writer.lock();
    if let PatchKind::Apply { force } = kind {
        return server_side_apply(api, target, body, force, mode);
    }
    let old = current(api, target)?;
    mode.seen.check(Some(&old))?;
    let before = target.shown(&old);
    let mut next = match kind {
        PatchKind::Json => patch::json::apply(&before, body, target.resource.about_kind(&target.name))?,
        PatchKind::Merge => patch::merge(&before, body),
        PatchKind::Strategic if target.resource.origin == Origin::Custom => {
            return Err(ApiError::unsupported_media_type(
                "application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml",
            ));
        }
        PatchKind::Strategic => patch::strategic::apply(&before, body, shape(target)?)?,
        PatchKind::Apply { .. } => unreachable!("handled above"),
    };
    check_kind(target, &mut next)?;
    object::drop_nulls(&mut next);
    if object::name(&next) != target.name {
        return Err(ApiError::bad_request(format!(
            "the name of the object ({}) does not match the name on the URL ({})",
            object::name(&next),
            target.name
        )));
    }
    let warnings = shape_body(target, &mut next, mode.unknown)?;
    // A patch only has the precondition it names itself.
    if body.pointer("/metadata/resourceVersion").is_none() && kind != PatchKind::Json {
        object::remove(&mut next, &["metadata", "resourceVersion"]);
    }
    let object = commit(api, target, &old, Next { object: next, tracked: Tracked::ByDifference }, mode)?;
    Ok(Patched { written: Written { object: target.shown(&object), warnings }, created: false })
}

fn server_side_apply(
    api: &Api,
    target: &Target,
    body: &Value,
    force: bool,
    mode: &WriteMode,
) -> Result<Patched, ApiError> {
    let mut config = body.clone();
    if object::text(&config, "/apiVersion").is_empty() || object::text(&config, "/kind").is_empty() {
        return Err(ApiError::bad_request("apiVersion and kind must be set in an apply patch"));
    }
    check_kind(target, &mut config)?;
    object::drop_nulls(&mut config);
    if config.pointer("/metadata/managedFields").is_some() {
        return Err(ApiError::bad_request("metadata.managedFields must be nil"));
    }
    if mode.manager.is_empty() {
        return Err(ApiError::bad_request(
            "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for apply patch",
        ));
    }
    if object::name(&config).is_empty() {
        object::set(&mut config, &["metadata", "name"], target.name.clone());
    }
    let warnings = shape_body(target, &mut config, mode.unknown)?;
    let shape = shape(target)?;
    let writer = apply::Writer { target, manager: &mode.manager, part: mode.part };
    let old = match (current(api, target), mode.part) {
        (Ok(old), _) => old,
        (Err(_), Part::Main) => {
            mode.seen.check(None)?;
            let owned = apply::first_entry(&writer, &config, shape);
            object::set(&mut config, &["metadata", "managedFields"], owned);
            let object = insert(api, target, config, mode)?;
            return Ok(Patched { written: Written { object: target.shown(&object), warnings }, created: true });
        }
        (Err(error), _) => return Err(error),
    };
    mode.seen.check(Some(&old))?;
    let live = target.shown(&old);
    let merged = apply::apply(&writer, &live, &config, apply::Request { shape, force })?;
    let object = commit(api, target, &old, Next { object: merged, tracked: Tracked::Already }, mode)?;
    Ok(Patched { written: Written { object: target.shown(&object), warnings }, created: false })
}

/// How the target's lists merge.
pub fn shape(target: &Target) -> Result<Shape<'_>, ApiError> {
    match &target.traits()?.schema {
        Some(schema) => Ok(Shape::Custom(schema)),
        None => Ok(crate::typed::shape(&target.resource)),
    }
}
