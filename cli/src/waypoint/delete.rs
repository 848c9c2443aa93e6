//! `lateen waypoint delete`.

use std::process::ExitCode;

use anyhow::bail;
use clap::Args;
use futures::future::join_all;
use k8s_openapi::api::core::v1::{Namespace, Service};
use kube::{
    Api,
    api::{DeleteParams, ListParams, ObjectMeta},
};
use lateen_cluster::labels;

use super::cluster::{Cluster, Found, asked};
use crate::output;

#[derive(Debug, Args)]
pub(super) struct Delete {
    /// Their names
    names: Vec<String>,
    /// All of the namespace
    #[arg(long, conflicts_with_all = ["names", "revision"])]
    all: bool,
    /// All of this revision
    #[arg(short, long, conflicts_with = "names")]
    revision: Option<String>,
}

pub(super) async fn run(cluster: &Cluster, words: &Delete) -> anyhow::Result<ExitCode> {
    if words.names.is_empty() && !words.all && words.revision.is_none() {
        output::line("name the waypoints to delete, or give --all or --revision")?;
        return Ok(ExitCode::from(64));
    }
    let found = cluster.waypoints(false).await?;
    for name in words.names.iter().filter(|name| !found.iter().any(|one| one.name == **name)) {
        output::line(format_args!("there is no waypoint {}/{name}", cluster.namespace))?;
    }
    let is_meant = |one: &&Found| match &words.revision {
        Some(revision) => one.label(labels::REVISION).unwrap_or("default") == revision,
        None => words.all || words.names.contains(&one.name),
    };
    let meant: Vec<&Found> = found.iter().filter(is_meant).collect();
    for user in users(cluster, &meant).await? {
        output::line(format_args!("warning: {user}; traffic to it is refused until the label goes too"))?;
    }
    let api = cluster.gateways();
    let params = DeleteParams::default();
    let deleted = meant.iter().map(|one| {
        let (api, params) = (&api, &params);
        async move { (&one.name, asked("deleting the Gateway", api.delete(&one.name, params)).await) }
    });
    let mut failed = Vec::new();
    for (name, done) in join_all(deleted).await {
        match done {
            Ok(_) => output::line(format_args!("waypoint {}/{name} deleted", cluster.namespace))?,
            Err(error) => failed.push(format!("{name}: {error:#}")),
        }
    }
    if failed.is_empty() { Ok(ExitCode::SUCCESS) } else { bail!("{}", failed.join("; ")) }
}

/// Who asks for one of these waypoints: namespaces and services, wherever they are.
async fn users(cluster: &Cluster, meant: &[&Found]) -> anyhow::Result<Vec<String>> {
    let asks = |meta: &ObjectMeta, own: &str| -> Option<String> {
        let label = |key: &str| meta.labels.as_ref().and_then(|all| all.get(key));
        let name = label(labels::USE_WAYPOINT)?;
        let namespace = label(labels::USE_WAYPOINT_NAMESPACE).map_or(own, String::as_str);
        meant.iter().any(|one| one.name == *name && one.namespace == namespace).then(|| format!("{namespace}/{name}"))
    };
    let labelled = ListParams::default().labels(labels::USE_WAYPOINT);
    let mut users = Vec::new();
    let spaces: Api<Namespace> = Api::all(cluster.client.clone());
    for space in asked("listing namespaces", spaces.list(&labelled)).await? {
        let name = space.metadata.name.clone().unwrap_or_default();
        users.extend(asks(&space.metadata, &name).map(|used| format!("namespace {name} uses {used}")));
    }
    let services: Api<Service> = Api::all(cluster.client.clone());
    for service in asked("listing services", services.list(&labelled)).await? {
        let (name, namespace) = (service.metadata.name.clone(), service.metadata.namespace.clone().unwrap_or_default());
        let used = asks(&service.metadata, &namespace);
        users.extend(used.map(|used| format!("service {namespace}/{} uses {used}", name.unwrap_or_default())));
    }
    Ok(users)
}
