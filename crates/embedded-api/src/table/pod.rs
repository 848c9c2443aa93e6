//! The row of a pod: what its containers' states add up to.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{object, table::age};

/// Name, ready, status, restarts, age, IP, node, nominated node, readiness gates.
pub fn cells(pod: &Value, now: Timestamp) -> Vec<Value> {
    let statuses = object::list(pod, "/status/containerStatuses");
    let total = object::list(pod, "/spec/containers").len();
    let ready =
        statuses.iter().filter(|status| status["ready"] == true && status.pointer("/state/running").is_some()).count();
    let or_none = |text: &str| if text.is_empty() { json!("<none>") } else { json!(text) };
    let ip = match object::text(pod, "/status/podIP") {
        "" => object::text(pod, "/status/podIPs/0/ip"),
        ip => ip,
    };
    vec![
        object::name(pod).into(),
        format!("{ready}/{total}").into(),
        status(pod).into(),
        restarts(statuses, now).into(),
        age::since(object::text(pod, "/metadata/creationTimestamp"), now).into(),
        or_none(ip),
        or_none(object::text(pod, "/spec/nodeName")),
        or_none(object::text(pod, "/status/nominatedNodeName")),
        "<none>".into(),
    ]
}

fn restarts(statuses: &[Value], now: Timestamp) -> String {
    let count: i64 = statuses.iter().filter_map(|status| status["restartCount"].as_i64()).sum();
    let last =
        statuses.iter().map(|status| object::text(status, "/lastState/terminated/finishedAt")).max().unwrap_or("");
    if count == 0 || last.is_empty() {
        return count.to_string();
    }
    format!("{count} ({} ago)", age::since(last, now))
}

fn status(pod: &Value) -> String {
    let phase = object::text(pod, "/status/phase");
    let own = object::text(pod, "/status/reason");
    let mut word = if own.is_empty() { phase } else { own }.to_owned();
    match init_status(pod) {
        Some(init) => word = init,
        None => container_status(pod, &mut word),
    }
    if object::is_terminating(pod) {
        let ended = matches!(phase, "Succeeded" | "Failed");
        return match own {
            "NodeLost" => "Unknown".to_owned(),
            _ if ended => word,
            _ => "Terminating".to_owned(),
        };
    }
    word
}

/// What the init containers wait for, while they do.
fn init_status(pod: &Value) -> Option<String> {
    let statuses = object::list(pod, "/status/initContainerStatuses");
    let total = object::list(pod, "/spec/initContainers").len();
    for (at, status) in statuses.iter().enumerate() {
        if let Some(ended) = status.pointer("/state/terminated") {
            if ended["exitCode"] == 0 {
                continue;
            }
            return Some(format!("Init:{}", ended_word(ended)));
        }
        if status["started"] == true && status.pointer("/state/running").is_some() && is_sidecar(pod, status) {
            continue;
        }
        let waiting = object::text(status, "/state/waiting/reason");
        if !waiting.is_empty() && waiting != "PodInitializing" {
            return Some(format!("Init:{waiting}"));
        }
        return Some(format!("Init:{at}/{total}"));
    }
    None
}

fn is_sidecar(pod: &Value, status: &Value) -> bool {
    let named = |container: &&Value| container["name"] == status["name"];
    object::list(pod, "/spec/initContainers")
        .iter()
        .find(named)
        .is_some_and(|container| container["restartPolicy"] == "Always")
}

fn container_status(pod: &Value, word: &mut String) {
    let mut running = false;
    for status in object::list(pod, "/status/containerStatuses").iter().rev() {
        let waiting = object::text(status, "/state/waiting/reason");
        if !waiting.is_empty() {
            *word = waiting.to_owned();
        } else if let Some(ended) = status.pointer("/state/terminated") {
            *word = ended_word(ended);
        } else if status["ready"] == true && status.pointer("/state/running").is_some() {
            running = true;
        }
    }
    if word == "Completed" && running {
        let ready =
            object::list(pod, "/status/conditions").iter().any(|c| c["type"] == "Ready" && c["status"] == "True");
        *word = if ready { "Running" } else { "NotReady" }.to_owned();
    }
}

fn ended_word(ended: &Value) -> String {
    let reason = object::text(ended, "/reason");
    if !reason.is_empty() {
        return reason.to_owned();
    }
    match ended["signal"].as_i64().filter(|signal| *signal != 0) {
        Some(signal) => format!("Signal:{signal}"),
        None => format!("ExitCode:{}", ended["exitCode"].as_i64().unwrap_or(0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_word_follows_the_containers() {
        let pod = |status: Value| json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c"}], "initContainers": [{"name": "i"}]}, "status": status});
        for (given, expected) in [
            (json!({"phase": "Pending"}), "Pending"),
            (
                json!({"phase": "Pending", "initContainerStatuses": [{"name": "i", "state": {"running": {}}}]}),
                "Init:0/1",
            ),
            (
                json!({"phase": "Pending", "initContainerStatuses": [{"name": "i", "state": {"terminated": {"exitCode": 1, "reason": "Error"}}}]}),
                "Init:Error",
            ),
            (
                json!({"phase": "Pending", "containerStatuses": [{"state": {"waiting": {"reason": "ContainerCreating"}}}]}),
                "ContainerCreating",
            ),
            (json!({"phase": "Running", "containerStatuses": [{"ready": true, "state": {"running": {}}}]}), "Running"),
            (
                json!({"phase": "Running", "containerStatuses": [{"state": {"waiting": {"reason": "CrashLoopBackOff"}}}]}),
                "CrashLoopBackOff",
            ),
            (
                json!({"phase": "Succeeded", "containerStatuses": [{"state": {"terminated": {"exitCode": 0, "reason": "Completed"}}}]}),
                "Completed",
            ),
            (
                json!({"phase": "Failed", "containerStatuses": [{"state": {"terminated": {"exitCode": 3}}}]}),
                "ExitCode:3",
            ),
        ] {
            assert_eq!(status(&pod(given.clone())), expected, "{given}");
        }
        let mut going = pod(json!({"phase": "Running"}));
        going["metadata"]["deletionTimestamp"] = "2024-01-01T00:00:00Z".into();
        assert_eq!(status(&going), "Terminating");
    }
}
