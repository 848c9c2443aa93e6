//! The status of a Gateway's listeners: one entry for each, as server-side apply merges them by name.

use kube::{
    Api,
    api::{DynamicObject, Patch, PatchParams},
};
use lateen_cluster::api::StatusCondition;
use serde::Deserialize as _;
use serde_json::{Value, json};

use super::wanted;
use crate::graph::{ListenerTold, Told, UNSUPPORTED};

/// The conditions of the whole Gateway that are said here.
pub(super) const OWN: [&str; 3] = ["InsecureFrontendValidationMode", "ResolvedRefs", UNSUPPORTED];
const GROUP: &str = "gateway.networking.k8s.io";

/// Writes what is told of the listeners, where it differs from what is there.
pub(super) async fn write(api: &Api<DynamicObject>, told: &Told) -> Result<(), kube::Error> {
    let name = &told.object.key.name;
    let object = api.get_status(name).await?;
    let held = object.data.pointer("/status/listeners").and_then(Value::as_array).cloned().unwrap_or_default();
    let all = object.data.pointer("/status/conditions").cloned().unwrap_or_default();
    let mut before: Vec<StatusCondition> = Vec::deserialize(all).unwrap_or_default();
    before.retain(|one| OWN.contains(&one.type_.as_str()));
    let new: Vec<Value> = told.listeners.iter().map(|one| entry(told, one, &held)).collect();
    let conditions: Vec<StatusCondition> = told.words.iter().map(|word| wanted(told, word, &before)).collect();
    if new == held && conditions == before {
        return Ok(());
    }
    let mut status = json!({"listeners": new});
    if !conditions.is_empty() {
        status["conditions"] = json!(conditions);
    }
    let patch = json!({
        "apiVersion": format!("{GROUP}/v1"),
        "kind": "Gateway",
        "metadata": {"name": &**name, "namespace": &*told.object.key.namespace},
        "status": status,
    });
    let params = PatchParams::apply(told.reporter.field_manager()).force();
    api.patch_status(name, &params, &Patch::Apply(patch)).await.map(|_| ())
}

fn entry(told: &Told, listener: &ListenerTold, held: &[Value]) -> Value {
    let before = held.iter().find(|one| one["name"] == json!(listener.name));
    let before = before.map(|one| one["conditions"].clone()).unwrap_or_default();
    let before: Vec<StatusCondition> = Vec::deserialize(before).unwrap_or_default();
    let conditions: Vec<StatusCondition> = listener.words.iter().map(|word| wanted(told, word, &before)).collect();
    let kinds: Vec<Value> = listener.kinds.iter().map(|kind| json!({"group": GROUP, "kind": kind.as_str()})).collect();
    json!({
        "name": listener.name, "attachedRoutes": listener.attached, "supportedKinds": kinds, "conditions": conditions,
    })
}
