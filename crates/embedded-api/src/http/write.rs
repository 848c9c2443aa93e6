//! Writes: which operation a request asks for, what webhooks say to it, and the answer.

use bytes::Bytes;
use http::{Response, header};
use serde_json::{Value, json};

use crate::{
    api::Target,
    http::{
        answer::{self, Answer, Body},
        handle::{Ask, Context},
        pods,
        query::Query,
        reviews,
        route::Route,
    },
    object,
    ops::{
        self, Part, Seen, Written,
        create::create,
        delete::{Deleted, delete, delete_collection},
        patch::{self, PatchKind},
    },
    protobuf,
    resource::Origin,
    status::ApiError,
    token::User,
    webhook::{self, Question},
};

/// A write as it was asked for.
pub(super) struct Call<'a> {
    pub(super) context: &'a Context,
    pub(super) ask: &'a Ask<'a>,
    pub(super) query: &'a Query,
    pub(super) user: &'a User,
    pub(super) body: Bytes,
}

impl Call<'_> {
    /// The body as a value: JSON, or YAML where the client says so.
    fn value(&self) -> Result<Value, ApiError> {
        let kind = self.ask.header(header::CONTENT_TYPE);
        if kind.starts_with(protobuf::CONTENT_TYPE) {
            return protobuf::decode(&self.body).map_err(|error| ApiError::bad_request(error.to_string()));
        }
        if kind.contains("yaml") {
            let text = std::str::from_utf8(&self.body)
                .map_err(|error| ApiError::bad_request(format!("invalid YAML: {error}")))?;
            return serde_saphyr::from_str(text)
                .map_err(|error| ApiError::bad_request(format!("invalid YAML: {error}")));
        }
        serde_json::from_slice(&self.body).map_err(|error| {
            ApiError::bad_request(format!("the object provided is unrecognized (must be of type JSON): {error}"))
        })
    }

    /// The body, or null where there is none.
    fn optional(&self) -> Result<Value, ApiError> {
        if self.body.is_empty() { Ok(Value::Null) } else { self.value() }
    }

    fn mode(&self, part: Part) -> Result<ops::WriteMode, ApiError> {
        self.query.write(self.ask.header(header::USER_AGENT), part)
    }
}

/// Does the write, once the webhooks it concerns have allowed it.
pub(super) async fn write(call: &Call<'_>, route: &Route) -> Answer {
    let (api, target) = (&call.context.api, &route.target);
    if !is_judged(call, route) {
        return other(call, route);
    }
    if !webhook::concern(api, target, &route.subresource) {
        let (code, written) = perform(call, route, &How::default())?;
        return Ok(answer::written(code, &written));
    }
    for _ in 0..TRIES_MAX {
        // Webhooks are asked without the lock: what they saw must still be there when it is written.
        let stored = api.store.get(&target.resource.stored_as, &target.key());
        let (_, trial) = perform(call, route, &How { trial: true, seen: Seen::Anything })?;
        let question = Question {
            target,
            subresource: &route.subresource,
            user: call.user,
            object: &trial.object,
            old: stored.as_deref(),
            dry_run: call.mode(Part::Main)?.dry_run,
        };
        let warnings = webhook::ask(api, &question).await?;
        match perform(call, route, &How { trial: false, seen: Seen::of(stored.as_deref()) }) {
            Ok((code, mut written)) => {
                written.warnings.extend(warnings);
                return Ok(answer::written(code, &written));
            }
            Err(error) if error.is_overtaken() => {}
            Err(error) => return Err(error),
        }
    }
    Err(ApiError::overtaken())
}

/// How often a write is tried again because the object changed while webhooks were asked.
const TRIES_MAX: usize = 4;

/// Whether this is a write webhooks may have a say about.
fn is_judged(call: &Call<'_>, route: &Route) -> bool {
    let is_object = !route.target.name.is_empty();
    match (call.ask.method.as_str(), route.subresource.as_str()) {
        ("POST", "") => !is_object && route.target.resource.origin != Origin::Virtual,
        ("PUT" | "PATCH", "" | "status") => is_object,
        _ => false,
    }
}

/// How a write is done this time.
#[derive(Default)]
struct How {
    /// Everything but the writing.
    trial: bool,
    seen: Seen,
}

/// Creates, replaces or patches.
fn perform(call: &Call<'_>, route: &Route, how: &How) -> Result<(u16, Written), ApiError> {
    let (api, target) = (&call.context.api, &route.target);
    let mut mode = call.mode(part_of(&route.subresource)?)?;
    mode.dry_run |= how.trial;
    mode.seen = how.seen.clone();
    match call.ask.method.as_str() {
        "POST" => create(api, target, call.value()?, &mode).map(|written| (201, written)),
        "PUT" => ops::replace::update(api, target, call.value()?, &mode).map(|written| (200, written)),
        _ => {
            let kind = patch_kind(call)?;
            if matches!(kind, PatchKind::Apply { .. }) {
                // Only an apply must name its manager itself.
                mode.manager = call.query.text("fieldManager").to_owned();
            }
            let done = patch::patch(api, target, &call.value()?, kind, &mode)?;
            Ok((if done.created { 201 } else { 200 }, done.written))
        }
    }
}

/// Everything webhooks have no say about.
fn other(call: &Call<'_>, route: &Route) -> Answer {
    let (api, target) = (&call.context.api, &route.target);
    let collection = target.name.is_empty();
    match (call.ask.method.as_str(), route.subresource.as_str()) {
        ("POST", "") if collection => Ok(answer::json(201, &reviews::review(api, target, call.value()?, call.user)?)),
        ("POST", _) => post_subresource(call, route),
        ("PUT", "scale") => {
            let scale = ops::scale::update(api, target, &call.value()?, &call.mode(Part::Main)?)?;
            Ok(answer::json(200, &scale))
        }
        ("PATCH", "scale") => {
            let (body, mode) = (call.value()?, call.mode(Part::Main)?);
            Ok(answer::json(200, &ops::scale::patch(api, target, &body, patch_kind(call)?, &mode)?))
        }
        ("PUT", "finalize") => finalize(call, target),
        ("PUT" | "PATCH", _) if !collection => {
            let (code, written) = perform(call, route, &How::default())?;
            Ok(answer::written(code, &written))
        }
        ("DELETE", "") if collection => {
            let mode = call.query.delete(&call.optional()?)?;
            let list = call.query.list(target)?;
            Ok(answer::json(200, &delete_collection(api, target, &list.labels, &list.fields, &mode)?))
        }
        ("DELETE", "") => {
            let mode = call.query.delete(&call.optional()?)?;
            Ok(deleted(target, delete(api, target, &mode)?))
        }
        _ => Err(ApiError::method_not_allowed()),
    }
}

fn part_of(subresource: &str) -> Result<Part, ApiError> {
    match subresource {
        "" => Ok(Part::Main),
        "status" => Ok(Part::Status),
        "ephemeralcontainers" => Ok(Part::EphemeralContainers),
        _ => Err(ApiError::method_not_allowed()),
    }
}

fn post_subresource(call: &Call<'_>, route: &Route) -> Answer {
    let (api, target) = (&call.context.api, &route.target);
    let answer = match route.subresource.as_str() {
        "token" => reviews::token_request(api, target, &call.value()?)?,
        "eviction" => pods::evict(api, target, &call.optional()?)?,
        "binding" => pods::bind(api, target, &call.value()?)?,
        "exec" | "attach" | "portforward" => return Err(pods::exec_refused()),
        _ => return Err(ApiError::method_not_allowed()),
    };
    Ok(answer::json(201, &answer))
}

/// The namespace's own finalizers, which only this subresource may take away.
fn finalize(call: &Call<'_>, target: &Target) -> Answer {
    let api = &call.context.api;
    let body = call.value()?;
    let _writer = api.writer.lock();
    let old = ops::replace::current(api, target)?;
    let mut next = (*old).clone();
    object::set(&mut next, &["spec", "finalizers"], object::list(&body, "/spec/finalizers").to_vec());
    let next = ops::replace::Next { object: next, tracked: ops::replace::Tracked::ByDifference };
    let stored = ops::replace::commit(api, target, &old, next, &call.mode(Part::Whole)?)?;
    Ok(answer::json(200, &stored))
}

fn patch_kind(call: &Call<'_>) -> Result<PatchKind, ApiError> {
    match call.ask.header(header::CONTENT_TYPE).split(';').next().unwrap_or("").trim() {
        "application/json-patch+json" => Ok(PatchKind::Json),
        "application/merge-patch+json" => Ok(PatchKind::Merge),
        "application/strategic-merge-patch+json" => Ok(PatchKind::Strategic),
        "application/apply-patch+yaml" | "application/apply-patch+json" => {
            Ok(PatchKind::Apply { force: call.query.flag("force") })
        }
        _ => Err(ApiError::unsupported_media_type(patch::ACCEPTED)),
    }
}

fn deleted(target: &Target, deleted: Deleted) -> Response<Body> {
    match deleted {
        Deleted::Going(object) => answer::json(200, &object),
        // These answer with the object even when it is gone, as the reference does.
        Deleted::Gone(object)
            if matches!(
                target.resource.plural.as_str(),
                "pods" | "services" | "serviceaccounts" | "persistentvolumeclaims"
            ) && target.resource.schemaless() =>
        {
            answer::json(200, &object)
        }
        Deleted::Gone(object) => {
            let details = json!({ "name": target.name, "group": target.resource.group, "kind": target.resource.plural, "uid": object::uid(&object) });
            answer::json(
                200,
                &json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details }),
            )
        }
    }
}
