//! Probes: asked from the node, as a kubelet asks.
//!
//! In: a container's probes. Out: its readiness, written to its view; the reason, once it has to be restarted.

use std::{net::IpAddr, path::Path, process::Stdio, time::Duration};

use anyhow::{Context as _, bail};
use bytes::Bytes;
use http_body_util::Empty;
use hyper_util::rt::TokioIo;
use k8s_openapi::{
    api::core::v1::{Container, ExecAction, HTTPGetAction, Probe},
    apimachinery::pkg::util::intstr::IntOrString,
};
use lateen_rt::deadline::within;
use tokio::{net::TcpStream, process::Command};

use super::{container::Board, pod::Running};
use crate::verbs;

/// Watches one instance of a container. Returns, with the reason, when it must be restarted; it may be dropped at any time.
pub(super) async fn watch(run: &Running, container: &Container, pid: u32) -> String {
    let asked = Asked { run, container, pid };
    if let Some(probe) = &container.startup_probe
        && let Err(reason) = asked.until_first(probe).await
    {
        return format!("startup probe failed: {reason}");
    }
    run.board.update(&container.name, |view| view.started = true);
    let ready = async {
        match &container.readiness_probe {
            Some(probe) => asked.keep_ready(probe, &run.board).await,
            None => run.board.update(&container.name, |view| view.ready = true),
        }
        std::future::pending::<String>().await
    };
    let alive = async {
        match &container.liveness_probe {
            Some(probe) => format!("liveness probe failed: {}", asked.until_dead(probe).await),
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        reason = alive => reason,
        reason = ready => reason,
    }
}

/// One instance under probe.
struct Asked<'a> {
    run: &'a Running,
    container: &'a Container,
    pid: u32,
}

impl Asked<'_> {
    /// Until the first success, or the reason after too many failures in a row.
    async fn until_first(&self, probe: &Probe) -> Result<(), String> {
        tokio::time::sleep(delay(probe)).await;
        let mut failures = 0;
        loop {
            match self.once(probe).await {
                Ok(()) => return Ok(()),
                Err(error) => failures = self.failed("Startup", failures, &error).await,
            }
            if failures >= threshold(probe.failure_threshold, 3) {
                return Err(format!("{failures} times in a row"));
            }
            tokio::time::sleep(period(probe)).await;
        }
    }

    /// Until too many failures in a row.
    async fn until_dead(&self, probe: &Probe) -> String {
        tokio::time::sleep(delay(probe)).await;
        let mut failures = 0;
        loop {
            match self.once(probe).await {
                Ok(()) => failures = 0,
                Err(error) => failures = self.failed("Liveness", failures, &error).await,
            }
            if failures >= threshold(probe.failure_threshold, 3) {
                return format!("{failures} times in a row");
            }
            tokio::time::sleep(period(probe)).await;
        }
    }

    /// Keeps the view's readiness true to the probe, for ever.
    async fn keep_ready(&self, probe: &Probe, board: &Board) {
        tokio::time::sleep(delay(probe)).await;
        let (mut successes, mut failures) = (0, 0);
        loop {
            match self.once(probe).await {
                Ok(()) => (successes, failures) = (successes + 1, 0),
                Err(error) => (successes, failures) = (0, self.failed("Readiness", failures, &error).await),
            }
            if successes >= threshold(probe.success_threshold, 1) {
                board.update(&self.container.name, |view| view.ready = true);
            }
            if failures >= threshold(probe.failure_threshold, 3) {
                board.update(&self.container.name, |view| view.ready = false);
            }
            // Until it is ready for the first time it is asked more often than told, so that a start is seen at once.
            let soon = successes == 0 && failures < 20;
            tokio::time::sleep(if soon { period(probe).min(Duration::from_millis(500)) } else { period(probe) }).await;
        }
    }

    async fn failed(&self, kind: &str, failures: i32, error: &anyhow::Error) -> i32 {
        if failures == 0 {
            self.run.event("Warning", "Unhealthy", &format!("{kind} probe failed: {error:#}")).await;
        }
        failures + 1
    }

    async fn once(&self, probe: &Probe) -> anyhow::Result<()> {
        let timeout = Duration::from_secs(u64::try_from(probe.timeout_seconds.unwrap_or(1)).unwrap_or(1).max(1));
        within("the probe", timeout, self.ask(probe)).await?
    }

    async fn ask(&self, probe: &Probe) -> anyhow::Result<()> {
        if let Some(get) = &probe.http_get {
            return self.http(get).await;
        }
        if let Some(tcp) = &probe.tcp_socket {
            let (host, port) = (self.host(tcp.host.as_deref())?, self.port(&tcp.port)?);
            let stream = TcpStream::connect((host, port)).await;
            return stream.map(drop).with_context(|| format!("connecting to {host} port {port}"));
        }
        match &probe.exec {
            Some(action) => self.exec(action).await,
            None => bail!("its kind is not offered here: use httpGet, tcpSocket or exec"),
        }
    }

    async fn http(&self, get: &HTTPGetAction) -> anyhow::Result<()> {
        if get.scheme.as_deref() == Some("HTTPS") {
            bail!("HTTPS probes are not offered here");
        }
        let (host, port) = (self.host(get.host.as_deref())?, self.port(&get.port)?);
        let stream =
            TcpStream::connect((host, port)).await.with_context(|| format!("connecting to {host} port {port}"))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let mut request = http::Request::builder().uri(get.path.as_deref().unwrap_or("/"));
        let mut named = false;
        for header in get.http_headers.iter().flatten() {
            named |= header.name.eq_ignore_ascii_case("host");
            request = request.header(&header.name, &header.value);
        }
        if !named {
            request = request.header("host", std::net::SocketAddr::from((host, port)).to_string());
        }
        let request = request.header("user-agent", "kube-probe/lateen-lab").header("connection", "close");
        let request = request.body(Empty::<Bytes>::new()).context("the probe's request")?;
        // The connection may end together with the answer; an end without one is told by `send_request` itself.
        let drive = async {
            let end = connection.await;
            std::future::pending::<()>().await;
            drop(end);
        };
        let answer = tokio::select! {
            answer = sender.send_request(request) => answer?,
            () = drive => bail!("the connection ended"),
        };
        let code = answer.status();
        if code.is_success() || code.is_redirection() { Ok(()) } else { bail!("HTTP probe answered {code}") }
    }

    async fn exec(&self, action: &ExecAction) -> anyhow::Result<()> {
        let command = action.command.as_deref().unwrap_or_default();
        let output = Command::new("/proc/self/exe")
            .arg(verbs::ENTER)
            .arg(self.pid.to_string())
            .args(command)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await
            .context("starting the probe's command")?;
        if output.status.success() {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        bail!("{}: {}", output.status, text.trim().chars().take(300).collect::<String>())
    }

    fn host(&self, asked: Option<&str>) -> anyhow::Result<IpAddr> {
        match asked.filter(|host| !host.is_empty()) {
            Some(host) => host.parse().with_context(|| format!("the probe's host {host:?} is not an address")),
            None => self.run.addresses.first().copied().context("the pod has no address"),
        }
    }

    fn port(&self, port: &IntOrString) -> anyhow::Result<u16> {
        let number = match port {
            IntOrString::Int(number) => Some(*number),
            IntOrString::String(name) => {
                let ports = self.container.ports.iter().flatten();
                let named = ports.into_iter().find(|port| port.name.as_ref() == Some(name));
                named.map(|port| port.container_port).or_else(|| name.parse().ok())
            }
        };
        number.and_then(|number| u16::try_from(number).ok()).with_context(|| format!("the port {port:?}"))
    }
}

fn delay(probe: &Probe) -> Duration {
    Duration::from_secs(u64::try_from(probe.initial_delay_seconds.unwrap_or_default()).unwrap_or_default())
}

fn period(probe: &Probe) -> Duration {
    Duration::from_secs(u64::try_from(probe.period_seconds.unwrap_or(10)).unwrap_or(10).max(1))
}

fn threshold(asked: Option<i32>, default: i32) -> i32 {
    asked.unwrap_or(default).max(1)
}

/// Notes which process on which node is a container's, for `world::enter`.
pub(super) fn note(container: &Path, pid: u32, node: &str) -> std::io::Result<()> {
    if let Some(dir) = container.parent() {
        std::fs::create_dir_all(dir)?;
    }
    std::fs::write(container, format!("{pid} {node}"))
}
