//! Validating webhooks: writes that somebody else judges before they are done.
//!
//! In: a write about to be done, with the object as it would be. Out: warnings, or the refusal in the webhook's words.
//! Absent on purpose: mutating webhooks, deletions, connections, and `matchConditions` (CEL; taken as true).

mod call;
mod select;

use std::sync::Arc;

use futures::future::join_all;
use serde_json::{Value, json};

use crate::{
    api::{Api, Target},
    object,
    status::ApiError,
    store::{GroupResource, ObjectKey},
    token::User,
};

use select::{Asked, Hook, Policy};

/// A write about to be done.
#[derive(Debug)]
pub struct Question<'a> {
    /// What is written.
    pub target: &'a Target,
    /// Empty for the object itself.
    pub subresource: &'a str,
    /// Who writes.
    pub user: &'a User,
    /// The object as it would be, in the client's version.
    pub object: &'a Value,
    /// The object as it is stored; none where it is new.
    pub old: Option<&'a Value>,
    /// Whether nothing will be stored anyway.
    pub dry_run: bool,
}

/// Whether any webhook may have a say about writes to this resource.
pub fn concern(api: &Api, target: &Target, subresource: &str) -> bool {
    configurations(api).iter().any(|one| select::concerns(one, target, subresource))
}

/// Asks all webhooks concerned, at once. Their warnings, or the first refusal in the order of configurations.
pub async fn ask(api: &Api, question: &Question<'_>) -> Result<Vec<String>, ApiError> {
    let configurations = configurations(api);
    let namespace = namespace_of(api, question);
    let asked = Asked {
        target: question.target,
        subresource: question.subresource,
        operation: if question.old.is_some() { "UPDATE" } else { "CREATE" },
        object: question.object,
        old: question.old,
        namespace: namespace.as_deref(),
    };
    let hooks: Vec<Hook> = configurations.iter().flat_map(|one| select::hooks(one, &asked)).collect();
    if question.dry_run
        && let Some(hook) = hooks.iter().find(|hook| !hook.may_dry_run)
    {
        let message = format!("admission webhook {:?} does not support dry run", hook.name);
        return Err(ApiError::bad_request(message));
    }
    let answers = join_all(hooks.iter().map(|hook| call::call(api, hook, review(question, &asked, hook)))).await;
    let mut warnings = Vec::new();
    for (hook, answer) in hooks.iter().zip(answers) {
        match answer {
            Ok(response) if response["allowed"] == true => {
                warnings.extend(object::texts(&response, "/warnings").into_iter().map(str::to_owned));
            }
            Ok(response) => return Err(ApiError::denied(&hook.name, &response["status"])),
            Err(why) if hook.policy == Policy::Ignore => {
                tracing::warn!(webhook = hook.name, why, "a webhook gave no answer; its configuration says to go on");
            }
            Err(why) => {
                return Err(ApiError::internal(format!("failed calling webhook {:?}: {why}", hook.name)));
            }
        }
    }
    Ok(warnings)
}

fn configurations(api: &Api) -> Vec<Arc<Value>> {
    api.store.list(&GroupResource::new("admissionregistration.k8s.io", "validatingwebhookconfigurations"), None).objects
}

/// The namespace whose labels count: the object's, or itself.
fn namespace_of(api: &Api, question: &Question<'_>) -> Option<Arc<Value>> {
    let target = question.target;
    if target.resource.is("", "namespaces") {
        return Some(Arc::new(question.object.clone()));
    }
    let found = || api.store.get(&GroupResource::new("", "namespaces"), &ObjectKey::new("", &target.namespace));
    if target.resource.namespaced { found() } else { None }
}

/// The question as a webhook reads it, in the version its rule names.
fn review(question: &Question<'_>, asked: &Asked<'_>, hook: &Hook) -> Value {
    let (target, resource) = (question.target, &question.target.resource);
    let kind = |version: &str| json!({"group": resource.group, "version": version, "kind": resource.kind});
    let path = |version: &str| json!({"group": resource.group, "version": version, "resource": resource.plural});
    let shown = |object: &Value| Target { version: hook.version.clone(), ..target.clone() }.shown(object);
    let mut request = json!({
        "uid": object::new_uid(),
        "kind": kind(&hook.version), "resource": path(&hook.version),
        "requestKind": kind(&target.version), "requestResource": path(&target.version),
        "name": object::name(question.object), "operation": asked.operation,
        "userInfo": question.user, "dryRun": question.dry_run,
        "object": shown(question.object), "oldObject": question.old.map(shown),
    });
    for (field, text) in [("namespace", &*target.namespace), ("subResource", question.subresource)] {
        if !text.is_empty() {
            request[field] = text.into();
        }
    }
    json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request})
}
