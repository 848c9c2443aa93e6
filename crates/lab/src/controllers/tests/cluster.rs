//! The cluster in memory.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{Node, Pod, Service},
    jiff::{SignedDuration, Timestamp},
};
use kube::ResourceExt as _;
use serde_json::{Value, json};

use crate::controllers::{
    action::{Action, Kind, Target},
    board::Board,
    decide,
    pods::{is_active, is_ready, is_terminating, node_of},
};

/// Objects by target, mirrored on the board after every change.
pub struct Cluster {
    pub board: Board,
    objects: BTreeMap<Target, Value>,
    version: u64,
    pub now: Timestamp,
}

impl Cluster {
    pub fn with_nodes(names: &[&str]) -> Self {
        let now = "2026-01-01T00:00:00Z".parse().expect("a time");
        let mut cluster = Self { board: Board::default(), objects: BTreeMap::new(), version: 0, now };
        for name in names {
            cluster.add_node(name, json!({}));
        }
        cluster
    }

    pub fn add_node(&mut self, name: &str, spec: Value) {
        let labels = json!({ "kubernetes.io/hostname": name, "topology.kubernetes.io/zone": format!("zone-{name}") });
        self.put(
            Kind::Node,
            json!({
                "metadata": { "name": name, "labels": labels },
                "spec": spec,
                "status": { "conditions": [{ "type": "Ready", "status": "True" }] },
            }),
        );
    }

    pub fn add_service(&mut self, service: Value) {
        self.board.services.learn(serde_json::from_value::<Service>(service).expect("a service"));
    }

    /// Makes or replaces an object, as a user would.
    pub fn put(&mut self, kind: Kind, mut object: Value) {
        self.version += 1;
        let meta = &mut object["metadata"];
        if meta["name"].is_null() {
            meta["name"] = format!("{}{}", meta["generateName"].as_str().unwrap_or("x-"), self.version).into();
        }
        if meta["uid"].is_null() {
            meta["uid"] = format!("uid-{}", self.version).into();
            meta["creationTimestamp"] = self.now.to_string().into();
        }
        meta["resourceVersion"] = self.version.to_string().into();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let target = Target { kind, namespace: text(&meta["namespace"]), name: text(&meta["name"]) };
        self.board.learn(kind, object.clone());
        self.objects.insert(target, object);
    }

    /// Merges a patch into an object.
    pub fn merge(&mut self, target: &Target, patch: &Value) {
        let mut object = self.objects.get(target).unwrap_or_else(|| panic!("no {target:?}")).clone();
        merge(&mut object, patch);
        self.put(target.kind, object);
    }

    pub fn remove(&mut self, target: &Target) {
        self.objects.remove(target);
        self.board.forget(target);
    }

    fn apply(&mut self, action: Action) {
        match action {
            Action::Create { kind, object } => self.put(kind, object),
            Action::Patch { target, patch } => self.merge(&target, &patch),
            Action::PatchStatus { target, status } => self.merge(&target, &json!({ "status": status })),
            Action::Bind { target, node } => self.merge(&target, &json!({ "spec": { "nodeName": node } })),
            // Two controllers may delete one pod in one round; the API answers the second that it is gone.
            Action::Delete { target, .. } if !self.objects.contains_key(&target) => {}
            Action::Delete { target, force: false, .. } if target.kind == Kind::Pod => {
                let now = self.now.to_string();
                self.merge(&target, &json!({ "metadata": { "deletionTimestamp": now } }));
            }
            Action::Delete { target, .. } => self.remove(&target),
        }
    }

    /// One round of decisions; says how many there were.
    pub fn round(&mut self) -> usize {
        let actions = decide(&self.board, self.now);
        let count = actions.len();
        actions.into_iter().for_each(|action| self.apply(action));
        self.now += SignedDuration::from_secs(1);
        count
    }

    /// Rounds until nothing is left to do.
    pub fn settle(&mut self) {
        for _ in 0..50 {
            if self.round() == 0 {
                return;
            }
        }
        panic!("the controllers do not come to rest: {:?}", decide(&self.board, self.now));
    }

    /// Controllers and kubelets until nothing changes.
    pub fn run(&mut self) {
        for _ in 0..100 {
            self.settle();
            if !self.kubelets(|_| true) {
                return;
            }
        }
        panic!("the cluster does not come to rest");
    }

    /// Lets the kubelets work on the chosen pods: what is bound starts, what is told to end is gone.
    pub fn kubelets(&mut self, chosen: impl FnMut(&Pod) -> bool) -> bool {
        let pods: Vec<Pod> = self.board.pods.all().cloned().collect();
        let waits = |pod: &Pod| is_terminating(&pod.metadata) || (node_of(pod).is_some() && !is_started(pod));
        let due: Vec<Pod> = pods.into_iter().filter(waits).filter(chosen).collect();
        for pod in &due {
            let target = Target::of(Kind::Pod, pod);
            if is_terminating(&pod.metadata) {
                self.remove(&target);
            } else {
                self.set_ready(&target, true);
            }
        }
        !due.is_empty()
    }

    pub fn set_ready(&mut self, target: &Target, ready: bool) {
        self.version += 1;
        let (v4, v6) = (format!("10.244.0.{}", self.version % 250), format!("fd00::{:x}", self.version));
        let condition = json!({
            "type": "Ready", "status": if ready { "True" } else { "False" },
            "lastTransitionTime": self.now.to_string(),
        });
        let ips = json!([{ "ip": v4 }, { "ip": v6 }]);
        let status = json!({ "phase": "Running", "podIP": v4, "podIPs": ips, "conditions": [condition] });
        self.merge(target, &json!({ "status": status }));
    }

    pub fn active(&self) -> Vec<&Pod> {
        self.board.pods.all().filter(|pod| is_active(pod)).collect()
    }

    pub fn ready(&self) -> usize {
        self.active().iter().filter(|pod| is_ready(pod)).count()
    }

    /// The nodes of the active pods, sorted.
    pub fn places(&self) -> Vec<&str> {
        let mut places: Vec<&str> = self.active().into_iter().filter_map(node_of).collect();
        places.sort_unstable();
        places
    }

    pub fn node(&self, name: &str) -> &Node {
        self.board.nodes.find("", name).expect("the node")
    }

    pub fn pod_named(&self, name: &str) -> Target {
        let pod = self.board.pods.all().find(|pod| pod.name_any() == name).expect("the pod");
        Target::of(Kind::Pod, pod)
    }
}

fn is_started(pod: &Pod) -> bool {
    pod.status.as_ref().is_some_and(|status| status.pod_ip.is_some())
}

/// RFC 7396.
fn merge(object: &mut Value, patch: &Value) {
    let Value::Object(fields) = patch else {
        *object = patch.clone();
        return;
    };
    if !object.is_object() {
        *object = json!({});
    }
    for (name, value) in fields {
        if value.is_null() {
            object.as_object_mut().expect("an object").remove(name);
        } else {
            merge(&mut object[name.as_str()], value);
        }
    }
}

pub fn target(kind: Kind, name: &str) -> Target {
    Target { kind, namespace: "shop".to_owned(), name: name.to_owned() }
}

pub fn template(image: &str) -> Value {
    json!({
        "metadata": { "labels": { "app": "web" } },
        "spec": { "containers": [{ "name": "web", "image": image }] },
    })
}

pub fn deployment(replicas: i32, strategy: &Value) -> Value {
    json!({
        "metadata": { "name": "web", "namespace": "shop", "generation": 1 },
        "spec": {
            "replicas": replicas, "strategy": strategy,
            "selector": { "matchLabels": { "app": "web" } },
            "template": template("echo:1"),
        },
    })
}
