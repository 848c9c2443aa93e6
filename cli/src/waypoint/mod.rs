//! `lateen waypoint`: the waypoints of a cluster as `kubectl` knows it.
//!
//! In: names, flags, the cluster of the kubeconfig. Out: Gateways written, listed or removed; what their status says.
//! Absent on purpose: running anything. The controller makes what a Gateway asks for.

mod apply;
mod cluster;
mod delete;
mod manifest;
mod show;

use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, Subcommand};

use crate::output;

/// The verbs of `lateen waypoint`.
#[derive(Debug, Args)]
pub(crate) struct Waypoint {
    #[command(flatten)]
    at: cluster::At,
    /// The waypoint's name
    #[arg(long, global = true, default_value = manifest::USUAL_NAME)]
    name: String,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Print the waypoint's Gateway
    Generate(manifest::Asked),
    /// Write the waypoint's Gateway into the cluster
    Apply(apply::Apply),
    /// Remove waypoints
    Delete(delete::Delete),
    /// Show the waypoints
    List {
        /// Of all namespaces
        #[arg(short = 'A', long)]
        all_namespaces: bool,
    },
    /// Show what the waypoints' conditions say
    Status {
        /// Of all namespaces
        #[arg(short = 'A', long)]
        all_namespaces: bool,
        /// Wait until they are programmed
        #[arg(long, default_value_t = true, action = clap::ArgAction::Set)]
        wait: bool,
        /// How many seconds to wait
        #[arg(long, default_value_t = 90)]
        waypoint_timeout: u64,
    },
}

/// Does what the verb says.
pub(crate) fn run(asked: &Waypoint) -> anyhow::Result<ExitCode> {
    let name = manifest::name(&asked.name)?;
    if let Verb::Generate(words) = &asked.verb {
        let gateway = manifest::gateway(name, asked.at.namespace.as_deref(), words);
        output::Output::Yaml.print(&gateway)?;
        return Ok(ExitCode::SUCCESS);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting the runtime")?;
    runtime.block_on(async {
        let cluster = asked.at.connect().await?;
        match &asked.verb {
            Verb::Generate(_) => Ok(ExitCode::SUCCESS),
            Verb::Apply(words) => apply::run(&cluster, name, words).await,
            Verb::Delete(words) => delete::run(&cluster, words).await,
            Verb::List { all_namespaces } => show::list(&cluster, *all_namespaces).await,
            Verb::Status { all_namespaces, wait, waypoint_timeout } => {
                let wait = wait.then(|| std::time::Duration::from_secs(*waypoint_timeout));
                show::status(&cluster, *all_namespaces, wait).await
            }
        }
    })
}
