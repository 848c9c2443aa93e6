//! What a pod's status says, from what its containers do. Pure.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{
        Container, ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting,
        ContainerStatus, HostIP, Pod, PodCondition, PodIP, PodStatus,
    },
    apimachinery::pkg::apis::meta::v1::Time,
    jiff::Timestamp,
};

/// What one container does.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct View {
    /// Now.
    pub state: State,
    /// How the instance before ended.
    pub last: Option<Ended>,
    /// How often it was started again.
    pub restarts: u32,
    /// Its readiness probe holds.
    pub ready: bool,
    /// Its startup probe has held.
    pub started: bool,
}

/// A container's state.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum State {
    /// Not running yet, or not again yet.
    Waiting { reason: &'static str, message: String },
    /// Running.
    Running { since: Timestamp },
    /// Ended for good.
    Terminated(Ended),
}

/// How an instance ended.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Ended {
    /// Its exit code; 128 plus the signal's number if one ended it.
    pub code: i32,
    /// Words for users.
    pub reason: &'static str,
    /// More words.
    pub message: Option<String>,
    /// When it began.
    pub from: Timestamp,
    /// When it ended.
    pub to: Timestamp,
}

impl Default for View {
    fn default() -> Self {
        let state = State::Waiting { reason: "ContainerCreating", message: String::new() };
        Self { state, last: None, restarts: 0, ready: false, started: false }
    }
}

/// Everything a status is made of.
#[derive(Debug)]
pub(super) struct Facts<'a> {
    /// The pod as the API last gave it.
    pub pod: &'a Pod,
    /// Its containers, by name.
    pub views: &'a BTreeMap<String, View>,
    /// Its addresses.
    pub addresses: Vec<String>,
    /// Its node's addresses.
    pub node: Vec<String>,
    /// When the node accepted it.
    pub since: Timestamp,
    /// Now, for conditions that change.
    pub now: Timestamp,
}

/// The status to write. Conditions of others are kept; ours keep their times while they do not change.
pub(super) fn status(facts: &Facts<'_>) -> PodStatus {
    let spec = facts.pod.spec.as_ref();
    let of = |containers: Option<&Vec<Container>>| -> Vec<ContainerStatus> {
        containers.into_iter().flatten().map(|container| container_status(container, facts.views)).collect()
    };
    let inits = of(spec.and_then(|spec| spec.init_containers.as_ref()));
    let mains = of(spec.map(|spec| &spec.containers));
    let phase = phase(facts);
    let conditions = conditions(facts, &mains, phase);
    PodStatus {
        phase: Some(phase.to_owned()),
        conditions: Some(conditions),
        host_ip: facts.node.first().cloned(),
        host_ips: Some(facts.node.iter().map(|ip| HostIP { ip: ip.clone() }).collect()),
        pod_ip: facts.addresses.first().cloned(),
        pod_ips: Some(facts.addresses.iter().map(|ip| PodIP { ip: ip.clone() }).collect()),
        start_time: Some(Time(facts.since)),
        init_container_statuses: (!inits.is_empty()).then_some(inits),
        container_statuses: Some(mains),
        ..PodStatus::default()
    }
}

fn phase(facts: &Facts<'_>) -> &'static str {
    let Some(spec) = facts.pod.spec.as_ref() else { return "Pending" };
    let view = |container: &Container| facts.views.get(&container.name);
    let failed = |container: &Container| matches!(view(container).map(|view| &view.state), Some(State::Terminated(end)) if end.code != 0);
    let once = spec.restart_policy.as_deref() == Some("Never");
    if once && spec.init_containers.iter().flatten().any(failed) {
        return "Failed";
    }
    let ended = |container: &Container| matches!(view(container).map(|view| &view.state), Some(State::Terminated(_)));
    if !spec.containers.is_empty() && spec.containers.iter().all(ended) {
        return if spec.containers.iter().any(failed) { "Failed" } else { "Succeeded" };
    }
    // A container that waits to be started again has run.
    let begun = |container: &Container| {
        view(container).is_some_and(|view| !matches!(view.state, State::Waiting { .. }) || view.last.is_some())
    };
    if spec.containers.iter().all(begun) { "Running" } else { "Pending" }
}

fn conditions(facts: &Facts<'_>, mains: &[ContainerStatus], phase: &str) -> Vec<PodCondition> {
    let inits = facts.pod.spec.iter().flat_map(|spec| spec.init_containers.iter().flatten());
    // Those of a running pod once were; one of them may be a sidecar that is between two starts.
    let initialized = phase == "Running"
        || inits.clone().all(|container| facts.views.get(&container.name).is_some_and(|view| done(container, view)));
    let containers_ready = !mains.is_empty() && mains.iter().all(|container| container.ready);
    let ready = containers_ready && gates_hold(facts.pod);
    let reason = match phase {
        "Succeeded" => Some("PodCompleted"),
        "Failed" => Some("PodFailed"),
        _ => Some("ContainersNotReady"),
    };
    let sandbox = !facts.addresses.is_empty();
    let ours = [
        ("PodReadyToStartContainers", sandbox, None),
        ("Initialized", initialized, Some("ContainersNotInitialized")),
        ("Ready", ready, if containers_ready { Some("ReadinessGatesNotReady") } else { reason }),
        ("ContainersReady", containers_ready, reason),
        ("PodScheduled", true, None),
    ];
    let before: Vec<PodCondition> =
        facts.pod.status.as_ref().and_then(|status| status.conditions.clone()).unwrap_or_default();
    let mut all: Vec<PodCondition> = ours
        .into_iter()
        .map(|(kind, holds, why)| {
            let word = if holds { "True" } else { "False" };
            let same = before.iter().find(|old| old.type_ == kind && old.status == word);
            PodCondition {
                type_: kind.into(),
                status: word.into(),
                reason: why.filter(|_| !holds).map(str::to_owned),
                last_transition_time: same.and_then(|old| old.last_transition_time.clone()).or(Some(Time(facts.now))),
                ..PodCondition::default()
            }
        })
        .collect();
    let foreign = before.into_iter().filter(|old| !ours.iter().any(|(kind, ..)| *kind == old.type_));
    all.extend(foreign);
    all
}

/// Whether an init container lets the next one start.
fn done(container: &Container, view: &View) -> bool {
    match &view.state {
        State::Terminated(end) => end.code == 0,
        State::Running { .. } => container.restart_policy.as_deref() == Some("Always") && view.started,
        State::Waiting { .. } => false,
    }
}

fn gates_hold(pod: &Pod) -> bool {
    let gates = pod.spec.iter().flat_map(|spec| spec.readiness_gates.iter().flatten());
    let holds = |kind: &str| {
        let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
        conditions.into_iter().any(|condition| condition.type_ == kind && condition.status == "True")
    };
    gates.into_iter().all(|gate| holds(&gate.condition_type))
}

fn container_status(container: &Container, views: &BTreeMap<String, View>) -> ContainerStatus {
    let view = views.get(&container.name).cloned().unwrap_or_default();
    let image = container.image.clone().unwrap_or_default();
    ContainerStatus {
        name: container.name.clone(),
        image_id: image.clone(),
        image,
        ready: view.ready && matches!(view.state, State::Running { .. }),
        started: Some(view.started),
        restart_count: i32::try_from(view.restarts).unwrap_or(i32::MAX),
        last_state: view.last.map(|end| ContainerState { terminated: Some(terminated(&end)), ..Default::default() }),
        state: Some(match view.state {
            State::Waiting { reason, message } => ContainerState {
                waiting: Some(ContainerStateWaiting {
                    reason: Some(reason.into()),
                    message: (!message.is_empty()).then_some(message),
                }),
                ..Default::default()
            },
            State::Running { since } => ContainerState {
                running: Some(ContainerStateRunning { started_at: Some(Time(since)) }),
                ..Default::default()
            },
            State::Terminated(end) => ContainerState { terminated: Some(terminated(&end)), ..Default::default() },
        }),
        ..ContainerStatus::default()
    }
}

fn terminated(end: &Ended) -> ContainerStateTerminated {
    ContainerStateTerminated {
        exit_code: end.code,
        reason: Some(end.reason.into()),
        message: end.message.clone(),
        started_at: Some(Time(end.from)),
        finished_at: Some(Time(end.to)),
        ..ContainerStateTerminated::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const EPOCH: Timestamp = Timestamp::UNIX_EPOCH;

    fn check(policy: &str, states: &[(&str, State)]) -> (String, String) {
        let containers: Vec<_> = states.iter().map(|(name, _)| json!({"name": name, "image": "echo"})).collect();
        let pod: Pod = serde_json::from_value(json!({
            "spec": {"containers": containers, "restartPolicy": policy},
            "status": {"conditions": [{"type": "Foreign", "status": "True"}]},
        }))
        .expect("a pod");
        let views = states
            .iter()
            .map(|(name, state)| ((*name).to_owned(), View { state: state.clone(), ready: true, ..View::default() }))
            .collect();
        let facts = Facts {
            pod: &pod,
            views: &views,
            addresses: vec!["10.0.0.1".into()],
            node: vec!["10.99.0.1".into()],
            since: EPOCH,
            now: EPOCH,
        };
        let status = status(&facts);
        let conditions = status.conditions.expect("conditions");
        assert!(conditions.iter().any(|each| each.type_ == "Foreign"), "conditions of others are kept");
        let ready = conditions.iter().find(|each| each.type_ == "Ready").expect("Ready");
        (status.phase.expect("a phase"), ready.status.clone())
    }

    #[test]
    fn phases_follow_from_containers() {
        let ended =
            |code| State::Terminated(Ended { code, reason: "Completed", message: None, from: EPOCH, to: EPOCH });
        let running = State::Running { since: EPOCH };
        let waiting = State::Waiting { reason: "ContainerCreating", message: String::new() };
        let own = |phase: &str, ready: &str| (phase.to_owned(), ready.to_owned());
        assert_eq!(check("Always", &[("a", running.clone())]), own("Running", "True"));
        assert_eq!(check("Always", &[("a", running.clone()), ("b", waiting)]), own("Pending", "False"));
        assert_eq!(check("Never", &[("a", running), ("b", ended(0))]), own("Running", "False"));
        assert_eq!(check("Never", &[("a", ended(0)), ("b", ended(0))]), own("Succeeded", "False"));
        assert_eq!(check("Never", &[("a", ended(0)), ("b", ended(3))]), own("Failed", "False"));
    }
}
