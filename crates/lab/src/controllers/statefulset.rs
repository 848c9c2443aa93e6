//! StatefulSets: pods with numbers, made and updated in order.
//!
//! In: the board. Out: pods to make or delete, and the sets' status.
//! Absent on purpose: volume claims (the lab has no storage), ControllerRevisions.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::{
        apps::v1::{StatefulSet, StatefulSetSpec, StatefulSetStatus},
        core::v1::Pod,
    },
    jiff::Timestamp,
};
use kube::ResourceExt as _;

use super::{
    action::{Action, Kind},
    board::Board,
    pods::{
        from_template, is_active, is_available, is_controlled_by, is_finished, is_ready, is_terminating, label,
        short_hash,
    },
};

const HASH_LABEL: &str = "controller-revision-hash";

/// What to do about every StatefulSet.
pub fn plan(board: &Board, now: Timestamp) -> Vec<Action> {
    board.stateful_sets.live().flat_map(|set| plan_one(board, set, now)).collect()
}

/// One set with its pods by number.
struct Members<'b> {
    set: &'b StatefulSet,
    spec: &'b StatefulSetSpec,
    revision: String,
    pods: BTreeMap<i32, &'b Pod>,
    now: Timestamp,
}

fn plan_one(board: &Board, set: &StatefulSet, now: Timestamp) -> Vec<Action> {
    let Some(spec) = &set.spec else { return Vec::new() };
    let uid = set.metadata.uid.as_deref();
    let owned = board.pods.all().filter(|pod| is_controlled_by(&pod.metadata, uid));
    let members = Members {
        set,
        spec,
        revision: format!("{}-{}", set.name_any(), short_hash(&spec.template)),
        pods: owned.filter_map(|pod| Some((number(pod)?, pod))).collect(),
        now,
    };
    let mut actions = members.step();
    let status = members.status();
    if set.status.as_ref() != Some(&status) {
        actions.push(Action::status(Kind::StatefulSet, set, &status));
    }
    actions
}

fn number(pod: &Pod) -> Option<i32> {
    pod.metadata.name.as_ref()?.rsplit_once('-')?.1.parse().ok()
}

impl Members<'_> {
    /// What is missing first, in order; then what is too much, from the top; then what is outdated, from the top.
    fn step(&self) -> Vec<Action> {
        let mut actions = Vec::new();
        for at in 0..self.desired() {
            match self.pods.get(&at) {
                None => actions.push(Action::create(Kind::Pod, &self.new_pod(at))),
                Some(pod) if is_finished(pod) && !is_terminating(&pod.metadata) => {
                    actions.push(Action::delete(Kind::Pod, *pod));
                }
                Some(pod) if self.serves(pod) => continue,
                Some(_) => {}
            }
            // In order: the next one waits until this one serves.
            if !self.is_parallel() {
                return actions;
            }
        }
        let surplus = self.pods.range(self.desired()..).rev().map(|(_, pod)| *pod);
        if self.is_parallel() {
            actions.extend(surplus.filter(|pod| is_active(pod)).map(|pod| Action::delete(Kind::Pod, pod)));
        } else if let Some(last) = surplus.into_iter().next() {
            actions.extend(is_active(last).then(|| Action::delete(Kind::Pod, last)));
            return actions;
        }
        if actions.is_empty() {
            actions.extend(self.update());
        }
        actions
    }

    fn update(&self) -> Option<Action> {
        let strategy = self.spec.update_strategy.as_ref();
        if strategy.and_then(|strategy| strategy.type_.as_deref()) == Some("OnDelete") {
            return None;
        }
        let rolling = strategy.and_then(|strategy| strategy.rolling_update.as_ref());
        let first = rolling.and_then(|rolling| rolling.partition).unwrap_or_default();
        if self.pods.values().any(|pod| !self.serves(pod)) {
            return None;
        }
        let outdated = self.pods.range(first..).rev().find(|(_, pod)| !self.is_current(pod));
        outdated.map(|(_, pod)| Action::delete(Kind::Pod, *pod))
    }

    fn new_pod(&self, at: i32) -> Pod {
        let mut pod = from_template(&self.spec.template, self.set);
        let name = format!("{}-{at}", self.set.name_any());
        pod.metadata.generate_name = None;
        pod.metadata.name = Some(name.clone());
        pod.metadata.labels.get_or_insert_default().extend([
            (HASH_LABEL.to_owned(), self.revision.clone()),
            ("statefulset.kubernetes.io/pod-name".to_owned(), name.clone()),
            ("apps.kubernetes.io/pod-index".to_owned(), at.to_string()),
        ]);
        let spec = pod.spec.get_or_insert_default();
        spec.hostname = Some(name);
        spec.subdomain = self.spec.service_name.clone().filter(|name| !name.is_empty());
        pod
    }

    fn desired(&self) -> i32 {
        self.spec.replicas.unwrap_or(1).max(0)
    }

    fn is_parallel(&self) -> bool {
        self.spec.pod_management_policy.as_deref() == Some("Parallel")
    }

    fn is_current(&self, pod: &Pod) -> bool {
        label(&pod.metadata, HASH_LABEL) == Some(&self.revision)
    }

    fn serves(&self, pod: &Pod) -> bool {
        is_active(pod) && is_available(pod, self.spec.min_ready_seconds.unwrap_or_default(), self.now)
    }

    fn status(&self) -> StatefulSetStatus {
        let count = |test: &dyn Fn(&Pod) -> bool| {
            let count = self.pods.values().filter(|pod| is_active(pod) && test(pod)).count();
            i32::try_from(count).unwrap_or(i32::MAX)
        };
        let (total, updated) = (count(&|_| true), count(&|pod| self.is_current(pod)));
        let held = self.set.status.clone().unwrap_or_default();
        let done = updated == total && total == self.desired();
        let current = held.current_revision.clone().filter(|_| !done).unwrap_or_else(|| self.revision.clone());
        StatefulSetStatus {
            replicas: total,
            ready_replicas: Some(count(&is_ready)),
            available_replicas: Some(count(&|pod| self.serves(pod))),
            current_replicas: Some(if done { total } else { total - updated }),
            updated_replicas: Some(updated),
            current_revision: Some(current),
            update_revision: Some(self.revision.clone()),
            observed_generation: self.set.metadata.generation,
            ..held
        }
    }
}
