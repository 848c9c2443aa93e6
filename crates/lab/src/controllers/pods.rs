//! What the controllers ask of a pod, and how a pod is made from a template.
//!
//! In: pods, templates. Out: answers, pods ready to be created.
//! Absent on purpose: anything about nodes (see `scheduler`) or addresses (see `endpoints`).

use k8s_openapi::{
    api::core::v1::{Pod, PodTemplateSpec},
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
    jiff::Timestamp,
};
use kube::Resource;
use serde::Serialize;

/// The owner that controls an object.
pub fn controller_of(meta: &ObjectMeta) -> Option<&OwnerReference> {
    meta.owner_references.iter().flatten().find(|owner| owner.controller == Some(true))
}

/// Whether the object with this uid controls the one with `meta`.
pub fn is_controlled_by(meta: &ObjectMeta, uid: Option<&str>) -> bool {
    uid.is_some() && controller_of(meta).map(|owner| owner.uid.as_str()) == uid
}

/// Whether deletion has been asked for.
pub fn is_terminating(meta: &ObjectMeta) -> bool {
    meta.deletion_timestamp.is_some()
}

/// Pending, Running, Succeeded, Failed or Unknown; empty before the kubelet spoke.
pub fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

/// Whether the pod has ended for good.
pub fn is_finished(pod: &Pod) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed")
}

/// Whether the pod counts for its owner: neither ended nor on its way out.
pub fn is_active(pod: &Pod) -> bool {
    !is_finished(pod) && !is_terminating(&pod.metadata)
}

/// Since when the pod has been ready, where it is.
pub fn ready_since(pod: &Pod) -> Option<Timestamp> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let ready = conditions.iter().find(|condition| condition.type_ == "Ready" && condition.status == "True")?;
    Some(ready.last_transition_time.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0))
}

/// Whether the pod says it is ready.
pub fn is_ready(pod: &Pod) -> bool {
    ready_since(pod).is_some()
}

/// Whether the pod has been ready for `min_ready_seconds`.
pub fn is_available(pod: &Pod, min_ready_seconds: i32, now: Timestamp) -> bool {
    ready_since(pod)
        .is_some_and(|since| min_ready_seconds <= 0 || now.duration_since(since).as_secs() >= min_ready_seconds.into())
}

/// The node the pod is bound to.
pub fn node_of(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref().filter(|name| !name.is_empty())
}

/// The value of a label.
pub fn label<'m>(meta: &'m ObjectMeta, key: &str) -> Option<&'m str> {
    meta.labels.as_ref()?.get(key).map(String::as_str)
}

/// A pod of `owner` as its template says, still without a name.
pub fn from_template<K>(template: &PodTemplateSpec, owner: &K) -> Pod
where
    K: Resource<DynamicType = ()>,
{
    let written = template.metadata.clone().unwrap_or_default();
    Pod {
        metadata: ObjectMeta {
            namespace: owner.meta().namespace.clone(),
            generate_name: owner.meta().name.as_ref().map(|name| format!("{name}-")),
            labels: written.labels,
            annotations: written.annotations,
            finalizers: written.finalizers,
            owner_references: owner
                .controller_owner_ref(&())
                .map(|reference| vec![OwnerReference { block_owner_deletion: Some(true), ..reference }]),
            ..ObjectMeta::default()
        },
        spec: template.spec.clone(),
        status: None,
    }
}

/// Letters and digits that spell no word, as Kubernetes uses for generated names.
pub const SAFE_LETTERS: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// A short name for a value: equal values, equal names. FNV-1a over its JSON; not for anything hostile.
pub fn short_hash(value: &impl Serialize) -> String {
    let text = serde_json::to_vec(value).unwrap_or_default();
    let mut hash = text
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3));
    let mut name = String::with_capacity(10);
    for _ in 0..10 {
        name.push(char::from(SAFE_LETTERS[usize::try_from(hash % 27).unwrap_or_default()]));
        hash /= 27;
    }
    name
}
