//! `lateen lab`: start, find, enter and end a lab.

use std::{
    os::unix::process::CommandExt as _,
    process::{Command, ExitCode},
};

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use lateen_lab::world::{
    enter::{self, Place},
    state::StateDir,
    up::down,
};

use crate::output;

pub(crate) mod capture;
mod up;

/// The verbs of `lateen lab`.
#[derive(Debug, Subcommand)]
pub(crate) enum Lab {
    /// Start a lab and wait until it is ready
    Up(up::Up),
    /// End a lab
    Down(Named),
    /// Say whether a lab runs, and how to use it
    Status(Named),
    /// Run a command in a pod of a lab
    Exec(Exec),
    /// Run the host's kubectl against a lab
    Kubectl(Kubectl),
    /// Record what crosses the first node's wire until standard input ends, then print it, one TCP flow a line
    Capture(Named),
}

/// Which lab.
#[derive(Debug, Clone, Args)]
pub(crate) struct Named {
    /// The lab's name
    #[arg(long, default_value = "default")]
    pub name: String,
}

#[derive(Debug, Args)]
pub(crate) struct Exec {
    #[command(flatten)]
    lab: Named,
    /// The pod's namespace
    #[arg(short, long, default_value = "default")]
    namespace: String,
    /// The container; the first one by default
    #[arg(short, long)]
    container: Option<String>,
    /// The pod
    pod: String,
    /// The command and its arguments
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Kubectl {
    #[command(flatten)]
    lab: Named,
    /// What kubectl is given
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

/// Does what the verb says.
pub(crate) fn run(verb: Lab) -> anyhow::Result<ExitCode> {
    match verb {
        Lab::Up(asked) => up::run(&asked),
        Lab::Down(lab) => {
            output::line(if down(&lab.name)? { "the lab has ended" } else { "there was no such lab" })?;
            Ok(ExitCode::SUCCESS)
        }
        Lab::Status(lab) => status(&lab),
        Lab::Exec(asked) => {
            let place = Place { namespace: asked.namespace, pod: asked.pod, container: asked.container };
            enter::exec(&StateDir::named(&asked.lab.name)?, &place, &asked.command)
        }
        Lab::Capture(lab) => capture::run(&running(&lab)?),
        Lab::Kubectl(asked) => {
            let state = running(&asked.lab)?;
            let failed = Command::new("kubectl").args(asked.arguments).env("KUBECONFIG", state.kubeconfig()).exec();
            Err(failed).context("starting kubectl; is it on PATH?")
        }
    }
}

/// The state of a lab that runs.
fn running(lab: &Named) -> anyhow::Result<StateDir> {
    let state = StateDir::named(&lab.name)?;
    if !state.alive()? {
        bail!("the lab {:?} does not run; start it with `lateen lab up --name {}`", lab.name, lab.name);
    }
    Ok(state)
}

fn status(lab: &Named) -> anyhow::Result<ExitCode> {
    let state = StateDir::named(&lab.name)?;
    if !state.alive()? {
        output::line(format_args!("the lab {:?} does not run", lab.name))?;
        return Ok(ExitCode::FAILURE);
    }
    let last = std::fs::read_to_string(state.progress())?.lines().last().unwrap_or_default().to_owned();
    output::line(format_args!("the lab {:?} runs; its first process is {}", lab.name, state.pid()?))?;
    output::line(format_args!("last step:   {last}"))?;
    output::line(format_args!("log:         {}", state.log().display()))?;
    output::line(format_args!("KUBECONFIG={}", state.kubeconfig().display()))?;
    Ok(ExitCode::SUCCESS)
}
