//! Gateways as users write them, what is made of them, and what their authors are told.

use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use lateen_cluster::store::{Key, Reading};
use serde_json::{Value, json};

use super::{
    Class, Defaults,
    classes::Role,
    facts::{ACCEPTED, Address, Held, PROGRAMMED, Place, Wanted},
    overlay::Overlays,
    plan::{self, Around, Kind, Planned, Refused, Subject},
    report::{self, Outcome},
};
use crate::derive::tests::{mesh, read_servers};

fn wanted(class: &str, metadata: Value, more: Value) -> Wanted {
    let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("gateway.networking.k8s.io", "v1", "Gateway"));
    let mut spec =
        json!({"gatewayClassName": class, "listeners": [{"name": "mesh", "port": 15008, "protocol": "HBONE"}]});
    for (key, value) in more.as_object().into_iter().flatten() {
        spec[key] = value.clone();
    }
    let mut object = DynamicObject::new("w", &kind).data(json!({"spec": spec}));
    let text = |key: &str| serde_json::from_value(metadata[key].clone()).unwrap_or_default();
    object.metadata.labels = text("labels");
    object.metadata.annotations = text("annotations");
    object.metadata.uid = Some("u1".to_owned());
    object.metadata.generation = Some(4);
    match Wanted::read(&object) {
        Reading::Value(wanted) => wanted,
        other => panic!("{other:?}"),
    }
}

fn key() -> Key {
    Key::new("shop", "w")
}

fn planned(wanted: &Wanted, overlays: &[(&str, &str)]) -> Result<Vec<Planned>, Refused> {
    let class = Class::of(&wanted.class, None).expect("a class of ours");
    let (key, defaults, mesh) = (key(), Defaults::default(), mesh());
    let data = overlays.iter().map(|(key, text)| ((*key).to_owned(), (*text).to_owned())).collect();
    let layer = Overlays::read("o", &data)?;
    let spec = json!({"selector": {"istio": "edge"}, "servers": [
        {"hosts": ["*"], "port": {"number": 80, "name": "h", "protocol": "HTTP"}},
        {"hosts": ["*"], "port": {"number": 9000, "name": "t", "protocol": "TCP"}}]});
    let servers = [read_servers("2026-01-01T00:00:00Z", spec).into()];
    let around = Around {
        namespace: "istio-system",
        revision: "",
        defaults: &defaults,
        mesh: &mesh,
        network: "net1",
        servers: &servers,
    };
    plan::plan(Subject { key: &key, wanted, class }, &[layer], around)
}

fn objects(wanted: &Wanted, overlays: &[(&str, &str)]) -> Vec<Planned> {
    planned(wanted, overlays).unwrap_or_else(|error| panic!("{error:?}"))
}

fn find(all: &[Planned], kind: Kind) -> &Value {
    &all.iter().find(|one| one.kind == kind).unwrap_or_else(|| panic!("no {kind:?}")).object
}

fn waypoint() -> Wanted {
    wanted("istio-waypoint", json!({}), json!({}))
}

#[test]
fn a_waypoint_is_two_pods_apart_a_service_an_account_and_a_budget() {
    let all = objects(&waypoint(), &[]);
    let kinds: Vec<Kind> = all.iter().map(|one| one.kind).collect();
    assert_eq!(kinds, [Kind::ServiceAccount, Kind::Service, Kind::PodDisruptionBudget, Kind::Deployment]);
    for one in &all {
        assert_eq!(one.name, "w");
        let meta = &one.object["metadata"];
        assert_eq!((&meta["name"], &meta["namespace"]), (&json!("w"), &json!("shop")));
        assert_eq!(meta["labels"]["gateway.istio.io/managed"], "istio.io-mesh-controller");
        assert_eq!(meta["labels"]["gateway.networking.k8s.io/gateway-name"], "w");
        assert_eq!(meta["labels"]["gateway.networking.k8s.io/gateway-class-name"], "istio-waypoint");
        let owner = &meta["ownerReferences"][0];
        assert_eq!((&owner["kind"], &owner["uid"], owner.get("controller")), (&json!("Gateway"), &json!("u1"), None));
    }
    let service = find(&all, Kind::Service);
    assert_eq!(service["spec"]["type"], "ClusterIP");
    assert_eq!(service["metadata"]["annotations"]["networking.istio.io/traffic-distribution"], "PreferClose");
    let ports: Vec<String> = service["spec"]["ports"]
        .as_array()
        .expect("ports")
        .iter()
        .map(|port| {
            format!(
                "{}:{}:{}",
                port["name"].as_str().unwrap_or_default(),
                port["port"],
                port["appProtocol"].as_str().unwrap_or("-")
            )
        })
        .collect();
    assert_eq!(ports, ["status-port:15021:-", "mesh:15008:hbone"]);
    let spec = &find(&all, Kind::Deployment)["spec"];
    assert_eq!(spec["replicas"], 2);
    assert_eq!(spec["strategy"]["rollingUpdate"], json!({"maxSurge": 1, "maxUnavailable": 0}));
    let selector = json!({"gateway.networking.k8s.io/gateway-name": "w"});
    assert_eq!(spec["selector"]["matchLabels"], selector);
    assert_eq!(
        find(&all, Kind::PodDisruptionBudget)["spec"],
        json!({"minAvailable": 1, "selector": {"matchLabels": selector}})
    );
}

#[test]
fn its_pods_may_do_nothing_but_serve() {
    let all = objects(&waypoint(), &[]);
    let template = &find(&all, Kind::Deployment)["spec"]["template"];
    let labels = &template["metadata"]["labels"];
    for (label, value) in [
        ("istio.io/dataplane-mode", "none"),
        ("sidecar.istio.io/inject", "false"),
        ("service.istio.io/canonical-name", "w"),
        ("service.istio.io/canonical-revision", "latest"),
        ("topology.istio.io/network", "net1"),
    ] {
        assert_eq!(labels[label], value, "{label}");
    }
    assert_eq!(template["metadata"]["annotations"]["prometheus.io/port"], "15020");
    assert_eq!(template["metadata"]["annotations"]["istio.io/rev"], "default");
    let pod = &template["spec"];
    assert_eq!(pod["serviceAccountName"], "w");
    assert_eq!(pod["automountServiceAccountToken"], false);
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    let container = &pod["containers"][0];
    let context =
        json!({"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]}});
    assert_eq!(container["securityContext"], context);
    assert_eq!(container["args"], json!(["proxy", "waypoint"]));
    for probe in ["startupProbe", "readinessProbe"] {
        assert_eq!(container[probe]["httpGet"], json!({"path": "/healthz/ready", "port": 15021}), "{probe}");
    }
    let token = &pod["volumes"][0]["projected"]["sources"][0]["serviceAccountToken"];
    assert_eq!((&token["audience"], &token["expirationSeconds"]), (&json!("istio-ca"), &json!(43200)));
}

#[test]
fn labels_and_annotations_are_passed_on_but_for_the_gateway_apis_own() {
    let metadata = json!({
        "labels": {"team": "a", "istio.io/dataplane-mode": "ambient", "gateway.networking.k8s.io/x": "y"},
        "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}", "note": "n"},
    });
    let all = objects(&wanted("istio-waypoint", metadata.clone(), json!({})), &[]);
    let meta = &find(&all, Kind::Deployment)["metadata"];
    assert_eq!((&meta["labels"]["team"], &meta["annotations"]), (&json!("a"), &json!({"note": "n"})));
    assert_eq!(meta["labels"].get("gateway.networking.k8s.io/x"), None);
    let pod = &find(&all, Kind::Deployment)["spec"]["template"]["metadata"]["labels"];
    assert_eq!(pod["istio.io/dataplane-mode"], "ambient", "what is said counts");
    let infrastructure = json!({"infrastructure": {"labels": {"own": "b"}, "annotations": {}}});
    let all = objects(&wanted("istio-waypoint", metadata, infrastructure), &[]);
    let meta = &find(&all, Kind::Service)["metadata"];
    assert_eq!((&meta["labels"]["own"], meta["labels"].get("team")), (&json!("b"), None));
}

#[test]
fn a_gateway_is_a_load_balancer_for_its_listeners() {
    let listeners = json!({"listeners": [
        {"name": "http", "port": 80, "protocol": "HTTP"}, {"name": "a", "port": 443, "protocol": "HTTPS"},
        {"name": "b", "port": 443, "protocol": "HTTPS", "hostname": "b.example"},
        {"name": "odd", "port": 53, "protocol": "UDP"}, {"name": "db.example", "port": 5432, "protocol": "TCP"},
    ], "addresses": [{"value": "192.0.2.7"}]});
    let all = objects(&wanted("istio", json!({}), listeners), &[]);
    assert!(all.iter().all(|one| one.name == "w-istio"));
    let service = find(&all, Kind::Service);
    assert_eq!(
        (&service["spec"]["type"], &service["spec"]["loadBalancerIP"]),
        (&json!("LoadBalancer"), &json!("192.0.2.7"))
    );
    let ports: Vec<&str> =
        service["spec"]["ports"].as_array().expect("ports").iter().filter_map(|port| port["name"].as_str()).collect();
    assert_eq!(ports, ["status-port", "http", "a", "port-5432"]);
    let pod = &find(&all, Kind::Deployment)["spec"]["template"]["spec"];
    assert_eq!(pod["containers"][0]["args"], json!(["proxy", "gateway"]));
    assert_eq!(pod["securityContext"]["sysctls"][0]["name"], "net.ipv4.ip_unprivileged_port_start");
    let annotations = json!({"annotations": {"networking.istio.io/service-type": "ClusterIP",
        "gateway.istio.io/name-override": "edge", "gateway.istio.io/service-account": "known"}});
    let all = objects(&wanted("lateen", annotations, json!({})), &[]);
    // Where servers of the mesh's own kind Gateway select its pods, it has their ports too.
    let labels = json!({"infrastructure": {"labels": {"istio": "edge"}},
        "listeners": [{"name": "http", "port": 80, "protocol": "HTTP"}]});
    let selected = objects(&wanted("istio", json!({}), labels), &[]);
    let ports = find(&selected, Kind::Service)["spec"]["ports"].as_array().expect("ports").clone();
    let numbers: Vec<u64> = ports.iter().filter_map(|port| port["port"].as_u64()).collect();
    assert_eq!(numbers, [15021, 80, 9000]);
    assert_eq!(find(&all, Kind::Service)["spec"]["type"], "ClusterIP");
    assert!(
        all.iter().all(|one| one.name == "edge" && one.kind != Kind::ServiceAccount),
        "the account is there already"
    );
    assert_eq!(find(&all, Kind::Deployment)["spec"]["template"]["spec"]["serviceAccountName"], "known");
}

#[test]
fn overlays_change_what_they_name() {
    let all = objects(
        &waypoint(),
        &[
            (
                "deployment",
                "spec: {replicas: 1, template: {spec: {containers: [{name: istio-proxy, resources: {limits: {cpu: '4'}}}]}}}",
            ),
            ("service", "metadata: {annotations: {a: b}}"),
        ],
    );
    let spec = &find(&all, Kind::Deployment)["spec"];
    let container = &spec["template"]["spec"]["containers"][0];
    assert_eq!((&spec["replicas"], &container["resources"]["limits"]["cpu"]), (&json!(1), &json!("4")));
    assert_eq!(container["resources"]["limits"]["memory"], "1Gi");
    assert_eq!(find(&all, Kind::Service)["metadata"]["annotations"]["a"], "b");
    assert!(all.iter().all(|one| one.kind != Kind::PodDisruptionBudget), "one pod alone may be taken away");
    let scaled = objects(&waypoint(), &[("horizontalPodAutoscaler", "spec: {maxReplicas: 9}")]);
    assert_eq!(find(&scaled, Kind::Deployment)["spec"].get("replicas"), None, "somebody else says how many");
    let spec = &find(&scaled, Kind::HorizontalPodAutoscaler)["spec"];
    assert_eq!((&spec["minReplicas"], &spec["maxReplicas"]), (&json!(2), &json!(9)));
    let budget = objects(&waypoint(), &[("podDisruptionBudget", "spec: {minAvailable: null, maxUnavailable: 1}")]);
    assert_eq!(find(&budget, Kind::PodDisruptionBudget)["spec"]["maxUnavailable"], 1);
}

#[test]
fn what_reaches_beyond_the_pod_is_refused() {
    for (pod, says) in [
        ("{hostNetwork: true}", "hostNetwork"),
        ("{hostPID: true}", "hostPID"),
        ("{serviceAccountName: admin}", "serviceAccountName"),
        ("{volumes: [{name: x, hostPath: {path: /}}]}", "hostPath"),
        ("{containers: [{name: istio-proxy, securityContext: {privileged: true}}]}", "securityContext"),
        ("{containers: [{name: istio-proxy, securityContext: {allowPrivilegeEscalation: true}}]}", "securityContext"),
        ("{initContainers: [{name: x, securityContext: {capabilities: {add: [NET_ADMIN]}}}]}", "securityContext"),
    ] {
        let overlay = format!("spec: {{template: {{spec: {pod}}}}}");
        let refused = planned(&waypoint(), &[("deployment", overlay.as_str())]).map(|_| ()).expect_err(pod);
        assert_eq!(refused.reason, "InvalidParameters", "{pod}");
        assert!(refused.message.contains(says), "{pod}: {}", refused.message);
    }
}

#[test]
fn names_that_can_be_no_service_are_refused() {
    let named = |name: &str| {
        let annotations = json!({"annotations": {"gateway.istio.io/name-override": name}});
        planned(&wanted("istio-waypoint", annotations, json!({})), &[]).map(|_| ()).map_err(|refused| refused.reason)
    };
    assert_eq!(named("fine-1"), Ok(()));
    for wrong in ["1st", "a.b", "A", "a-", "", &"a".repeat(64)] {
        assert_eq!(named(wrong), Err("Invalid"), "{wrong:?}");
    }
    let kind = json!({"annotations": {"networking.istio.io/service-type": "ExternalName"}});
    assert!(planned(&wanted("istio-waypoint", kind, json!({})), &[]).is_err());
}

#[test]
fn whose_it_is() {
    let labelled = |revision: &str| wanted("istio-waypoint", json!({"labels": {"istio.io/rev": revision}}), json!({}));
    for (label, own, ours) in
        [("a", "a", true), ("a", "b", false), ("default", "", true), ("a", "", false), ("default", "a", false)]
    {
        assert_eq!(labelled(label).is_for(own), ours, "{label} {own}");
    }
    assert!(waypoint().is_for("") && waypoint().is_for("default") && !waypoint().is_for("canary"));
    let versioned = |text: &str| {
        wanted("istio-waypoint", json!({"annotations": {"gateway.istio.io/controller-version": text}}), json!({}))
    };
    for (text, newer) in [("5", false), ("1", false), ("6", true), ("x", true)] {
        assert_eq!(versioned(text).is_of_newer(), newer, "{text}");
    }
    assert!(!waypoint().is_of_newer());
    let at = |addresses: Value| wanted("istio", json!({}), json!({"addresses": addresses})).address;
    assert_eq!(at(json!([])), Address::Any);
    assert_eq!(at(json!([{"value": "192.0.2.1"}])), Address::Ip([192, 0, 2, 1].into()));
    assert!(matches!(at(json!([{"type": "Hostname", "value": "gw.example"}])), Address::Elsewhere(_)));
    assert!(matches!(at(json!([{"value": "192.0.2.1"}, {"value": "192.0.2.2"}])), Address::Elsewhere(_)));
    assert!(matches!(at(json!([{"type": "example.com/x", "value": "y"}])), Address::Unsupported(_)));
    assert!(matches!(at(json!([{"value": "no address"}])), Address::Unsupported(_)));
}

fn made(places: &[[u8; 4]], available: u64) -> Outcome {
    let places = places.iter().map(|ip| Place::Ip((*ip).into())).collect();
    Outcome::Made { service: "w".to_owned(), places, role: Role::Waypoint, is_internal: true, available }
}

/// The status and reason of a condition.
fn said(held: &Held, kind: &str) -> (String, String) {
    let found = held.conditions.iter().find(|one| one.type_ == kind).expect("said");
    (found.status.clone(), found.reason.clone().unwrap_or_default())
}

#[test]
fn a_gateway_is_programmed_once_it_has_an_address_and_a_pod() {
    let report = |wanted: &Wanted, outcome: &Outcome| report::report(&key(), wanted, outcome, "cluster.local");
    let check = |wanted: &Wanted, outcome: &Outcome, accepted: (&str, &str), programmed: (&str, &str)| {
        let held = report(wanted, outcome);
        let owned = |(status, reason): (&str, &str)| (status.to_owned(), reason.to_owned());
        assert_eq!(said(&held, ACCEPTED), owned(accepted), "{outcome:?}");
        assert_eq!(said(&held, PROGRAMMED), owned(programmed), "{outcome:?}");
        held
    };
    let yes = ("True", "Accepted");
    let mut wanted = waypoint();
    check(&wanted, &made(&[], 0), yes, ("False", "AddressNotAssigned"));
    check(&wanted, &made(&[[10, 96, 0, 9]], 0), yes, ("False", "Pending"));
    let there = check(&wanted, &made(&[[10, 96, 0, 9]], 2), yes, ("True", "Programmed"));
    let name = Place::Hostname("w.shop.svc.cluster.local".to_owned());
    assert_eq!(there.places, [name.clone(), Place::Ip([10, 96, 0, 9].into())]);
    // What was once there is not taken back, so that nobody comes to pass it by.
    wanted.held = there.clone();
    check(&wanted, &made(&[[10, 96, 0, 9]], 0), yes, ("True", "Programmed"));
    let lost = check(&wanted, &Outcome::Failed("no".to_owned()), yes, ("False", "Invalid"));
    assert_eq!(lost.places, there.places);
    let refusal = Outcome::Refused { reason: "InvalidParameters", message: "m".to_owned() };
    check(&wanted, &refusal, ("False", "InvalidParameters"), ("False", "Invalid"));
    let annotations = json!({"annotations": {"networking.istio.io/address-type": "Hostname"}});
    let named = super::tests::wanted("istio-waypoint", annotations, json!({}));
    assert_eq!(report(&named, &made(&[[10, 96, 0, 9]], 1)).places, [name]);
    let fixed = super::tests::wanted("istio", json!({}), json!({"addresses": [{"value": "192.0.2.1"}]}));
    check(&fixed, &made(&[[192, 0, 2, 2]], 1), yes, ("False", "AddressNotUsable"));
    let places = [[192, 0, 2, 1], [192, 0, 2, 2]].map(|ip: [u8; 4]| Place::Ip(ip.into()));
    assert_eq!(report::of_places(&places, Role::Waypoint), Outcome::Elsewhere(places.to_vec()));
    let several = report::of_places(&places, Role::Gateway);
    let several = check(&fixed, &several, yes, ("False", "AddressNotUsable"));
    assert!(several.places.is_empty(), "an address it did not get");
    let hosts = [Place::Hostname("gw.edge.svc.cluster.local".to_owned()), places[0].clone()];
    check(&fixed, &report::of_places(&hosts, Role::Gateway), yes, ("True", "Programmed"));
    // Nobody is told that a gateway is there which listens on nothing.
    let gateway = |listeners: Value| super::tests::wanted("istio", json!({}), json!({"listeners": listeners}));
    let (http, odd) =
        (json!({"name": "h", "port": 80, "protocol": "HTTP"}), json!({"name": "o", "port": 1, "protocol": "X"}));
    let Outcome::Made { service, places, is_internal, available, .. } = made(&[[192, 0, 2, 1]], 1) else {
        panic!("made")
    };
    let listening = Outcome::Made { service, places, role: Role::Gateway, is_internal, available };
    check(&gateway(json!([odd])), &listening, ("False", "ListenersNotValid"), ("False", "Invalid"));
    check(&gateway(json!([http, odd])), &listening, ("True", "ListenersNotValid"), ("True", "Programmed"));
    check(&gateway(json!([http])), &listening, yes, ("True", "Programmed"));
}

#[test]
fn the_time_of_a_condition_changes_with_its_answer_only_and_nothing_new_is_not_written() {
    let wanted = waypoint();
    let report = |outcome: &Outcome| report::report(&key(), &wanted, outcome, "cluster.local");
    let first = report::dated(report(&made(&[[10, 96, 0, 9]], 1)), &Held::default(), "t1").expect("new");
    assert_eq!(report::dated(report(&made(&[[10, 96, 0, 9]], 2)), &first, "t2"), None);
    let then = report::dated(report(&Outcome::Failed("no".to_owned())), &first, "t2").expect("other");
    let times: Vec<&str> = then.conditions.iter().filter_map(|one| one.last_transition_time.as_deref()).collect();
    assert_eq!(times, ["t1", "t2"]);
}
