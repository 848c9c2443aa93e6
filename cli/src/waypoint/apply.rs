//! `lateen waypoint apply`.

use std::{process::ExitCode, time::Duration};

use anyhow::bail;
use clap::Args;
use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api,
    api::{DynamicObject, Patch, PatchParams},
};
use lateen_cluster::labels;
use serde_json::json;
use tokio::time::Instant;

use super::{
    cluster::{Cluster, Found, asked},
    manifest::{self, Asked},
    show,
};
use crate::output;

/// Who writes, as server-side apply records it.
const FIELD_MANAGER: &str = "lateen";
const LOOK_EVERY: Duration = Duration::from_secs(1);

#[derive(Debug, Args)]
pub(super) struct Apply {
    #[command(flatten)]
    asked: Asked,
    /// Label the namespace so that everything in it uses the waypoint
    #[arg(long)]
    enroll_namespace: bool,
    /// With --enroll-namespace: replace the label of a namespace that uses another waypoint
    #[arg(long)]
    overwrite: bool,
    /// Wait until the waypoint is programmed
    #[arg(short, long)]
    wait: bool,
    /// How many seconds to wait
    #[arg(long, default_value_t = 90)]
    waypoint_timeout: u64,
}

pub(super) async fn run(cluster: &Cluster, name: &str, words: &Apply) -> anyhow::Result<ExitCode> {
    let namespaces: Api<Namespace> = Api::all(cluster.client.clone());
    if words.enroll_namespace {
        let space = asked("reading the namespace", namespaces.get(&cluster.namespace)).await?;
        let label = |key: &str| space.metadata.labels.as_ref().and_then(|all| all.get(key));
        if let Some(used) = label(labels::USE_WAYPOINT).filter(|used| *used != name && !words.overwrite) {
            output::line(format_args!(
                "namespace {} uses the waypoint {used} already; nothing was applied (see --overwrite)",
                cluster.namespace
            ))?;
            return Ok(ExitCode::SUCCESS);
        }
        if label(labels::DATAPLANE_MODE).is_none_or(|mode| mode != labels::MODE_AMBIENT) {
            output::line(format_args!(
                "warning: namespace {} is not in the mesh; label it {}={}",
                cluster.namespace,
                labels::DATAPLANE_MODE,
                labels::MODE_AMBIENT
            ))?;
        }
    }
    let gateway = manifest::gateway(name, Some(&cluster.namespace), &words.asked);
    // Not forced: what somebody else wrote of the Gateway stays, and is named.
    let params = PatchParams::apply(FIELD_MANAGER);
    let patch = Patch::Apply(&gateway);
    asked("applying the Gateway", cluster.gateways().patch(name, &params, &patch)).await?;
    output::line(format_args!("waypoint {}/{name} applied", cluster.namespace))?;
    if words.wait {
        programmed(cluster, name, Duration::from_secs(words.waypoint_timeout)).await?;
        output::line(format_args!("waypoint {}/{name} is ready", cluster.namespace))?;
    }
    if words.enroll_namespace {
        let label = Patch::Merge(json!({"metadata": {"labels": {labels::USE_WAYPOINT: name}}}));
        let params = PatchParams::default();
        asked("labelling the namespace", namespaces.patch(&cluster.namespace, &params, &label)).await?;
        output::line(format_args!("namespace {} labelled {}={name}", cluster.namespace, labels::USE_WAYPOINT))?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn programmed(cluster: &Cluster, name: &str, wait: Duration) -> anyhow::Result<()> {
    let end = Instant::now() + wait;
    loop {
        let object: DynamicObject = asked("reading the Gateway", cluster.gateways().get(name)).await?;
        let generation = object.metadata.generation;
        let found = Found { namespace: cluster.namespace.clone(), name: name.to_owned(), object };
        // What is said of an earlier generation is not said of this one.
        let is_new = |one: &serde_json::Value| one["observedGeneration"].as_i64() == generation || generation.is_none();
        let current = found.conditions().iter().any(|one| one["type"] == "Programmed" && is_new(one));
        if current && found.condition("Programmed") == Some("True") {
            return Ok(());
        }
        if Instant::now() >= end {
            bail!("{}; waited {wait:?}", show::said(&found));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
