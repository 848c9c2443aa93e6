//! One ztunnel process in its node's namespace.
//!
//! In: environment. Out: its log as lines, its metrics as text, its end.

use std::{
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use lateen_net::{
    dial::{self, DialOptions},
    netns::Netns,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::in_time;
use crate::config;

/// A running ztunnel.
pub struct Ztunnel {
    child: Child,
    netns: Netns,
    lines: Arc<Mutex<Vec<String>>>,
}

/// What a ztunnel is told.
pub struct Start<'a> {
    /// The node it is on.
    pub node: &'a str,
    /// Where the control plane listens, on loopback of its namespace.
    pub control_port: u16,
    /// Where the agent listens.
    pub agent: &'a Path,
    /// Further variables.
    pub extra: &'a [(&'a str, &'a str)],
}

impl Ztunnel {
    /// Starts one inside `netns`.
    pub fn start(netns: &Netns, start: &Start<'_>) -> Self {
        let address = |port: u16| format!("http://127.0.0.1:{port}");
        let mut command = Command::new(binary());
        command
            .env_clear()
            .env("RUST_LOG", "info,access=debug")
            .env("NODE_NAME", start.node)
            .env("XDS_ADDRESS", address(start.control_port))
            .env("CA_ADDRESS", address(start.control_port + 1))
            .env("AUTH_TOKEN", "a token")
            .env("INPOD_UDS", start.agent)
            .env("ISTIO_META_DNS_CAPTURE", "false")
            .env("ZTUNNEL_WORKER_THREADS", "2")
            .envs(config::same_node())
            .envs(start.extra.iter().copied())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit());
        let mut child = netns.spawn(&mut command).expect("enter").expect("ztunnel starts");
        let lines = Arc::<Mutex<Vec<String>>>::default();
        let (kept, stdout) = (lines.clone(), child.stdout.take().expect("piped"));
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                kept.lock().expect("not poisoned").push(line);
            }
        });
        Self { child, netns: netns.clone(), lines }
    }

    /// The access records of ended connections, as printed.
    pub fn records(&self) -> Vec<String> {
        let lines = self.lines.lock().expect("not poisoned");
        let ended = |line: &&String| {
            line.contains("\taccess\tconnection complete") || line.contains("\taccess\tconnection failed")
        };
        lines.iter().filter(ended).cloned().collect()
    }

    /// The whole log, for a panic's text.
    pub fn log(&self) -> String {
        self.lines.lock().expect("not poisoned").join("\n")
    }

    /// Waits for a record after the first `seen` ones that holds all of `words`.
    pub async fn record_after(&self, seen: usize, words: &[&str]) -> String {
        let holds = |line: &String| words.iter().all(|word| line.contains(word));
        let found = in_time(|| std::future::ready(self.records().into_iter().skip(seen).find(holds))).await;
        found.unwrap_or_else(|| panic!("no record with {words:?} in time, but {:#?}", self.records()))
    }

    /// The sum of a metric's samples whose labels hold all of `words`.
    pub async fn metric(&self, name: &str, words: &[&str]) -> f64 {
        let text = self.get(15020, "/metrics").await;
        let samples =
            text.lines().filter(|line| line.starts_with(name) && words.iter().all(|word| line.contains(word)));
        samples.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum()
    }

    /// Whether the readiness port says yes.
    pub async fn is_ready(&self) -> bool {
        self.try_get(15021, "/healthz/ready").await.is_some_and(|answer| answer.starts_with("HTTP/1.1 200"))
    }

    /// The answer of one of its HTTP ports.
    pub async fn get(&self, port: u16, path: &str) -> String {
        self.try_get(port, path).await.expect("the port answers")
    }

    async fn try_get(&self, port: u16, path: &str) -> Option<String> {
        let options = DialOptions { netns: Some(self.netns.clone()), ..DialOptions::default() };
        let mut stream = dial::tcp(([127, 0, 0, 1], port).into(), &options).await.ok()?;
        let request = format!("GET {path} HTTP/1.1\r\nhost: ztunnel\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.ok()?;
        Some(answer)
    }

    /// Asks it to end in good order.
    pub fn terminate(&self) {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.child.id()).expect("a pid"));
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).expect("signalled");
    }

    /// Waits for its end; whether it ended in good order.
    pub async fn ended(&mut self) -> bool {
        let until = tokio::time::Instant::now() + Duration::from_secs(20);
        loop {
            if let Some(status) = self.child.try_wait().expect("wait") {
                return status.success();
            }
            assert!(tokio::time::Instant::now() < until, "ztunnel did not end; the log is:\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Its process, for descriptors and memory.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Ztunnel {
    #[allow(clippy::print_stderr, reason = "a failed test shows the log of what it tested")]
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to kill.
        if self.child.kill().is_ok() {
            self.child.wait().expect("wait");
        }
        if std::thread::panicking() {
            eprintln!("--- ztunnel's log ---\n{}\n---", self.log());
        }
    }
}

/// The program as `make test` built it. It is not built from here: cargo would choose the features of its dependencies for
/// this one package, and compile most of them a second time.
fn binary() -> PathBuf {
    let test = std::env::current_exe().expect("a path");
    let built = test.ancestors().nth(2).expect("target/<profile>/deps/<test>").join("ztunnel");
    assert!(built.is_file(), "there is no {}: run `make build` first, as `make test` does", built.display());
    built
}
