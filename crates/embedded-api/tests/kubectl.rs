//! An unmodified `kubectl` against the server: a recent one, or Debian's 1.20 (which lacks some commands and never asks the
//! server to refuse unknown fields).

mod support;

use std::{process::Stdio, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::future::BoxFuture;
use lateen_embedded_api::{LogQuery, LogStream, NodeError, NodeProxy, Options};
use support::Server;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    process::Command,
};

const WAIT: Duration = Duration::from_secs(60);

/// One user with one server.
struct Shell {
    server: Server,
    home: tempfile::TempDir,
    /// Whether `kubectl` is 1.27 or later.
    recent: bool,
}

/// A node whose containers have written two lines.
#[derive(Debug)]
struct TwoLines;

impl NodeProxy for TwoLines {
    fn logs(&self, pod: &serde_json::Value, query: LogQuery) -> BoxFuture<'static, Result<LogStream, NodeError>> {
        let name = pod["metadata"]["name"].as_str().unwrap_or("").to_owned();
        let skipped = 2 - query.tail_lines.unwrap_or(2).min(2) as usize;
        let lines = [format!("{name}/{}: one\n", query.container), "two\n".to_owned()];
        let lines = lines.into_iter().skip(skipped).map(Bytes::from);
        Box::pin(async move {
            if query.previous {
                let message = "previous terminated container \"c\" in pod \"p\" not found".to_owned();
                return Err(NodeError { message, bad_request: true });
            }
            let log: LogStream = Box::pin(futures::stream::iter(lines));
            Ok(log)
        })
    }
}

/// What a command printed.
struct Ran {
    ok: bool,
    text: String,
}

impl Shell {
    async fn open() -> Self {
        let missing = "kubectl is missing: install it (Debian: kubernetes-client), this test cannot be skipped";
        let found = Command::new("kubectl").args(["version", "--client", "-o", "json"]).output().await.expect(missing);
        assert!(found.status.success(), "{missing}");
        let version: serde_json::Value = serde_json::from_slice(&found.stdout).expect("JSON");
        let minor = version["clientVersion"]["minor"].as_str().unwrap_or("").trim_end_matches('+').parse().unwrap_or(0);
        let server = Server::start(Options { nodes: Some(Arc::new(TwoLines)), ..Options::default() }).await;
        let home = tempfile::tempdir().expect("a directory");
        std::fs::write(home.path().join("config"), server.kubeconfig()).expect("a file");
        Self { server, home, recent: minor >= 27 }
    }

    fn command(&self, line: &str) -> Command {
        let mut command = Command::new("kubectl");
        // A home of its own: its discovery cache must not see other servers.
        command
            .args(line.split_whitespace())
            .env("KUBECONFIG", self.home.path().join("config"))
            .env("HOME", self.home.path());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        command
    }

    async fn run(&self, line: &str, input: &str) -> Ran {
        let mut child = self.command(line).spawn().expect("kubectl starts");
        let mut stdin = child.stdin.take().expect("piped");
        stdin.write_all(input.as_bytes()).await.expect("kubectl reads");
        drop(stdin);
        let out = tokio::time::timeout(WAIT, child.wait_with_output())
            .await
            .unwrap_or_else(|_| panic!("kubectl {line} hangs"))
            .expect("it ran");
        let text = format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
        Ran { ok: out.status.success(), text }
    }

    /// Runs a command that must succeed and say `expected`.
    async fn good(&self, line: &str, input: &str, expected: &str) -> String {
        let ran = self.run(line, input).await;
        assert!(ran.ok && ran.text.contains(expected), "kubectl {line}\nexpected: {expected}\ngot: {}", ran.text);
        ran.text
    }

    /// Runs a command that must fail and say `expected`.
    async fn bad(&self, line: &str, input: &str, expected: &str) {
        let ran = self.run(line, input).await;
        assert!(
            !ran.ok && ran.text.contains(expected),
            "kubectl {line}\nexpected failure: {expected}\ngot: {}",
            ran.text
        );
    }
}

const APP: &str = "
apiVersion: v1
kind: Service
metadata: {name: web, namespace: x}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: http}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: x}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers: [{name: web, image: echo, ports: [{name: http, containerPort: 80}]}]
";

#[tokio::test(flavor = "multi_thread")]
async fn the_everyday_commands() {
    let shell = Shell::open().await;
    shell.good("create ns x", "", "namespace/x created").await;
    shell.bad("create ns x", "", "namespaces \"x\" already exists").await;
    shell.good("apply -f -", APP, "deployment.apps/web created").await;
    shell.good("apply -f -", APP, "deployment.apps/web unchanged").await;
    shell.good("apply -f -", &APP.replace("replicas: 2", "replicas: 3"), "deployment.apps/web configured").await;
    shell.good("get deploy -n x", "", "0/3").await;
    shell.good("get svc,deploy -n x -o wide", "", "app=web").await;
    shell.good("get all -A", "", "service/kubernetes").await;
    shell.good("label ns x istio.io/dataplane-mode=ambient", "", "labeled").await;
    shell.good("get ns -l istio.io/dataplane-mode=ambient -o name", "", "namespace/x").await;
    shell.good("annotate ns x a=b", "", "annotated").await;
    shell.good("label ns x istio.io/dataplane-mode-", "", "labeled").await;
    shell.good("scale deploy/web -n x --replicas=5", "", "scaled").await;
    shell.good("get deploy web -n x -o jsonpath={.spec.replicas}", "", "5").await;
    shell.good("patch deploy web -n x -p {\"spec\":{\"paused\":true}}", "", "patched").await;
    shell.good("create deployment d2 -n x --image=echo:1", "", "created").await;
    shell.good("create secret generic s -n x --from-literal=a=b", "", "created").await;
    shell.good("get secret s -n x -o jsonpath={.data.a}", "", "Yg==").await;
    shell.good("create sa bob -n x", "", "created").await;
    if shell.recent {
        shell.good("create token bob -n x", "", "ey").await;
        shell.good("explain deployments", "", "Deployment").await;
    }
    shell.good("run p -n x --image=echo", "", "created").await;
    shell.good("describe pod p -n x", "", "kube-api-access-").await;
    shell.bad("logs p -n x", "", "does not have a host assigned").await;
    shell.good("auth can-i create pods", "", "yes").await;
    shell.good("api-resources", "", "endpointslices").await;
    shell.good("delete pod p -n x", "", "deleted").await;
    shell.good("delete ns x", "", "deleted").await;
    shell.bad("get ns x", "", "namespaces \"x\" not found").await;
    shell.server.handle.shutdown().await.expect("it ends");
}

#[tokio::test(flavor = "multi_thread")]
async fn mistakes_are_named() {
    let shell = Shell::open().await;
    let map = |rest: &str| format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: m}}\n{rest}");
    if shell.recent {
        shell.bad("apply -f -", &map("dota: {a: b}"), "unknown field \"dota\"").await;
    }
    shell.bad("apply -f -", &map("data: {a: 5}"), "cannot be handled as a ConfigMap").await;
    shell.bad("apply -f -", &map("").replace("name: m", "name: M_"), "a lowercase RFC 1123 subdomain").await;
    shell.bad("apply -f -", APP, "namespaces \"x\" not found").await;
    shell.good("create ns x", "", "created").await;
    let app = APP.replace("app: web}}\n  template", "app: other}}\n  template");
    shell.bad("apply -f -", &app, "`selector` does not match template `labels`").await;
    shell.bad("apply -f -", &APP.replace("port: 80, ", "port: 0, "), "must be between 1 and 65535").await;
    shell.good("apply -f - --server-side", APP, "serverside-applied").await;
    shell
        .bad(
            "apply -f - --server-side --field-manager=other",
            &APP.replace("replicas: 2", "replicas: 4"),
            "conflicts with \"kubectl\":\n- .spec.replicas",
        )
        .await;
    shell
        .good(
            "apply -f - --server-side --field-manager=other --force-conflicts",
            &APP.replace("replicas: 2", "replicas: 4"),
            "serverside-applied",
        )
        .await;
    shell.bad("get unicorns", "", "doesn't have a resource type").await;
    shell.bad("get pods --field-selector spec.image=x", "", "field label not supported: spec.image").await;
    shell.bad("get pods --token=wrong", "", "You must be logged in").await;
}

const CRD: &str = "
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.example.io}
spec:
  group: example.io
  scope: Namespaced
  names: {plural: widgets, kind: Widget, shortNames: [wd]}
  versions:
  - name: v1
    served: true
    storage: true
    subresources: {status: {}}
    additionalPrinterColumns: [{name: Size, type: integer, jsonPath: .spec.size}]
    schema: &schema {openAPIV3Schema: {type: object, properties: {spec: {type: object, required: [size], properties: {size: {type: integer, minimum: 1}, color: {type: string, default: red}}}}}}
  - {name: v1beta1, served: true, storage: false, schema: *schema}
";

#[tokio::test(flavor = "multi_thread")]
async fn custom_resources_come_and_go() {
    let shell = Shell::open().await;
    shell.good("apply -f -", CRD, "created").await;
    shell.good("wait --for=condition=Established crd/widgets.example.io --timeout=20s", "", "condition met").await;
    let widget = |spec: &str| format!("apiVersion: example.io/v1\nkind: Widget\nmetadata: {{name: w}}\nspec: {spec}");
    shell.bad("apply -f -", &widget("{size: 0}"), "spec.size in body should be greater than or equal to 1").await;
    shell.bad("apply -f -", &widget("{}"), "spec.size: Required value").await;
    if shell.recent {
        shell.bad("apply -f -", &widget("{size: 1, zip: 1}"), "unknown field \"spec.zip\"").await;
        shell.good("explain widgets.spec", "", "size").await;
    }
    shell.good("apply -f -", &widget("{size: 7}"), "widget.example.io/w created").await;
    let table = shell.good("get wd", "", "SIZE").await;
    assert!(table.contains('7'), "{table}");
    shell
        .good("get widgets.v1beta1.example.io w -o jsonpath={.apiVersion}:{.spec.color}", "", "example.io/v1beta1:red")
        .await;
    shell.good("delete crd widgets.example.io", "", "deleted").await;
    shell.bad("get widgets.example.io", "", "the server").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_prints_rows_as_they_change() {
    let shell = Shell::open().await;
    let mut child = shell.command("get pods -w").spawn().expect("kubectl starts");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    shell.good("run p --image=echo", "", "created").await;
    let mut seen = async |expected: &str| {
        let wait = async {
            while let Some(line) = lines.next_line().await.expect("readable") {
                if line.contains(expected) {
                    return true;
                }
            }
            false
        };
        assert!(tokio::time::timeout(WAIT, wait).await.is_ok_and(|seen| seen), "the watch never said {expected}");
    };
    seen("Pending").await;
    let pod = shell.good("get pod p -o json", "", "Pending").await;
    let mut pod: serde_json::Value = serde_json::from_str(&pod).expect("JSON");
    pod["status"] = serde_json::json!({ "phase": "Running", "containerStatuses": [{ "name": "p", "ready": true,
        "restartCount": 0, "image": "echo", "imageID": "", "state": { "running": {} } }] });
    shell.good("replace --raw /api/v1/namespaces/default/pods/p/status -f -", &pod.to_string(), "Running").await;
    seen("1/1").await;
    child.kill().await.expect("ended");
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_come_from_the_node() {
    let shell = Shell::open().await;
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {nodeName: n1, containers: [{name: c, image: i}, {name: d, image: i}]}";
    shell.good("apply -f -", pod, "created").await;
    assert_eq!(shell.good("logs p -c d", "", "").await, "p/d: one\ntwo\n");
    assert_eq!(shell.good("logs p -c c --tail=1 -f", "", "").await, "two\n");
    shell.bad("logs p -c x", "", "container x is not valid for pod p").await;
    shell.bad("logs p -c c --previous", "", "previous terminated container").await;
    shell.good("delete pod p --force --grace-period=0", "", "deleted").await;
}

/// Larger than is taken, and small enough to be read to its end: every client hears why it is refused.
#[tokio::test]
async fn a_body_that_is_too_large_is_refused_over_either_version_of_http() {
    let server = Server::start(Options::default()).await;
    let directory = tempfile::tempdir().expect("a directory");
    let body = directory.path().join("body");
    std::fs::write(&body, vec![b'x'; 6 << 20]).expect("written");
    let url = format!("{}/api/v1/namespaces/default/configmaps", server.url);
    for (version, number) in [("--http1.1", "1.1"), ("--http2", "2")] {
        let mut curl = Command::new("curl");
        curl.args(["-k", "-sS", "-m", "60", version, "-w", "%{http_version} %{http_code}", "-o"]);
        curl.arg(directory.path().join("answer")).arg("--data-binary").arg(format!("@{}", body.display()));
        curl.args(["-H", &format!("Authorization: Bearer {}", server.handle.admin_token()), &url]);
        let output = curl.output().await.expect("curl is installed");
        let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(String::from_utf8_lossy(&output.stdout), format!("{number} 413"), "{complaint}");
        let answer = std::fs::read_to_string(directory.path().join("answer")).expect("an answer");
        assert!(answer.contains("RequestEntityTooLarge"), "{answer}");
    }
}
