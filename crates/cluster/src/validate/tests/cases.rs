//! The list of invalid inputs as objects. Suites elsewhere read this very file by its path, so that there is one list.

use lateen_cluster::fields::{self, Standing};
use serde::Deserialize;
use serde_json::{Value, json};

/// One case of the lists in `cases/`.
#[derive(Deserialize)]
pub struct Case {
    /// Which row of the list it is of.
    pub row: String,
    kind: String,
    #[serde(default)]
    labels: Value,
    #[serde(default)]
    annotations: Value,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    spec: Value,
    /// `error` or `warning` and the words; absent is none.
    #[serde(default)]
    pub finds: Vec<String>,
    /// Where the API server itself refuses it before it asks anybody, by the schema of the kind (unknown fields, wrong
    /// types, words of no closed set, nulls in lists): a part of its own words. Empty where it drops a null from a map
    /// and takes the rest.
    #[serde(default)]
    pub schema: Option<String>,
}

/// Kinds something acts on. Of all others it is said that nothing does.
const AT_WORK: [&str; 13] = [
    "AuthorizationPolicy",
    "VirtualService",
    "DestinationRule",
    "PeerAuthentication",
    "ServiceEntry",
    "WorkloadEntry",
    "Waypoint",
    "Gateway",
    "HTTPRoute",
    "TLSRoute",
    "Namespace",
    "Pod",
    "Service",
];

impl Case {
    /// The object as a user writes it.
    pub fn object(&self) -> Value {
        let version = match self.kind.as_str() {
            "AuthorizationPolicy" | "PeerAuthentication" | "RequestAuthentication" => "security.istio.io/v1",
            "Waypoint" | "HTTPRoute" | "TLSRoute" => "gateway.networking.k8s.io/v1",
            "Telemetry" => "telemetry.istio.io/v1",
            "WasmPlugin" | "TrafficExtension" => "extensions.istio.io/v1alpha1",
            "EnvoyFilter" => "networking.istio.io/v1alpha3",
            "ProxyConfig" => "networking.istio.io/v1beta1",
            "Namespace" | "Pod" | "Service" => "v1",
            _ => "networking.istio.io/v1",
        };
        let kind = if self.kind == "Waypoint" { "Gateway" } else { &self.kind };
        let mut metadata = json!({"name": self.name.as_deref().unwrap_or("it"), "namespace": "shop"});
        for (field, value) in [("labels", &self.labels), ("annotations", &self.annotations)] {
            if !value.is_null() {
                metadata[field] = value.clone();
            }
        }
        json!({"apiVersion": version, "kind": kind, "metadata": metadata, "spec": self.spec})
    }
}

/// All of them, in their order.
pub fn cases() -> Vec<Case> {
    let lists = [
        include_str!("../cases/layer4.yaml"),
        include_str!("../cases/request_authentication.yaml"),
        include_str!("../cases/virtual_service.yaml"),
        include_str!("../cases/destination_rule.yaml"),
        include_str!("../cases/gateway.yaml"),
        include_str!("../cases/others.yaml"),
    ];
    let read = |list: &str| serde_saphyr::from_str::<Vec<Case>>(list).expect("readable cases");
    let mut all: Vec<Case> = lists.into_iter().flat_map(read).collect();
    all.iter_mut().for_each(of_fields);
    for case in all.iter_mut().filter(|case| !AT_WORK.contains(&case.kind.as_str())) {
        let reason = format!("nothing acts on {} yet", case.kind);
        case.finds.push(format!("warning kind: {reason}; it is kept, and has no effect in this release"));
    }
    all
}

/// What is said of fields that do nothing is said of all of them, where nothing else is.
fn of_fields(case: &mut Case) {
    for unused in fields::unused(&case.kind, &case.object()) {
        let words = match unused.standing {
            Standing::Supported => continue,
            Standing::Ignored(why) => format!("it does nothing; {why}"),
            Standing::Refused(instead) => format!("it is not supported; {instead}"),
        };
        let said = format!(" {}: ", unused.path);
        if !case.finds.iter().any(|one| one.contains(&said)) {
            case.finds.push(format!("warning {}: {words}", unused.path));
        }
    }
}
