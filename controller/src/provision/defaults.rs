//! What the installation says of the proxies of all Gateways: the variable `GATEWAY_DEFAULTS`, as JSON.
//!
//! In: text. Out: [`Defaults`], or what is wrong in it.

use serde::Deserialize;
use serde_json::Value;

/// What pods of Gateways have where nothing else is said.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Defaults {
    /// The whole reference of the image.
    pub image: String,
    /// `Always`, `IfNotPresent` or `Never`.
    pub image_pull_policy: String,
    /// Names of Secrets, as a pod lists them.
    pub image_pull_secrets: Vec<Value>,
    /// How many pods.
    pub replicas: u32,
    /// Requests and limits.
    pub resources: Value,
    /// Nodes they may run on.
    pub node_selector: Value,
    /// Taints they bear.
    pub tolerations: Vec<Value>,
    /// Where they rather run; empty: apart from one another.
    pub affinity: Value,
    /// How verbose the log is.
    pub log_level: String,
    /// `plain` or `json`.
    pub log_format: String,
}

/// The text cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("it is not the JSON the chart writes: {0}")]
pub struct DefaultsError(String);

impl Default for Defaults {
    fn default() -> Self {
        Self {
            image: concat!("localhost/lateen/waypoint:", env!("CARGO_PKG_VERSION")).to_owned(),
            image_pull_policy: "IfNotPresent".to_owned(),
            image_pull_secrets: Vec::new(),
            replicas: 2,
            resources: serde_json::json!({
                "requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"cpu": "2", "memory": "1Gi"}
            }),
            node_selector: serde_json::json!({"kubernetes.io/os": "linux"}),
            tolerations: Vec::new(),
            affinity: Value::Null,
            log_level: "info".to_owned(),
            log_format: "plain".to_owned(),
        }
    }
}

impl Defaults {
    /// Reads the variable.
    pub fn read(text: &str) -> Result<Self, DefaultsError> {
        let read: Self = serde_json::from_str(text).map_err(|error| DefaultsError(error.to_string()))?;
        if read.replicas == 0 {
            return Err(DefaultsError("replicas must be at least 1".to_owned()));
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_said_is_usual_and_what_is_unknown_is_refused() {
        let read = Defaults::read(r#"{"image": "r.example/w:1", "replicas": 3}"#).expect("valid");
        assert_eq!((read.image.as_str(), read.replicas), ("r.example/w:1", 3));
        assert_eq!(read.resources, Defaults::default().resources);
        for wrong in ["", "7", r#"{"replicas": 0}"#, r#"{"replicas": "two"}"#, r#"{"iamge": "x"}"#] {
            assert!(Defaults::read(wrong).is_err(), "{wrong}");
        }
    }
}
