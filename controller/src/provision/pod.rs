//! The pods of a Gateway.
//!
//! In: the Gateway with its names. Out: a pod template; a word on what an overlay may not add to it.

use lateen_cluster::labels;
use serde_json::{Value, json};

use super::{
    classes::Role,
    plan::{Maker, Refused},
};

/// The user and group of the image.
const USER: u32 = 1337;
const GRACE_SECONDS: u32 = 30;
/// How long open connections may last once a pod is told to end; the rest of the grace is for the end itself.
const DRAIN_SECONDS: u32 = 25;
/// How long a token lives; it is renewed long before.
const TOKEN_SECONDS: u32 = 43_200;
/// Whom the token is for.
const TOKEN_AUDIENCE: &str = "istio-ca";

/// The pod template of the Deployment.
pub(super) fn template(maker: &Maker<'_>) -> Value {
    let defaults = maker.around.defaults;
    let mut spec = json!({
        "serviceAccountName": maker.account,
        // It asks the API for nothing: what it needs comes from the control plane, with a token for that alone.
        "automountServiceAccountToken": false,
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        "securityContext": {
            "runAsNonRoot": true, "runAsUser": USER, "runAsGroup": USER, "seccompProfile": {"type": "RuntimeDefault"},
        },
        "nodeSelector": defaults.node_selector,
        "tolerations": defaults.tolerations,
        "affinity": affinity(maker),
        "topologySpreadConstraints": [
            spread(maker, "topology.kubernetes.io/zone"), spread(maker, "kubernetes.io/hostname"),
        ],
        "containers": [container(maker)],
        "volumes": [
            {"name": "istio-token", "projected": {"sources": [{"serviceAccountToken":
                {"path": "istio-token", "expirationSeconds": TOKEN_SECONDS, "audience": TOKEN_AUDIENCE}}]}},
            {"name": "istiod-ca-cert", "configMap": {"name": "istio-ca-root-cert"}},
            {"name": "tmp", "emptyDir": {}},
        ],
    });
    if maker.subject.class.role == Role::Gateway {
        // So that a user who is not root can listen on 80 and 443, in this pod's own network namespace.
        spec["securityContext"]["sysctls"] = json!([{"name": "net.ipv4.ip_unprivileged_port_start", "value": "0"}]);
    }
    if !defaults.image_pull_secrets.is_empty() {
        spec["imagePullSecrets"] = json!(defaults.image_pull_secrets);
    }
    json!({"metadata": {"labels": pod_labels(maker), "annotations": pod_annotations(maker)}, "spec": spec})
}

fn pod_labels(maker: &Maker<'_>) -> Value {
    let mut all = maker.labels();
    let usual = [
        (labels::CANONICAL_NAME, maker.name),
        (labels::CANONICAL_REVISION, "latest"),
        (labels::DATAPLANE_MODE, labels::MODE_NONE),
    ];
    for (key, value) in usual {
        all.entry(key.to_owned()).or_insert_with(|| value.to_owned());
    }
    all.insert("sidecar.istio.io/inject".to_owned(), "false".to_owned());
    if !maker.around.network.is_empty() {
        all.entry(labels::NETWORK.to_owned()).or_insert_with(|| maker.around.network.to_owned());
    }
    json!(all)
}

fn pod_annotations(maker: &Maker<'_>) -> Value {
    let mut all = maker.annotations();
    let revision = if maker.around.revision.is_empty() { "default" } else { maker.around.revision };
    let own = [
        ("prometheus.io/scrape", "true"),
        ("prometheus.io/port", "15020"),
        ("prometheus.io/path", "/stats/prometheus"),
        (labels::REVISION, revision),
    ];
    all.extend(own.map(|(key, value)| (key.to_owned(), value.to_owned())));
    json!(all)
}

/// Rather apart: the loss of a node is not the loss of the waypoint.
fn affinity(maker: &Maker<'_>) -> Value {
    if maker.around.defaults.affinity.as_object().is_some_and(|given| !given.is_empty()) {
        return maker.around.defaults.affinity.clone();
    }
    json!({"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{
        "weight": 100,
        "podAffinityTerm": {
            "topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": maker.selector()},
        },
    }]}})
}

fn spread(maker: &Maker<'_>, over: &str) -> Value {
    json!({
        "maxSkew": 1, "topologyKey": over, "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": maker.selector()},
    })
}

fn container(maker: &Maker<'_>) -> Value {
    let defaults = maker.around.defaults;
    let role = match maker.subject.class.role {
        Role::Waypoint => "waypoint",
        Role::Gateway => "gateway",
    };
    let probe = json!({"path": "/healthz/ready", "port": 15021});
    json!({
        "name": "istio-proxy",
        "image": defaults.image,
        "imagePullPolicy": defaults.image_pull_policy,
        "args": ["proxy", role],
        "ports": [
            {"containerPort": 15020, "name": "metrics", "protocol": "TCP"},
            {"containerPort": 15021, "name": "status-port", "protocol": "TCP"},
            {"containerPort": 15008, "name": "hbone", "protocol": "TCP"},
        ],
        "securityContext": {
            "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]},
        },
        "startupProbe": {
            "httpGet": probe, "initialDelaySeconds": 1, "periodSeconds": 1, "timeoutSeconds": 1, "failureThreshold": 60,
        },
        "readinessProbe": {"httpGet": probe, "periodSeconds": 3, "timeoutSeconds": 1, "failureThreshold": 4},
        "resources": defaults.resources,
        "env": environment(maker),
        "volumeMounts": [
            {"name": "istio-token", "mountPath": "/var/run/secrets/tokens", "readOnly": true},
            {"name": "istiod-ca-cert", "mountPath": "/var/run/secrets/istio", "readOnly": true},
            {"name": "tmp", "mountPath": "/tmp"},
        ],
    })
}

fn environment(maker: &Maker<'_>) -> Vec<Value> {
    let around = maker.around;
    let suffix = match around.revision {
        "" | "default" => String::new(),
        revision => format!("-{revision}"),
    };
    let control = format!("istiod{suffix}.{}.svc:15012", around.namespace);
    let field = |name: &str, path: &str| json!({"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}});
    let value = |name: &str, value: &str| json!({"name": name, "value": value});
    vec![
        field("POD_NAME", "metadata.name"),
        field("POD_NAMESPACE", "metadata.namespace"),
        field("NODE_NAME", "spec.nodeName"),
        field("INSTANCE_IP", "status.podIP"),
        field("SERVICE_ACCOUNT", "spec.serviceAccountName"),
        value("GATEWAY_NAME", &maker.subject.key.name),
        value("XDS_ADDRESS", &control),
        value("CA_ADDRESS", &control),
        value("CLUSTER_ID", &around.mesh.cluster),
        value("TRUST_DOMAIN", &around.mesh.trust_domain),
        value("NETWORK", around.network),
        // So many threads, on a node that has more processors than the pod may use. Without a limit it is the node's number.
        json!({"name": "CPU_LIMIT", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}}),
        value("TERMINATION_DRAIN_DURATION", &format!("{DRAIN_SECONDS}s")),
        value("RUST_LOG", &around.defaults.log_level),
        value("LOG_FORMAT", &around.defaults.log_format),
    ]
}

/// What an overlay must not make of our pods. We write it with rights its author need not have: what reaches beyond the
/// pod, into its node or another identity, stays closed.
pub(super) fn harmless(spec: &Value, account: &str) -> Result<(), Refused> {
    let refused = |what: String| Err(Refused::parameters(format!("overlay deployment: {what}")));
    for field in ["hostNetwork", "hostPID", "hostIPC"] {
        if spec[field] == json!(true) {
            return refused(format!("spec.template.spec.{field} is not allowed for proxies of Gateways"));
        }
    }
    for other in ["serviceAccountName", "serviceAccount"] {
        if spec[other].as_str().is_some_and(|given| given != account) {
            let instead = labels::GATEWAY_ACCOUNT;
            return refused(format!("spec.template.spec.{other} is not allowed; use the annotation {instead}"));
        }
    }
    let list = |field: &str| spec[field].as_array().cloned().unwrap_or_default();
    if let Some(volume) = list("volumes").iter().find(|volume| !volume["hostPath"].is_null()) {
        return refused(format!("volume {}: hostPath is not allowed for proxies of Gateways", volume["name"]));
    }
    for container in ["containers", "initContainers", "ephemeralContainers"].iter().flat_map(|field| list(field)) {
        let context = &container["securityContext"];
        let adds = context["capabilities"]["add"].as_array().is_some_and(|added| !added.is_empty());
        let unmasks = context["procMount"].as_str().is_some_and(|mount| mount != "Default");
        let host = context["windowsOptions"]["hostProcess"] == json!(true);
        if context["privileged"] == json!(true)
            || context["allowPrivilegeEscalation"] == json!(true)
            || adds
            || unmasks
            || host
        {
            return refused(format!(
                "container {}: its securityContext asks for more than a proxy may have (privileged, \
                 allowPrivilegeEscalation, capabilities.add, procMount, hostProcess)",
                container["name"]
            ));
        }
    }
    Ok(())
}
