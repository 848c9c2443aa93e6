//! `lateen lab up`.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::Context as _;
use clap::Args;
use lateen_lab::{
    config::{Mesh, Parts},
    world::up::{Life, Start, up},
};

use super::Named;
use crate::output;

/// What to start; a program or an address given here replaces ours.
#[derive(Debug, Args)]
pub(crate) struct Up {
    #[command(flatten)]
    lab: Named,
    /// How many nodes
    #[arg(long, default_value_t = 2)]
    nodes: u8,
    /// Port of the Kubernetes API on 127.0.0.1; 0 takes a free one
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Stay in the foreground; the lab ends with this command
    #[arg(long)]
    foreground: bool,
    /// How many seconds nodes and mesh may take to become ready
    #[arg(long, default_value_t = 180)]
    timeout: u64,
    /// A cluster without a mesh
    #[arg(long)]
    no_mesh: bool,
    #[command(flatten)]
    parts: Replaced,
}

#[derive(Debug, Args)]
struct Replaced {
    /// Program to run as node proxy
    #[arg(long, value_name = "PATH")]
    ztunnel: Option<PathBuf>,
    /// Program to run as CNI node agent
    #[arg(long, value_name = "PATH")]
    cni_agent: Option<PathBuf>,
    /// Program to run as control plane
    #[arg(long, value_name = "PATH")]
    controller: Option<PathBuf>,
    /// CNI plugin the node agent installs
    #[arg(long, value_name = "PATH")]
    cni_plugin: Option<PathBuf>,
    /// Program to run as waypoint and gateway
    #[arg(long, value_name = "PATH")]
    waypoint: Option<PathBuf>,
    /// xDS address for ztunnel, instead of ours
    #[arg(long, value_name = "ADDRESS")]
    xds: Option<String>,
    /// CA address for ztunnel, instead of ours
    #[arg(long, value_name = "ADDRESS")]
    ca: Option<String>,
}

pub(crate) fn run(asked: &Up) -> anyhow::Result<ExitCode> {
    let life = if asked.foreground { Life::WithCaller } else { Life::OnItsOwn };
    let start = Start {
        name: asked.lab.name.clone(),
        nodes: asked.nodes,
        port: asked.port,
        mesh: if asked.no_mesh { Mesh::None } else { Mesh::With(parts(&asked.parts)?) },
        life,
        timeout: Duration::from_secs(asked.timeout),
    };
    // The lab is what was asked for, not its story: without a reader it comes up, and stays, all the same.
    let running = up(&start, |step| drop(output::line(format_args!("  {step}"))))?;
    let used = output::line("The lab is up. Use it with:")
        .and_then(|()| output::line(format_args!("KUBECONFIG={}", running.state.kubeconfig().display())));
    if life == Life::WithCaller {
        running.stay()?;
    }
    used?;
    Ok(ExitCode::SUCCESS)
}

fn parts(replaced: &Replaced) -> anyhow::Result<Parts> {
    Ok(Parts {
        ztunnel: program(replaced.ztunnel.as_deref())?,
        cni_agent: program(replaced.cni_agent.as_deref())?,
        controller: program(replaced.controller.as_deref())?,
        cni_plugin: program(replaced.cni_plugin.as_deref())?,
        waypoint: program(replaced.waypoint.as_deref())?,
        xds: replaced.xds.clone(),
        ca: replaced.ca.clone(),
    })
}

/// The full path: the lab's processes have another working directory.
fn program(path: Option<&Path>) -> anyhow::Result<Option<PathBuf>> {
    let Some(path) = path else { return Ok(None) };
    path.canonicalize().map(Some).with_context(|| format!("looking for the program {}", path.display()))
}
