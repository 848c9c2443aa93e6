//! Deployments and their kin: defaults, template rules, immutable selectors.

use serde_json::{Value, json};

use crate::{
    admission::{Change, pod_spec},
    names, object,
    resource::Resource,
    status::FieldError,
};

/// Fills in an object of `apps` or `batch`.
pub fn complete(resource: &Resource, object: &mut Value) {
    if resource.plural == "controllerrevisions" {
        return;
    }
    let rolling = json!({ "type": "RollingUpdate", "rollingUpdate": { "maxUnavailable": "25%", "maxSurge": "25%" } });
    let defaults: Vec<(&str, Value)> = match resource.plural.as_str() {
        "deployments" => vec![
            ("replicas", json!(1)),
            ("revisionHistoryLimit", json!(10)),
            ("progressDeadlineSeconds", json!(600)),
            ("strategy", rolling),
        ],
        "replicasets" => vec![("replicas", json!(1))],
        "daemonsets" => vec![
            ("revisionHistoryLimit", json!(10)),
            (
                "updateStrategy",
                json!({ "type": "RollingUpdate", "rollingUpdate": { "maxUnavailable": 1, "maxSurge": 0 } }),
            ),
        ],
        "statefulsets" => vec![
            ("replicas", json!(1)),
            ("revisionHistoryLimit", json!(10)),
            ("podManagementPolicy", json!("OrderedReady")),
            ("updateStrategy", json!({ "type": "RollingUpdate", "rollingUpdate": { "partition": 0 } })),
        ],
        "jobs" => return complete_job(object),
        "cronjobs" => return complete_cron_job(object),
        _ => Vec::new(),
    };
    for (field, value) in defaults {
        object::set_default(object, &["spec", field], value);
    }
    if resource.plural == "deployments" {
        // Typed clients send an empty map where the user said nothing.
        object::set_default(object, &["spec", "strategy", "type"], "RollingUpdate");
    }
    if object::text(object, "/spec/strategy/type") == "RollingUpdate" {
        object::set_default(object, &["spec", "strategy", "rollingUpdate", "maxUnavailable"], "25%");
        object::set_default(object, &["spec", "strategy", "rollingUpdate", "maxSurge"], "25%");
    }
    if matches!(resource.plural.as_str(), "daemonsets" | "statefulsets") {
        object::set_default(object, &["spec", "updateStrategy", "type"], "RollingUpdate");
    }
    complete_template(object, "/spec/template/spec");
}

fn complete_template(object: &mut Value, pointer: &str) {
    if let Some(spec) = object.pointer_mut(pointer).filter(|spec| spec.is_object()) {
        pod_spec::complete(spec);
    }
}

fn complete_job(job: &mut Value) {
    for (field, value) in [
        ("backoffLimit", json!(6)),
        ("completions", json!(1)),
        ("parallelism", json!(1)),
        ("completionMode", json!("NonIndexed")),
        ("suspend", json!(false)),
        ("podReplacementPolicy", json!("TerminatingOrFailed")),
    ] {
        object::set_default(job, &["spec", field], value);
    }
    let uid = object::uid(job).to_owned();
    let name = object::name(job).to_owned();
    if !uid.is_empty() && job.pointer("/spec/manualSelector") != Some(&Value::Bool(true)) {
        object::set_default(
            job,
            &["spec", "selector", "matchLabels", "batch.kubernetes.io/controller-uid"],
            uid.clone(),
        );
        for (label, value) in [
            ("batch.kubernetes.io/controller-uid", &uid),
            ("controller-uid", &uid),
            ("batch.kubernetes.io/job-name", &name),
            ("job-name", &name),
        ] {
            object::set_default(job, &["spec", "template", "metadata", "labels", label], value.clone());
        }
    }
    complete_template(job, "/spec/template/spec");
}

fn complete_cron_job(job: &mut Value) {
    for (field, value) in [
        ("concurrencyPolicy", json!("Allow")),
        ("suspend", json!(false)),
        ("successfulJobsHistoryLimit", json!(3)),
        ("failedJobsHistoryLimit", json!(1)),
    ] {
        object::set_default(job, &["spec", field], value);
    }
    complete_template(job, "/spec/jobTemplate/spec/template/spec");
}

/// Checks an object of `apps` or `batch`.
pub fn check(change: Change<'_>, object: &Value, errors: &mut Vec<FieldError>) {
    match change.resource.plural.as_str() {
        "controllerrevisions" => {}
        "cronjobs" => check_cron_job(object, errors),
        plural => check_workload(plural, change.old, object, errors),
    }
}

fn check_cron_job(object: &Value, errors: &mut Vec<FieldError>) {
    if object::text(object, "/spec/schedule").is_empty() {
        errors.push(FieldError::required("spec.schedule", ""));
    }
    let template = object.pointer("/spec/jobTemplate/spec/template/spec").unwrap_or(&Value::Null);
    pod_spec::check(template, "spec.jobTemplate.spec.template.spec", errors);
}

fn check_workload(plural: &str, old: Option<&Value>, object: &Value, errors: &mut Vec<FieldError>) {
    check_selector(object, errors);
    if let Some(old) = old
        && old.pointer("/spec/selector") != object.pointer("/spec/selector")
    {
        let selector = object.pointer("/spec/selector").cloned().unwrap_or_default();
        errors.push(FieldError::invalid("spec.selector", selector, "field is immutable"));
    }
    if let Some(replicas) = object.pointer("/spec/replicas").and_then(Value::as_i64).filter(|number| *number < 0) {
        errors.push(FieldError::invalid("spec.replicas", replicas, "must be greater than or equal to 0"));
    }
    if let Some(labels) = object.pointer("/spec/template/metadata/labels") {
        names::check_labels(labels, "spec.template.labels", errors);
    }
    let template = object.pointer("/spec/template/spec").unwrap_or(&Value::Null);
    pod_spec::check(template, "spec.template.spec", errors);
    let policy = object::text(template, "/restartPolicy");
    if plural == "jobs" {
        if old.is_some_and(|old| old.pointer("/spec/template") != object.pointer("/spec/template")) {
            let template = object.pointer("/spec/template").cloned().unwrap_or_default();
            errors.push(FieldError::invalid("spec.template", template, "field is immutable"));
        }
        if policy == "Always" {
            let allowed = ["OnFailure", "Never"];
            errors.push(FieldError::unsupported("spec.template.spec.restartPolicy", policy, &allowed));
        }
    } else if !policy.is_empty() && policy != "Always" {
        errors.push(FieldError::unsupported("spec.template.spec.restartPolicy", policy, &["Always"]));
    }
}

fn check_selector(object: &Value, errors: &mut Vec<FieldError>) {
    let selector = object.pointer("/spec/selector").unwrap_or(&Value::Null);
    let empty = |key: &str| {
        selector.get(key).is_none_or(|part| {
            part.as_object().is_none_or(|map| map.is_empty()) && part.as_array().is_none_or(Vec::is_empty)
        })
    };
    if !selector.is_object() {
        errors.push(FieldError::required("spec.selector", ""));
        return;
    }
    if empty("matchLabels") && empty("matchExpressions") {
        let why = "empty selector is invalid for deployment";
        errors.push(FieldError::invalid("spec.selector", selector.clone(), why));
        return;
    }
    let labels = object.pointer("/spec/template/metadata/labels").cloned().unwrap_or_else(|| json!({}));
    if !selects(selector, &labels) {
        let why = "`selector` does not match template `labels`";
        errors.push(FieldError::invalid("spec.template.metadata.labels", labels, why));
    }
}

/// Whether a LabelSelector object selects `labels`.
fn selects(selector: &Value, labels: &Value) -> bool {
    let wanted = selector.get("matchLabels").and_then(Value::as_object);
    let all = wanted.into_iter().flatten().all(|(key, value)| labels.get(key) == Some(value));
    all && object::list(selector, "/matchExpressions").iter().all(|expression| {
        let present = labels.get(object::text(expression, "/key"));
        let listed = present.is_some_and(|label| object::list(expression, "/values").contains(label));
        match object::text(expression, "/operator") {
            "In" => listed,
            "NotIn" => !listed,
            "Exists" => present.is_some(),
            "DoesNotExist" => present.is_none(),
            _ => false,
        }
    })
}
