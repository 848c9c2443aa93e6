//! The scheduler: which node a pod goes to.
//!
//! In: the board. Out: bindings, and the `PodScheduled` condition of pods that fit nowhere.
//! Absent on purpose: resource requests (every lab node has room), affinity between pods.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{Node, NodeSelectorRequirement, NodeSelectorTerm, Pod, PodSpec, Taint, Toleration},
    jiff::Timestamp,
};
use kube::ResourceExt as _;
use serde_json::{Value, json};

use super::{
    action::{Action, Kind, Target},
    board::Board,
    nodes::is_ready,
    pods::{controller_of, is_finished, is_terminating, node_of},
};

/// What to do about every pod without a node.
pub fn plan(board: &Board, now: Timestamp) -> Vec<Action> {
    let mut load = Load::of(board);
    let mut actions = Vec::new();
    for pod in board.pods.all().filter(|pod| waits(pod)) {
        let fitting: Vec<&Node> = board.nodes.live().filter(|node| misfit(node, pod).is_none()).collect();
        match fitting.iter().min_by_key(|node| load.on(node, pod)) {
            Some(node) => {
                load.add(&node.name_any(), pod);
                actions.push(Action::Bind { target: Target::of(Kind::Pod, pod), node: node.name_any() });
            }
            None => actions.extend(mark_unschedulable(board, pod, now)),
        }
    }
    actions
}

fn waits(pod: &Pod) -> bool {
    let scheduler = pod.spec.as_ref().and_then(|spec| spec.scheduler_name.as_deref());
    node_of(pod).is_none()
        && !is_terminating(&pod.metadata)
        && !is_finished(pod)
        && matches!(scheduler, None | Some("" | "default-scheduler"))
}

/// How many pods are on each node, in all and of each owner.
#[derive(Default)]
struct Load {
    all: BTreeMap<String, usize>,
    of_owner: BTreeMap<(String, String), usize>,
}

impl Load {
    fn of(board: &Board) -> Self {
        let mut load = Self::default();
        for pod in board.pods.all().filter(|pod| !is_finished(pod)) {
            if let Some(node) = node_of(pod) {
                load.add(node, pod);
            }
        }
        load
    }

    fn add(&mut self, node: &str, pod: &Pod) {
        *self.all.entry(node.to_owned()).or_default() += 1;
        *self.of_owner.entry((node.to_owned(), owner(pod))).or_default() += 1;
    }

    /// Siblings are spread first, then pods in all; names settle the rest, so that a run can be repeated.
    fn on(&self, node: &Node, pod: &Pod) -> impl Ord + use<> {
        let name = node.name_any();
        let siblings = self.of_owner.get(&(name.clone(), owner(pod))).copied().unwrap_or_default();
        (siblings, self.all.get(&name).copied().unwrap_or_default(), name)
    }
}

/// Whom a pod is a sibling by: its controller, else itself.
fn owner(pod: &Pod) -> String {
    controller_of(&pod.metadata).map_or_else(|| pod.uid().unwrap_or_default(), |owner| owner.uid.clone())
}

/// Why a node is not for a pod.
fn misfit(node: &Node, pod: &Pod) -> Option<&'static str> {
    let spec = pod.spec.as_ref()?;
    if !is_ready(node) {
        return Some("were not ready");
    }
    if node.spec.as_ref().and_then(|spec| spec.unschedulable) == Some(true) {
        return Some("were unschedulable");
    }
    if !selects(spec, node) {
        return Some("didn't match Pod's node affinity/selector");
    }
    if !tolerates_all(spec.tolerations.as_deref().unwrap_or_default(), node) {
        return Some("had untolerated taint(s)");
    }
    None
}

/// Whether the pod tolerates every taint of the node that keeps pods away.
pub fn tolerates_all(tolerations: &[Toleration], node: &Node) -> bool {
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
    taints
        .iter()
        .filter(|taint| matches!(taint.effect.as_str(), "NoSchedule" | "NoExecute"))
        .all(|taint| tolerations.iter().any(|toleration| tolerates(toleration, taint)))
}

fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let said = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let effect = said(&toleration.effect).is_none_or(|effect| effect == taint.effect);
    let any_value = toleration.operator.as_deref() == Some("Exists");
    let key = match said(&toleration.key) {
        Some(key) => key == taint.key,
        None => any_value,
    };
    effect && key && (any_value || said(&toleration.value) == said(&taint.value))
}

/// Whether `nodeSelector` and the required node affinity select the node.
pub fn selects(spec: &PodSpec, node: &Node) -> bool {
    let labels = node.labels();
    let selector = spec.node_selector.iter().flatten().all(|(key, value)| labels.get(key) == Some(value));
    let affinity = spec.affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref());
    let required = affinity.and_then(|node| node.required_during_scheduling_ignored_during_execution.as_ref());
    selector && required.is_none_or(|required| required.node_selector_terms.iter().any(|term| holds(term, node)))
}

fn holds(term: &NodeSelectorTerm, node: &Node) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    let name = node.name_any();
    !(expressions.is_empty() && fields.is_empty())
        && expressions.iter().all(|one| requirement(one, node.labels().get(&one.key).map(String::as_str)))
        && fields.iter().all(|one| one.key == "metadata.name" && requirement(one, Some(&name)))
}

fn requirement(one: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let values = one.values.as_deref().unwrap_or_default();
    let listed = value.is_some_and(|value| values.iter().any(|listed| listed == value));
    let numbers = || Some((value?.parse::<i64>().ok()?, values.first()?.parse::<i64>().ok()?));
    match one.operator.as_str() {
        "In" => listed,
        "NotIn" => !listed,
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => numbers().is_some_and(|(held, limit)| held > limit),
        "Lt" => numbers().is_some_and(|(held, limit)| held < limit),
        _ => false,
    }
}

/// Says on the pod why it waits, unless that is said already.
fn mark_unschedulable(board: &Board, pod: &Pod, now: Timestamp) -> Option<Action> {
    let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
    for reason in board.nodes.live().filter_map(|node| misfit(node, pod)) {
        *reasons.entry(reason).or_default() += 1;
    }
    let counted: Vec<String> = reasons.iter().map(|(reason, count)| format!("{count} node(s) {reason}")).collect();
    let total = board.nodes.live().count();
    let message = match counted.is_empty() {
        true => "no nodes available to schedule pods".to_owned(),
        false => format!("0/{total} nodes are available: {}.", counted.join(", ")),
    };
    let held = pod.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let said = |condition: &k8s_openapi::api::core::v1::PodCondition| {
        condition.type_ == "PodScheduled" && condition.message.as_deref() == Some(&message)
    };
    if held.iter().any(said) {
        return None;
    }
    // A merge patch replaces the whole list.
    let others = held.iter().filter(|condition| condition.type_ != "PodScheduled");
    let mut conditions: Vec<Value> = others.filter_map(|condition| serde_json::to_value(condition).ok()).collect();
    conditions.push(json!({
        "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message,
        "lastTransitionTime": k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now),
    }));
    Some(Action::status(Kind::Pod, pod, &json!({ "phase": "Pending", "conditions": conditions })))
}
