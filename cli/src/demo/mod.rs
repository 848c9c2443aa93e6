//! `lateen demo`: the mesh's main job on a lab, told step by step.
//!
//! In: nothing; it brings up a lab of its own. Out: the story on standard output; exit code 0 only if every step held.
//! Absent on purpose: any shortcut. It does what a person would do, with `kubectl` and `lateen`, and looks at the wire.

use std::{process::ExitCode, time::Duration};

use anyhow::{Context as _, ensure};

mod shell;
mod story;
mod wire;

use shell::{Lab, kubectl};

/// How long any one step may take before the demo gives up and says so.
const STEP_TIMEOUT: Duration = Duration::from_secs(90);

/// Tells the story from beginning to end. The lab ends with it, whatever happens.
pub(crate) fn run() -> anyhow::Result<ExitCode> {
    story::title("Lateen: label a namespace and its pods talk over authorised mTLS")?;
    let lab = Lab::up().context("bringing up the lab")?;
    let pods = deploy()?;
    story::plain(&lab, "before the namespace is labelled")?;
    story::enrol(&lab)?;
    story::identities()?;
    story::deny(&lab)?;
    story::allow_again(&lab)?;
    story::leave(&lab)?;
    ensure!(pod_uids()? == pods, "a pod was replaced on the way; the mesh must not need that");
    story::say("The pods are the same ones as at the beginning; none was restarted.")?;
    lab.down()?;
    story::title("Every step held.")?;
    Ok(ExitCode::SUCCESS)
}

/// Puts the shop up and returns its pods' UIDs.
fn deploy() -> anyhow::Result<String> {
    story::title("1. An application: a client on node-1, a server on node-2")?;
    shell::apply(include_str!("../../../deploy/demo/shop.yaml"), "deploy/demo/shop.yaml")?;
    for deployment in ["deployment/client", "deployment/server"] {
        kubectl(&["rollout", "status", "-n", "shop", deployment, "--timeout=90s"])?;
    }
    kubectl(&["get", "pods", "-n", "shop", "-o", "wide"])?;
    pod_uids()
}

/// UIDs and restart counts: what changes when a pod is replaced or restarted.
fn pod_uids() -> anyhow::Result<String> {
    let path = "jsonpath={range .items[*]}{.metadata.name} {.metadata.uid} {.status.containerStatuses[0].restartCount}{\"\\n\"}{end}";
    shell::quiet_kubectl(&["get", "pods", "-n", "shop", "-o", path])
}
