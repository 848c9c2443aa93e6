//! DaemonSets: one pod on every node that is meant.
//!
//! In: the board. Out: pods (already bound to their node) to make or delete, and the sets' status.
//! Absent on purpose: ControllerRevisions; a rollback is another apply.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::{
        apps::v1::{DaemonSet, DaemonSetSpec, DaemonSetStatus, RollingUpdateDaemonSet},
        core::v1::{Node, Pod, Toleration},
    },
    apimachinery::pkg::util::intstr::IntOrString,
    jiff::Timestamp,
};
use kube::ResourceExt as _;

use super::{
    action::{Action, Kind},
    board::Board,
    deployment::{Rounding, share},
    pods::{
        from_template, is_active, is_available, is_controlled_by, is_finished, is_ready, is_terminating, label,
        node_of, short_hash,
    },
    scheduler::{selects, tolerates_all},
};

const HASH_LABEL: &str = "controller-revision-hash";

/// What to do about every DaemonSet.
pub fn plan(board: &Board, now: Timestamp) -> Vec<Action> {
    board.daemon_sets.live().flat_map(|set| plan_one(board, set, now)).collect()
}

/// One set with its pods by node.
struct Daemons<'b> {
    set: &'b DaemonSet,
    spec: &'b DaemonSetSpec,
    hash: String,
    /// Nodes that are meant, with the pods there.
    meant: BTreeMap<String, Vec<&'b Pod>>,
    /// Pods on nodes that are not meant.
    stray: Vec<&'b Pod>,
    now: Timestamp,
}

fn plan_one(board: &Board, set: &DaemonSet, now: Timestamp) -> Vec<Action> {
    let Some(spec) = &set.spec else { return Vec::new() };
    let nodes = board.nodes.live().filter(|node| is_meant(spec, node));
    let mut daemons = Daemons {
        set,
        spec,
        hash: short_hash(&spec.template),
        meant: nodes.map(|node| (node.name_any(), Vec::new())).collect(),
        stray: Vec::new(),
        now,
    };
    let uid = set.metadata.uid.as_deref();
    for pod in board.pods.all().filter(|pod| is_controlled_by(&pod.metadata, uid)) {
        match node_of(pod).and_then(|node| daemons.meant.get_mut(node)) {
            Some(pods) => pods.push(pod),
            None => daemons.stray.push(pod),
        }
    }
    let mut actions = daemons.fill();
    actions.extend(daemons.update());
    let status = daemons.status();
    if set.status.as_ref() != Some(&status) {
        actions.push(Action::status(Kind::DaemonSet, set, &status));
    }
    actions
}

/// Daemons also run on nodes that take no other pods: they are what makes a node ready.
fn is_meant(spec: &DaemonSetSpec, node: &Node) -> bool {
    let Some(pod) = &spec.template.spec else { return false };
    let mut tolerations = pod.tolerations.clone().unwrap_or_default();
    tolerations.extend(node_tolerations());
    selects(pod, node) && tolerates_all(&tolerations, node)
}

/// What every daemon tolerates.
fn node_tolerations() -> impl Iterator<Item = Toleration> {
    ["not-ready", "unreachable", "disk-pressure", "memory-pressure", "pid-pressure", "unschedulable"].into_iter().map(
        |what| Toleration {
            key: Some(format!("node.kubernetes.io/{what}")),
            operator: Some("Exists".to_owned()),
            ..Toleration::default()
        },
    )
}

impl Daemons<'_> {
    /// One pod for every node that is meant and has none; none elsewhere; ended ones make room.
    fn fill(&self) -> Vec<Action> {
        let mut actions: Vec<Action> = Vec::new();
        let gone = |pod: &&Pod| !is_terminating(&pod.metadata);
        actions.extend(self.stray.iter().copied().filter(gone).map(|pod| Action::delete(Kind::Pod, pod)));
        for (node, pods) in &self.meant {
            let ended = pods.iter().copied().filter(|pod| is_finished(pod)).filter(gone);
            actions.extend(ended.map(|pod| Action::delete(Kind::Pod, pod)));
            // A terminating pod still holds its ports on the node.
            if !pods.iter().any(|pod| !is_finished(pod)) {
                actions.push(Action::create(Kind::Pod, &self.new_pod(node)));
            }
        }
        actions
    }

    fn new_pod(&self, node: &str) -> Pod {
        let mut pod = from_template(&self.spec.template, self.set);
        pod.metadata.labels.get_or_insert_default().insert(HASH_LABEL.to_owned(), self.hash.clone());
        let spec = pod.spec.get_or_insert_default();
        spec.node_name = Some(node.to_owned());
        spec.tolerations.get_or_insert_default().extend(node_tolerations());
        pod
    }

    /// Replaces pods of an older template, a few nodes at a time.
    fn update(&self) -> Vec<Action> {
        let strategy = self.spec.update_strategy.as_ref();
        if strategy.and_then(|strategy| strategy.type_.as_deref()) == Some("OnDelete") {
            return Vec::new();
        }
        let rolling = strategy.and_then(|strategy| strategy.rolling_update.clone()).unwrap_or_default();
        let nodes = i32::try_from(self.meant.len()).unwrap_or(i32::MAX);
        let surge = share(rolling.max_surge.as_ref().or(Some(&IntOrString::Int(0))), nodes, Rounding::Up);
        if surge > 0 { self.surge(surge) } else { self.replace(&rolling, nodes) }
    }

    /// Old pods go first; new ones follow through [`Self::fill`].
    fn replace(&self, rolling: &RollingUpdateDaemonSet, nodes: i32) -> Vec<Action> {
        let allowed =
            share(rolling.max_unavailable.as_ref().or(Some(&IntOrString::Int(1))), nodes, Rounding::Up).max(1);
        let missing = self.meant.values().filter(|pods| !pods.iter().any(|pod| self.serves(pod))).count();
        let mut room = usize::try_from(allowed).unwrap_or_default().saturating_sub(missing);
        let mut actions = Vec::new();
        for pod in self.meant.values().flatten().filter(|pod| self.is_outdated(pod)) {
            let costs = usize::from(self.serves(pod));
            if costs <= room {
                room -= costs;
                actions.push(Action::delete(Kind::Pod, *pod));
            }
        }
        actions
    }

    /// New pods come up beside the old ones, which go when the new ones serve.
    fn surge(&self, allowed: i32) -> Vec<Action> {
        let mut room = usize::try_from(allowed).unwrap_or_default();
        let mut actions = Vec::new();
        let active = |pods: &[&Pod]| pods.iter().filter(|pod| is_active(pod)).count();
        room = room.saturating_sub(self.meant.values().filter(|pods| active(pods) > 1).count());
        for (node, pods) in &self.meant {
            let old: Vec<&Pod> = pods.iter().copied().filter(|pod| self.is_outdated(pod)).collect();
            let new = pods.iter().find(|pod| is_active(pod) && !self.is_outdated(pod));
            match new {
                Some(new) if self.serves(new) => {
                    actions.extend(old.into_iter().map(|pod| Action::delete(Kind::Pod, pod)));
                }
                None if !old.is_empty() && room > 0 => {
                    room -= 1;
                    actions.push(Action::create(Kind::Pod, &self.new_pod(node)));
                }
                Some(_) | None => {}
            }
        }
        actions
    }

    fn is_outdated(&self, pod: &Pod) -> bool {
        is_active(pod) && label(&pod.metadata, HASH_LABEL) != Some(&self.hash)
    }

    fn serves(&self, pod: &Pod) -> bool {
        is_active(pod) && is_available(pod, self.spec.min_ready_seconds.unwrap_or_default(), self.now)
    }

    fn status(&self) -> DaemonSetStatus {
        let nodes = |test: &dyn Fn(&Pod) -> bool| {
            let count = self.meant.values().filter(|pods| pods.iter().any(|pod| is_active(pod) && test(pod))).count();
            i32::try_from(count).unwrap_or(i32::MAX)
        };
        let desired = i32::try_from(self.meant.len()).unwrap_or(i32::MAX);
        let available = nodes(&|pod| self.serves(pod));
        DaemonSetStatus {
            desired_number_scheduled: desired,
            current_number_scheduled: nodes(&|_| true),
            number_misscheduled: i32::try_from(self.stray.len()).unwrap_or(i32::MAX),
            number_ready: nodes(&is_ready),
            updated_number_scheduled: Some(nodes(&|pod| !self.is_outdated(pod))),
            number_available: Some(available),
            number_unavailable: Some(desired - available),
            observed_generation: self.set.metadata.generation,
            ..self.set.status.clone().unwrap_or_default()
        }
    }
}
