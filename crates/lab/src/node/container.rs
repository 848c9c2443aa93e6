//! One container: started, watched, started again.
//!
//! In: a container of a running pod. Out: its view on the board; how it ended for good.

use std::{
    collections::BTreeMap,
    os::unix::process::{CommandExt as _, ExitStatusExt as _},
    path::PathBuf,
    process::{ExitStatus, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::Context as _;
use k8s_openapi::{api::core::v1::Container, jiff::Timestamp};
use lateen_rt::{backoff::Backoff, deadline::within};
use nix::{
    errno::Errno,
    sys::signal::{Signal, kill, killpg},
    unistd::Pid,
};
use parking_lot::Mutex;
use tokio::{
    process::{Child, Command},
    sync::Notify,
};

use super::{
    cgroup, environment,
    launch::Launch,
    logs,
    pod::Running,
    probe,
    status::{Ended, State, View},
};
use crate::verbs;

/// Pauses before a container is started again: shorter than the kubelet's, since a lab is watched by a person.
const RESTART_FIRST: Duration = Duration::from_secs(1);
const RESTART_MAX: Duration = Duration::from_secs(30);
/// How long killed processes may take to vanish.
const KILL_TIMEOUT: Duration = Duration::from_secs(10);

/// The views of a pod's containers, and who waits for them to change.
#[derive(Debug, Default)]
pub(super) struct Board {
    views: Mutex<BTreeMap<String, View>>,
    changed: Notify,
    finished: AtomicBool,
}

impl Board {
    /// Changes one view and wakes who waits, if it is another than before.
    pub fn update(&self, container: &str, change: impl FnOnce(&mut View)) {
        let mut views = self.views.lock();
        let view = views.entry(container.to_owned()).or_default();
        let before = view.clone();
        change(view);
        if *view != before {
            self.changed.notify_one();
        }
    }

    /// All views.
    pub fn views(&self) -> BTreeMap<String, View> {
        self.views.lock().clone()
    }

    /// Says that no view will change any more.
    pub fn finish(&self) {
        self.finished.store(true, Ordering::Release);
        self.changed.notify_one();
    }

    /// Whether no view will change any more.
    pub fn is_finished(&self) -> bool {
        self.finished.load(Ordering::Acquire)
    }

    /// Returns after the next change. For one waiter; nothing is lost if it is dropped.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }
}

/// When a container that ended is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Policy {
    /// Whatever its end.
    Always,
    /// Unless it ended with 0.
    OnFailure,
    /// Not at all.
    Never,
}

impl Policy {
    /// A policy by its Kubernetes name.
    pub fn parse(name: Option<&str>) -> Self {
        match name {
            Some("Never") => Self::Never,
            Some("OnFailure") => Self::OnFailure,
            _ => Self::Always,
        }
    }

    fn again(self, code: i32) -> bool {
        match self {
            Self::Always => true,
            Self::OnFailure => code != 0,
            Self::Never => false,
        }
    }
}

/// Runs `container` until it has ended for good or the pod is stopped.
pub(super) async fn keep(run: Arc<Running>, container: Container, policy: Policy) -> Ended {
    let mut pace = Backoff::new(RESTART_FIRST, RESTART_MAX);
    let mut restarts = 0;
    loop {
        let ended = once(&run, &container, restarts).await;
        if run.stopping() || !policy.again(ended.code) {
            run.board.update(&container.name, |view| {
                view.state = State::Terminated(ended.clone());
                view.ready = false;
            });
            return ended;
        }
        let pause = pace.next_wait();
        let message = format!("back-off {pause:?} restarting failed container={}", container.name);
        run.board.update(&container.name, |view| {
            view.state = State::Waiting { reason: "CrashLoopBackOff", message: message.clone() };
            view.last = Some(ended.clone());
            (view.ready, view.started) = (false, false);
        });
        run.event("Warning", "BackOff", &message).await;
        if tokio::time::timeout(pause, run.stopped()).await.is_ok() {
            return ended;
        }
        restarts += 1;
        run.board.update(&container.name, |view| view.restarts = restarts);
    }
}

/// One instance from start to end.
async fn once(run: &Running, container: &Container, restarts: u32) -> Ended {
    let from = Timestamp::now();
    let begun = match start(run, container, restarts).await {
        Ok(child) => child,
        Err(error) => {
            let message = format!("{error:#}");
            run.event("Warning", "Failed", &message).await;
            return Ended { code: 128, reason: "StartError", message: Some(message), from, to: Timestamp::now() };
        }
    };
    let (mut child, pid) = begun;
    run.board.update(&container.name, |view| view.state = State::Running { since: from });
    let end = tokio::select! {
        end = child.wait() => (end, None),
        reason = probe::watch(run, container, pid) => {
            run.event("Normal", "Killing", &format!("container {} {reason}", container.name)).await;
            (terminate(&mut child, pid, run.grace()).await, Some(reason))
        }
        () = run.stopped() => (terminate(&mut child, pid, run.grace()).await, None),
    };
    // What it started and left behind ends with it.
    signal(pid, Signal::SIGKILL);
    let code = end.0.map_or(128, exit_code);
    let reason = if code == 0 { "Completed" } else { "Error" };
    Ended { code, reason, message: end.1, from, to: Timestamp::now() }
}

/// Starts the launcher that becomes the container's program.
async fn start(run: &Running, container: &Container, restarts: u32) -> anyhow::Result<(Child, u32)> {
    let launch = run.launch(container).await?;
    let file = run.dir.join(format!("{}.json", container.name));
    tokio::fs::write(&file, serde_json::to_vec(&launch).context("writing the launcher's orders")?)
        .await
        .with_context(|| format!("writing {}", file.display()))?;
    let mut log = logs::Writer::create(&run.name.uid, &container.name, restarts)?;
    let mut command = std::process::Command::new("/proc/self/exe");
    command.arg0("lateen").arg(verbs::CONTAINER).arg(&file).env_clear();
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = Command::from(command).spawn().context("starting the launcher")?;
    let pid = child.id().context("the launcher ended at once")?;
    probe::note(&run.noted(&container.name), pid, &run.kubelet.node.name())
        .context("noting the container's process")?;
    if let Err(error) = cgroup::cover(&run.dir, pid, (&run.name.uid, &container.name)).await {
        // Nothing but agents that look for running pods misses it; and the container may have ended at once.
        tracing::debug!(container = container.name, %error, "the container's control group cannot be shown");
    }
    let (out, err) = (child.stdout.take(), child.stderr.take());
    run.kubelet.tasks.spawn("container log", async move { log.copy(out, err).await });
    Ok((child, pid))
}

/// SIGTERM, then after `grace` SIGKILL, to the container's whole process group.
async fn terminate(child: &mut Child, pid: u32, grace: Duration) -> std::io::Result<ExitStatus> {
    signal(pid, Signal::SIGTERM);
    if let Ok(end) = within("the container's end", grace, child.wait()).await {
        return end;
    }
    signal(pid, Signal::SIGKILL);
    within("the killed container's end", KILL_TIMEOUT, child.wait()).await.map_err(std::io::Error::other)?
}

/// To the process group if it exists yet, else to the process.
fn signal(pid: u32, signal: Signal) {
    let Ok(pid) = i32::try_from(pid).map(Pid::from_raw) else { return };
    if killpg(pid, signal) == Err(Errno::ESRCH)
        && signal == Signal::SIGTERM
        && let Err(error) = kill(pid, signal)
    {
        tracing::debug!(%pid, %error, "the launcher ended before its end was asked for");
    }
}

fn exit_code(end: ExitStatus) -> i32 {
    end.code().or_else(|| end.signal().map(|signal| 128 + signal)).unwrap_or(128)
}

impl Running {
    /// What the launcher needs to know to become `container`.
    async fn launch(&self, container: &Container) -> anyhow::Result<Launch> {
        let pod = self.current();
        let node: Vec<_> = self.kubelet.node.addresses().iter().map(ipnet::IpNet::addr).collect();
        let facts = environment::Facts { pod: &pod, addresses: &self.addresses, node: &node };
        let mut env = environment::resolve(&self.kubelet, &facts, container).await?;
        let image = container.image.as_deref().unwrap_or_default();
        let (command, args) =
            (container.command.clone().unwrap_or_default(), container.args.clone().unwrap_or_default());
        let program = self.kubelet.config.images.program(image, &command, &args)?;
        let names: BTreeMap<String, String> = env.iter().cloned().collect();
        env.push(("LATEEN_IMAGE_TAG".into(), program.tag));
        let volumes = self.volumes.lock().await;
        let mut binds = volumes.binds(&pod, container.volume_mounts.as_deref().unwrap_or_default())?;
        // Outer mounts first, so that one inside another is not covered.
        binds.sort_by_key(|bind| bind.target.components().count());
        Ok(Launch {
            netns: self.netns.clone(),
            hostname: if self.netns.is_some() { environment::hostname(&pod) } else { self.kubelet.node.name() },
            binds,
            files: self.etc(&pod),
            links: program.carries,
            command: program.command.iter().map(|word| environment::expand(word, &names)).collect(),
            env,
            directory: PathBuf::from(container.working_dir.as_deref().unwrap_or("/")),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_decide_by_exit_code() {
        for (policy, zero, one) in [(None, true, true), (Some("OnFailure"), false, true), (Some("Never"), false, false)]
        {
            let policy = Policy::parse(policy);
            assert_eq!((policy.again(0), policy.again(1)), (zero, one), "{policy:?}");
        }
    }

    #[tokio::test]
    async fn the_board_wakes_only_for_changes() {
        let board = Board::default();
        board.update("a", |view| view.restarts = 1);
        board.changed().await;
        board.update("a", |view| view.restarts = 1);
        assert!(futures::FutureExt::now_or_never(board.changed()).is_none());
        assert_eq!(board.views()["a"].restarts, 1);
    }
}
