//! What can be done to objects: read, create, replace, patch, delete. Synchronous; each write is one step under the writer lock.

pub mod create;
pub mod delete;
pub mod patch;
pub mod read;
pub mod replace;
pub mod scale;
pub mod watch;

use serde_json::Value;

use crate::{
    api::{Api, Target},
    object,
    resource::Origin,
    schema,
    status::ApiError,
};

/// How a write is meant.
#[derive(Debug, Clone, Default)]
pub struct WriteMode {
    /// Do everything but the writing.
    pub dry_run: bool,
    /// Who owns the fields written.
    pub manager: String,
    /// What to do about fields nobody knows.
    pub unknown: Unknown,
    /// Which part is written.
    pub part: Part,
    /// What must be stored for the write to be done.
    pub seen: Seen,
}

/// What was stored when a webhook was asked about a write.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Seen {
    /// Nobody was asked.
    #[default]
    Anything,
    /// No object.
    Nothing,
    /// The object of this version.
    Version(String),
}

impl Seen {
    /// What is stored now.
    pub fn of(stored: Option<&Value>) -> Self {
        stored
            .map_or(Self::Nothing, |stored| Self::Version(object::text(stored, "/metadata/resourceVersion").to_owned()))
    }

    /// Whether that is what was seen.
    pub fn check(&self, stored: Option<&Value>) -> Result<(), ApiError> {
        if *self == Self::Anything || *self == Self::of(stored) { Ok(()) } else { Err(ApiError::overtaken()) }
    }
}

/// What to do about fields nobody knows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Unknown {
    /// Drop them silently.
    Ignore,
    /// Drop them and say so.
    #[default]
    Warn,
    /// Refuse them.
    Strict,
}

/// Which part of an object a write may change.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Part {
    /// Everything but a status that is a subresource.
    #[default]
    Main,
    /// Only the status.
    Status,
    /// Pods: only ephemeral containers.
    EphemeralContainers,
    /// Internal writes: everything.
    Whole,
}

/// What a write did.
#[derive(Debug)]
pub struct Written {
    /// The object as stored (or as it would be).
    pub object: Value,
    /// For the `Warning` header.
    pub warnings: Vec<String>,
}

/// Checks that a body is of the target's kind and version; fills them in where absent.
pub fn check_kind(target: &Target, body: &mut Value) -> Result<(), ApiError> {
    if !body.is_object() {
        return Err(ApiError::bad_request("the body must be an object"));
    }
    let expected = target.api_version();
    let (version, kind) = (object::text(body, "/apiVersion").to_owned(), object::text(body, "/kind").to_owned());
    if !version.is_empty() && version != expected {
        let message =
            format!("the API version in the data ({version}) does not match the expected API version ({expected})");
        return Err(ApiError::bad_request(message));
    }
    if !kind.is_empty() && kind != target.resource.kind {
        let message = format!(
            "the object provided is unrecognized (must be of type {}): couldn't get version/kind; got kind {kind}",
            target.resource.kind
        );
        return Err(ApiError::bad_request(message));
    }
    object::set(body, &["apiVersion"], expected);
    object::set(body, &["kind"], target.resource.kind.clone());
    if !body.get("metadata").is_none_or(Value::is_object) {
        return Err(ApiError::bad_request("metadata must be an object"));
    }
    Ok(())
}

/// Drops (or refuses) unknown fields and brings values into the kind's form. Returns warnings.
pub fn shape_body(target: &Target, body: &mut Value, unknown: Unknown) -> Result<Vec<String>, ApiError> {
    let fields = match &target.traits()?.schema {
        Some(schema) => schema::prune(schema, body),
        None if target.resource.origin == Origin::BuiltIn => {
            crate::typed::conform(&target.resource, &target.version, body)?
        }
        None => Vec::new(),
    };
    if fields.is_empty() || unknown == Unknown::Ignore {
        return Ok(Vec::new());
    }
    let texts: Vec<String> = fields.iter().map(|field| format!("unknown field \"{field}\"")).collect();
    if unknown == Unknown::Strict {
        let (kind, version) = (&target.resource.kind, &target.version);
        let fields = texts.join(", ");
        let message =
            format!("{kind} in version \"{version}\" cannot be handled as a {kind}: strict decoding error: {fields}");
        return Err(ApiError::bad_request(message));
    }
    Ok(texts)
}

/// Defaults and rules of a CRD's schema.
pub fn check_schema(target: &Target, object: &mut Value) -> Result<(), ApiError> {
    let Some(schema) = target.traits()?.schema.clone() else { return Ok(()) };
    schema::fill_defaults(&schema, object);
    let errors = schema::validate(&schema, object);
    if errors.is_empty() {
        return Ok(());
    }
    Err(ApiError::invalid(target.resource.about_kind(object::name(object)), &errors))
}

/// Whether `metadata.generation` counts changes of this kind.
pub fn counts_generations(target: &Target) -> bool {
    let groups = [
        "apps",
        "batch",
        "policy",
        "networking.k8s.io",
        "admissionregistration.k8s.io",
        "apiextensions.k8s.io",
        "discovery.k8s.io",
    ];
    target.resource.origin == Origin::Custom || groups.contains(&target.resource.group.as_str())
}

/// What follows from a write: new endpoints, furniture of a namespace, work for the collector.
pub fn follow_up(api: &Api, target: &Target, created: bool, object: &Value) {
    if target.resource.is("apiextensions.k8s.io", "customresourcedefinitions") {
        api.refresh_custom();
    }
    if created && target.resource.is("", "namespaces") {
        crate::seed::furnish(api, object::name(object));
    }
    let owned = !object::list(object, "/metadata/ownerReferences").is_empty();
    let goes = object::is_terminating(object) && crate::gc::may_have_work(api, target, object);
    if goes || created && owned {
        api.collect.notify_one();
    }
}
