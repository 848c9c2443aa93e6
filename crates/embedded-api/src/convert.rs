//! Between the form an object is stored in and the version a client speaks.
//!
//! Custom resources differ in `apiVersion` only (conversion None). Events have two forms that share one store:
//! core/v1 is stored, events.k8s.io/v1 is translated.

use serde_json::Value;

use crate::{
    object,
    resource::{Origin, Resource},
};

/// Pairs of (events.k8s.io, core) names for the same thing.
const EVENT_FIELDS: &[(&str, &str)] = &[
    ("regarding", "involvedObject"),
    ("note", "message"),
    ("deprecatedCount", "count"),
    ("deprecatedFirstTimestamp", "firstTimestamp"),
    ("deprecatedLastTimestamp", "lastTimestamp"),
    ("deprecatedSource", "source"),
    ("reportingController", "reportingComponent"),
];

/// From what a client sent to what is stored.
pub fn to_stored(resource: &Resource, object: &mut Value) {
    if is_new_event(resource) {
        rename(object, |(new, old)| (new, old));
        object::set(object, &["apiVersion"], "v1");
    } else if resource.origin == Origin::Custom {
        object::set(object, &["apiVersion"], resource.api_version(&resource.storage_version));
    }
}

/// From what is stored to the version a client asked for.
pub fn to_version(resource: &Resource, version: &str, object: &mut Value) {
    if is_new_event(resource) {
        rename(object, |(new, old)| (old, new));
    }
    object::set(object, &["apiVersion"], resource.api_version(version));
}

fn is_new_event(resource: &Resource) -> bool {
    resource.group == "events.k8s.io"
}

fn rename(object: &mut Value, direction: impl Fn((&'static str, &'static str)) -> (&'static str, &'static str)) {
    for pair in EVENT_FIELDS {
        let (from, to) = direction(*pair);
        if let Some(value) = object::remove(object, &[from]) {
            object::set(object, &[to], value);
        }
    }
}
