//! The list of invalid inputs as objects. Suites elsewhere read this very file by its path, so that there is one list.

use serde::Deserialize;
use serde_json::{Value, json};

/// One case of `cases.yaml`.
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
}

impl Case {
    /// The object as a user writes it.
    pub fn object(&self) -> Value {
        let version = match self.kind.as_str() {
            "AuthorizationPolicy" | "PeerAuthentication" | "RequestAuthentication" => "security.istio.io/v1",
            "Waypoint" => "gateway.networking.k8s.io/v1",
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
    serde_saphyr::from_str(include_str!("../cases.yaml")).expect("readable cases")
}
