//! Built-in kinds as the typed structures of `k8s-openapi`: what is unknown, what has the wrong type.
//!
//! In: a body. Out: the body as its typed structure reads it, the paths that it does not know, or why it cannot be read.

use k8s_openapi::api as k8s;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{patch::shape::Shape, resource::Resource, status::ApiError};

/// Reads the body into its type and back. Returns the paths of members the type does not have.
pub fn conform(resource: &Resource, version: &str, body: &mut Value) -> Result<Vec<String>, ApiError> {
    let Some(read) = reader(&resource.group, &resource.kind) else { return Ok(Vec::new()) };
    let typed = read(body).map_err(|error| {
        let kind = &resource.kind;
        ApiError::bad_request(format!("{kind} in version \"{version}\" cannot be handled as a {kind}: json: {error}"))
    })?;
    let mut unknown = Vec::new();
    compare(body, &typed, "", &mut unknown);
    Ok(unknown)
}

/// How the lists of a built-in kind merge.
pub fn shape(resource: &Resource) -> Shape<'static> {
    let rows = [
        "Pod",
        "Deployment",
        "ReplicaSet",
        "DaemonSet",
        "StatefulSet",
        "ReplicationController",
        "Job",
        "CronJob",
        "PodDisruptionBudget",
        "NetworkPolicy",
        "Service",
        "Node",
        "ServiceAccount",
        "MutatingWebhookConfiguration",
        "ValidatingWebhookConfiguration",
    ];
    Shape::Type(rows.into_iter().find(|kind| *kind == resource.kind).unwrap_or("Object"))
}

/// Removes from `body` what `typed` lost. Values stay as they were written, only members go.
fn compare(body: &mut Value, typed: &Value, path: &str, unknown: &mut Vec<String>) {
    match (body, typed) {
        (Value::Object(map), Value::Object(known)) => map.retain(|key, member| {
            let place = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            match known.get(key) {
                Some(below) => {
                    compare(member, below, &place, unknown);
                    true
                }
                // Some required fields that are empty are not written; they are known all the same.
                None if is_empty(member) => true,
                None => {
                    unknown.push(place);
                    false
                }
            }
        }),
        (Value::Array(items), Value::Array(known)) => {
            for (at, (item, known)) in items.iter_mut().zip(known).enumerate() {
                compare(item, known, &format!("{path}[{at}]"), unknown);
            }
        }
        _ => {}
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::Bool(flag) => !flag,
        Value::Number(number) => number.as_i64() == Some(0),
    }
}

type Reader = fn(&Value) -> Result<Value, String>;

fn through<T: Serialize + DeserializeOwned>(body: &Value) -> Result<Value, String> {
    let typed = T::deserialize(body).map_err(|error| error.to_string())?;
    serde_json::to_value(typed).map_err(|error| error.to_string())
}

fn reader(group: &str, kind: &str) -> Option<Reader> {
    Some(match (group, kind) {
        ("", "ConfigMap") => through::<k8s::core::v1::ConfigMap>,
        ("", "Endpoints") => through::<k8s::core::v1::Endpoints>,
        ("", "Event") => through::<k8s::core::v1::Event>,
        ("", "LimitRange") => through::<k8s::core::v1::LimitRange>,
        ("", "Namespace") => through::<k8s::core::v1::Namespace>,
        ("", "Node") => through::<k8s::core::v1::Node>,
        ("", "PersistentVolumeClaim") => through::<k8s::core::v1::PersistentVolumeClaim>,
        ("", "PersistentVolume") => through::<k8s::core::v1::PersistentVolume>,
        ("", "Pod") => through::<k8s::core::v1::Pod>,
        ("", "PodTemplate") => through::<k8s::core::v1::PodTemplate>,
        ("", "ReplicationController") => through::<k8s::core::v1::ReplicationController>,
        ("", "ResourceQuota") => through::<k8s::core::v1::ResourceQuota>,
        ("", "Secret") => through::<k8s::core::v1::Secret>,
        ("", "ServiceAccount") => through::<k8s::core::v1::ServiceAccount>,
        ("", "Service") => through::<k8s::core::v1::Service>,
        ("apps", "ControllerRevision") => through::<k8s::apps::v1::ControllerRevision>,
        ("apps", "DaemonSet") => through::<k8s::apps::v1::DaemonSet>,
        ("apps", "Deployment") => through::<k8s::apps::v1::Deployment>,
        ("apps", "ReplicaSet") => through::<k8s::apps::v1::ReplicaSet>,
        ("apps", "StatefulSet") => through::<k8s::apps::v1::StatefulSet>,
        ("batch", "CronJob") => through::<k8s::batch::v1::CronJob>,
        ("batch", "Job") => through::<k8s::batch::v1::Job>,
        ("autoscaling", "HorizontalPodAutoscaler") => through::<k8s::autoscaling::v2::HorizontalPodAutoscaler>,
        ("policy", "PodDisruptionBudget") => through::<k8s::policy::v1::PodDisruptionBudget>,
        ("networking.k8s.io", "IngressClass") => through::<k8s::networking::v1::IngressClass>,
        ("networking.k8s.io", "Ingress") => through::<k8s::networking::v1::Ingress>,
        ("networking.k8s.io", "NetworkPolicy") => through::<k8s::networking::v1::NetworkPolicy>,
        ("discovery.k8s.io", "EndpointSlice") => through::<k8s::discovery::v1::EndpointSlice>,
        ("coordination.k8s.io", "Lease") => through::<k8s::coordination::v1::Lease>,
        ("events.k8s.io", "Event") => through::<k8s::events::v1::Event>,
        ("rbac.authorization.k8s.io", "ClusterRoleBinding") => through::<k8s::rbac::v1::ClusterRoleBinding>,
        ("rbac.authorization.k8s.io", "ClusterRole") => through::<k8s::rbac::v1::ClusterRole>,
        ("rbac.authorization.k8s.io", "RoleBinding") => through::<k8s::rbac::v1::RoleBinding>,
        ("rbac.authorization.k8s.io", "Role") => through::<k8s::rbac::v1::Role>,
        ("storage.k8s.io", "StorageClass") => through::<k8s::storage::v1::StorageClass>,
        ("scheduling.k8s.io", "PriorityClass") => through::<k8s::scheduling::v1::PriorityClass>,
        _ => return None,
    })
}
