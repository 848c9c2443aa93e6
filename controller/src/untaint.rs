//! Lets pods onto nodes whose CNI agent has come up.
//!
//! Whoever makes nodes may give them the taint `cni.istio.io/not-ready`, so that no pod starts there before the plugin is in
//! the chain. In: nodes with the taint, the agents' pods. Out: the same nodes without it. Only the leader acts, and only
//! where this was asked for: it takes the right to change nodes. [`plan`] decides and is pure.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::{Node, Pod};
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
    runtime::watcher,
};
use lateen_cluster::store::{self, Key, Listener, Reading, Store};
use lateen_rt::{backoff::Backoff, deadline::within, inbox::Inbox};
use serde_json::{Value, json};

use crate::leader::Leading;

const TAINT: &str = "cni.istio.io/not-ready";
/// The label of the agents' pods, as the reference's.
const AGENTS: &str = "k8s-app=istio-cni-node";
const API_TIMEOUT: Duration = Duration::from_secs(10);

/// Takes the taint away.
pub struct Untainter {
    /// The API.
    pub client: Client,
    /// Where the agents live.
    pub namespace: String,
    /// Who acts.
    pub leading: Leading,
}

/// Where the taint stands among a node's taints.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Tainted(Vec<usize>);

/// The node of an agent that is ready.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Agent(String);

impl Untainter {
    /// For ever.
    pub async fn run(self) {
        let (nodes, agents, inbox) = (Store::default(), Store::default(), Inbox::new());
        let of_agents = watcher::Config::default().labels(AGENTS);
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &self.namespace);
        let all: Api<Node> = Api::all(self.client.clone());
        let bell = Bell { read: tainted, inbox: inbox.clone() };
        tokio::select! {
            () = store::follow(all, watcher::Config::default(), nodes.clone(), bell) => {}
            () = store::follow(pods, of_agents, agents.clone(), Bell { read: agent, inbox: inbox.clone() }) => {}
            () = self.act(&nodes, &agents, &inbox) => {}
        }
    }

    async fn act(&self, nodes: &Store<Tainted>, agents: &Store<Agent>, inbox: &Inbox<()>) {
        let mut leading = self.leading.clone();
        let mut pace = Backoff::new(Duration::from_millis(200), Duration::from_secs(30)).with_jitter(0.2);
        loop {
            if leading.wait_for(|leads| *leads).await.is_err() {
                return;
            }
            let mut failed = false;
            for (node, patch) in plan(&nodes.snapshot(), &agents.snapshot()) {
                failed |= !self.untaint(&node, patch).await;
            }
            if failed {
                tokio::time::sleep(pace.next_wait()).await;
                continue;
            }
            pace.reset();
            tokio::select! {
                _ = inbox.drain() => {}
                ended = leading.wait_for(|leads| !*leads) => if ended.is_err() { return },
            }
        }
    }

    async fn untaint(&self, node: &Key, patch: json_patch::Patch) -> bool {
        let api: Api<Node> = Api::all(self.client.clone());
        let patch: Patch<Value> = Patch::Json(patch);
        match within("removing a taint", API_TIMEOUT, api.patch(&node.name, &PatchParams::default(), &patch)).await {
            Ok(Ok(_)) => {
                tracing::info!(%node, taint = TAINT, "the node's agent is ready: pods may start there");
                true
            }
            // Gone, or changed meanwhile; then the watch tells of it.
            Ok(Err(kube::Error::Api(status))) if matches!(status.code, 404 | 422) => true,
            Ok(Err(error)) => {
                tracing::warn!(%node, %error, "the node's taint could not be removed; trying again");
                false
            }
            Err(late) => {
                tracing::warn!(%node, %late, "the node's taint could not be removed; trying again");
                false
            }
        }
    }
}

/// What is to be done to which node.
fn plan(nodes: &[(Key, Arc<Tainted>)], agents: &[(Key, Arc<Agent>)]) -> Vec<(Key, json_patch::Patch)> {
    let ready: BTreeSet<&str> = agents.iter().map(|(_, agent)| agent.0.as_str()).collect();
    let free = nodes.iter().filter(|(node, _)| ready.contains(&*node.name));
    free.map(|(node, tainted)| (node.clone(), without(&tainted.0))).collect()
}

/// Removes the taints at these places, the last first, if they are still what they were.
fn without(places: &[usize]) -> json_patch::Patch {
    let steps = places.iter().rev().flat_map(|place| {
        let path = format!("/spec/taints/{place}");
        [json!({"op": "test", "path": format!("{path}/key"), "value": TAINT}), json!({"op": "remove", "path": path})]
    });
    serde_json::from_value(Value::Array(steps.collect())).unwrap_or_default()
}

fn tainted(node: Node) -> Reading<Tainted> {
    let taints = node.spec.and_then(|spec| spec.taints).unwrap_or_default();
    let places: Vec<usize> = (0..taints.len()).filter(|place| taints[*place].key == TAINT).collect();
    if places.is_empty() { Reading::Nothing } else { Reading::Value(Tainted(places)) }
}

fn agent(pod: Pod) -> Reading<Agent> {
    let conditions = pod.status.and_then(|status| status.conditions).unwrap_or_default();
    let is_ready = conditions.iter().any(|one| one.type_ == "Ready" && one.status == "True");
    match pod.spec.and_then(|spec| spec.node_name) {
        Some(node) if is_ready && pod.metadata.deletion_timestamp.is_none() => Reading::Value(Agent(node)),
        Some(_) | None => Reading::Nothing,
    }
}

/// Rings at each change.
struct Bell<K, V> {
    read: fn(K) -> Reading<V>,
    inbox: Inbox<()>,
}

impl<K, V: PartialEq + Send + Sync> Listener<K> for Bell<K, V> {
    type Value = V;

    fn read(&mut self, object: K) -> Reading<V> {
        (self.read)(object)
    }

    fn changed(&mut self, _key: &Key) {
        self.inbox.push(());
    }

    fn complete(&mut self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(taints: &[&str]) -> Reading<Tainted> {
        let taints: Vec<Value> = taints.iter().map(|key| json!({"key": key, "effect": "NoSchedule"})).collect();
        tainted(serde_json::from_value(json!({"metadata": {}, "spec": {"taints": taints}})).expect("a node"))
    }

    #[test]
    fn a_node_is_free_when_its_agent_is_ready() {
        assert_eq!(node(&["other"]), Reading::Nothing);
        let Reading::Value(held) = node(&["other", TAINT, TAINT]) else { panic!("it has the taint") };
        let pod = |ready: &str, ending: Option<&str>| {
            let mut pod = json!({"metadata": {}, "spec": {"nodeName": "n1", "containers": []},
                "status": {"conditions": [{"type": "Ready", "status": ready}]}});
            pod["metadata"]["deletionTimestamp"] = json!(ending);
            agent(serde_json::from_value(pod).expect("a pod"))
        };
        assert_eq!(pod("False", None), Reading::Nothing);
        assert_eq!(pod("True", Some("2026-01-01T00:00:00Z")), Reading::Nothing);
        let Reading::Value(ready) = pod("True", None) else { panic!("it is ready") };
        let held = Arc::new(held);
        let nodes = ["n1", "n2"].map(|name| (Key::new("", name), held.clone()));
        let planned = plan(&nodes, &[(Key::new("mesh", "a"), Arc::new(ready))]);
        let wanted = json!([
            {"op": "test", "path": "/spec/taints/2/key", "value": TAINT}, {"op": "remove", "path": "/spec/taints/2"},
            {"op": "test", "path": "/spec/taints/1/key", "value": TAINT}, {"op": "remove", "path": "/spec/taints/1"},
        ]);
        let planned: Vec<_> = planned.iter().map(|(key, patch)| (&*key.name, json!(patch))).collect();
        assert_eq!(planned, [("n1", wanted)]);
    }
}
