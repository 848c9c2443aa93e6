//! Resources that answer instead of being stored: token reviews, access reviews, token requests.
//!
//! Whoever is authenticated may do everything here; access reviews say so.

use serde_json::{Value, json};

use crate::{
    api::{Api, Target},
    object,
    status::{About, ApiError, FieldError},
    token::{Grant, ISSUER, SECONDS_MAX, SECONDS_MIN, User},
};

/// Answers a posted review.
pub fn review(api: &Api, target: &Target, mut body: Value, user: &User) -> Result<Value, ApiError> {
    crate::ops::check_kind(target, &mut body)?;
    let status = match target.resource.plural.as_str() {
        "tokenreviews" => token_review(api, &body)?,
        "selfsubjectreviews" => json!({ "userInfo": user }),
        "selfsubjectrulesreviews" => json!({
            "incomplete": false,
            "resourceRules": [{ "verbs": ["*"], "apiGroups": ["*"], "resources": ["*"] }],
            "nonResourceRules": [{ "verbs": ["*"], "nonResourceURLs": ["*"] }],
        }),
        "subjectaccessreviews" | "selfsubjectaccessreviews" | "localsubjectaccessreviews" => {
            json!({ "allowed": true, "reason": "this server allows every authenticated user everything" })
        }
        "bindings" => return crate::http::pods::bind(api, target, &body),
        _ => return Err(ApiError::method_not_allowed()),
    };
    body["status"] = status;
    object::set(&mut body, &["metadata", "creationTimestamp"], Value::Null);
    Ok(body)
}

fn token_review(api: &Api, body: &Value) -> Result<Value, ApiError> {
    let token = object::text(body, "/spec/token");
    if token.is_empty() {
        return Err(ApiError::bad_request("token is required for TokenReview in authentication"));
    }
    let mut audiences: Vec<String> = object::texts(body, "/spec/audiences").into_iter().map(str::to_owned).collect();
    if audiences.is_empty() {
        audiences.push(ISSUER.to_owned());
    }
    Ok(match api.tokens.check(&api.store, token, &audiences) {
        Ok(proof) => json!({ "authenticated": true, "user": proof.user, "audiences": proof.audiences }),
        Err(why) => json!({ "authenticated": false, "user": {}, "error": format!("[{why}]") }),
    })
}

/// Answers `serviceaccounts/<name>/token`.
pub fn token_request(api: &Api, target: &Target, body: &Value) -> Result<Value, ApiError> {
    let about = About { group: "", resource: "serviceaccounts", name: &target.name };
    let account = api.built_in("", "serviceaccounts", &target.namespace, &target.name);
    let account = account.ok_or_else(|| ApiError::not_found(about))?;
    let invalid = |error: FieldError| {
        ApiError::invalid(
            About { group: "authentication.k8s.io", resource: "TokenRequest", name: &target.name },
            &[error],
        )
    };
    let seconds = body.pointer("/spec/expirationSeconds").and_then(Value::as_i64).unwrap_or(3600);
    if seconds < SECONDS_MIN {
        return Err(invalid(FieldError::invalid(
            "spec.expirationSeconds",
            seconds,
            "may not specify a duration less than 10 minutes",
        )));
    }
    if seconds > SECONDS_MAX {
        return Err(invalid(FieldError::invalid(
            "spec.expirationSeconds",
            seconds,
            "may not specify a duration larger than 2^32 seconds",
        )));
    }
    let mut audiences: Vec<String> = object::texts(body, "/spec/audiences").into_iter().map(str::to_owned).collect();
    if audiences.is_empty() {
        audiences.push(ISSUER.to_owned());
    }
    let pod = bound_pod(api, target, body)?;
    let node = pod.as_deref().map(|pod| object::text(pod, "/spec/nodeName")).filter(|name| !name.is_empty());
    let node = node.and_then(|name| api.built_in("", "nodes", "", name));
    let grant =
        Grant { account: &account, audiences: audiences.clone(), seconds, pod: pod.as_deref(), node: node.as_deref() };
    let issued = api.tokens.issue(&grant).map_err(ApiError::internal)?;
    let mut answer = body.clone();
    object::set(&mut answer, &["apiVersion"], "authentication.k8s.io/v1");
    object::set(&mut answer, &["kind"], "TokenRequest");
    object::set(
        &mut answer,
        &["metadata"],
        json!({ "name": target.name, "namespace": target.namespace, "creationTimestamp": object::now() }),
    );
    object::set(&mut answer, &["spec", "audiences"], audiences);
    object::set(&mut answer, &["spec", "expirationSeconds"], seconds);
    object::set(
        &mut answer,
        &["status"],
        json!({ "token": issued.token, "expirationTimestamp": object::stamp(issued.expires) }),
    );
    Ok(answer)
}

/// The pod a token shall be bound to; it must exist, be this one, and use the account.
fn bound_pod(api: &Api, target: &Target, body: &Value) -> Result<Option<std::sync::Arc<Value>>, ApiError> {
    let Some(reference) = body.pointer("/spec/boundObjectRef").filter(|reference| reference.is_object()) else {
        return Ok(None);
    };
    let (kind, name, uid) =
        (object::text(reference, "/kind"), object::text(reference, "/name"), object::text(reference, "/uid"));
    if kind != "Pod" {
        return Err(ApiError::bad_request(format!(
            "cannot bind token for serviceaccount {:?} to {kind} {name:?}: only Pod is offered here",
            target.name
        )));
    }
    let about = About { group: "", resource: "pods", name };
    let pod = api.built_in("", "pods", &target.namespace, name).ok_or_else(|| ApiError::not_found(about))?;
    if !uid.is_empty() && uid != object::uid(&pod) {
        let why = format!(
            "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have been deleted and then recreated"
        );
        return Err(ApiError::conflict(about, &why));
    }
    let account = object::text(&pod, "/spec/serviceAccountName");
    if account != target.name {
        return Err(ApiError::bad_request(format!(
            "cannot bind token for serviceaccount {:?} to pod running with different serviceaccount name {account:?}",
            target.name
        )));
    }
    Ok(Some(pod))
}
