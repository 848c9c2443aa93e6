//! A whole mesh in a lab of its own, driven as a user drives it.
//!
//! In: manifests, commands. Out: what `kubectl` printed, what a command in a pod printed, what crossed the wire.
//! `SAME_NODE` says how pods of one node reach each other; `LATEEN_TEST_PARTS` holds further words for `lateen lab up`, so that another mesh's parts can be put in the place of
//! ours (see `docs/interoperability.md`).
//! The lab dies with the test process, however that ends: it is started to be killed with the thread that owns it.
//! Absent on purpose: our own Kubernetes client. What a test sees is what a person would see.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{
        Arc, Mutex, OnceLock, Weak,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    time::Duration,
};

use tokio::time::Instant;

use crate::config;

pub mod manifest;
mod page;
mod run;
mod talk;
mod waypoint;
mod wire;

pub use run::Run;
pub use talk::Talk;
pub use waypoint::Load;
pub use wire::{Capture, Wire};

/// How long anything may take on a slow, busy machine.
pub const PATIENCE: Duration = Duration::from_secs(120);
/// One command's share of it.
const COMMAND_SECONDS: &str = "60";
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// The lab's name within its own state directory.
const NAME: &str = "t";

/// A running lab with the mesh. It ends when this is dropped.
pub struct Lab {
    dir: tempfile::TempDir,
    program: PathBuf,
    user: Option<u32>,
    /// Dropped to end the keeper.
    keep: Option<SyncSender<()>>,
    keeper: Option<std::thread::JoinHandle<()>>,
}

impl Lab {
    /// Started by us.
    pub fn start() -> Self {
        Self::start_as(None)
    }

    /// Started by the ordinary user `user`, who needs no name on this machine.
    pub fn start_as(user: Option<u32>) -> Self {
        let dir = tempfile::Builder::new().prefix("lateen-mesh").tempdir_in("/tmp").expect("a directory");
        let program = user.map_or_else(|| built().join("lateen"), |user| for_user(dir.path(), user));
        let mut lab = Self { dir, program, user, keep: None, keeper: None };
        let mut up = lab.lateen_command(&["lab", "up", "--foreground", "--timeout", "120"], &["--pdeathsig", "KILL"]);
        up.args(config::parts(lab.dir.path(), &lab.program.with_file_name("ztunnel")));
        let (keep, kept) = sync_channel(0);
        // A child dies with the thread that started it, and a test's thread may end before its lab's other users.
        let (up_tx, up_rx) = sync_channel(1);
        let keeper = std::thread::spawn(move || {
            let child = up.stdout(Stdio::null()).stderr(Stdio::inherit()).spawn().expect("setpriv is installed");
            up_tx.send(child.id()).expect("the test waits");
            hold(child, &kept);
        });
        up_rx.recv().expect("started");
        (lab.keep, lab.keeper) = (Some(keep), Some(keeper));
        let progress = lab.dir.path().join("state").join(NAME).join("progress");
        until("the lab is up", || {
            let text = std::fs::read_to_string(&progress).unwrap_or_default();
            assert!(!text.contains("failed: "), "{text}");
            text.lines().any(|line| line == "ready").then_some(())
        });
        lab
    }

    /// One lab for all tests of this process that run at the same time.
    pub fn shared() -> Arc<Self> {
        static SHARED: Mutex<Weak<Lab>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        shared.upgrade().unwrap_or_else(|| {
            let lab = Arc::new(Self::start());
            *shared = Arc::downgrade(&lab);
            lab
        })
    }

    /// The id, on this machine, of the lab's first process.
    pub fn first_process(&self) -> i32 {
        let text = std::fs::read_to_string(self.dir.path().join("state").join(NAME).join("pid")).expect("a pid file");
        text.trim().parse().expect("a number")
    }

    /// What `kubectl` prints; a failure is the test's.
    pub fn kubectl(&self, arguments: &[&str]) -> String {
        self.try_kubectl(arguments).unwrap_or_else(|error| panic!("kubectl {arguments:?}: {error}"))
    }

    /// What `kubectl` prints, or its complaint.
    pub fn try_kubectl(&self, arguments: &[&str]) -> Result<String, String> {
        printed(self.kubectl_command().args(arguments).output().expect("kubectl is installed"))
    }

    /// `kubectl apply -f -`.
    pub fn apply(&self, manifest: &str) {
        use std::io::Write as _;
        let mut command = self.kubectl_command();
        command.args(["apply", "-f", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("kubectl is installed");
        child.stdin.take().expect("piped").write_all(manifest.as_bytes()).expect("kubectl reads");
        let output = child.wait_with_output().expect("kubectl ends");
        printed(output).unwrap_or_else(|error| panic!("kubectl apply: {error}\n{manifest}"));
    }

    /// What a command in a pod (`namespace/name`) prints, or its complaint.
    pub fn exec(&self, pod: &str, command: &[&str]) -> Result<String, String> {
        printed(self.exec_command(pod, command).output().expect("started"))
    }

    /// What `url` answers to a pod.
    pub fn get(&self, pod: &str, url: &str) -> Result<String, String> {
        self.exec(pod, &["curl", "-sS", "-m", "20", url])
    }

    /// A verb of `lateen` on this lab.
    pub fn lateen(&self, arguments: &[&str]) -> String {
        let output = self.lateen_command(arguments, &[]).output().expect("started");
        printed(output).unwrap_or_else(|error| panic!("lateen {arguments:?}: {error}"))
    }

    /// A connection from a pod that stays open.
    pub fn talk(&self, pod: &str, host: &str, port: u16) -> Talk {
        // Not curl, some versions of which do not notice the end while their own input is silent.
        let script = "exec 3<>/dev/tcp/$0/$1 4<&0 || exit; cat <&4 >&3 & exec cat <&3";
        Talk::begin(self.exec_unbounded(pod, &["bash", "-c", script, host, &port.to_string()]))
    }

    /// A command in a pod that goes on beside the test; `exec` waits for its end.
    pub fn run(&self, pod: &str, command: &[&str]) -> Run {
        Run::begin(self.exec_unbounded(pod, command))
    }

    /// Records what crosses between the nodes from now on.
    pub fn capture(&self) -> Capture {
        Capture::begin(self.lateen_command(&["lab", "capture"], &[]))
    }

    /// Waits until pods (a selector) are ready.
    pub fn ready(&self, namespace: &str, selector: &[&str]) {
        let wait = ["wait", "-n", namespace, "--for=condition=Ready", "pod", "--timeout=55s"];
        self.kubectl(&[&wait[..], selector].concat());
    }

    /// Waits until exactly the pods with these names are enrolled in a namespace, and every ztunnel has heard so.
    pub fn enrolled(&self, namespace: &str, pods: &[&str]) {
        until(&format!("{pods:?} of {namespace} are enrolled"), || {
            let path = r#"jsonpath={range .items[*]}{.metadata.name} {.metadata.annotations.ambient\.istio\.io/redirection}{"\n"}{end}"#;
            let words = self.kubectl(&["get", "pods", "-n", namespace, "-o", path]);
            let mut enrolled: Vec<&str> = words.lines().filter_map(|line| line.strip_suffix(" enabled")).collect();
            enrolled.sort_unstable();
            let table = self.lateen(&["ztunnel-config", "workload", "--workload-namespace", namespace]);
            let tunnelled = table.lines().filter(|line| line.trim_end().ends_with("HBONE")).count();
            (enrolled == pods && tunnelled == 2 * pods.len()).then_some(())
        });
    }

    /// Waits until every ztunnel holds exactly these policies of a namespace.
    pub fn policies(&self, namespace: &str, names: &[&str]) {
        until(&format!("every ztunnel holds {names:?} of {namespace}"), || {
            let table = self.lateen(&["ztunnel-config", "policy", "--policy-namespace", namespace]);
            let rows: Vec<&str> = table.lines().filter(|line| line.starts_with(&format!("{namespace} "))).collect();
            let all = names
                .iter()
                .all(|name| rows.iter().filter(|row| row.split_whitespace().nth(1) == Some(name)).count() == 2);
            (all && rows.len() == 2 * names.len()).then_some(())
        });
    }

    /// A field of an object, by JSON path.
    pub fn field(&self, object: &[&str], path: &str) -> String {
        let path = format!("jsonpath={{{path}}}");
        self.kubectl(&[&["get"], object, &["-o", &path]].concat())
    }

    fn exec_command(&self, pod: &str, command: &[&str]) -> Command {
        let mut bounded = Command::new("timeout");
        let inner = self.exec_unbounded(pod, command);
        bounded.args(["-k", "1", COMMAND_SECONDS]).arg(inner.get_program()).args(inner.get_args());
        bounded.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?)))).current_dir("/");
        bounded.stdin(Stdio::null());
        bounded
    }

    fn exec_unbounded(&self, pod: &str, command: &[&str]) -> Command {
        let (namespace, name) = pod.split_once('/').expect("namespace/name");
        let mut whole = self.lateen_command(&["lab", "exec", "-n", namespace, name], &[]);
        whole.arg("--").args(command);
        whole
    }

    fn kubectl_command(&self) -> Command {
        let state = self.dir.path().join("state").join(NAME);
        let mut command = Command::new("timeout");
        command.args(["-k", "1", COMMAND_SECONDS, "kubectl"]).env("KUBECONFIG", state.join("kubeconfig"));
        command.arg(format!("--cache-dir={}", self.dir.path().join("cache").display())).stdin(Stdio::null());
        command
    }

    /// `lateen` as the lab's user; `privileges` are words for setpriv.
    fn lateen_command(&self, arguments: &[&str], privileges: &[&str]) -> Command {
        let mut command = Command::new("setpriv");
        if let Some(user) = self.user {
            let user = user.to_string();
            command.args(["--reuid", &user, "--regid", &user, "--clear-groups"]);
        }
        command.args(privileges).arg("--").arg(&self.program);
        let (verb, rest) = arguments.split_at(arguments.len().min(2));
        command.args(verb).args(["--name", NAME]).args(rest);
        command.env("LATEEN_LAB_STATE", self.dir.path().join("state")).current_dir("/").stdin(Stdio::null());
        command
    }
}

impl Drop for Lab {
    #[expect(clippy::print_stderr, reason = "the output of a test that failed")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.dir.path().join("state").join(NAME).join("log");
            let text = std::fs::read_to_string(log).unwrap_or_default();
            let lines: Vec<&str> = text.lines().collect();
            eprintln!("the end of the lab's log:\n{}", lines[lines.len().saturating_sub(30)..].join("\n"));
        }
        drop(self.keep.take());
        if let Some(keeper) = self.keeper.take() {
            drop(keeper.join());
        }
    }
}

/// Keeps the thread that the lab dies with, until the lab is dropped.
fn hold(mut up: Child, kept: &Receiver<()>) {
    // Nothing is ever sent: the end of the wait is the other side's being dropped.
    while kept.recv().is_ok() {}
    let pid = nix::unistd::Pid::from_raw(up.id().cast_signed());
    // It may have ended by itself, as when a test has killed the lab.
    let _ended = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
    drop(up.wait());
}

/// Waits until `look` finds something; fails with `what` after [`PATIENCE`].
pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(LOOK_EVERY);
    }
}

fn printed(output: Output) -> Result<String, String> {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(text);
    }
    Err(format!("{}: {text}{}", output.status, String::from_utf8_lossy(&output.stderr).trim_end()))
}

/// The directory of our programs, freshly built: a test of this package alone would otherwise run old ones.
fn built() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let status = Command::new(env!("CARGO"))
            .args(["build", "--quiet", "--workspace", "--bins"])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .status()
            .expect("cargo runs");
        assert!(status.success(), "our programs do not build");
        let test = std::env::current_exe().expect("a path");
        test.ancestors().nth(2).expect("target/<profile>/deps/<test>").to_owned()
    })
}

/// Copies of our programs where another user may run them; he owns the directory.
fn for_user(dir: &Path, user: u32) -> PathBuf {
    for name in ["lateen", "ztunnel", "lateen-controller", "lateen-cni-agent", "lateen-cni", "waypoint"] {
        std::fs::copy(built().join(name), dir.join(name)).unwrap_or_else(|error| panic!("copying {name}: {error}"));
    }
    std::os::unix::fs::chown(dir, Some(user), Some(user)).expect("given");
    dir.join("lateen")
}
