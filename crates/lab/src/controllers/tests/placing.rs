//! Where pods go, nodes that fall silent, and what the board believes.

use k8s_openapi::{
    api::{coordination::v1::Lease, core::v1::Pod},
    jiff::SignedDuration,
};
use kube::runtime::watcher::Event;
use serde_json::{Value, json};

use super::cluster::{Cluster, template};
use crate::controllers::{
    action::{Kind, Target},
    board::Board,
    nodes::is_ready as is_node_ready,
    pods::{is_ready, node_of},
};

fn bare_pod(name: &str, spec: &Value) -> Value {
    let mut pod = json!({ "metadata": { "name": name, "namespace": "shop" }, "spec": template("x")["spec"] });
    for (field, value) in spec.as_object().into_iter().flatten() {
        pod["spec"][field.as_str()] = value.clone();
    }
    pod
}

#[test]
fn a_pod_goes_where_it_may() {
    let taint = json!({ "taints": [{ "key": "only", "value": "gpu", "effect": "NoSchedule" }] });
    let affinity = |operator: &str, values: Value| {
        let one = json!({ "key": "kubernetes.io/hostname", "operator": operator, "values": values });
        let terms = json!({ "nodeSelectorTerms": [{ "matchExpressions": [one] }] });
        json!({ "affinity": { "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": terms } } })
    };
    for (name, spec, expected) in [
        ("anything", json!({}), Some("a")),
        ("selector", json!({ "nodeSelector": { "kubernetes.io/hostname": "b" } }), Some("b")),
        ("no such node", json!({ "nodeSelector": { "kubernetes.io/hostname": "z" } }), None),
        ("tainted", json!({ "nodeSelector": { "kubernetes.io/hostname": "t" } }), None),
        (
            "tolerating",
            json!({ "nodeSelector": { "kubernetes.io/hostname": "t" },
                    "tolerations": [{ "key": "only", "value": "gpu", "effect": "NoSchedule" }] }),
            Some("t"),
        ),
        (
            "tolerating another value",
            json!({ "nodeSelector": { "kubernetes.io/hostname": "t" }, "tolerations": [{ "key": "only", "value": "x" }] }),
            None,
        ),
        ("cordoned", json!({ "nodeSelector": { "kubernetes.io/hostname": "u" } }), None),
        ("affinity", affinity("In", json!(["b"])), Some("b")),
        ("affinity away", affinity("NotIn", json!(["a", "t", "u"])), Some("b")),
        ("given node", json!({ "nodeName": "u" }), Some("u")),
        ("other scheduler", json!({ "schedulerName": "mine" }), None),
    ] {
        let mut cluster = Cluster::with_nodes(&["a", "b"]);
        cluster.add_node("t", taint.clone());
        cluster.add_node("u", json!({ "unschedulable": true }));
        cluster.put(Kind::Pod, bare_pod("one", &spec));
        cluster.settle();
        assert_eq!(node_of(cluster.active()[0]), expected, "{name}");
    }
}

#[test]
fn a_pod_that_fits_nowhere_says_why_once() {
    let mut cluster = Cluster::with_nodes(&["a", "b"]);
    cluster.put(Kind::Pod, bare_pod("one", &json!({ "nodeSelector": { "disk": "ssd" } })));
    cluster.settle();
    let conditions =
        cluster.active()[0].status.as_ref().and_then(|status| status.conditions.clone()).expect("conditions");
    assert_eq!(conditions[0].reason.as_deref(), Some("Unschedulable"));
    assert_eq!(
        conditions[0].message.as_deref(),
        Some("0/2 nodes are available: 2 node(s) didn't match Pod's node affinity/selector.")
    );
    cluster.add_node("c", json!({}));
    let node = Target { kind: Kind::Node, namespace: String::new(), name: "c".to_owned() };
    cluster.merge(&node, &json!({ "metadata": { "labels": { "disk": "ssd" } } }));
    cluster.settle();
    assert_eq!(cluster.places(), ["c"]);
}

#[test]
fn a_silent_node_is_not_ready_and_neither_are_its_pods() {
    let mut cluster = Cluster::with_nodes(&["a", "b"]);
    for node in ["a", "b"] {
        let spec = json!({ "nodeName": node });
        cluster.put(Kind::Pod, bare_pod(&format!("on-{node}"), &spec));
    }
    cluster.run();
    let renewed = json!({
        "metadata": { "name": "a", "namespace": "kube-node-lease" }, "spec": { "renewTime": "2026-01-01T00:00:00.000000Z" },
    });
    cluster.board.leases.learn(serde_json::from_value::<Lease>(renewed).expect("a lease"));
    cluster.settle();
    assert!(is_node_ready(cluster.node("a")), "the lease is fresh");
    cluster.now += SignedDuration::from_secs(60);
    cluster.settle();
    assert!(!is_node_ready(cluster.node("a")));
    assert!(is_node_ready(cluster.node("b")), "a node without a lease is not judged");
    let ready = |cluster: &Cluster, name| is_ready(cluster.board.pods.find("shop", name).expect("the pod"));
    assert!(!ready(&cluster, "on-a") && ready(&cluster, "on-b"));
}

#[test]
fn the_board_prefers_what_is_newer() {
    let pod = |version: &str, uid: &str, image: &str| -> Pod {
        let mut pod = bare_pod("one", &json!({}));
        pod["metadata"]["resourceVersion"] = version.into();
        pod["metadata"]["uid"] = uid.into();
        pod["spec"]["containers"][0]["image"] = image.into();
        serde_json::from_value(pod).expect("a pod")
    };
    let mut board = Board::default();
    let image = |board: &Board| {
        let pod = board.pods.find("shop", "one")?;
        pod.spec.as_ref()?.containers[0].image.clone()
    };
    board.pods.learn(pod("7", "u1", "written"));
    board.pods.take(Event::Apply(pod("5", "u1", "late event")));
    assert_eq!(image(&board).as_deref(), Some("written"));
    board.pods.take(Event::Apply(pod("9", "u2", "successor")));
    board.pods.take(Event::Delete(pod("8", "u1", "written")));
    assert_eq!(image(&board).as_deref(), Some("successor"), "the deletion was of the one before");

    board.pods.take(Event::Init);
    board.pods.learn(pod("11", "u3", "written during the list"));
    board.pods.take(Event::InitDone);
    assert_eq!(image(&board).as_deref(), Some("written during the list"));
    board.pods.take(Event::Init);
    board.pods.take(Event::InitDone);
    assert_eq!(image(&board), None, "what a list does not hold is gone");
    assert!(!board.is_complete(), "the other kinds have not been listed");
}
