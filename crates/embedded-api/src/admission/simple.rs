//! Kinds with little behaviour of their own.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use crate::{
    admission::{Change, pod_spec::check_one_of},
    object,
    resource::Origin,
    status::FieldError,
};

/// Fills in an object.
pub fn complete(change: Change<'_>, object: &mut Value) {
    if change.resource.origin == Origin::Custom {
        return;
    }
    match (change.resource.group.as_str(), change.resource.plural.as_str()) {
        ("", "namespaces") => complete_namespace(change.old, object),
        ("", "secrets") => complete_secret(object),
        ("", "nodes") if change.old.is_none() => object::set_default(object, &["status"], json!({})),
        ("", "persistentvolumeclaims") => {
            object::set_default(object, &["spec", "volumeMode"], "Filesystem");
            object::set_default(object, &["status", "phase"], "Pending");
        }
        ("", "endpoints") => complete_endpoints(object),
        ("", "events") | ("events.k8s.io", "events") => {
            object::set_default(object, &["type"], "Normal");
        }
        ("discovery.k8s.io", "endpointslices") => {
            for port in object.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten() {
                object::set_default(port, &["protocol"], "TCP");
                object::set_default(port, &["name"], "");
            }
        }
        ("rbac.authorization.k8s.io", "rolebindings" | "clusterrolebindings") => complete_binding(object),
        ("autoscaling", _) => object::set_default(object, &["spec", "minReplicas"], 1),
        ("networking.k8s.io", "networkpolicies") => {
            object::set_default(object, &["spec", "policyTypes"], json!(["Ingress"]))
        }
        _ => {}
    }
}

fn complete_namespace(old: Option<&Value>, namespace: &mut Value) {
    let name = object::name(namespace).to_owned();
    object::set(namespace, &["metadata", "labels", "kubernetes.io/metadata.name"], name);
    if old.is_none() {
        object::set(namespace, &["spec"], json!({ "finalizers": ["kubernetes"] }));
        object::set(namespace, &["status"], json!({ "phase": "Active" }));
    } else if let Some(old) = old {
        object::set_default(namespace, &["spec"], old["spec"].clone());
    }
}

fn complete_secret(secret: &mut Value) {
    object::set_default(secret, &["type"], "Opaque");
    let Some(Value::Object(plain)) = object::remove(secret, &["stringData"]) else { return };
    for (key, value) in plain {
        let encoded = STANDARD.encode(value.as_str().unwrap_or(""));
        object::set(secret, &["data", &key], encoded);
    }
}

fn complete_endpoints(endpoints: &mut Value) {
    let subsets = endpoints.get_mut("subsets").and_then(Value::as_array_mut);
    for subset in subsets.into_iter().flatten() {
        for port in subset.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten() {
            object::set_default(port, &["protocol"], "TCP");
        }
    }
}

fn complete_binding(binding: &mut Value) {
    if binding.get("roleRef").is_some_and(Value::is_object) {
        object::set_default(binding, &["roleRef", "apiGroup"], "rbac.authorization.k8s.io");
    }
    for subject in binding.get_mut("subjects").and_then(Value::as_array_mut).into_iter().flatten() {
        if object::text(subject, "/kind") != "ServiceAccount" {
            object::set_default(subject, &["apiGroup"], "rbac.authorization.k8s.io");
        }
    }
}

/// Checks an object.
pub fn check(change: Change<'_>, object: &Value, errors: &mut Vec<FieldError>) {
    if change.resource.origin == Origin::Custom {
        return;
    }
    match (change.resource.group.as_str(), change.resource.plural.as_str()) {
        ("", "secrets") => check_secret(change.old, object, errors),
        ("", "configmaps") => check_config_map(change.old, object, errors),
        ("discovery.k8s.io", "endpointslices") => {
            check_one_of(object, "", "addressType", &["FQDN", "IPv4", "IPv6"], errors);
            if object::text(object, "/addressType").is_empty() {
                errors.push(FieldError::required("addressType", ""));
            }
            if change.old.is_some_and(|old| old.get("addressType") != object.get("addressType")) {
                let value = object["addressType"].clone();
                errors.push(FieldError::invalid("addressType", value, "field is immutable"));
            }
        }
        ("", "endpoints") => {
            for (at, subset) in object::list(object, "/subsets").iter().enumerate() {
                let none = |list: &str| object::list(subset, list).is_empty();
                if none("/addresses") && none("/notReadyAddresses") {
                    let why = "must specify `addresses` or `notReadyAddresses`";
                    errors.push(FieldError::required(format!("subsets[{at}]"), why));
                }
            }
        }
        ("rbac.authorization.k8s.io", "rolebindings" | "clusterrolebindings")
            if change.old.is_some_and(|old| old.get("roleRef") != object.get("roleRef")) =>
        {
            let value = object["roleRef"].clone();
            errors.push(FieldError::invalid("roleRef", value, "cannot change roleRef"));
        }
        ("apiextensions.k8s.io", _) => errors.extend(crate::crd::check(object)),
        _ => {}
    }
}

fn check_secret(old: Option<&Value>, secret: &Value, errors: &mut Vec<FieldError>) {
    for (key, value) in secret.get("data").and_then(Value::as_object).into_iter().flatten() {
        check_data_key(key, errors);
        if value.as_str().is_some_and(|text| STANDARD.decode(text).is_err()) {
            errors.push(FieldError::invalid(format!("data[{key}]"), "", "illegal base64 data"));
        }
    }
    let Some(old) = old else { return };
    if old.get("type") != secret.get("type") {
        errors.push(FieldError::invalid("type", secret["type"].clone(), "field is immutable"));
    }
    check_frozen(old, secret, &["data"], errors);
}

fn check_config_map(old: Option<&Value>, map: &Value, errors: &mut Vec<FieldError>) {
    for field in ["data", "binaryData"] {
        for key in map.get(field).and_then(Value::as_object).into_iter().flatten().map(|(key, _)| key) {
            check_data_key(key, errors);
        }
    }
    if let Some(old) = old {
        check_frozen(old, map, &["data", "binaryData"], errors);
    }
}

fn check_data_key(key: &str, errors: &mut Vec<FieldError>) {
    let wordy = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if key.is_empty() || key.len() > 253 || !key.bytes().all(wordy) || key == "." || key.starts_with("..") {
        let why = "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')";
        errors.push(FieldError::invalid(format!("data[{key}]"), key, why));
    }
}

fn check_frozen(old: &Value, new: &Value, fields: &[&str], errors: &mut Vec<FieldError>) {
    if old.get("immutable") != Some(&Value::Bool(true)) {
        return;
    }
    for field in fields.iter().copied().chain(["immutable"]) {
        if old.get(field) != new.get(field) {
            errors.push(FieldError::forbidden(field, "field is immutable when `immutable` is set"));
        }
    }
}
