//! Things that run pods: Deployments, ReplicaSets, DaemonSets, StatefulSets, Jobs.

use k8s_openapi::api::{apps::v1::Deployment, core::v1::Pod};
use kube::ResourceExt;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use serde_json::{Value, json};

use super::cluster::{Cluster, deployment, target, template};
use crate::controllers::{
    action::{Kind, Target},
    pods::{is_available, is_ready, is_terminating},
};

fn rolling(surge: &Value, unavailable: &Value) -> Value {
    json!({ "type": "RollingUpdate", "rollingUpdate": { "maxSurge": surge, "maxUnavailable": unavailable } })
}

fn web(cluster: &Cluster) -> &Deployment {
    cluster.board.deployments.find("shop", "web").expect("the deployment")
}

fn image(pod: &Pod) -> &str {
    pod.spec.as_ref().and_then(|spec| spec.containers[0].image.as_deref()).unwrap_or_default()
}

fn set_image(cluster: &mut Cluster, kind: Kind, name: &str, image: &str) {
    cluster.merge(&target(kind, name), &json!({ "spec": { "template": template(image) } }));
}

fn condition<'d>(deployment: &'d Deployment, type_: &str) -> (&'d str, &'d str) {
    let status = deployment.status.as_ref().expect("a status");
    let found = status.conditions.iter().flatten().find(|condition| condition.type_ == type_).expect("a condition");
    (found.status.as_str(), found.reason.as_deref().unwrap_or_default())
}

#[test]
fn a_deployment_becomes_ready_pods_spread_over_the_nodes() {
    let mut cluster = Cluster::with_nodes(&["n1", "n2"]);
    cluster.put(Kind::Deployment, deployment(4, &Value::Null));
    cluster.settle();
    assert_eq!(condition(web(&cluster), "Available").0, "False");
    assert_eq!(condition(web(&cluster), "Progressing"), ("True", "ReplicaSetUpdated"));
    cluster.run();

    assert_eq!(cluster.places(), ["n1", "n1", "n2", "n2"]);
    let status = web(&cluster).status.as_ref().expect("a status");
    assert_eq!(
        (status.replicas, status.updated_replicas, status.ready_replicas, status.available_replicas),
        (Some(4), Some(4), Some(4), Some(4))
    );
    assert_eq!((status.unavailable_replicas, status.observed_generation), (Some(0), Some(1)));
    assert_eq!(condition(web(&cluster), "Available").0, "True");
    assert_eq!(condition(web(&cluster), "Progressing"), ("True", "NewReplicaSetAvailable"));
    assert_eq!(web(&cluster).annotations()["deployment.kubernetes.io/revision"], "1");
    let hash = cluster.active()[0].labels()["pod-template-hash"].clone();
    assert!(cluster.board.replica_sets.find("shop", &format!("web-{hash}")).is_some());
}

/// Pods start and end in random order; at every moment the two limits hold, and the end is always reached.
#[test]
fn a_rolling_update_keeps_its_limits_whatever_the_order() {
    let seed: u64 = rand::rng().random();
    let mut rng = StdRng::seed_from_u64(seed);
    for (replicas, surge, unavailable, most, least) in [
        (4, json!(1), json!(0), 5, 4),
        (4, json!(0), json!(1), 4, 3),
        (4, json!("25%"), json!("25%"), 5, 3),
        (3, json!("100%"), json!(0), 6, 3),
        (5, json!(2), json!(2), 7, 3),
        (1, json!("25%"), json!("25%"), 2, 1),
        (2, json!(0), json!(0), 2, 1),
    ] {
        let mut cluster = Cluster::with_nodes(&["n1", "n2"]);
        cluster.put(Kind::Deployment, deployment(replicas, &rolling(&surge, &unavailable)));
        cluster.run();
        set_image(&mut cluster, Kind::Deployment, "web", "echo:2");
        let case = format!("seed {seed}: {replicas} replicas, surge {surge}, unavailable {unavailable}");
        for _ in 0..400 {
            cluster.round();
            let available = cluster.active().iter().filter(|pod| is_available(pod, 0, cluster.now)).count();
            assert!(cluster.active().len() <= most, "{case}: {} pods", cluster.active().len());
            assert!(available >= least, "{case}: {available} available");
            cluster.kubelets(|_| rng.random_bool(0.3));
        }
        cluster.run();
        assert_eq!(cluster.ready(), usize::try_from(replicas).expect("small"), "{case}");
        assert!(cluster.active().iter().all(|pod| image(pod) == "echo:2"), "{case}");
        assert_eq!(condition(web(&cluster), "Progressing"), ("True", "NewReplicaSetAvailable"), "{case}");
    }
}

#[test]
fn an_update_that_never_gets_ready_stops_and_can_be_taken_back() {
    let mut cluster = Cluster::with_nodes(&["n1"]);
    cluster.put(Kind::Deployment, deployment(4, &rolling(&json!(1), &json!(1))));
    cluster.run();
    set_image(&mut cluster, Kind::Deployment, "web", "broken");
    for _ in 0..10 {
        cluster.settle();
        cluster.kubelets(|pod| is_terminating(&pod.metadata));
    }
    assert_eq!(cluster.ready(), 3, "as many as may be missing are missing");
    cluster.now += k8s_openapi::jiff::SignedDuration::from_secs(700);
    cluster.settle();
    assert_eq!(condition(web(&cluster), "Progressing"), ("False", "ProgressDeadlineExceeded"));

    set_image(&mut cluster, Kind::Deployment, "web", "echo:1");
    cluster.run();
    assert_eq!(cluster.ready(), 4);
    assert!(cluster.active().iter().all(|pod| image(pod) == "echo:1"));
    assert_eq!(web(&cluster).annotations()["deployment.kubernetes.io/revision"], "3", "a rollback is a new revision");
}

#[test]
fn recreate_never_runs_two_templates_together() {
    let mut cluster = Cluster::with_nodes(&["n1"]);
    cluster.put(Kind::Deployment, deployment(3, &json!({ "type": "Recreate" })));
    cluster.run();
    set_image(&mut cluster, Kind::Deployment, "web", "echo:2");
    for _ in 0..30 {
        cluster.round();
        cluster.kubelets(|pod| pod.name_any().ends_with(|last: char| last.is_ascii_digit()));
        let mut images: Vec<&str> = cluster.active().iter().map(|pod| image(pod)).collect();
        images.dedup();
        assert!(images.len() <= 1, "{images:?}");
    }
    cluster.run();
    assert!(cluster.ready() == 3 && cluster.active().iter().all(|pod| image(pod) == "echo:2"));
}

#[test]
fn history_is_kept_to_its_limit_and_a_restart_is_a_new_template() {
    let mut cluster = Cluster::with_nodes(&["n1"]);
    let mut object = deployment(1, &Value::Null);
    object["spec"]["revisionHistoryLimit"] = 2.into();
    cluster.put(Kind::Deployment, object);
    cluster.run();
    for at in 0..5 {
        let restarted = json!({ "kubectl.kubernetes.io/restartedAt": format!("{at}") });
        let patch = json!({ "spec": { "template": { "metadata": { "annotations": restarted } } } });
        cluster.merge(&target(Kind::Deployment, "web"), &patch);
        cluster.run();
    }
    assert_eq!(cluster.board.replica_sets.all().count(), 3);
    assert_eq!(cluster.active()[0].annotations()["kubectl.kubernetes.io/restartedAt"], "4");
}

#[test]
fn scaling_down_takes_the_pods_that_do_not_serve_first() {
    let mut cluster = Cluster::with_nodes(&["n1"]);
    cluster.put(Kind::Deployment, deployment(3, &Value::Null));
    cluster.run();
    let broken = Target::of(Kind::Pod, cluster.active()[0]);
    cluster.set_ready(&broken, false);
    cluster.merge(&target(Kind::Deployment, "web"), &json!({ "spec": { "replicas": 2 } }));
    cluster.run();
    assert!(cluster.active().len() == 2 && cluster.active().iter().all(|pod| is_ready(pod)));
    cluster.merge(&target(Kind::Deployment, "web"), &json!({ "spec": { "replicas": 0 } }));
    cluster.run();
    assert_eq!(cluster.active().len(), 0);
}

#[test]
fn a_deleted_or_failed_pod_is_replaced() {
    let mut cluster = Cluster::with_nodes(&["n1"]);
    cluster.put(Kind::Deployment, deployment(2, &Value::Null));
    cluster.run();
    let (gone, failed) = (Target::of(Kind::Pod, cluster.active()[0]), Target::of(Kind::Pod, cluster.active()[1]));
    cluster.remove(&gone);
    cluster.merge(&failed, &json!({ "status": { "phase": "Failed" } }));
    cluster.run();
    assert_eq!(cluster.ready(), 2);
}

fn daemon_set(strategy: &Value) -> Value {
    json!({
        "metadata": { "name": "ztunnel", "namespace": "shop", "generation": 1 },
        "spec": {
            "updateStrategy": strategy,
            "selector": { "matchLabels": { "app": "web" } },
            "template": template("ztunnel:1"),
        },
    })
}

#[test]
fn daemons_run_on_every_node_and_follow_the_nodes() {
    let mut cluster = Cluster::with_nodes(&["n1", "n2"]);
    cluster.put(Kind::DaemonSet, daemon_set(&Value::Null));
    cluster.run();
    assert_eq!(cluster.places(), ["n1", "n2"]);
    cluster.add_node("n3", json!({ "unschedulable": true }));
    cluster.add_node("n4", json!({ "taints": [{ "key": "own", "effect": "NoSchedule" }] }));
    cluster.run();
    assert_eq!(cluster.places(), ["n1", "n2", "n3"]);
    cluster.remove(&Target { kind: Kind::Node, namespace: String::new(), name: "n1".to_owned() });
    cluster.run();
    assert_eq!(cluster.places(), ["n2", "n3"]);
    let status =
        cluster.board.daemon_sets.find("shop", "ztunnel").and_then(|set| set.status.clone()).expect("a status");
    assert_eq!((status.desired_number_scheduled, status.number_ready, status.number_available), (2, 2, Some(2)));
}

#[test]
fn daemons_are_updated_node_by_node_or_beside_the_old_ones() {
    let surge = json!({ "rollingUpdate": { "maxSurge": 1, "maxUnavailable": 0 } });
    for (strategy, most, least) in [(Value::Null, 3, 2), (surge, 4, 3)] {
        let mut cluster = Cluster::with_nodes(&["n1", "n2", "n3"]);
        cluster.put(Kind::DaemonSet, daemon_set(&strategy));
        cluster.run();
        set_image(&mut cluster, Kind::DaemonSet, "ztunnel", "ztunnel:2");
        for _ in 0..40 {
            cluster.round();
            assert!((least..=most).contains(&cluster.ready()), "{strategy}: {} ready", cluster.ready());
            let one = cluster.board.pods.all().next().map(ResourceExt::name_any);
            let started = cluster.kubelets(|pod| Some(pod.name_any()) == one);
            cluster.kubelets(|_| !started);
        }
        cluster.run();
        assert_eq!(cluster.places(), ["n1", "n2", "n3"], "{strategy}");
        assert!(cluster.active().iter().all(|pod| image(pod) == "ztunnel:2"), "{strategy}");
    }
}

#[test]
fn members_come_in_order_and_keep_their_names() {
    let mut cluster = Cluster::with_nodes(&["n1"]);
    cluster.put(
        Kind::StatefulSet,
        json!({
            "metadata": { "name": "db", "namespace": "shop", "generation": 1 },
            "spec": {
                "replicas": 3, "serviceName": "db",
                "selector": { "matchLabels": { "app": "web" } },
                "template": template("db:1"),
            },
        }),
    );
    cluster.settle();
    let names = |cluster: &Cluster| cluster.active().iter().map(|pod| pod.name_any()).collect::<Vec<_>>();
    assert_eq!(names(&cluster), ["db-0"], "the second waits for the first");
    cluster.run();
    assert_eq!(names(&cluster), ["db-0", "db-1", "db-2"]);
    let spec = cluster.active()[1].spec.clone().expect("a spec");
    assert_eq!((spec.hostname.as_deref(), spec.subdomain.as_deref()), (Some("db-1"), Some("db")));

    set_image(&mut cluster, Kind::StatefulSet, "db", "db:2");
    cluster.settle();
    assert_eq!(names(&cluster), ["db-0", "db-1"], "one at a time, from the top");
    cluster.run();
    assert!(cluster.ready() == 3 && cluster.active().iter().all(|pod| image(pod) == "db:2"));
    cluster.merge(&target(Kind::StatefulSet, "db"), &json!({ "spec": { "replicas": 1 } }));
    cluster.run();
    assert_eq!(names(&cluster), ["db-0"]);
}

#[test]
fn a_job_runs_until_enough_succeeded_or_too_many_failed() {
    for (ends, expected) in [("Succeeded", "Complete"), ("Failed", "Failed")] {
        let mut cluster = Cluster::with_nodes(&["n1"]);
        cluster.put(
            Kind::Job,
            json!({
                "metadata": { "name": "once", "namespace": "shop" },
                "spec": { "completions": 2, "parallelism": 1, "backoffLimit": 1, "template": template("job") },
            }),
        );
        for round in 0..2 {
            cluster.run();
            assert_eq!(cluster.active().len(), 1, "{ends}, round {round}");
            let pod = Target::of(Kind::Pod, cluster.active()[0]);
            cluster.merge(&pod, &json!({ "status": { "phase": ends } }));
        }
        cluster.run();
        assert_eq!(cluster.active().len(), 0, "{ends}");
        let job = cluster.board.jobs.find("shop", "once").and_then(|job| job.status.clone()).expect("a status");
        let condition = &job.conditions.expect("conditions")[0];
        assert_eq!((condition.type_.as_str(), condition.status.as_str()), (expected, "True"));
        assert_eq!(job.completion_time.is_some(), ends == "Succeeded");
    }
}
