//! The commands of the story, run as a person would run them.
//!
//! In: arguments. Out: what the command printed, or an error with its own words. The lab ends when [`Lab`] is dropped.

use std::{
    io::Write as _,
    path::PathBuf,
    process::{Command, Output, Stdio},
    time::Duration,
};

use anyhow::{Context as _, bail};
use lateen_lab::world::state::StateDir;
use tokio::time::Instant;

use super::{STEP_TIMEOUT, story, wire::Capture};
use crate::output;

/// The lab's name; another lab of the same person is left alone.
const NAME: &str = "demo";
const POLL: Duration = Duration::from_millis(250);

/// The demo's lab.
pub(crate) struct Lab {
    this: PathBuf,
}

impl Lab {
    /// Brings it up, its progress shown.
    pub(crate) fn up() -> anyhow::Result<Self> {
        let lab = Self { this: std::env::current_exe().context("finding our own program")? };
        output::line(format_args!("$ lateen lab up --name {NAME}"))?;
        let status = Command::new(&lab.this)
            .args(["lab", "up", "--name", NAME])
            .stdin(Stdio::null())
            .status()
            .context("starting lateen lab up")?;
        if !status.success() {
            bail!("`lateen lab up` did not succeed; its words are above");
        }
        Ok(lab)
    }

    /// Ends it and says so.
    pub(crate) fn down(self) -> anyhow::Result<()> {
        output::line(format_args!("$ lateen lab down --name {NAME}"))?;
        indent(&self.lateen(&["lab", "down"])?)
    }

    /// Another verb of ours against this lab; returns what it printed.
    pub(crate) fn lateen(&self, arguments: &[&str]) -> anyhow::Result<String> {
        text(Command::new(&self.this).args(arguments).args(["--name", NAME]).output())
    }

    /// Runs a command inside a pod, and shows it.
    pub(crate) fn exec(&self, namespace: &str, pod: &str, command: &[&str]) -> anyhow::Result<String> {
        output::line(format_args!("$ lateen lab exec -n {namespace} {pod} -- {}", command.join(" ")))?;
        let head = ["lab", "exec", "--name", NAME, "-n", namespace, pod, "--"];
        text(Command::new(&self.this).args(head).args(command).output())
    }

    /// Begins to record what crosses between the nodes.
    pub(crate) fn capture(&self) -> anyhow::Result<Capture> {
        let mut command = Command::new(&self.this);
        command.args(["lab", "capture", "--name", NAME]);
        Capture::begin(command)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // After `down` there is nothing left to end, which is no error.
        if let Err(error) = self.lateen(&["lab", "down"]) {
            drop(story::say(&format!("ending the lab: {error:#}")));
        }
    }
}

/// A kubectl command, shown with what it prints.
pub(crate) fn kubectl(arguments: &[&str]) -> anyhow::Result<()> {
    output::line(format_args!("$ kubectl {}", arguments.join(" ")))?;
    let printed = quiet_kubectl(arguments)?;
    indent(&printed)
}

/// A kubectl command whose output is for us.
pub(crate) fn quiet_kubectl(arguments: &[&str]) -> anyhow::Result<String> {
    text(kubectl_command()?.args(arguments).output())
}

/// `kubectl apply -f`, from text that the program carries.
pub(crate) fn apply(manifest: &str, name: &str) -> anyhow::Result<()> {
    output::line(format_args!("$ kubectl apply -f {name}"))?;
    let mut child = kubectl_command()?
        .args(["apply", "-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("starting kubectl")?;
    let mut input = child.stdin.take().context("kubectl's input")?;
    input.write_all(manifest.as_bytes()).context("writing to kubectl")?;
    drop(input);
    indent(&text(child.wait_with_output())?)
}

fn kubectl_command() -> anyhow::Result<Command> {
    let kubeconfig = StateDir::named(NAME)?.kubeconfig();
    let mut command = Command::new("kubectl");
    command.env("KUBECONFIG", kubeconfig);
    Ok(command)
}

/// What a command printed; its complaint if it failed.
fn text(output: std::io::Result<Output>) -> anyhow::Result<String> {
    let output = output.context("running the command (is it installed?)")?;
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        bail!("{}{}", printed, String::from_utf8_lossy(&output.stderr).trim_end());
    }
    Ok(printed)
}

/// Prints someone else's text under our own.
pub(crate) fn indent(text: &str) -> anyhow::Result<()> {
    text.trim_end().lines().try_for_each(|line| output::line(format_args!("   │ {line}")))
}

/// Asks again until there is an answer, at most [`STEP_TIMEOUT`]; the last error is told.
pub(crate) fn until<T>(what: &str, mut ask: impl FnMut() -> anyhow::Result<Option<T>>) -> anyhow::Result<T> {
    let end = Instant::now() + STEP_TIMEOUT;
    loop {
        let last = match ask() {
            Ok(Some(answer)) => return Ok(answer),
            Ok(None) => None,
            Err(error) if error.is::<output::Unread>() => return Err(error),
            Err(error) => Some(error),
        };
        if Instant::now() > end {
            let error = last.unwrap_or_else(|| anyhow::anyhow!("it did not come about within {STEP_TIMEOUT:?}"));
            return Err(error.context(format!("waiting until {what}")));
        }
        std::thread::sleep(POLL);
    }
}
