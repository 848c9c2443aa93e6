//! Node life: a node whose lease runs out is no longer ready, and pods of nodes that are gone are removed.
//!
//! In: the board. Out: conditions of nodes and pods, deletions.
//! Absent on purpose: eviction after minutes; a lab node that fails is looked at, not worked around.

use k8s_openapi::{
    api::core::v1::{Node, NodeCondition, Pod, PodCondition},
    apimachinery::pkg::apis::meta::v1::Time,
    jiff::Timestamp,
};
use kube::ResourceExt as _;
use serde_json::json;

use super::{
    action::{Action, Kind, Target},
    board::Board,
    pods::{is_finished, node_of},
};

/// As Kubernetes' node-monitor-grace-period.
const GRACE_SECONDS: i64 = 40;
const LEASES: &str = "kube-node-lease";

/// What to do about every node.
pub fn plan(board: &Board, now: Timestamp) -> Vec<Action> {
    let silent: Vec<&Node> = board.nodes.live().filter(|node| is_silent(board, node, now)).collect();
    let mut actions: Vec<Action> = silent.iter().filter(|node| is_ready(node)).map(|node| lost(node, now)).collect();
    for pod in board.pods.all() {
        let Some(name) = node_of(pod) else { continue };
        if board.nodes.find("", name).is_none() {
            let target = Target::of(Kind::Pod, pod);
            actions.push(Action::Delete { target, uid: pod.uid(), force: true });
        } else if silent.iter().any(|node| node.name_any() == name) {
            actions.extend(not_ready(pod, now));
        }
    }
    actions
}

/// Whether the node says it is ready.
pub fn is_ready(node: &Node) -> bool {
    conditions(node).iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// Whether the node's lease has run out. A node without a lease is not judged.
fn is_silent(board: &Board, node: &Node, now: Timestamp) -> bool {
    let lease = board.leases.find(LEASES, &node.name_any()).and_then(|lease| lease.spec.as_ref());
    let renewed = lease.and_then(|spec| spec.renew_time.as_ref());
    renewed.is_some_and(|renewed| now.duration_since(renewed.0).as_secs() > GRACE_SECONDS)
}

fn conditions(node: &Node) -> &[NodeCondition] {
    node.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default()
}

fn lost(node: &Node, now: Timestamp) -> Action {
    let changed = conditions(node).iter().cloned().map(|condition| match condition.type_.as_str() {
        "Ready" => NodeCondition {
            status: "Unknown".to_owned(),
            reason: Some("NodeStatusUnknown".to_owned()),
            message: Some("Kubelet stopped posting node status.".to_owned()),
            last_transition_time: Some(Time(now)),
            ..condition
        },
        _ => condition,
    });
    Action::status(Kind::Node, node, &json!({ "conditions": changed.collect::<Vec<_>>() }))
}

/// Takes a pod out of its services while nobody can say how it is.
fn not_ready(pod: &Pod, now: Timestamp) -> Option<Action> {
    let held = pod.status.as_ref()?.conditions.as_ref()?;
    if is_finished(pod) || !held.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True") {
        return None;
    }
    let changed = held.iter().cloned().map(|condition| match condition.type_.as_str() {
        "Ready" => PodCondition {
            status: "False".to_owned(),
            reason: Some("NodeNotReady".to_owned()),
            last_transition_time: Some(Time(now)),
            ..condition
        },
        _ => condition,
    });
    Some(Action::status(Kind::Pod, pod, &json!({ "conditions": changed.collect::<Vec<_>>() })))
}
