//! The lab as a user has it: the real binary, real namespaces, and nothing left when it ends.
//!
//! As an ordinary user these need unprivileged user namespaces; as root they also run as `nobody`.

use std::{
    collections::BTreeSet,
    fs,
    path::PathBuf,
    process::{Command, Output, Stdio},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, geteuid},
};
use tokio::time::Instant;

/// A lab of its own, ended when the test ends, however it ends.
struct Lab {
    dir: tempfile::TempDir,
    program: PathBuf,
    user: Option<&'static str>,
}

impl Lab {
    /// Run by us, or (if we are root) by `user`.
    fn of(user: Option<&'static str>) -> Self {
        let dir = tempfile::Builder::new().prefix("lateen-test").tempdir_in("/tmp").expect("a directory");
        let built = PathBuf::from(env!("CARGO_BIN_EXE_lateen"));
        let program = match user {
            None => built,
            // Another user may not reach the build directory.
            Some(user) => {
                let copy = dir.path().join("lateen");
                fs::copy(built, &copy).expect("copied");
                let owner = nix::unistd::User::from_name(user).expect("looked up").expect("exists");
                std::os::unix::fs::chown(dir.path(), Some(owner.uid.as_raw()), Some(owner.gid.as_raw()))
                    .expect("given");
                copy
            }
        };
        Self { dir, program, user }
    }

    fn state(&self) -> PathBuf {
        self.dir.path().join("state/t")
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = match self.user {
            None => Command::new(&self.program),
            Some(user) => {
                let mut command = Command::new("setpriv");
                command.args(["--reuid", user, "--regid", "nogroup", "--clear-groups", "--"]).arg(&self.program);
                command
            }
        };
        command.args(arguments).env("LATEEN_LAB_STATE", self.dir.path().join("state")).current_dir("/");
        command.stdin(Stdio::null());
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("started")
    }

    fn up(&self) {
        let up = self.run(&["lab", "up", "--name", "t", "--no-mesh", "--timeout", "60"]);
        assert!(up.status.success(), "{}{}", text(&up.stdout), text(&up.stderr));
        assert!(text(&up.stdout).contains("KUBECONFIG="), "{}", text(&up.stdout));
    }

    fn first_process(&self) -> Pid {
        let pid = fs::read_to_string(self.state().join("pid")).expect("a pid file");
        Pid::from_raw(pid.trim().parse().expect("a number"))
    }

    fn kubectl(&self, arguments: &[&str]) -> String {
        let output = Command::new("kubectl")
            .args(arguments)
            .arg(format!("--cache-dir={}", self.dir.path().join("cache").display()))
            .env("KUBECONFIG", self.state().join("kubeconfig"))
            .output()
            .expect("kubectl is installed");
        assert!(output.status.success(), "kubectl {arguments:?}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    /// Runs a command in the pod `client`; what it printed.
    fn in_client(&self, command: &[&str]) -> Output {
        self.run(&[&["lab", "exec", "--name", "t", "client", "--"], command].concat())
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.run(&["lab", "down", "--name", "t"]);
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Waits for `holds`; fails with `what` after a minute.
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A process: its id and its start time, since ids are used again.
type Process = (i32, u64);

/// All processes below `first` and itself, whatever pid namespace they are in.
fn tree_of(first: Pid) -> BTreeSet<Process> {
    let all: Vec<(Process, i32)> = processes();
    let mut tree: BTreeSet<Process> =
        all.iter().map(|(process, _)| *process).filter(|(pid, _)| *pid == first.as_raw()).collect();
    loop {
        let known = tree.len();
        let ids: BTreeSet<i32> = tree.iter().map(|(pid, _)| *pid).collect();
        tree.extend(all.iter().filter(|(_, parent)| ids.contains(parent)).map(|(process, _)| *process));
        if tree.len() == known {
            return tree;
        }
    }
}

/// Which of `processes` still exist.
fn left_of(wanted: &BTreeSet<Process>) -> Vec<Process> {
    processes().into_iter().map(|(process, _)| process).filter(|process| wanted.contains(process)).collect()
}

/// Every process of the machine with its parent.
fn processes() -> Vec<(Process, i32)> {
    let all = fs::read_dir("/proc").expect("listed").flatten();
    let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter_map(|pid| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // After the name, which may hold anything: state, parent, and as 20th the start time (proc_pid_stat(5)).
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        Some(((pid, fields.get(19)?.parse().ok()?), fields.get(1)?.parse().ok()?))
    })
    .collect()
}

/// Mounts and links the host shows.
fn host_view() -> (String, BTreeSet<String>) {
    let links = fs::read_dir("/sys/class/net").expect("listed").flatten();
    let links = links.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    (fs::read_to_string("/proc/self/mounts").expect("read"), links)
}

const ECHO: &str = "
apiVersion: v1
kind: Pod
metadata: {name: client}
spec:
  terminationGracePeriodSeconds: 1
  containers: [{name: c, image: sleep, args: [infinity]}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: echo}
spec:
  replicas: 2
  selector: {matchLabels: {app: echo}}
  template:
    metadata: {labels: {app: echo}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: echo
        image: lateen/echo:v7
        args: [--http, '8080', --tcp, '9000', --server-first]
        readinessProbe: {httpGet: {path: /, port: 8080}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: echo}
spec:
  selector: {app: echo}
  ports: [{name: http, port: 80, targetPort: 8080}]
---
apiVersion: v1
kind: ConfigMap
metadata: {name: words}
data: {greeting: hello}
---
apiVersion: v1
kind: Pod
metadata: {name: once, labels: {color: green}}
spec:
  restartPolicy: Never
  initContainers:
  - name: first
    image: any
    command: [sh, -c, 'echo from-init > /shared/note']
    volumeMounts: [{name: shared, mountPath: /shared}]
  containers:
  - name: c
    image: any
    command: [sh, -c, 'cat /shared/note /words/greeting /down/labels; echo; echo $(WHERE) $NAME; test -s /var/run/secrets/kubernetes.io/serviceaccount/token']
    env:
    - {name: NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
    - {name: WHERE, value: here}
    volumeMounts: [{name: shared, mountPath: /shared}, {name: words, mountPath: /words}, {name: down, mountPath: /down}]
  volumes:
  - {name: shared, emptyDir: {}}
  - {name: words, configMap: {name: words}}
  - {name: down, downwardAPI: {items: [{path: labels, fieldRef: {fieldPath: metadata.labels}}]}}
";

/// Pods run, reach each other by address, service and name, are probed, restarted, logged and removed.
fn story(user: Option<&'static str>) {
    let lab = Lab::of(user);
    lab.up();
    let manifest = lab.dir.path().join("echo.yaml");
    fs::write(&manifest, ECHO).expect("written");
    lab.kubectl(&["apply", "-f", &manifest.to_string_lossy()]);
    lab.kubectl(&["wait", "--for=condition=Available", "deployment/echo", "--timeout=60s"]);
    lab.kubectl(&["wait", "--for=condition=Ready", "pod/client", "--timeout=60s"]);
    assert_eq!(text(&lab.in_client(&["hostname"]).stdout).trim(), "client");

    // By service name, over cluster DNS and the node's translation; both backends answer in the end.
    let mut seen = BTreeSet::new();
    until("both backends answer", || {
        let answer = text(&lab.in_client(&["curl", "-sS", "-m", "5", "http://echo/"]).stdout);
        seen.extend(answer.lines().find(|line| line.starts_with("Hostname: ")).map(str::to_owned));
        assert!(seen.is_empty() || answer.contains("Version: v7"), "{answer}");
        seen.len() == 2
    });
    // Every pod from every node, IPv4 and (where there is one) IPv6, server first.
    let ips = lab.kubectl(&["get", "pods", "-l", "app=echo", "-o", "jsonpath={.items[*].status.podIPs[*].ip}"]);
    assert!(ips.split_whitespace().count() >= 2, "{ips}");
    for ip in ips.split_whitespace() {
        let host = if ip.contains(':') { format!("[{ip}]") } else { ip.to_owned() };
        let url = format!("telnet://{host}:9000");
        let greeting = lab.in_client(&["sh", "-c", &format!("sleep 0.3 | curl -sS -m 5 {url}")]);
        assert!(text(&greeting.stdout).starts_with("220 hostname=echo-"), "{ip}: {greeting:?}");
    }

    lab.kubectl(&["wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/once", "--timeout=60s"]);
    let log = lab.kubectl(&["logs", "once"]);
    assert_eq!(log, "from-init\nhellocolor=\"green\"\nhere once\n");

    // An annotation that others keep in the status survives what the node writes, and a dead container comes back.
    lab.kubectl(&["annotate", "pod", "client", "ambient.istio.io/redirection=enabled"]);
    lab.in_client(&["sh", "-c", "kill -9 $(pgrep -x sleep | head -1)"]);
    let restarts =
        || lab.kubectl(&["get", "pod", "client", "-o", "jsonpath={.status.containerStatuses[0].restartCount}"]);
    until("the container is started again", || restarts() == "1");
    let kept = lab.kubectl(&[
        "get",
        "pod",
        "client",
        "-o",
        r"jsonpath={.metadata.annotations.ambient\.istio\.io/redirection}",
    ]);
    assert_eq!(kept, "enabled");

    // One pod's end takes nothing from its neighbours: they can still be entered.
    lab.kubectl(&["delete", "pod", "once", "--timeout=30s"]);
    until("the pod is gone", || !lab.kubectl(&["get", "pods", "-o", "name"]).contains("pod/once"));
    let entered = lab.in_client(&["hostname"]);
    assert_eq!(text(&entered.stdout).trim(), "client", "{entered:?}");
    lab.kubectl(&["delete", "pod", "client", "--timeout=30s"]);
    lab.kubectl(&["delete", "deployment", "echo", "--timeout=30s"]);
    until("all pods are gone", || lab.kubectl(&["get", "pods", "-o", "name"]).is_empty());
}

/// After SIGKILL to the first process, nothing but the state directory remains.
fn vanish(user: Option<&'static str>) {
    let before = host_view();
    let lab = Lab::of(user);
    lab.up();
    let first = lab.first_process();
    let tree = tree_of(first);
    assert!(tree.len() >= 8, "first, main and three for each of two nodes: {tree:?}");
    assert_eq!(host_view(), before, "a running lab shows neither mounts nor links to the host");
    kill(first, Signal::SIGKILL).expect("killed");
    until("every process is gone", || left_of(&tree).is_empty());
    // The session outside the namespace goes too, which frees the name.
    until("the session is gone", || text(&lab.run(&["lab", "status", "--name", "t"]).stdout).contains("does not run"));
    assert_eq!(host_view(), before);
    let left = fs::read_dir(lab.dir.path()).expect("listed").flatten();
    let left: BTreeSet<_> = left.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    assert!(left.is_subset(&BTreeSet::from(["state".to_owned(), "lateen".to_owned()])), "{left:?}");
    lab.up();
    let down = lab.run(&["lab", "down", "--name", "t"]);
    assert!(down.status.success(), "{}", text(&down.stderr));
    assert!(!lab.state().exists());
}

#[test]
fn pods_live_a_whole_life() {
    story(None);
}

#[test]
fn pods_live_a_whole_life_for_an_ordinary_user() {
    if geteuid().is_root() {
        story(Some("nobody"));
    }
}

#[test]
fn nothing_outlives_the_first_process() {
    vanish(None);
}

#[test]
fn nothing_outlives_the_first_process_of_an_ordinary_user() {
    if geteuid().is_root() {
        vanish(Some("nobody"));
    }
}

#[test]
fn a_lab_in_the_foreground_dies_with_its_parent() {
    let lab = Lab::of(None);
    let mut child = lab
        .command(&["lab", "up", "--name", "t", "--no-mesh", "--foreground"])
        .stdout(Stdio::null())
        .spawn()
        .expect("started");
    let ready =
        || fs::read_to_string(lab.state().join("progress")).unwrap_or_default().lines().any(|line| line == "ready");
    until("it is ready", ready);
    let tree = tree_of(lab.first_process());
    child.kill().expect("killed");
    child.wait().expect("reaped");
    until("every process is gone", || left_of(&tree).is_empty());
}

#[test]
fn mistakes_are_explained() {
    let lab = Lab::of(None);
    let check = |arguments: &[&str], code: i32, words: &str| {
        let output = lab.run(arguments);
        let said = text(&output.stdout) + &text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        assert!(said.contains(words), "{arguments:?}: {said}");
    };
    check(&["lab", "up", "--nodes", "0"], 1, "1 to 32");
    check(&["lab", "up", "--name", "Not A Name"], 1, "a-z");
    check(&["lab", "up", "--ztunnel", "/nowhere"], 1, "/nowhere");
    check(&["lab", "exec", "--name", "t", "p", "--", "true"], 1, "no lab runs");
    check(&["lab", "status", "--name", "t"], 1, "does not run");
    check(&["lab", "sail"], 64, "sail");
}
