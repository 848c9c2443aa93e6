//! Deployments: one ReplicaSet per template, and the steps from the old ones to the new one.
//!
//! In: the board. Out: ReplicaSets to make, scale or delete, and the deployments' status.
//! Absent on purpose: pods; a deployment only speaks to ReplicaSets.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::apps::v1::{Deployment, DeploymentCondition, DeploymentSpec, DeploymentStatus, ReplicaSet, ReplicaSetSpec},
    apimachinery::pkg::{
        apis::meta::v1::{LabelSelector, ObjectMeta, Time},
        util::intstr::IntOrString,
    },
    jiff::Timestamp,
};
use kube::Resource as _;
use serde_json::json;

use super::{
    action::{Action, Kind, Target},
    board::Board,
    pods::{is_controlled_by, label, short_hash},
    replicaset::replicas,
};

const HASH_LABEL: &str = "pod-template-hash";
const REVISION: &str = "deployment.kubernetes.io/revision";

/// What to do about every Deployment.
pub fn plan(board: &Board, now: Timestamp) -> Vec<Action> {
    board.deployments.live().flat_map(|deployment| plan_one(board, deployment, now)).collect()
}

/// One deployment with its ReplicaSets.
struct Rollout<'b> {
    deployment: &'b Deployment,
    spec: &'b DeploymentSpec,
    /// The set of the template as it is now.
    current: Option<&'b ReplicaSet>,
    /// All others, oldest first.
    old: Vec<&'b ReplicaSet>,
    hash: String,
}

fn plan_one(board: &Board, deployment: &Deployment, now: Timestamp) -> Vec<Action> {
    let Some(spec) = &deployment.spec else { return Vec::new() };
    let uid = deployment.metadata.uid.as_deref();
    let hash = short_hash(&spec.template);
    let owned = board.replica_sets.live().filter(|set| is_controlled_by(&set.metadata, uid));
    let (current, mut old): (Vec<&ReplicaSet>, Vec<&ReplicaSet>) =
        owned.partition(|set| label(&set.metadata, HASH_LABEL) == Some(&hash));
    old.sort_by_key(|set| revision(&set.metadata));
    let rollout = Rollout { deployment, spec, current: current.first().copied(), old, hash };

    let mut actions = rollout.step();
    actions.extend(rollout.forget_history());
    let status = rollout.status(now);
    if deployment.status.as_ref() != Some(&status) {
        actions.push(Action::status(Kind::Deployment, deployment, &status));
    }
    actions
}

impl Rollout<'_> {
    /// What moves the rollout on: the new set, its size, the sizes of the old ones.
    fn step(&self) -> Vec<Action> {
        let Some(current) = self.current else {
            return if self.is_paused() { Vec::new() } else { self.introduce() };
        };
        let mut actions = self.keep_revision(current);
        if self.is_paused() {
            let target = self.desired() - self.old.iter().map(|set| replicas(set)).sum::<i32>();
            actions.extend(scaled(current, target.max(0)));
        } else if self.recreates() {
            actions.extend(self.old.iter().flat_map(|set| scaled(set, 0)));
            if self.old.iter().all(|set| observed(set) == 0) {
                actions.extend(scaled(current, self.desired()));
            }
        } else {
            // One direction at a time: the numbers that allow going down are those from before going up.
            let up = scaled(current, self.size_of_current(current));
            actions.extend(if up.is_empty() { self.shrink_old(current) } else { up });
        }
        actions
    }

    /// Makes the set of a template that has none yet.
    fn introduce(&self) -> Vec<Action> {
        let running: i32 = self.old.iter().map(|set| replicas(set)).sum();
        let size = if self.recreates() {
            if running == 0 && self.old.iter().all(|set| observed(set) == 0) { self.desired() } else { 0 }
        } else {
            self.desired().min((self.desired() + self.max_surge() - running).max(0))
        };
        vec![Action::create(Kind::ReplicaSet, &self.new_set(size))]
    }

    fn new_set(&self, size: i32) -> ReplicaSet {
        let hash = || BTreeMap::from([(HASH_LABEL.to_owned(), self.hash.clone())]);
        let mut template = self.spec.template.clone();
        let labels = &mut template.metadata.get_or_insert_default().labels;
        labels.get_or_insert_default().extend(hash());
        let labels = labels.clone();
        let mut selector: LabelSelector = self.spec.selector.clone();
        selector.match_labels.get_or_insert_default().extend(hash());
        let meta = self.deployment.meta();
        ReplicaSet {
            metadata: ObjectMeta {
                name: Some(format!("{}-{}", meta.name.as_deref().unwrap_or_default(), self.hash)),
                namespace: meta.namespace.clone(),
                labels,
                annotations: Some(BTreeMap::from([(REVISION.to_owned(), (self.last_revision() + 1).to_string())])),
                owner_references: self.deployment.controller_owner_ref(&()).map(|owner| vec![owner]),
                ..ObjectMeta::default()
            },
            spec: Some(ReplicaSetSpec {
                replicas: Some(size),
                selector,
                template: Some(template),
                min_ready_seconds: self.spec.min_ready_seconds,
            }),
            status: None,
        }
    }

    fn last_revision(&self) -> u64 {
        self.old.iter().map(|set| revision(&set.metadata)).max().unwrap_or_default()
    }

    /// A template that comes back (a rollback) gets the next revision; the deployment shows that of its current set.
    fn keep_revision(&self, current: &ReplicaSet) -> Vec<Action> {
        let (held, last) = (revision(&current.metadata), self.last_revision());
        let wanted = if held > last { held } else { last + 1 };
        let annotate = |kind, target: Target| Action::Patch {
            target: Target { kind, ..target },
            patch: json!({ "metadata": { "annotations": { REVISION: wanted.to_string() } } }),
        };
        let mut actions = Vec::new();
        if held != wanted {
            actions.push(annotate(Kind::ReplicaSet, Target::of(Kind::ReplicaSet, current)));
        }
        if revision(&self.deployment.metadata) != wanted {
            actions.push(annotate(Kind::Deployment, Target::of(Kind::Deployment, self.deployment)));
        }
        actions
    }

    /// How large the current set may be now.
    fn size_of_current(&self, current: &ReplicaSet) -> i32 {
        let (size, desired) = (replicas(current), self.desired());
        if size >= desired {
            return desired;
        }
        let room = desired + self.max_surge() - self.total_asked();
        size + room.clamp(0, desired - size)
    }

    /// Takes replicas from the old sets, as far as enough pods stay available: first those that are not, then others.
    fn shrink_old(&self, current: &ReplicaSet) -> Vec<Action> {
        let least = self.desired() - self.max_unavailable();
        let not_yet = replicas(current) - available(current);
        let mut unhealthy = self.total_asked() - least - not_yet;
        let mut healthy = self.sets().map(available).sum::<i32>() - least;
        let mut actions = Vec::new();
        if unhealthy <= 0 {
            return actions;
        }
        for set in &self.old {
            let size = replicas(set);
            let broken = (size - available(set)).clamp(0, unhealthy.max(0));
            let working = (size - broken).min(available(set)).clamp(0, healthy.max(0).min((unhealthy - broken).max(0)));
            unhealthy -= broken + working;
            healthy -= working;
            actions.extend(scaled(set, size - broken - working));
        }
        actions
    }

    /// Old sets without pods are kept for rollbacks, up to the limit.
    fn forget_history(&self) -> Vec<Action> {
        let keep = usize::try_from(self.spec.revision_history_limit.unwrap_or(10)).unwrap_or_default();
        let empty: Vec<_> = self.old.iter().filter(|set| replicas(set) == 0 && observed(set) == 0).collect();
        let surplus = empty.len().saturating_sub(keep);
        empty.into_iter().take(surplus).map(|set| Action::delete(Kind::ReplicaSet, *set)).collect()
    }

    fn sets(&self) -> impl Iterator<Item = &ReplicaSet> {
        self.current.iter().chain(&self.old).copied()
    }

    fn desired(&self) -> i32 {
        self.spec.replicas.unwrap_or(1).max(0)
    }

    fn total_asked(&self) -> i32 {
        self.sets().map(replicas).sum()
    }

    fn is_paused(&self) -> bool {
        self.spec.paused == Some(true)
    }

    fn recreates(&self) -> bool {
        self.spec.strategy.as_ref().and_then(|strategy| strategy.type_.as_deref()) == Some("Recreate")
    }

    fn max_surge(&self) -> i32 {
        let rolling = self.spec.strategy.as_ref().and_then(|strategy| strategy.rolling_update.as_ref());
        share(rolling.and_then(|rolling| rolling.max_surge.as_ref()), self.desired(), Rounding::Up)
    }

    fn max_unavailable(&self) -> i32 {
        let rolling = self.spec.strategy.as_ref().and_then(|strategy| strategy.rolling_update.as_ref());
        let allowed =
            share(rolling.and_then(|rolling| rolling.max_unavailable.as_ref()), self.desired(), Rounding::Down);
        // With neither surplus nor loss allowed nothing could ever move.
        if allowed == 0 && self.max_surge() == 0 { 1 } else { allowed.min(self.desired()) }
    }

    fn status(&self, now: Timestamp) -> DeploymentStatus {
        let held = self.deployment.status.clone().unwrap_or_default();
        let sum = |of: fn(&ReplicaSet) -> i32| self.sets().map(of).sum::<i32>();
        let (total, available) = (sum(observed), sum(available));
        let mut status = DeploymentStatus {
            observed_generation: self.deployment.metadata.generation,
            replicas: Some(total),
            updated_replicas: Some(self.current.map(observed).unwrap_or_default()),
            ready_replicas: Some(sum(ready)),
            available_replicas: Some(available),
            unavailable_replicas: Some((self.total_asked().max(self.desired()) - available).max(0)),
            ..held.clone()
        };
        let moved = (status.replicas, status.updated_replicas, status.ready_replicas, status.available_replicas)
            != (held.replicas, held.updated_replicas, held.ready_replicas, held.available_replicas);
        let conditions = [self.availability(available), self.progress(&status, &held, moved, now)];
        status.conditions = Some(conditions.into_iter().map(|wanted| dated(wanted, &held, moved, now)).collect());
        status
    }

    fn availability(&self, available: i32) -> DeploymentCondition {
        if available >= self.desired() - self.max_unavailable() {
            condition("Available", "True", "MinimumReplicasAvailable", "Deployment has minimum availability.")
        } else {
            condition(
                "Available",
                "False",
                "MinimumReplicasUnavailable",
                "Deployment does not have minimum availability.",
            )
        }
    }

    fn progress(
        &self,
        status: &DeploymentStatus,
        held: &DeploymentStatus,
        moved: bool,
        now: Timestamp,
    ) -> DeploymentCondition {
        let name = self.current.and_then(|set| set.metadata.name.as_deref()).unwrap_or_default();
        let desired = Some(self.desired());
        if self.current.is_some()
            && status.updated_replicas == desired
            && status.replicas == desired
            && status.available_replicas == desired
        {
            let done = format!("ReplicaSet \"{name}\" has successfully progressed.");
            return condition("Progressing", "True", "NewReplicaSetAvailable", &done);
        }
        let last = held.conditions.iter().flatten().find(|condition| condition.type_ == "Progressing");
        let since = last.and_then(|condition| condition.last_update_time.as_ref()).map_or(now, |time| time.0);
        let limit = i64::from(self.spec.progress_deadline_seconds.unwrap_or(600));
        let said = last.and_then(|condition| condition.reason.as_deref()).unwrap_or_default();
        // Late once is late until something moves; after a finished rollout the clock starts anew.
        let late = match said {
            "ProgressDeadlineExceeded" => true,
            "NewReplicaSetAvailable" => false,
            _ => now.duration_since(since).as_secs() > limit,
        };
        if late && !moved && !self.is_paused() {
            let late = format!("ReplicaSet \"{name}\" has timed out progressing.");
            return condition("Progressing", "False", "ProgressDeadlineExceeded", &late);
        }
        condition("Progressing", "True", "ReplicaSetUpdated", &format!("ReplicaSet \"{name}\" is progressing."))
    }
}

fn condition(type_: &str, status: &str, reason: &str, message: &str) -> DeploymentCondition {
    DeploymentCondition {
        type_: type_.to_owned(),
        status: status.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        ..DeploymentCondition::default()
    }
}

/// Keeps the times of a condition that says the same as before.
fn dated(mut wanted: DeploymentCondition, held: &DeploymentStatus, moved: bool, now: Timestamp) -> DeploymentCondition {
    let before = held.conditions.iter().flatten().find(|condition| condition.type_ == wanted.type_);
    let same_status = before.filter(|before| before.status == wanted.status);
    let same = same_status.filter(|before| (&before.reason, &before.message) == (&wanted.reason, &wanted.message));
    let now = || Some(Time(now));
    wanted.last_transition_time = same_status.and_then(|before| before.last_transition_time.clone()).or_else(now);
    let refreshed = moved && wanted.type_ == "Progressing";
    wanted.last_update_time =
        same.filter(|_| !refreshed).and_then(|before| before.last_update_time.clone()).or_else(now);
    wanted
}

fn revision(meta: &ObjectMeta) -> u64 {
    let written = meta.annotations.as_ref().and_then(|annotations| annotations.get(REVISION));
    written.and_then(|text| text.parse().ok()).unwrap_or_default()
}

fn observed(set: &ReplicaSet) -> i32 {
    set.status.as_ref().map_or(0, |status| status.replicas)
}

fn ready(set: &ReplicaSet) -> i32 {
    set.status.as_ref().and_then(|status| status.ready_replicas).unwrap_or_default()
}

fn available(set: &ReplicaSet) -> i32 {
    set.status.as_ref().and_then(|status| status.available_replicas).unwrap_or_default()
}

/// The action that gives a set this size, if it has another.
fn scaled(set: &ReplicaSet, size: i32) -> Vec<Action> {
    if replicas(set) == size { Vec::new() } else { vec![Action::scale(Kind::ReplicaSet, set, size)] }
}

/// Which way a percentage is rounded.
#[derive(Debug, Clone, Copy)]
pub enum Rounding {
    /// For what may be too many.
    Up,
    /// For what may be missing.
    Down,
}

/// A number, or a percentage of `whole`; a quarter where nothing is said.
pub fn share(written: Option<&IntOrString>, whole: i32, rounding: Rounding) -> i32 {
    let percent = match written {
        Some(IntOrString::Int(number)) => return (*number).max(0),
        Some(IntOrString::String(text)) => text.trim_end_matches('%').parse::<i32>().unwrap_or(25),
        None => 25,
    };
    let hundredths = percent.clamp(0, 100).saturating_mul(whole);
    match rounding {
        Rounding::Up => hundredths.saturating_add(99) / 100,
        Rounding::Down => hundredths / 100,
    }
}
