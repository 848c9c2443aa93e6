//! Defaults and rules of built-in kinds, as users notice them.
//!
//! In: an object about to be stored, and the one it replaces. Out: the object completed, or its field errors.
//! Absent on purpose: webhooks (see `webhook`), quotas, and rules nobody in a lab meets.

pub mod meta;
mod pod;
mod pod_spec;
mod service;
mod simple;
mod workload;

use serde_json::Value;

use crate::{api::Api, resource::Resource, status::FieldError};

/// What a write is about to do.
#[derive(Debug, Clone, Copy)]
pub struct Change<'a> {
    /// The resource written to.
    pub resource: &'a Resource,
    /// The object that is replaced; none for a creation.
    pub old: Option<&'a Value>,
}

/// Fills in what the user left out.
pub fn complete(api: &Api, change: Change<'_>, object: &mut Value) -> Result<(), Vec<FieldError>> {
    match (change.resource.group.as_str(), change.resource.plural.as_str()) {
        ("", "pods") => pod::complete(api, change.old, object),
        ("", "services") => service::complete(api, change.old, object)?,
        ("apps" | "batch", _) => workload::complete(change.resource, object),
        _ => simple::complete(change, object),
    }
    Ok(())
}

/// Checks a completed object.
pub fn check(change: Change<'_>, object: &Value) -> Vec<FieldError> {
    let mut errors = meta::check(change, object);
    match (change.resource.group.as_str(), change.resource.plural.as_str()) {
        ("", "pods") => pod::check(change.old, object, &mut errors),
        ("", "services") => service::check(change.old, object, &mut errors),
        ("apps" | "batch", _) => workload::check(change, object, &mut errors),
        _ => simple::check(change, object, &mut errors),
    }
    errors
}
