//! The charts as helm sees them: `make test-charts`.
//!
//! helm is a module that Go builds once (`tests/helm`). Absent on purpose: a cluster.

use std::{
    collections::BTreeSet,
    process::{Command, Output},
};

use lateen_tests::deploy::{CHARTS, GATEWAY_CHARTS, find, key, list, objects, root, text, word, workloads};
use serde_json::{Value, json};

fn helm(arguments: &[&str]) -> Output {
    let mut command = Command::new(root().join("tests/helm/helm"));
    command.args(arguments).current_dir(root()).output().expect("bash is there")
}

/// Renders the umbrella with `--set` for each of `values`.
fn render(values: &[&str]) -> Result<Vec<Value>, String> {
    render_chart("lateen", "istio-system", values)
}

/// Renders a chart as the release `lateen`.
fn render_chart(chart: &str, namespace: &str, values: &[&str]) -> Result<Vec<Value>, String> {
    let chart = format!("deploy/charts/{chart}");
    let mut arguments = vec!["template", "lateen", &chart, "--namespace", namespace];
    arguments.extend(values.iter().flat_map(|value| ["--set-json", value]));
    let output = helm(&arguments);
    match output.status.success() {
        true => Ok(objects(&String::from_utf8(output.stdout).expect("text"))),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

fn rendered(values: &[&str]) -> Vec<Value> {
    render(values).unwrap_or_else(|error| panic!("{values:?}: {error}"))
}

/// The value a variable of a workload has.
fn variable(all: &[Value], workload: &str, name: &str) -> Option<String> {
    let env = list(find(all, workload), "/spec/template/spec/containers/0/env");
    let found = env.iter().find(|one| word(one, "/name") == name)?;
    Some(word(found, "/value").to_owned())
}

#[test]
fn helm_finds_nothing_wrong() {
    for chart in CHARTS.iter().chain(&GATEWAY_CHARTS).chain(&["lateen"]) {
        let output = helm(&["lint", "--strict", &format!("deploy/charts/{chart}")]);
        assert!(output.status.success(), "{chart}: {}", String::from_utf8_lossy(&output.stdout));
    }
}

#[test]
fn the_manifests_are_what_the_charts_render_to() {
    let out = tempfile::tempdir().expect("a directory");
    let output = Command::new(root().join("deploy/manifests/render")).arg(out.path()).output().expect("bash is there");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for chart in CHARTS {
        let now = std::fs::read_to_string(out.path().join(format!("{chart}.yaml"))).expect("rendered");
        let kept = text(&format!("deploy/manifests/{chart}.yaml"));
        assert!(now == kept, "deploy/manifests/{chart}.yaml differs from its chart; run `make manifests`");
    }
}

#[test]
fn the_umbrella_is_its_parts() {
    let whole: BTreeSet<String> = rendered(&[]).iter().map(key).collect();
    let parts = CHARTS.iter().flat_map(|chart| objects(&text(&format!("deploy/manifests/{chart}.yaml"))));
    assert_eq!(whole, parts.map(|one| key(&one)).collect());
    for (chart, gone, stays) in [
        ("base", "CustomResourceDefinition serviceentries.networking.istio.io", "Deployment istiod"),
        ("controller", "Deployment istiod", "DaemonSet ztunnel"),
        ("cni", "DaemonSet istio-cni-node", "DaemonSet ztunnel"),
        ("ztunnel", "DaemonSet ztunnel", "DaemonSet istio-cni-node"),
    ] {
        let rest: BTreeSet<String> = rendered(&[&format!("{chart}.enabled=false")]).iter().map(key).collect();
        assert!(whole.contains(gone) && !rest.contains(gone) && rest.contains(stays), "{chart}");
        assert!(rest.is_subset(&whole) && rest.len() < whole.len(), "{chart}");
    }
}

#[test]
fn values_that_cannot_work_are_refused_by_name() {
    for (value, says) in [
        ("controller.replicas=0", "/replicas"),
        ("controller.replicas=\"two\"", "/replicas"),
        ("controller.certificates.usual=\"a day\"", "/certificates/usual"),
        ("controller.meshConfig.discoverySelectors=[{\"labels\":{}}]", "/meshConfig/discoverySelectors/0"),
        ("controller.meshConfig.trustDomain=\"td\"", "set global.trustDomain instead"),
        ("controller.trustedNodeAccounts=[\"ztunnel\"]", "/trustedNodeAccounts/0"),
        ("controller.resources.requests.cpu=\"lots\"", "/resources/requests/cpu"),
        ("controller.image=\"Ctrl image\"", "/image"),
        ("controller.waypoint.replicas=0", "/waypoint/replicas"),
        ("controller.waypoint.replica=2", "'replica' not allowed"),
        ("cni.cniBinDir=\"opt/cni/bin\"", "/cniBinDir"),
        ("cni.cniConfFileName=\"../10-x.conflist\"", "/cniConfFileName"),
        ("cni.privileged=true", "'privileged' not allowed"),
        ("cni.moreCapabilities=[\"ALL\"]", "/moreCapabilities/0"),
        ("cni.enablementSelectors=[{}]", "/enablementSelectors/0"),
        ("cni.env={\"A=B\":\"c\"}", "A=B"),
        ("ztunnel.sameNode=\"off\"", "/sameNode"),
        ("ztunnel.xdsAddress=\"istiod\"", "/xdsAddress"),
        ("ztunnel.terminationGracePeriodSeconds=0", "/terminationGracePeriodSeconds"),
        ("base.excludedCRDs=[\"serviceentries\"]", "/excludedCRDs/0"),
        ("global.hub=\"\"", "/global/hub"),
        ("global.revision=\"Canary\"", "/global/revision"),
        ("global.logFormat=\"xml\"", "/global/logFormat"),
        ("global.trustDomain=\"a/b\"", "/global/trustDomain"),
        ("waypoint.enabled=true", "'waypoint' not allowed"),
        ("ztunnel.enabled=\"yes\"", "/ztunnel/enabled"),
    ] {
        let error = render(&[value]).map(|_| ()).expect_err(value);
        assert!(error.contains(says), "{value}: {error}");
    }
}

#[test]
fn a_revision_lives_beside_another() {
    let alone = ["base.enabled=false", "cni.enabled=false", "ztunnel.enabled=false", "global.revision=\"canary\""];
    let (usual, canary) = (rendered(&[]), rendered(&alone));
    let keys: BTreeSet<String> = usual.iter().map(key).collect();
    for object in &canary {
        assert!(!keys.contains(&key(object)), "{} would be taken from the other revision", key(object));
        assert_eq!(word(object, "/metadata/labels/istio.io~1rev"), "canary");
    }
    let selector = |all: &[Value], name: &str| find(all, name)["spec"]["selector"].clone();
    assert_ne!(selector(&usual, "Service istiod"), selector(&canary, "Service istiod-canary"));
    assert_eq!(selector(&canary, "Service istiod-canary"), json!({"app": "istiod", "istio.io/rev": "canary"}));
    // The names the controller looks for when it is told its revision.
    assert_eq!(variable(&canary, "Deployment istiod-canary", "REVISION").as_deref(), Some("canary"));
    find(&canary, "ConfigMap istio-canary");
    let hook = find(&canary, "ValidatingWebhookConfiguration istio-validator-canary-istio-system");
    assert_eq!(hook["webhooks"][0]["objectSelector"], json!({"matchLabels": {"istio.io/rev": "canary"}}));
    assert_eq!(hook["webhooks"][0]["clientConfig"]["service"]["name"], "istiod-canary");
    let rules = list(find(&canary, "Role istiod-canary"), "/rules");
    let leases = rules.iter().filter(|rule| rule["resourceNames"] == json!(["lateen-leader-canary"]));
    assert_eq!(leases.count(), 1);
    // ztunnel is one per node, whatever its control plane.
    let moved = rendered(&["global.revision=\"canary\""]);
    let address = variable(&moved, "DaemonSet ztunnel", "XDS_ADDRESS");
    assert_eq!(address.as_deref(), Some("istiod-canary.istio-system.svc:15012"));
    let named: BTreeSet<String> = rendered(&["global.revision=\"default\""]).iter().map(key).collect();
    assert_eq!(named, keys);
}

#[test]
fn values_arrive_where_they_belong() {
    let all = rendered(&[
        "global={\"hub\":\"registry.example:5000/mesh\",\"tag\":\"v7\",\"trustDomain\":\"td\",\"network\":\"n1\",\
         \"imagePullSecrets\":[\"key\"],\"clusterName\":\"c1\",\"logFormat\":\"json\"}",
        "controller={\"replicas\":1,\"webhook\":false,\"trustedNodeAccounts\":[\"edge/ztunnel\"],\
         \"meshConfig\":{\"discoverySelectors\":[{\"matchLabels\":{\"mesh\":\"yes\"}}]},\"env\":{\"X\":1},\
         \"waypoint\":{\"replicas\":3,\"tolerations\":[{\"operator\":\"Exists\"}]}}",
        "cni={\"image\":\"other.example/cni@sha256:00\",\"shareHostNetwork\":false,\"moreCapabilities\":[\"DAC_OVERRIDE\"],\
         \"cniBinDir\":\"/var/lib/cni/bin\",\"excludeNamespaces\":[\"a\",\"b\"]}",
        "ztunnel={\"sameNode\":\"hbone\",\"terminationGracePeriodSeconds\":300}",
    ]);
    for workload in workloads(&all) {
        let image = word(workload, "/spec/template/spec/containers/0/image");
        let own = key(workload) == "DaemonSet istio-cni-node";
        let expected = if own { "other.example/cni@sha256:00" } else { "registry.example:5000/mesh/" };
        assert!(image.starts_with(expected) && (own || image.ends_with(":v7")), "{image}");
        assert_eq!(workload["spec"]["template"]["spec"]["imagePullSecrets"], json!([{"name": "key"}]));
        assert_eq!(variable(&all, &key(workload), "LOG_FORMAT").as_deref(), Some("json"));
    }
    let said = |workload: &str, name: &str| variable(&all, workload, name).unwrap_or_default();
    for (workload, name, value) in [
        ("Deployment istiod", "TRUST_DOMAIN", "td"),
        ("Deployment istiod", "CLUSTER_ID", "c1"),
        ("Deployment istiod", "CA_TRUSTED_NODE_ACCOUNTS", "istio-system/ztunnel,edge/ztunnel"),
        ("Deployment istiod", "X", "1"),
        ("DaemonSet istio-cni-node", "EXCLUDE_NAMESPACES", "a,b"),
        ("DaemonSet istio-cni-node", "ALLOW_SWITCH_TO_HOST_NS", "true"),
        ("DaemonSet ztunnel", "TRUST_DOMAIN", "td"),
        ("DaemonSet ztunnel", "ISTIO_META_CLUSTER_ID", "c1"),
        ("DaemonSet ztunnel", "NETWORK", "n1"),
        ("DaemonSet ztunnel", "SAME_NODE", "hbone"),
        ("DaemonSet ztunnel", "TERMINATION_GRACE_PERIOD_SECONDS", "300"),
    ] {
        assert_eq!(said(workload, name), value, "{workload} {name}");
    }
    let gateways: Value = serde_json::from_str(&said("Deployment istiod", "GATEWAY_DEFAULTS")).expect("JSON");
    assert_eq!(
        (&gateways["image"], &gateways["replicas"]),
        (&json!("registry.example:5000/mesh/waypoint:v7"), &json!(3))
    );
    assert_eq!((&gateways["imagePullSecrets"], &gateways["logFormat"]), (&json!([{"name": "key"}]), &json!("json")));
    assert_eq!(gateways["tolerations"], json!([{"operator": "Exists"}]));
    let agent = &find(&all, "DaemonSet istio-cni-node")["spec"]["template"]["spec"];
    assert_eq!(agent["hostNetwork"], json!(false));
    assert_eq!(agent["volumes"][0]["hostPath"]["path"], "/var/lib/cni/bin");
    let capabilities = &agent["containers"][0]["securityContext"]["capabilities"]["add"];
    assert_eq!(capabilities, &json!(["NET_ADMIN", "SYS_ADMIN", "SYS_PTRACE", "DAC_OVERRIDE"]));
    let ztunnel = &find(&all, "DaemonSet ztunnel")["spec"]["template"]["spec"];
    assert_eq!(ztunnel["terminationGracePeriodSeconds"], 300);
    let settings = word(find(&all, "ConfigMap istio"), "/data/mesh");
    assert_eq!(
        objects(settings),
        [json!({"trustDomain": "td", "discoverySelectors": [{"matchLabels": {"mesh": "yes"}}]})]
    );
}

#[test]
fn a_waypoint_is_a_gateway_and_what_differs_from_the_mesh() {
    let plain = render_chart("waypoint", "shop", &[]).expect("the defaults work");
    assert_eq!(
        plain.iter().map(key).collect::<Vec<_>>(),
        ["Gateway lateen"],
        "nothing differs, so there are no patches"
    );
    let listener = json!({
        "name": "mesh", "port": 15008, "protocol": "HBONE", "allowedRoutes": {"namespaces": {"from": "Same"}},
    });
    assert_eq!(plain[0]["spec"], json!({"gatewayClassName": "istio-waypoint", "listeners": [listener]}));
    let all = render_chart(
        "waypoint",
        "shop",
        &[
            "name=\"web\"",
            "waypointFor=\"all\"",
            "forServiceAccount=\"web\"",
            "revision=\"canary\"",
            "replicas=3",
            "resources={\"limits\":{\"cpu\":\"4\"}}",
            "service={\"spec\":{\"trafficDistribution\":\"PreferSameZone\"}}",
        ],
    )
    .expect("these values work");
    let gateway = find(&all, "Gateway web");
    for (path, expected) in [
        ("/metadata/namespace", "shop"),
        ("/metadata/labels/istio.io~1waypoint-for", "all"),
        ("/metadata/labels/istio.io~1rev", "canary"),
        ("/metadata/annotations/istio.io~1for-service-account", "web"),
        ("/spec/infrastructure/parametersRef/name", "web-options"),
    ] {
        assert_eq!(word(gateway, path), expected, "{path}");
    }
    let patches = find(&all, "ConfigMap web-options");
    let containers = json!([{"name": "istio-proxy", "resources": {"limits": {"cpu": "4"}}}]);
    assert_eq!(
        objects(word(patches, "/data/deployment")),
        [json!({"spec": {"replicas": 3, "template": {"spec": {"containers": containers}}}})]
    );
    assert_eq!(objects(word(patches, "/data/service")), [json!({"spec": {"trafficDistribution": "PreferSameZone"}})]);
    assert_eq!(patches.pointer("/data/horizontalPodAutoscaler"), None);
    let scaled =
        render_chart("waypoint", "shop", &["autoscaling.enabled=true", "replicas=3"]).expect("these values work");
    let patches = find(&scaled, "ConfigMap lateen-options");
    assert_eq!(patches.pointer("/data/deployment"), None, "the number is the autoscaler's");
    let scaler = &objects(word(patches, "/data/horizontalPodAutoscaler"))[0]["spec"];
    assert_eq!((&scaler["minReplicas"], &scaler["maxReplicas"]), (&json!(2), &json!(5)));
}

#[test]
fn a_gateway_listens_on_what_its_values_say() {
    let listeners = json!([
        {"name": "http", "port": 80, "protocol": "HTTP"},
        {"name": "https", "port": 443, "protocol": "HTTPS", "hostname": "*.example.com",
         "tls": {"mode": "Terminate", "certificateRefs": [{"name": "example"}]}},
    ]);
    let values = [&format!("listeners={listeners}"), "serviceType=\"ClusterIP\"", "address=\"10.0.0.7\""];
    let all = render_chart("gateway", "edge", &values).expect("these values work");
    assert_eq!(all.iter().map(key).collect::<Vec<_>>(), ["Gateway lateen"]);
    assert_eq!(all[0]["spec"]["listeners"], listeners);
    assert_eq!(all[0]["spec"]["addresses"], json!([{"type": "IPAddress", "value": "10.0.0.7"}]));
    assert_eq!(word(&all[0], "/metadata/annotations/networking.istio.io~1service-type"), "ClusterIP");
    assert_eq!(word(&all[0], "/spec/gatewayClassName"), "istio");
}

#[test]
fn values_of_gateways_that_cannot_work_are_refused_by_name() {
    for (chart, value, says) in [
        ("waypoint", "waypointFor=\"services\"", "/waypointFor"),
        ("waypoint", "allowedNamespaces={\"from\":\"Everywhere\"}", "/allowedNamespaces/from"),
        ("waypoint", "name=\"My waypoint\"", "/name"),
        ("waypoint", "replica=2", "'replica' not allowed"),
        ("waypoint", "autoscaling.maxReplicas=0", "/autoscaling/maxReplicas"),
        ("waypoint", "service={\"type\":\"NodePort\"}", "'type' not allowed"),
        ("gateway", "listeners=[]", "/listeners"),
        ("gateway", "listeners=[{\"name\":\"a\",\"port\":0,\"protocol\":\"HTTP\"}]", "/listeners/0/port"),
        ("gateway", "listeners=[{\"name\":\"a\",\"port\":80,\"protocol\":\"UDP\"}]", "/listeners/0/protocol"),
        ("gateway", "serviceType=\"ExternalName\"", "/serviceType"),
        ("gateway", "address=\"gw.example.com\"", "/address"),
    ] {
        let error = render_chart(chart, "edge", &[value]).map(|_| ()).expect_err(value);
        assert!(error.contains(says), "{chart}, {value}: {error}");
    }
}

/// What is switched off leaves nothing behind that asks for it.
#[test]
fn what_is_off_needs_no_rights() {
    let all = rendered(&["controller={\"replicas\":1,\"webhook\":false,\"waypoint\":{\"enabled\":false}}"]);
    let of_gateways = ["deployments", "poddisruptionbudgets", "gatewayclasses/status", "serviceaccounts"];
    for role in all.iter().filter(|one| ["Role", "ClusterRole"].contains(&word(one, "/kind"))) {
        for rule in list(role, "/rules") {
            let found = list(rule, "/resources").iter().filter_map(Value::as_str).find(|one| of_gateways.contains(one));
            assert_eq!(found, None, "{}", key(role));
        }
    }
    let said = variable(&all, "Deployment istiod", "PILOT_ENABLE_GATEWAY_API_DEPLOYMENT_CONTROLLER");
    assert_eq!(said.as_deref(), Some("false"));
    let absent = ["PodDisruptionBudget", "ValidatingWebhookConfiguration"];
    assert!(!all.iter().any(|one| absent.contains(&word(one, "/kind"))), "one replica must not hold up a node's drain");
    let rules = list(find(&all, "ClusterRole istiod-istio-system"), "/rules");
    assert!(!rules.iter().any(|rule| rule["apiGroups"] == json!(["admissionregistration.k8s.io"])));
    let trial =
        list(find(&all, "Role istiod"), "/rules").iter().any(|rule| rule["apiGroups"] == json!(["security.istio.io"]));
    assert!(!trial);
}

#[test]
fn kinds_outlive_the_release_and_may_be_left_out() {
    let kinds = |values: &[&str]| -> Vec<Value> {
        rendered(values).into_iter().filter(|one| word(one, "/kind") == "CustomResourceDefinition").collect()
    };
    let all = kinds(&[]);
    assert_eq!(all.len(), std::fs::read_dir(root().join("deploy/crds")).expect("a directory").count());
    for one in &all {
        let file = objects(&text(&format!("deploy/crds/{}.yaml", word(one, "/metadata/name")))).remove(0);
        assert!(plain(&one["spec"]) == plain(&file["spec"]), "{} differs from its file", key(one));
        assert_eq!(word(one, "/metadata/annotations/helm.sh~1resource-policy"), "keep", "{}", key(one));
    }
    let some = kinds(&["base={\"excludedCRDs\":[\"wasmplugins.extensions.istio.io\"],\"keepCRDs\":false}"]);
    assert_eq!(some.len(), all.len() - 1);
    assert!(some.iter().all(|one| one.pointer("/metadata/annotations/helm.sh~1resource-policy").is_none()));
    assert!(kinds(&["base.crds=false"]).is_empty());
}

/// The same with all numbers of one kind: helm writes 0 for 0.0.
fn plain(value: &Value) -> Value {
    match value {
        Value::Number(number) => json!(number.as_f64()),
        Value::Array(all) => all.iter().map(plain).collect(),
        Value::Object(all) => all.iter().map(|(name, value)| (name.clone(), plain(value))).collect(),
        other => other.clone(),
    }
}
