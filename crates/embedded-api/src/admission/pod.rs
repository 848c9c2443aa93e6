//! Pods: what the reference's admission adds (service account, API access volume), and what may not change.

use serde_json::{Value, json};

use crate::{
    admission::pod_spec,
    api::Api,
    object,
    status::FieldError,
    store::{GroupResource, ObjectKey},
};

/// Where containers find their service account's token.
const TOKEN_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// Lifetime of the mounted token, the reference's number.
const TOKEN_SECONDS: u64 = 3607;

/// Fills in a pod.
pub fn complete(api: &Api, old: Option<&Value>, pod: &mut Value) {
    if old.is_none() {
        object::set_default(pod, &["spec", "serviceAccountName"], "default");
        object::set_default(pod, &["spec", "enableServiceLinks"], true);
        object::set_default(pod, &["spec", "preemptionPolicy"], "PreemptLowerPriority");
        object::set_default(pod, &["spec", "priority"], 0);
        pod["status"] = json!({ "phase": "Pending", "qosClass": qos_class(pod) });
    }
    pod_spec::complete(object::map_of(pod).entry("spec").or_insert_with(|| json!({})));
    if old.is_none() && wants_token(api, pod) {
        mount_token(pod);
    }
}

/// The quality-of-service class, from the containers' requests and limits.
fn qos_class(pod: &Value) -> &'static str {
    let containers = object::list(pod, "/spec/containers");
    let part = |container: &Value, which: &str, what: &str| {
        container.pointer(&format!("/resources/{which}/{what}")).cloned().unwrap_or(Value::Null)
    };
    let none =
        |which: &str| ["cpu", "memory"].iter().all(|what| containers.iter().all(|c| part(c, which, what).is_null()));
    if none("requests") && none("limits") {
        return "BestEffort";
    }
    let pinned = |container: &Value| {
        ["cpu", "memory"].iter().all(|what| {
            let limit = part(container, "limits", what);
            let request = part(container, "requests", what);
            !limit.is_null() && (request.is_null() || request == limit)
        })
    };
    if containers.iter().all(pinned) { "Guaranteed" } else { "Burstable" }
}

fn wants_token(api: &Api, pod: &Value) -> bool {
    if let Some(asked) = pod.pointer("/spec/automountServiceAccountToken").and_then(Value::as_bool) {
        return asked;
    }
    let key = ObjectKey::new(object::namespace(pod), object::text(pod, "/spec/serviceAccountName"));
    let account = api.store.get(&GroupResource::new("", "serviceaccounts"), &key);
    account.and_then(|account| account.get("automountServiceAccountToken").and_then(Value::as_bool)).unwrap_or(true)
}

/// Adds the projected volume and its mounts, unless a container already mounts something there.
fn mount_token(pod: &mut Value) {
    let volume = format!("kube-api-access-{}", object::random_suffix(5));
    let mut mounted = false;
    for list in ["initContainers", "containers"] {
        let containers = pod.pointer_mut(&format!("/spec/{list}")).and_then(Value::as_array_mut);
        for container in containers.into_iter().flatten() {
            let mounts = object::list(container, "/volumeMounts");
            if mounts.iter().any(|mount| object::text(mount, "/mountPath") == TOKEN_PATH) {
                continue;
            }
            let mut mounts = mounts.to_vec();
            mounts.push(json!({ "name": volume, "readOnly": true, "mountPath": TOKEN_PATH }));
            object::set(container, &["volumeMounts"], mounts);
            mounted = true;
        }
    }
    if !mounted {
        return;
    }
    let mut volumes = object::list(pod, "/spec/volumes").to_vec();
    volumes.push(json!({ "name": volume, "projected": { "defaultMode": 420, "sources": [
        { "serviceAccountToken": { "expirationSeconds": TOKEN_SECONDS, "path": "token" } },
        { "configMap": { "name": "kube-root-ca.crt", "items": [{ "key": "ca.crt", "path": "ca.crt" }] } },
        { "downwardAPI": { "items": [{ "path": "namespace", "fieldRef": { "apiVersion": "v1", "fieldPath": "metadata.namespace" } }] } },
    ] } }));
    object::set(pod, &["spec", "volumes"], volumes);
}

/// Checks a pod.
pub fn check(old: Option<&Value>, pod: &Value, errors: &mut Vec<FieldError>) {
    match old {
        None => pod_spec::check(&pod["spec"], "spec", errors),
        Some(old) if fixed_part(old) != fixed_part(pod) => {
            let why = "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";
            errors.push(FieldError::forbidden("spec", why));
        }
        Some(_) => pod_spec::check(&pod["spec"], "spec", errors),
    }
}

/// The spec without what may change.
fn fixed_part(pod: &Value) -> Value {
    let mut spec = pod["spec"].clone();
    for field in ["activeDeadlineSeconds", "tolerations", "terminationGracePeriodSeconds", "ephemeralContainers"] {
        object::remove(&mut spec, &[field]);
    }
    for list in ["containers", "initContainers"] {
        for container in spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            object::remove(container, &["image"]);
        }
    }
    spec
}
