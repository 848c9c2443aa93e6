//! `lateen cni`: what the agents of a cluster's nodes say of the pods they enrolled.
//!
//! In: a cluster as `kubectl` knows it. Out: each agent's own findings, by node.
//! Absent on purpose: looking ourselves. Only the agent can enter pods' namespaces, so it is asked in its own pod.

use std::process::{Command, ExitCode};

use anyhow::{Context as _, bail};
use clap::Subcommand;

use crate::output;

/// The verbs of `lateen cni`.
#[derive(Debug, Subcommand)]
pub(crate) enum Cni {
    /// Compare the rules in pods with the rules they should have; ends with 1 where they differ
    Verify {
        /// Where the agents are
        #[arg(short, long, default_value = "istio-system")]
        namespace: String,
        /// Only this node
        #[arg(long)]
        node: Option<String>,
    },
}

/// Does what the verb says.
pub(crate) fn run(verb: &Cni) -> anyhow::Result<ExitCode> {
    let Cni::Verify { namespace, node } = verb;
    let path = r#"jsonpath={range .items[*]}{.spec.nodeName} {.metadata.name}{"\n"}{end}"#;
    let agents = kubectl(&["get", "pods", "-n", namespace, "-l", "k8s-app=istio-cni-node", "-o", path])?;
    if !agents.success {
        bail!("asking for the agents' pods: {}", agents.text.trim_end());
    }
    let mut looked_at = 0;
    let mut fine = true;
    for (on, pod) in agents.text.lines().filter_map(|line| line.split_once(' ')) {
        if node.as_ref().is_some_and(|node| node != on) {
            continue;
        }
        looked_at += 1;
        output::line(format_args!("{on}:"))?;
        let found = kubectl(&["exec", "-n", namespace, pod, "--", "lateen-cni-agent", "verify"])?;
        fine &= found.success;
        for line in found.text.lines() {
            output::line(format_args!("  {line}"))?;
        }
    }
    if looked_at == 0 {
        bail!(
            "no agent was found in namespace {namespace}; is the DaemonSet istio-cni-node there, and the node named rightly?"
        );
    }
    Ok(if fine { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

struct Answer {
    success: bool,
    text: String,
}

fn kubectl(arguments: &[&str]) -> anyhow::Result<Answer> {
    let output = Command::new("kubectl").args(arguments).output().context("starting kubectl; is it installed?")?;
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    Ok(Answer { success: output.status.success(), text })
}
