//! ReplicaSets: as many pods as asked for.
//!
//! In: the board. Out: pods to make or delete, and the sets' status.

use std::cmp::Reverse;

use k8s_openapi::{
    api::{
        apps::v1::{ReplicaSet, ReplicaSetStatus},
        core::v1::Pod,
    },
    jiff::Timestamp,
};

use super::{
    action::{Action, Kind},
    board::Board,
    pods::{from_template, is_active, is_available, is_controlled_by, is_ready, node_of, phase},
};

/// What to do about every ReplicaSet.
pub fn plan(board: &Board, now: Timestamp) -> Vec<Action> {
    board.replica_sets.live().flat_map(|set| plan_one(board, set, now)).collect()
}

fn plan_one(board: &Board, set: &ReplicaSet, now: Timestamp) -> Vec<Action> {
    let uid = set.metadata.uid.as_deref();
    let mut pods: Vec<&Pod> =
        board.pods.all().filter(|pod| is_active(pod) && is_controlled_by(&pod.metadata, uid)).collect();
    let wanted = usize::try_from(replicas(set)).unwrap_or_default();

    let mut actions = Vec::new();
    if let Some(template) = set.spec.as_ref().and_then(|spec| spec.template.as_ref()) {
        let missing = wanted.saturating_sub(pods.len());
        actions.extend((0..missing).map(|_| Action::create(Kind::Pod, &from_template(template, set))));
    }
    pods.sort_by_key(|pod| cost_of_loss(pod));
    let surplus = pods.len().saturating_sub(wanted);
    actions.extend(pods.iter().take(surplus).map(|pod| Action::delete(Kind::Pod, *pod)));

    let status = status(set, &pods, now);
    if set.status.as_ref() != Some(&status) {
        actions.push(Action::status(Kind::ReplicaSet, set, &status));
    }
    actions
}

/// How many pods the set wants.
pub fn replicas(set: &ReplicaSet) -> i32 {
    set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1).max(0)
}

/// Which pods go first when there are too many: not placed, not running, not ready, told to be cheap, then young.
fn cost_of_loss(pod: &Pod) -> impl Ord + use<> {
    let told: i32 = pod
        .metadata
        .annotations
        .as_ref()
        .and_then(|annotations| annotations.get("controller.kubernetes.io/pod-deletion-cost"))
        .and_then(|cost| cost.parse().ok())
        .unwrap_or_default();
    let created = pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
    (node_of(pod).is_some(), phase(pod) == "Running", is_ready(pod), told, Reverse(created), pod.metadata.name.clone())
}

fn status(set: &ReplicaSet, pods: &[&Pod], now: Timestamp) -> ReplicaSetStatus {
    let min_ready_seconds = set.spec.as_ref().and_then(|spec| spec.min_ready_seconds).unwrap_or_default();
    let count =
        |test: &dyn Fn(&Pod) -> bool| i32::try_from(pods.iter().filter(|pod| test(pod)).count()).unwrap_or(i32::MAX);
    ReplicaSetStatus {
        replicas: count(&|_| true),
        fully_labeled_replicas: Some(count(&|_| true)),
        ready_replicas: Some(count(&is_ready)),
        available_replicas: Some(count(&|pod| is_available(pod, min_ready_seconds, now))),
        observed_generation: set.metadata.generation,
        ..set.status.clone().unwrap_or_default()
    }
}
