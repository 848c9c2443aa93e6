//! The cluster as a person with `kubectl` has it, and the mesh on it.
//!
//! In: `KUBECONFIG` (else the test cluster's), `LATEEN_HUB`, `LATEEN_TAG`. Out: what kubectl printed.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::OnceLock,
    time::Duration,
};

use tokio::time::Instant;

/// How long anything may take on a slow, busy machine.
const PATIENCE: Duration = Duration::from_secs(180);
/// One command's share of it.
const COMMAND_SECONDS: &str = "150";
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Where the mesh is.
pub const SYSTEM: &str = "istio-system";

/// The cluster under test.
pub struct Cluster {
    kubectl: PathBuf,
    kubeconfig: PathBuf,
    /// Where images are pulled from, and their tag.
    pub hub: String,
    pub tag: String,
    /// Two nodes.
    pub nodes: [String; 2],
    /// The cluster of `make cluster-up`, whose wire and nodes we may touch.
    pub ours: Option<Ours>,
}

/// Places of the test cluster, from its own scripts.
pub struct Ours {
    pub directory: PathBuf,
    /// The network namespace of the wire between nodes.
    pub wire: String,
    /// The scripts.
    pub scripts: PathBuf,
}

/// The cluster, with the mesh installed.
pub fn cluster() -> &'static Cluster {
    static CLUSTER: OnceLock<Cluster> = OnceLock::new();
    CLUSTER.get_or_init(|| {
        let cluster = Cluster::find();
        super::install::mesh(&cluster);
        cluster
    })
}

fn variable(name: &str) -> Option<String> {
    std::env::var_os(name)?.into_string().ok().filter(|value| !value.is_empty())
}

impl Cluster {
    fn find() -> Self {
        let scripts = root().join("tests/cluster");
        let say = ". ./lib.sh; printf '%s\\n' \"$CLUSTER\" \"$BIN/kubectl\" \"$KUBECONFIG_ADMIN\" \"$WIRE\"";
        let printed =
            printed(Command::new("bash").args(["-c", say]).current_dir(&scripts).output().expect("bash runs"));
        let printed = printed.expect("lib.sh is fine");
        let [directory, built, admin, wire] = printed.lines().collect::<Vec<_>>()[..] else { panic!("{printed}") };
        let kubeconfig = variable("KUBECONFIG").unwrap_or_else(|| admin.to_owned());
        assert!(
            Path::new(&kubeconfig).exists(),
            "there is no {kubeconfig}: `make cluster-up` starts a cluster, KUBECONFIG names another"
        );
        let ours = (kubeconfig == admin).then(|| Ours { directory: directory.into(), wire: wire.into(), scripts });
        let mut cluster = Self {
            kubectl: if Path::new(built).exists() { built.into() } else { "kubectl".into() },
            kubeconfig: kubeconfig.into(),
            hub: variable("LATEEN_HUB").unwrap_or_else(|| "localhost/lateen".into()),
            tag: variable("LATEEN_TAG").unwrap_or_else(|| env!("CARGO_PKG_VERSION").into()),
            nodes: Default::default(),
            ours,
        };
        let names = cluster.kubectl(&["get", "nodes", "-o", "jsonpath={.items[*].metadata.name}"]);
        let mut names = names.split_whitespace().map(str::to_owned);
        let mut next = || names.next().expect("the cluster has two nodes");
        cluster.nodes = [next(), next()];
        cluster
    }

    /// What `kubectl` prints; a failure is the test's.
    pub fn kubectl(&self, arguments: &[&str]) -> String {
        self.try_kubectl(arguments).unwrap_or_else(|error| panic!("kubectl {}: {error}", arguments.join(" ")))
    }

    /// What `kubectl` prints, or its complaint.
    pub fn try_kubectl(&self, arguments: &[&str]) -> Result<String, String> {
        printed(self.command(arguments).output().expect("kubectl is installed"))
    }

    /// `kubectl apply -f -`.
    pub fn apply(&self, manifest: &str) -> String {
        self.try_apply(manifest).unwrap_or_else(|error| panic!("kubectl apply: {error}\n{manifest}"))
    }

    /// `kubectl apply -f -`, or its complaint.
    pub fn try_apply(&self, manifest: &str) -> Result<String, String> {
        self.try_with(&["apply", "-f", "-"], manifest)
    }

    /// `kubectl …` that reads `manifest`, or its complaint.
    pub fn try_with(&self, arguments: &[&str], manifest: &str) -> Result<String, String> {
        use std::io::Write as _;
        let mut command = self.command(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("kubectl is installed");
        child.stdin.take().expect("piped").write_all(manifest.as_bytes()).expect("kubectl reads");
        printed(child.wait_with_output().expect("kubectl ends"))
    }

    /// A field of an object, by JSON path.
    pub fn field(&self, object: &[&str], path: &str) -> String {
        let path = format!("jsonpath={{{path}}}");
        self.kubectl(&[&["get"], object, &["-o", &path]].concat())
    }

    /// `kubectl …`, bounded.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("timeout");
        command.args(["-k", "1", COMMAND_SECONDS]).arg(&self.kubectl);
        command.arg("--kubeconfig").arg(&self.kubeconfig).args(arguments).stdin(Stdio::null());
        command
    }

    /// Waits until a Deployment or DaemonSet is as it was asked to be.
    pub fn rolled_out(&self, namespace: &str, what: &str) {
        self.kubectl(&["-n", namespace, "rollout", "status", what, "--timeout=140s"]);
    }

    /// The manifests of the mesh, with the images of this cluster.
    pub fn kustomization(&self) -> tempfile::TempDir {
        let directory = tempfile::tempdir().expect("a directory");
        let source = root().join("deploy/manifests");
        for entry in std::fs::read_dir(&source).expect("deploy/manifests").flatten() {
            std::fs::copy(entry.path(), directory.path().join(entry.file_name())).expect("copied");
        }
        let path = directory.path().join("kustomization.yaml");
        let mut text = std::fs::read_to_string(&path).expect("a kustomization");
        text.push_str("images:\n");
        for image in ["controller", "cni-agent", "ztunnel"] {
            let (hub, tag) = (&self.hub, &self.tag);
            text.push_str(&format!(
                "  - {{name: localhost/lateen/{image}, newName: \"{hub}/{image}\", newTag: \"{tag}\"}}\n"
            ));
        }
        std::fs::write(path, text).expect("written");
        self.name_waypoints_image(&directory.path().join("controller.yaml"));
        directory
    }

    /// The controller names this image in what it makes, where kustomize does not look.
    fn name_waypoints_image(&self, manifest: &Path) {
        let text = std::fs::read_to_string(manifest).expect("the controller's manifest");
        let (usual, tag) = ("localhost/lateen/waypoint:", env!("CARGO_PKG_VERSION"));
        assert!(text.contains(&format!("{usual}{tag}")), "the controller's manifest names no image for waypoints");
        let text = text.replace(&format!("{usual}{tag}"), &format!("{}/waypoint:{}", self.hub, self.tag));
        std::fs::write(manifest, text).expect("written");
    }
}

/// Makes sure that the cluster has the Gateway API: another cluster's own, or that of `tests/conformance`.
pub fn gateway_api(cluster: &Cluster) {
    if cluster.try_kubectl(&["get", "crd", "gateways.gateway.networking.k8s.io"]).is_ok() {
        return;
    }
    let script = root().join("tests/conformance/crds");
    let directory = printed(Command::new(script).output().expect("a script")).expect("the Gateway API's CRDs");
    cluster.kubectl(&["apply", "--server-side", "-f", directory.trim()]);
}

/// The root of the tree.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the root").to_owned()
}

/// Waits until `look` finds something; fails with `what`.
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

/// A command's output, or how it failed.
pub fn printed(output: Output) -> Result<String, String> {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(text);
    }
    Err(format!("{}: {text}{}", output.status, String::from_utf8_lossy(&output.stderr).trim_end()))
}

/// Says what was measured, or not looked at.
#[expect(clippy::print_stdout, reason = "the report of the suite")]
pub fn note(text: impl std::fmt::Display) {
    println!("{text}");
}
