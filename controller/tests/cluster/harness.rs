//! A controller against the embedded API server, both in this process, on free ports.

use std::{fmt::Debug, net::SocketAddr, time::Duration};

use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams, PostParams},
};
use lateen_controller::{
    app::{self, Shown, Sockets},
    config::{Config, Ports},
};
use lateen_embedded_api::{ApiHandle, ApiServer, Options};
use lateen_identity::channel::{self, ChannelConfig, ControlChannel, Roots, Token};
use lateen_rt::{drain::Drain, tasks::Tasks};
use lateen_telemetry::metrics::Registry;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
};

/// The longest anything may take here.
const DEADLINE: Duration = Duration::from_secs(20);

/// Tries `attempt` until it gives something.
pub async fn eventually<T>(what: &str, mut attempt: impl FnMut() -> BoxFuture<'static, Option<T>>) -> T {
    let polling = async {
        loop {
            if let Some(found) = attempt().await {
                return found;
            }
            // A condition in another process has no event to wait for; this paces the asking.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(DEADLINE, polling).await.unwrap_or_else(|_| panic!("{what} did not happen in {DEADLINE:?}"))
}

/// A running API server and what reaches it.
pub struct Cluster {
    pub api: ApiHandle,
    pub client: Client,
    directory: TempDir,
}

impl Cluster {
    pub async fn start() -> Self {
        Self::start_with(Options::default()).await
    }

    pub async fn start_with(options: Options) -> Self {
        let _already = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let api = ApiServer::start(options, vec![listener]).await.expect("an API server");
        let directory = tempfile::tempdir().expect("a directory");
        let url = format!("https://{}", api.addresses()[0]);
        let path = directory.path().join("kubeconfig");
        std::fs::write(&path, api.kubeconfig(&url, api.admin_token())).expect("writable");
        let access = lateen_cluster::client::Access::Kubeconfig(path);
        let client = lateen_cluster::client::connect(&access).await.expect("a client");
        Self { api, client, directory }
    }

    /// The administrator's kubeconfig, in a directory of its own.
    pub fn kubeconfig(&self) -> std::path::PathBuf {
        self.directory.path().join("kubeconfig")
    }

    /// Applies objects in order, with their status.
    pub async fn apply(&self, objects: impl IntoIterator<Item = Value>) {
        for object in objects {
            let (api, name) = self.api_of(&object);
            let params = PatchParams::apply("test").force();
            api.patch(&name, &params, &Patch::Apply(&object)).await.unwrap_or_else(|error| panic!("{object}: {error}"));
            if object.get("status").is_some() {
                api.patch_status(&name, &params, &Patch::Apply(&object)).await.expect("status");
            }
        }
    }

    /// Makes our kinds known, and those of the Gateway API that we follow.
    pub async fn define(&self) {
        let ours = lateen_cluster::crds::all().into_iter().map(|one| serde_json::to_value(one).expect("serializable"));
        let all: Vec<Value> = ours.chain(lateen_cluster::crds::gateway_api()).collect();
        for mut one in all {
            one["apiVersion"] = json!("apiextensions.k8s.io/v1");
            one["kind"] = json!("CustomResourceDefinition");
            self.apply([one.clone()]).await;
            let text = |pointer: &str| one.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
            let version = one.pointer("/spec/versions/0/name").and_then(Value::as_str).unwrap_or_default();
            let kind = GroupVersionKind::gvk(text("/spec/group"), version, text("/spec/names/kind"));
            let kind = ApiResource::from_gvk_with_plural(&kind, text("/spec/names/plural"));
            let api: Api<DynamicObject> = Api::all_with(self.client.clone(), &kind);
            eventually("the new kind", || {
                let api = api.clone();
                Box::pin(async move { api.list(&Default::default()).await.ok().map(drop) })
            })
            .await;
        }
    }

    /// Waits until an object's condition has this status and reason; its message.
    pub async fn until_told(&self, object: &Value, condition: &str, (status, reason): (&str, &str)) -> String {
        let (api, name) = self.api_of(object);
        let wanted = [condition, status, reason].map(str::to_owned);
        eventually(&format!("{condition} {status} {reason} of {name}"), || {
            let (api, name, wanted) = (api.clone(), name.clone(), wanted.clone());
            Box::pin(async move {
                let found = api.get_status(&name).await.ok()?;
                let all = found.data.pointer("/status/conditions")?.as_array()?;
                let field = |one: &Value, field: &str| one[field].as_str().unwrap_or_default().to_owned();
                let told = |one: &&Value| ["type", "status", "reason"].map(|name| field(one, name)) == wanted;
                all.iter().find(told).map(|one| field(one, "message"))
            })
        })
        .await
    }

    pub async fn delete(&self, object: &Value) {
        let (api, name) = self.api_of(object);
        api.delete(&name, &kube::api::DeleteParams::default().grace_period(0)).await.expect("deleted");
    }

    fn api_of(&self, object: &Value) -> (Api<DynamicObject>, String) {
        let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (group, version) = match text("/apiVersion").split_once('/') {
            Some((group, version)) => (group.to_owned(), version.to_owned()),
            None => (String::new(), text("/apiVersion")),
        };
        let kind = ApiResource::from_gvk(&GroupVersionKind::gvk(&group, &version, &text("/kind")));
        let namespace = text("/metadata/namespace");
        let api = if namespace.is_empty() {
            Api::all_with(self.client.clone(), &kind)
        } else {
            Api::namespaced_with(self.client.clone(), &namespace, &kind)
        };
        (api, text("/metadata/name"))
    }

    /// A token of `account` for the CA's audience, bound to `pod` where one is given.
    pub async fn token(&self, (namespace, account): (&str, &str), pod: Option<&str>, audience: &str) -> String {
        let mut spec = json!({"audiences": [audience], "expirationSeconds": 3600});
        if let Some(pod) = pod {
            let found = Api::<Pod>::namespaced(self.client.clone(), namespace).get(pod).await.expect("the pod");
            let uid = found.metadata.uid.expect("a uid");
            spec["boundObjectRef"] = json!({"apiVersion": "v1", "kind": "Pod", "name": pod, "uid": uid});
        }
        let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec});
        let accounts: Api<k8s_openapi::api::core::v1::ServiceAccount> = Api::namespaced(self.client.clone(), namespace);
        let request = serde_json::from_value(request).expect("a token request");
        let answer = accounts.create_token_request(account, &PostParams::default(), &request).await.expect("a token");
        answer.status.expect("a status").token
    }

    /// A controller of this cluster.
    pub async fn controller(&self) -> Controller {
        self.controller_with(self.kubeconfig()).await
    }

    /// A controller that reaches the cluster through a gate only.
    pub async fn controller_behind(&self, gate: &Gate) -> Controller {
        let path = self.directory.path().join("gated");
        let text = self.api.kubeconfig(&format!("https://{}", gate.address), self.api.admin_token());
        std::fs::write(&path, text).expect("writable");
        self.controller_with(path).await
    }

    async fn controller_with(&self, kubeconfig: std::path::PathBuf) -> Controller {
        let mut config = Config::from_env().expect("a valid environment");
        config.ports = Ports { secure: 0, ready: 0, metrics: 0, admission: 0 };
        config.access = lateen_cluster::client::Access::Kubeconfig(kubeconfig);
        config.untaint = true;
        config.ca_directory = self.directory.path().join("no-ca");
        let sockets = Sockets::bind(&config).await.expect("free ports");
        let port = |listener: &TcpListener| listener.local_addr().expect("an address").port();
        let (secure, ready, admission) = (port(&sockets.secure), port(&sockets.ready), port(&sockets.admission));
        let (tasks, drain) = (Tasks::new(), Drain::new());
        let shown = Shown { level: None, registry: Registry::default() };
        let ending = drain.clone();
        tasks.spawn("controller", async move { app::run(config, sockets, shown, ending).await.expect("a clean end") });
        Controller { secure, ready, admission, tasks, drain }
    }
}

/// A way to the API server that can be closed: whoever is on it is cut, and nobody new comes through, as if the server
/// were gone.
pub struct Gate {
    address: SocketAddr,
    open: watch::Sender<bool>,
    _tasks: Tasks,
}

impl Gate {
    /// An open one.
    pub async fn before(cluster: &Cluster) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let (address, target) = (listener.local_addr().expect("an address"), cluster.api.addresses()[0]);
        let (open, seen) = watch::channel(true);
        let tasks = Tasks::new();
        let owner = tasks.clone();
        tasks.spawn("gate", async move {
            while let Ok((near, _)) = listener.accept().await {
                if *seen.borrow() {
                    owner.spawn("passage", pass(near, target, seen.clone()));
                }
            }
        });
        Self { address, open, _tasks: tasks }
    }

    pub fn set_open(&self, open: bool) {
        self.open.send_replace(open);
    }
}

async fn pass(mut near: TcpStream, target: SocketAddr, mut open: watch::Receiver<bool>) {
    let Ok(mut far) = TcpStream::connect(target).await else { return };
    tokio::select! {
        _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
        _ = open.wait_for(|open| !*open) => {}
    }
}

/// A running controller.
pub struct Controller {
    secure: u16,
    ready: u16,
    /// Where the webhook listens.
    pub admission: u16,
    tasks: Tasks,
    drain: Drain,
}

impl Controller {
    /// What the port of probes answers.
    async fn answer(port: u16, path: &str) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.expect("listening");
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("written");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("an answer");
        answer
    }

    pub async fn until_ready(&self) {
        let port = self.ready;
        assert!(Self::answer(port, "/live").await.starts_with("HTTP/1.1 200"), "it lives before it is ready");
        eventually("readiness", || {
            Box::pin(async move { Self::answer(port, "/ready").await.starts_with("HTTP/1.1 200").then_some(()) })
        })
        .await;
    }

    /// A channel as a proxy opens it.
    pub fn channel(&self, roots: &str, token: &str) -> ControlChannel {
        channel::channel(&ChannelConfig {
            address: format!("https://127.0.0.1:{}", self.secure),
            roots: Roots::Pem(roots.to_owned()),
            alternative_host: Some("istiod.istio-system.svc".to_owned()),
            token: Token::Inline(token.to_owned()),
            cluster: "Kubernetes".into(),
            headers: Vec::new(),
        })
        .expect("a channel")
    }

    /// Ends without a word to anybody, as a process that is killed does.
    pub async fn kill(self) {
        self.drain.force();
        self.tasks.join(DEADLINE).await.expect("it ends");
    }

    pub async fn end(self) {
        self.drain.start();
        self.tasks.join(DEADLINE).await.expect("it ends");
    }
}

/// The error of a call that had to fail.
pub fn refused<T: Debug>(answer: Result<T, tonic::Status>) -> tonic::Status {
    answer.expect_err("it was allowed")
}
