//! An AdmissionReview, answered. Pure.
//!
//! In: the review as the API server sends it. Out: the same review with a response, or why it is none.

use lateen_cluster::validate::{self, Finding, Level};
use serde_json::{Value, json};

/// A message that is no question we can answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NoReview(&'static str);

/// An answer, and what it says.
#[derive(Debug, Clone, PartialEq)]
pub struct Answered {
    /// The review to send back.
    pub review: Value,
    /// Whether the object may be written.
    pub allowed: bool,
}

/// Answers a review.
pub fn answer(review: &Value) -> Result<Answered, NoReview> {
    let text = |pointer: &str| review.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    if text("/kind") != "AdmissionReview" || text("/apiVersion") != "admission.k8s.io/v1" {
        return Err(NoReview("the body must be an AdmissionReview of admission.k8s.io/v1"));
    }
    let uid = text("/request/uid");
    if uid.is_empty() {
        return Err(NoReview("request.uid is missing"));
    }
    let nothing = Value::Null;
    let member = |pointer: &str| review.pointer(pointer).unwrap_or(&nothing);
    let (object, old) = (member("/request/object"), member("/request/oldObject"));
    let findings = match text("/request/operation") {
        "CREATE" => validate::review(object),
        "UPDATE" if !is_untouched(object, old) => validate::review(object),
        // What is there may be touched elsewhere, and must be deletable, whatever it says.
        _ => Vec::new(),
    };
    let (errors, warnings): (Vec<&Finding>, Vec<&Finding>) = findings.iter().partition(|one| one.level == Level::Error);
    let mut response = json!({"uid": uid, "allowed": errors.is_empty()});
    if !warnings.is_empty() {
        response["warnings"] = warnings.iter().map(|one| one.to_string()).collect();
    }
    if !errors.is_empty() {
        response["status"] = refusal(&errors);
    }
    let review = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response});
    Ok(Answered { review, allowed: errors.is_empty() })
}

/// A `Status` with one cause for each finding; its message has them all, a line each.
fn refusal(errors: &[&Finding]) -> Value {
    let lines: Vec<String> = errors.iter().map(|one| one.to_string()).collect();
    let cause = |one: &&Finding| {
        let message = format!("{}; {}", one.reason, one.mend);
        json!({"reason": "FieldValueInvalid", "message": message, "field": one.field})
    };
    let causes: Vec<Value> = errors.iter().map(cause).collect();
    json!({
        "status": "Failure", "reason": "BadRequest", "code": 400,
        "message": lines.join("\n"), "details": {"causes": causes},
    })
}

/// Whether an update changes nothing that is judged, or is only about the object's end.
fn is_untouched(object: &Value, old: &Value) -> bool {
    let same = |pointer: &str| object.pointer(pointer) == old.pointer(pointer);
    let is_ending = object.pointer("/metadata/deletionTimestamp").is_some_and(|time| !time.is_null());
    is_ending || ["/spec", "/metadata/labels", "/metadata/annotations"].into_iter().all(same)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(spec: Value) -> Value {
        json!({"apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
            "metadata": {"name": "p", "namespace": "shop"}, "spec": spec})
    }

    fn asked(operation: &str, object: Value, old: Value) -> Value {
        json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
            "request": {"uid": "u", "operation": operation, "object": object, "oldObject": old}})
    }

    fn response(review: &Value) -> Value {
        let answered = answer(review).expect("a review");
        assert_eq!(answered.review["response"]["allowed"], answered.allowed);
        assert_eq!(answered.review["response"]["uid"], "u");
        answered.review["response"].clone()
    }

    #[test]
    fn errors_refuse_with_every_finding_and_warnings_do_not() {
        let bad = policy(json!({"action": "DENY", "provider": {"name": "x"}}));
        let found = response(&asked("CREATE", bad.clone(), Value::Null));
        let words: Vec<String> = validate::review(&bad).iter().map(|one| one.to_string()).collect();
        assert_eq!(words.len(), 2);
        assert_eq!(found["status"]["message"], words.join("\n"));
        assert_eq!(found["status"]["details"]["causes"][0]["field"], "spec.provider");
        assert_eq!(found["allowed"], false);
        let doubtful = policy(json!({"selector": {}}));
        let found = response(&asked("CREATE", doubtful.clone(), Value::Null));
        assert_eq!(found["allowed"], true);
        assert_eq!(found["warnings"], json!([validate::review(&doubtful)[0].to_string()]));
        assert_eq!(response(&asked("CREATE", policy(json!({})), Value::Null)), json!({"uid": "u", "allowed": true}));
    }

    #[test]
    fn what_was_there_before_is_not_held_against_a_change_elsewhere() {
        let bad = || policy(json!({"action": "DENY"}));
        let changed = |field: &str, value: Value| {
            let mut object = bad();
            object["metadata"][field] = value;
            object
        };
        let check = |operation: &str, new: Value, allowed: bool| {
            assert_eq!(response(&asked(operation, new.clone(), bad()))["allowed"], allowed, "{operation} {new}");
        };
        check("UPDATE", changed("finalizers", json!(["x"])), true);
        check("UPDATE", changed("labels", json!({"a": "b"})), false);
        check("UPDATE", changed("deletionTimestamp", json!("2026-01-01T00:00:00Z")), true);
        check("UPDATE", policy(json!({"action": "DENY", "rules": []})), false);
        check("DELETE", Value::Null, true);
    }

    #[test]
    fn what_is_no_review_is_said_to_be_none() {
        for review in [
            json!(null),
            json!([]),
            json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1beta1", "request": {"uid": "u"}}),
            json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1"}),
            json!({"kind": "Pod", "apiVersion": "v1"}),
        ] {
            assert!(answer(&review).is_err(), "{review}");
        }
    }
}
