//! Refusals as a client sees them: a Kubernetes `Status` with code, reason, message and causes.
//!
//! In: what was wrong. Out: an [`ApiError`], worded as the reference words it, and its JSON.

use serde_json::{Value, json};

/// One refusal.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// The HTTP status.
    pub code: u16,
    /// The machine-readable word, such as `NotFound`.
    pub reason: &'static str,
    /// The sentence for people.
    pub message: String,
    /// `details` of the Status; null where there is nothing to add.
    pub details: Value,
}

const OVERTAKEN: &str = "the object changed while admission webhooks were asked; please try again";

/// Which objects a refusal speaks of: resource (plural) and group.
#[derive(Debug, Clone, Copy)]
pub struct About<'a> {
    /// The API group; empty for core.
    pub group: &'a str,
    /// The plural resource, or the kind where the reference says the kind.
    pub resource: &'a str,
    /// The object's name; may be empty.
    pub name: &'a str,
}

impl About<'_> {
    fn qualified(&self) -> String {
        if self.group.is_empty() { self.resource.to_owned() } else { format!("{}.{}", self.resource, self.group) }
    }

    fn details(&self) -> Value {
        let mut details = json!({});
        for (key, value) in [("name", self.name), ("group", self.group), ("kind", self.resource)] {
            if !value.is_empty() {
                details[key] = value.into();
            }
        }
        details
    }
}

impl ApiError {
    fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self { code, reason, message: message.into(), details: Value::Null }
    }

    fn with(mut self, details: Value) -> Self {
        self.details = details;
        self
    }

    /// 404 for an object.
    pub fn not_found(about: About<'_>) -> Self {
        let message = format!("{} \"{}\" not found", about.qualified(), about.name);
        Self::new(404, "NotFound", message).with(about.details())
    }

    /// 404 for a path.
    pub fn no_such_path() -> Self {
        Self::new(404, "NotFound", "the server could not find the requested resource").with(json!({}))
    }

    /// 409 for a name that is taken.
    pub fn already_exists(about: About<'_>) -> Self {
        let message = format!("{} \"{}\" already exists", about.qualified(), about.name);
        Self::new(409, "AlreadyExists", message).with(about.details())
    }

    /// 409 with the reference's frame around `why`.
    pub fn conflict(about: About<'_>, why: &str) -> Self {
        let message = format!("Operation cannot be fulfilled on {} \"{}\": {why}", about.qualified(), about.name);
        Self::new(409, "Conflict", message).with(about.details())
    }

    /// 409 because the object changed since it was read.
    pub fn modified(about: About<'_>) -> Self {
        Self::conflict(
            about,
            "the object has been modified; please apply your changes to the latest version and try again",
        )
    }

    /// 409 because other managers own fields that an apply would change.
    pub fn apply_conflict(message: String, causes: Vec<Value>) -> Self {
        Self::new(409, "Conflict", message).with(json!({ "causes": causes }))
    }

    /// 422 with its field errors. `about.resource` is the kind here.
    pub fn invalid(about: About<'_>, errors: &[FieldError]) -> Self {
        let mut texts: Vec<String> = errors.iter().map(FieldError::text).collect();
        texts.dedup();
        let joined = if texts.len() == 1 { texts.remove(0) } else { format!("[{}]", texts.join(", ")) };
        let message = format!("{} \"{}\" is invalid: {joined}", about.qualified(), about.name);
        let causes: Vec<Value> = errors.iter().map(FieldError::cause).collect();
        let mut details = about.details();
        details["causes"] = causes.into();
        Self::new(422, "Invalid", message).with(details)
    }

    /// 409 because the object changed while webhooks were asked about it.
    pub fn overtaken() -> Self {
        Self::new(409, "Conflict", OVERTAKEN)
    }

    /// Whether it is [`ApiError::overtaken`].
    pub fn is_overtaken(&self) -> bool {
        self.message == OVERTAKEN
    }

    /// A webhook's refusal, with the reference's frame around its words.
    pub fn denied(webhook: &str, status: &Value) -> Self {
        let words =
            ["message", "reason"].iter().find_map(|field| status[*field].as_str().filter(|text| !text.is_empty()));
        let message = match words {
            Some(words) => format!("admission webhook \"{webhook}\" denied the request: {words}"),
            None => format!("admission webhook \"{webhook}\" denied the request without explanation"),
        };
        let code =
            status["code"].as_u64().and_then(|code| u16::try_from(code).ok()).filter(|code| (400..600).contains(code));
        let reason = match code {
            Some(403) => "Forbidden",
            Some(409) => "Conflict",
            Some(422) => "Invalid",
            _ => "BadRequest",
        };
        Self::new(code.unwrap_or(400), reason, message).with(status["details"].clone())
    }

    /// 400.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    /// 401.
    pub fn unauthorized() -> Self {
        Self::new(401, "Unauthorized", "Unauthorized")
    }

    /// 403 with the reference's frame around `why`.
    pub fn forbidden(about: About<'_>, why: &str) -> Self {
        let message = format!("{} \"{}\" is forbidden: {why}", about.qualified(), about.name);
        Self::new(403, "Forbidden", message).with(about.details())
    }

    /// 403 because the namespace is going away.
    pub fn namespace_terminating(about: About<'_>, namespace: &str) -> Self {
        let why = format!("unable to create new content in namespace {namespace} because it is being terminated");
        let mut error = Self::forbidden(about, &why);
        error.details["causes"] = json!([{
            "reason": "NamespaceTerminating", "field": "metadata.namespace",
            "message": format!("namespace {namespace} is being terminated"),
        }]);
        error
    }

    /// 405.
    pub fn method_not_allowed() -> Self {
        Self::new(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")
            .with(json!({}))
    }

    /// 410: the asked-for version is no longer remembered.
    pub fn expired(message: impl Into<String>) -> Self {
        Self::new(410, "Expired", message)
    }

    /// 413.
    pub fn too_large(max: usize) -> Self {
        Self::new(413, "RequestEntityTooLarge", format!("Request entity too large: limit is {max}"))
    }

    /// 415.
    pub fn unsupported_media_type(accepted: &str) -> Self {
        let message =
            format!("the body of the request was in an unknown format - accepted media types include: {accepted}");
        Self::new(415, "UnsupportedMediaType", message)
    }

    /// 429: try again later.
    pub fn too_many_requests(message: impl Into<String>) -> Self {
        Self::new(429, "TooManyRequests", message).with(json!({ "retryAfterSeconds": 1 }))
    }

    /// 500.
    pub fn internal(message: impl std::fmt::Display) -> Self {
        Self::new(500, "InternalError", format!("Internal error occurred: {message}"))
            .with(json!({ "causes": [{ "message": message.to_string() }] }))
    }

    /// 501: a thing this server does not offer.
    pub fn not_implemented(message: impl Into<String>) -> Self {
        Self::new(501, "NotImplemented", message)
    }

    /// 504: a version from the future was asked for.
    pub fn version_too_large(asked: u64, current: u64) -> Self {
        let message = format!("Timeout: Too large resource version: {asked}, current: {current}");
        Self::new(504, "Timeout", message).with(json!({
            "causes": [{ "reason": "ResourceVersionTooLarge", "message": "Too large resource version" }],
            "retryAfterSeconds": 1,
        }))
    }

    /// The `Status` object.
    pub fn to_status(&self) -> Value {
        let mut status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "reason": self.reason, "code": self.code,
        });
        if !self.details.is_null() {
            status["details"] = self.details.clone();
        }
        status
    }
}

/// What was wrong with one field.
#[derive(Debug, Clone, PartialEq)]
pub struct FieldError {
    /// The path, such as `spec.containers[0].name`.
    pub field: String,
    /// Why.
    pub problem: Problem,
}

/// The reference's closed set of field problems, those that we find.
#[derive(Debug, Clone, PartialEq)]
pub enum Problem {
    /// A required value is missing.
    Required(String),
    /// The value breaks a rule: value, rule.
    Invalid(Value, String),
    /// Not one of the values: value, allowed ones.
    Unsupported(Value, Vec<String>),
    /// Given twice.
    Duplicate(Value),
    /// May not be set or changed.
    Forbidden(String),
    /// Of the wrong type: value, what it should be.
    Type(Value, String),
    /// Names something that is not there.
    NotFound(Value),
    /// Too long: limit in bytes.
    TooLong(usize),
    /// Too many items: actual, limit.
    TooMany(usize, usize),
}

impl FieldError {
    /// A missing value.
    pub fn required(field: impl Into<String>, why: impl Into<String>) -> Self {
        Self { field: field.into(), problem: Problem::Required(why.into()) }
    }

    /// A value that breaks a rule.
    pub fn invalid(field: impl Into<String>, value: impl Into<Value>, why: impl Into<String>) -> Self {
        Self { field: field.into(), problem: Problem::Invalid(value.into(), why.into()) }
    }

    /// A value outside a closed set.
    pub fn unsupported(field: impl Into<String>, value: impl Into<Value>, allowed: &[&str]) -> Self {
        let allowed = allowed.iter().map(|text| (*text).to_owned()).collect();
        Self { field: field.into(), problem: Problem::Unsupported(value.into(), allowed) }
    }

    /// A repeated value.
    pub fn duplicate(field: impl Into<String>, value: impl Into<Value>) -> Self {
        Self { field: field.into(), problem: Problem::Duplicate(value.into()) }
    }

    /// A field that may not be set or changed.
    pub fn forbidden(field: impl Into<String>, why: impl Into<String>) -> Self {
        Self { field: field.into(), problem: Problem::Forbidden(why.into()) }
    }

    /// The sentence, with the field in front.
    pub fn text(&self) -> String {
        format!("{}: {}", self.field, self.body())
    }

    fn body(&self) -> String {
        match &self.problem {
            Problem::Required(why) if why.is_empty() => "Required value".to_owned(),
            Problem::Required(why) => format!("Required value: {why}"),
            Problem::Invalid(value, why) => format!("Invalid value: {}: {why}", shown(value)),
            Problem::Unsupported(value, allowed) => {
                let allowed: Vec<String> = allowed.iter().map(|text| format!("\"{text}\"")).collect();
                format!("Unsupported value: {}: supported values: {}", shown(value), allowed.join(", "))
            }
            Problem::Duplicate(value) => format!("Duplicate value: {}", shown(value)),
            Problem::Forbidden(why) => format!("Forbidden: {why}"),
            Problem::Type(value, why) => format!("Invalid value: {}: {why}", shown_type(value)),
            Problem::NotFound(value) => format!("Not found: {}", shown(value)),
            Problem::TooLong(max) => format!("Too long: may not be more than {max} bytes"),
            Problem::TooMany(actual, max) => format!("Too many: {actual}: must have at most {max} items"),
        }
    }

    fn cause(&self) -> Value {
        let reason = match &self.problem {
            Problem::Required(_) => "FieldValueRequired",
            Problem::Invalid(..) => "FieldValueInvalid",
            Problem::Unsupported(..) => "FieldValueNotSupported",
            Problem::Duplicate(_) => "FieldValueDuplicate",
            Problem::Forbidden(_) => "FieldValueForbidden",
            Problem::Type(..) => "FieldValueTypeInvalid",
            Problem::NotFound(_) => "FieldValueNotFound",
            Problem::TooLong(_) => "FieldValueTooLong",
            Problem::TooMany(..) => "FieldValueTooMany",
        };
        json!({ "reason": reason, "message": self.body(), "field": self.field })
    }
}

/// A value as the reference prints it in a sentence.
fn shown(value: &Value) -> String {
    value.to_string()
}

fn shown_type(value: &Value) -> String {
    let word = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    format!("\"{word}\"")
}
