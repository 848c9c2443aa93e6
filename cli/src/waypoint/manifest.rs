//! A waypoint's Gateway, as `generate` prints and `apply` writes it (pure).

use anyhow::bail;
use clap::{Args, ValueEnum};
use lateen_cluster::labels;
use serde_json::{Value, json};

/// What a waypoint is called where nothing is said.
pub(super) const USUAL_NAME: &str = "waypoint";
/// The classes of waypoints.
pub(super) const CLASSES: [&str; 2] = ["istio-waypoint", "lateen-waypoint"];

/// What a waypoint is to be.
#[derive(Debug, Clone, Args)]
pub(super) struct Asked {
    /// The traffic it takes; by itself that to services
    #[arg(long = "for", value_enum)]
    traffic: Option<Traffic>,
    /// The control plane's revision that runs it
    #[arg(short, long)]
    revision: Option<String>,
    /// Its class
    #[arg(long, default_value = CLASSES[0], value_parser = CLASSES)]
    class: String,
    /// Make it the waypoint of the workloads of this service account, without any label of theirs
    #[arg(long)]
    for_service_account: Option<String>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Traffic {
    All,
    None,
    Service,
    Workload,
}

/// The name to use; an empty one is the usual one.
pub(super) fn name(given: &str) -> anyhow::Result<&str> {
    match given {
        "" => Ok(USUAL_NAME),
        labels::NO_WAYPOINT => bail!("a waypoint cannot be called {given:?}: that word means that there is none"),
        name => Ok(name),
    }
}

/// The Gateway. Without a namespace it is for whatever namespace it is applied in.
pub(super) fn gateway(name: &str, namespace: Option<&str>, asked: &Asked) -> Value {
    let mut labels = serde_json::Map::new();
    if let Some(traffic) = asked.traffic.and_then(|traffic| traffic.to_possible_value()) {
        labels.insert(labels::WAYPOINT_FOR.to_owned(), json!(traffic.get_name()));
    }
    if let Some(revision) = &asked.revision {
        labels.insert(labels::REVISION.to_owned(), json!(revision));
    }
    let mut metadata = json!({"name": name});
    if let Some(namespace) = namespace {
        metadata["namespace"] = json!(namespace);
    }
    if !labels.is_empty() {
        metadata["labels"] = Value::Object(labels);
    }
    if let Some(account) = &asked.for_service_account {
        metadata["annotations"] = json!({labels::FOR_SERVICE_ACCOUNT: account});
    }
    json!({
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "Gateway",
        "metadata": metadata,
        "spec": {
            "gatewayClassName": asked.class,
            "listeners": [{"name": "mesh", "port": 15008, "protocol": "HBONE"}],
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked() -> Asked {
        Asked { traffic: None, revision: None, class: CLASSES[0].to_owned(), for_service_account: None }
    }

    #[test]
    fn only_what_is_asked_for_is_written() {
        let bare = gateway("waypoint", None, &asked());
        assert_eq!(bare["metadata"], json!({"name": "waypoint"}));
        assert_eq!(bare["spec"]["listeners"], json!([{"name": "mesh", "port": 15008, "protocol": "HBONE"}]));
        let full = Asked {
            traffic: Some(Traffic::All),
            revision: Some("canary".to_owned()),
            class: "lateen-waypoint".to_owned(),
            for_service_account: Some("web".to_owned()),
        };
        let full = gateway("w", Some("shop"), &full);
        let metadata = json!({
            "name": "w", "namespace": "shop", "labels": {"istio.io/waypoint-for": "all", "istio.io/rev": "canary"},
            "annotations": {"istio.io/for-service-account": "web"},
        });
        assert_eq!(full["metadata"], metadata);
        assert_eq!(full["spec"]["gatewayClassName"], "lateen-waypoint");
    }

    #[test]
    fn none_is_no_name() {
        assert_eq!(name("").expect("usual"), "waypoint");
        assert_eq!(name("w").expect("given"), "w");
        assert!(name("none").is_err());
    }
}
