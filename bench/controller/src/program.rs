//! A controller as a process of its own: ours, or Istio's.
//!
//! In: a program, the API's kubeconfig. Out: a running controller, its ports, and how long it took to be ready.

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::Context as _;
use lateen_rt::deadline::within;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    process::{Child, Command},
    time::{Instant, sleep},
};

use crate::{config::Subject, crowd::SYSTEM, rest::Rest};

/// For anything to begin or to end.
pub(crate) const START_TIMEOUT: Duration = Duration::from_secs(120);
/// Between two looks at what has no event to wait for.
const LOOK_EVERY: Duration = Duration::from_millis(10);
const ASK_TIMEOUT: Duration = Duration::from_secs(1);
const END_TIMEOUT: Duration = Duration::from_secs(20);

/// Looks until there is something.
pub(crate) async fn until<T>(mut look: impl AsyncFnMut() -> Option<T>) -> T {
    loop {
        if let Some(found) = look().await {
            return found;
        }
        sleep(LOOK_EVERY).await;
    }
}

/// A running controller; dropping it kills it.
pub(crate) struct Program {
    child: Child,
    /// Its process.
    pub pid: u32,
    /// Where proxies connect.
    pub secure: u16,
    metrics: u16,
    /// From its start to its readiness endpoint's yes.
    pub ready_after: Duration,
}

/// What a program is started with.
pub(crate) struct Start<'a> {
    pub subject: &'a Subject,
    pub kubeconfig: &'a Path,
    /// Its working directory.
    pub directory: &'a Path,
    /// Where its log goes; nowhere without.
    pub log: Option<PathBuf>,
}

impl Program {
    /// Starts it and waits until it is ready.
    pub async fn start(start: &Start<'_>) -> anyhow::Result<Self> {
        let [secure, ready, metrics, admission] = free_ports()?;
        // Dies with us, however we do. (The thread that starts it is the main one, which lives as long as we.)
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", "--"])
            .arg(start.subject.path.canonicalize().context("finding a program")?);
        command.env("POD_NAMESPACE", SYSTEM).env("POD_NAME", "istiod-bench").env("SERVICE_ACCOUNT", "istiod");
        command.env("CLUSTER_ID", "Kubernetes").env("CA_TRUSTED_NODE_ACCOUNTS", "istio-system/ztunnel");
        command.env("TOKEN_AUDIENCES", "istio-ca").env("KUBECONFIG", start.kubeconfig);
        if start.subject.is_peer {
            let addresses = [("secureGRPC", secure), ("http", ready), ("monitoring", metrics), ("https", admission)];
            command.arg("discovery").args(addresses.map(|(name, port)| format!("--{name}Addr=127.0.0.1:{port}")));
            command.args(["--grpcAddr=", "--ctrlz_port=0"]).arg("--kubeconfig").arg(start.kubeconfig);
            // By itself it lets in 25 proxies a second here; what is measured is the work, not that.
            command.env("PILOT_ENABLE_AMBIENT", "true").env("PILOT_MAX_REQUESTS_PER_SECOND", "1000");
        } else {
            for (name, port) in [
                ("SECURE_GRPC_PORT", secure),
                ("HTTP_PORT", ready),
                ("MONITORING_PORT", metrics),
                ("HTTPS_PORT", admission),
            ] {
                command.env(name, port.to_string());
            }
        }
        let output = match &start.log {
            Some(file) => {
                Stdio::from(std::fs::File::create(file).with_context(|| format!("making {}", file.display()))?)
            }
            None => Stdio::null(),
        };
        command.current_dir(start.directory).stdin(Stdio::null()).stdout(Stdio::null()).stderr(output);
        let began = Instant::now();
        let name = &start.subject.name;
        let mut child = command.kill_on_drop(true).spawn().with_context(|| format!("starting {name} (by setpriv)"))?;
        let pid = child.id().context("it has ended")?;
        let is_ready = async {
            loop {
                if let Some(end) = child.try_wait()? {
                    anyhow::bail!("{name} ended: {end}; --logs DIRECTORY keeps what it said");
                }
                if get(ready, "/ready").await.is_some_and(|answer| answer.starts_with("HTTP/1.1 200")) {
                    return Ok(());
                }
                sleep(LOOK_EVERY).await;
            }
        };
        within("readiness", START_TIMEOUT, is_ready).await??;
        Ok(Self { child, pid, secure, metrics, ready_after: began.elapsed() })
    }

    /// The sum of a counter over its labels; none where it has none.
    pub async fn counter(&self, name: &str) -> Option<f64> {
        let text = get(self.metrics, "/metrics").await?;
        let values = text.lines().filter_map(|line| {
            let rest = line.strip_prefix(name)?.strip_prefix("_total").unwrap_or(line.strip_prefix(name)?);
            let is_it = rest.starts_with('{') || rest.starts_with(' ');
            rest.rsplit_once(' ').filter(|_| is_it)?.1.parse::<f64>().ok()
        });
        values.reduce(|sum, one| sum + one)
    }

    /// Ends it in order.
    pub async fn end(mut self) -> anyhow::Result<()> {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.pid)?);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).context("ending a program")?;
        if within("its end", END_TIMEOUT, self.child.wait()).await.is_err() {
            self.child.kill().await.context("killing a program that does not end")?;
        }
        Ok(())
    }
}

/// What proxies trust: the root both programs keep in the same Secret.
pub(crate) async fn roots(rest: &Rest) -> anyhow::Result<String> {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let path = format!("/api/v1/namespaces/{SYSTEM}/secrets/istio-ca-secret");
    let secret = within("the CA's Secret", START_TIMEOUT, until(async || rest.get(&path).await.ok())).await?;
    let text = secret.pointer("/data/ca-cert.pem").and_then(serde_json::Value::as_str);
    Ok(String::from_utf8(STANDARD.decode(text.context("the CA's Secret holds no ca-cert.pem")?)?)?)
}

/// Free when we looked.
fn free_ports<const N: usize>() -> anyhow::Result<[u16; N]> {
    let held: Vec<TcpListener> = (0..N).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<Result<_, _>>()?;
    let ports = held.iter().map(|listener| Ok(listener.local_addr()?.port())).collect::<anyhow::Result<Vec<_>>>()?;
    ports.try_into().map_err(|_| anyhow::anyhow!("as many ports as listeners"))
}

async fn get(port: u16, path: &str) -> Option<String> {
    let ask = async {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
        let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.ok()?;
        Some(answer)
    };
    within("an answer", ASK_TIMEOUT, ask).await.ok()?
}
