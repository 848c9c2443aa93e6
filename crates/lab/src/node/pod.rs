//! One pod from its arrival on the node to its end.
//!
//! In: the pod, then orders. Out: a sandbox, running containers, status, and in the end the object's removal.
//!
//! ```text
//! sandbox ─► volumes ─► init containers ─► containers ─► all ended ─► sandbox removed ─► object deleted (if asked)
//!    └────────────┴──────────────┴── stop order: whatever runs is ended, then the same way out
//! ```

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use futures::{StreamExt as _, stream::FuturesUnordered};
use k8s_openapi::{
    api::core::v1::{Container, Event, ObjectReference, Pod},
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time},
    jiff::Timestamp,
};
use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions},
};
use lateen_rt::{backoff::Backoff, deadline::within};
use serde_json::json;
use tokio::sync::{Mutex, watch};

use super::{
    Kubelet, PODS_DIR,
    container::{self, Board, Policy},
    environment, logs,
    sandbox::{self, PodName, Sandbox},
    status,
    volumes::Volumes,
};
use crate::fabric::addresses::{CLUSTER_DNS, CLUSTER_DOMAIN};

/// How often contents of volumes are compared with the API.
const REFRESH_EVERY: Duration = Duration::from_secs(5);
/// How often the CNI chain is asked whether a pod's network is in order.
const CHECK_EVERY: Duration = Duration::from_secs(60);
/// Pauses between tries to set a pod up.
const RETRY_FIRST: Duration = Duration::from_millis(300);
const RETRY_MAX: Duration = Duration::from_secs(5);
/// How long the API may take to answer.
const API_TIMEOUT: Duration = Duration::from_secs(10);

/// What the API wants of a pod.
#[derive(Debug, Clone)]
pub(super) enum Order {
    /// It runs, looking like this.
    Run(Arc<Pod>),
    /// It ends within this time; then the object is deleted.
    Stop(Arc<Pod>, Duration),
    /// The object is gone already: it ends at once.
    Gone,
}

/// A pod that has a network.
#[derive(Debug)]
pub(super) struct Running {
    pub kubelet: Arc<Kubelet>,
    pub name: PodName,
    /// What the node keeps for this pod.
    pub dir: PathBuf,
    /// The pod's network; absent for pods in the node's.
    pub netns: Option<PathBuf>,
    pub addresses: Vec<IpAddr>,
    pub volumes: Mutex<Volumes>,
    pub board: Arc<Board>,
    orders: watch::Receiver<Order>,
    first: Arc<Pod>,
}

/// Lives one pod's life. Ends when the pod is no more this node's business.
pub(super) async fn live(kubelet: Arc<Kubelet>, pod: Arc<Pod>, orders: watch::Receiver<Order>) {
    let meta = &pod.metadata;
    let name = PodName {
        namespace: meta.namespace.clone().unwrap_or_default(),
        name: meta.name.clone().unwrap_or_default(),
        uid: meta.uid.clone().unwrap_or_default(),
    };
    let dir = Path::new(PODS_DIR).join(&name.uid);
    let mut run = Running {
        volumes: Mutex::new(Volumes::new(&dir)),
        kubelet,
        name,
        dir,
        netns: None,
        addresses: Vec::new(),
        board: Arc::default(),
        orders,
        first: pod,
    };
    let sandbox = run.network().await;
    let run = Arc::new(run);
    if !run.stopping() {
        tokio::select! {
            () = work(&run) => {}
            () = run.keep_checked(sandbox.as_ref()) => {}
        }
    }
    run.leave(sandbox).await;
}

/// Volumes and containers, with the status kept up to date beside them; the last status is written before it returns.
async fn work(run: &Arc<Running>) {
    let containers = async {
        if run.prepare().await {
            run_containers(run).await;
        }
        run.board.finish();
    };
    tokio::join!(containers, publish(run.clone()));
}

impl Running {
    /// The pod as the API last gave it.
    pub fn current(&self) -> Arc<Pod> {
        match &*self.orders.borrow() {
            Order::Run(pod) | Order::Stop(pod, _) => pod.clone(),
            Order::Gone => self.first.clone(),
        }
    }

    /// Whether the pod is to end.
    pub fn stopping(&self) -> bool {
        !matches!(*self.orders.borrow(), Order::Run(_))
    }

    /// Returns once the pod is to end.
    pub async fn stopped(&self) {
        let mut orders = self.orders.clone();
        // The sender lives as long as the node; should it be gone, so is the reason to run.
        drop(orders.wait_for(|order| !matches!(order, Order::Run(_))).await);
    }

    /// How long containers may take to end.
    pub fn grace(&self) -> Duration {
        match &*self.orders.borrow() {
            Order::Run(pod) => {
                let asked = pod.spec.as_ref().and_then(|spec| spec.termination_grace_period_seconds);
                Duration::from_secs(asked.and_then(|seconds| u64::try_from(seconds).ok()).unwrap_or(30))
            }
            Order::Stop(_, grace) => *grace,
            Order::Gone => Duration::ZERO,
        }
    }

    /// The directory of this pod's notes.
    fn notes(&self) -> PathBuf {
        crate::world::noted_containers().join(&self.name.namespace).join(&self.name.name)
    }

    /// Where the process id of a container is noted.
    pub fn noted(&self, container: &str) -> PathBuf {
        self.notes().join(container)
    }

    /// Gets the pod its network, however often that takes. `None` for the node's network or if the pod is to end first.
    async fn network(&mut self) -> Option<Sandbox> {
        if self.first.spec.as_ref().and_then(|spec| spec.host_network) == Some(true) {
            self.addresses = self.kubelet.node.addresses().iter().map(ipnet::IpNet::addr).collect();
            return None;
        }
        let mut pace = Backoff::new(RETRY_FIRST, RETRY_MAX);
        let mut attempt = 0;
        while !self.stopping() {
            match sandbox::create(&self.name, attempt).await {
                Ok(sandbox) => {
                    self.netns = Some(sandbox.path.clone());
                    self.addresses = sandbox.addresses.clone();
                    return Some(sandbox);
                }
                Err(error) => {
                    let message = format!("Failed to create pod sandbox: {error:#}");
                    self.event("Warning", "FailedCreatePodSandBox", &message).await;
                }
            }
            attempt += 1;
            // Woken early by a stop order; the loop's condition sees it.
            drop(tokio::time::timeout(pace.next_wait(), self.stopped()).await);
        }
        None
    }

    /// Fills the volumes, however often that takes; false if the pod is to end first.
    async fn prepare(&self) -> bool {
        let mut pace = Backoff::new(RETRY_FIRST, RETRY_MAX);
        let mut told = String::new();
        loop {
            let message = match self.refresh().await {
                Ok(()) => return true,
                Err(error) => format!("MountVolume.SetUp failed: {error:#}"),
            };
            if message != told {
                self.event("Warning", "FailedMount", &message).await;
                told = message;
            }
            if tokio::time::timeout(pace.next_wait(), self.stopped()).await.is_ok() {
                return false;
            }
        }
    }

    async fn refresh(&self) -> anyhow::Result<()> {
        tokio::fs::create_dir_all(&self.dir).await.with_context(|| format!("making {}", self.dir.display()))?;
        let pod = self.current();
        let node: Vec<_> = self.kubelet.node.addresses().iter().map(ipnet::IpNet::addr).collect();
        let facts = environment::Facts { pod: &pod, addresses: &self.addresses, node: &node };
        let mut volumes = self.volumes.lock().await;
        within("filling the volumes", API_TIMEOUT, volumes.refresh(&self.kubelet, &facts)).await?
    }

    /// Keeps the volumes fresh, for ever.
    async fn keep_fresh(&self) {
        loop {
            tokio::time::sleep(REFRESH_EVERY).await;
            if let Err(error) = self.refresh().await {
                tracing::warn!(pod = self.name.name, error = format!("{error:#}"), "volumes keep their contents");
            }
        }
    }

    /// Asks the chain now and then whether the network is as it was made, for ever; tells the owner if it is not.
    async fn keep_checked(&self, sandbox: Option<&Sandbox>) {
        let Some(sandbox) = sandbox else { return std::future::pending().await };
        let mut told = String::new();
        loop {
            tokio::time::sleep(CHECK_EVERY).await;
            let said = sandbox.check().await.map_or_else(|error| format!("{error:#}"), |()| String::new());
            if !said.is_empty() && said != told {
                self.event("Warning", "SandboxChanged", &format!("Pod sandbox changed: {said}")).await;
            }
            told = said;
        }
    }

    /// `/etc/resolv.conf` and `/etc/hosts`.
    pub fn etc(&self, pod: &Pod) -> Vec<(PathBuf, String)> {
        let spec = pod.spec.as_ref();
        let host = environment::hostname(pod);
        let mut hosts = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n".to_owned();
        if self.netns.is_some() {
            hosts.extend(self.addresses.iter().map(|address| format!("{address}\t{host}\n")));
        }
        for alias in spec.iter().flat_map(|spec| spec.host_aliases.iter().flatten()) {
            hosts += &format!("{}\t{}\n", alias.ip, alias.hostnames.as_deref().unwrap_or_default().join(" "));
        }
        vec![(PathBuf::from("/etc/resolv.conf"), self.resolv_conf(pod)), (PathBuf::from("/etc/hosts"), hosts)]
    }

    fn resolv_conf(&self, pod: &Pod) -> String {
        let spec = pod.spec.as_ref();
        let policy = spec.and_then(|spec| spec.dns_policy.as_deref()).unwrap_or("ClusterFirst");
        let config = spec.and_then(|spec| spec.dns_config.as_ref());
        let mut servers = Vec::new();
        let mut searches = Vec::new();
        let mut options = Vec::new();
        if policy != "None" {
            servers.push(CLUSTER_DNS[0].to_string());
        }
        let in_cluster = policy == "ClusterFirst" && self.netns.is_some();
        if in_cluster || policy == "ClusterFirstWithHostNet" {
            let namespace = &self.name.namespace;
            searches.push(format!("{namespace}.svc.{CLUSTER_DOMAIN}"));
            searches.extend([format!("svc.{CLUSTER_DOMAIN}"), CLUSTER_DOMAIN.to_owned()]);
            options.push("ndots:5".to_owned());
        }
        servers.extend(config.iter().flat_map(|config| config.nameservers.clone().unwrap_or_default()));
        searches.extend(config.iter().flat_map(|config| config.searches.clone().unwrap_or_default()));
        for option in config.iter().flat_map(|config| config.options.iter().flatten()) {
            let name = option.name.clone().unwrap_or_default();
            options.push(option.value.as_ref().map_or(name.clone(), |value| format!("{name}:{value}")));
        }
        let mut text: String = servers.iter().map(|server| format!("nameserver {server}\n")).collect();
        for (word, list) in [("search", searches), ("options", options)] {
            if !list.is_empty() {
                text += &format!("{word} {}\n", list.join(" "));
            }
        }
        text
    }

    /// Takes the network back, and the object if that was asked for. Waits for the order if the pod ended by itself.
    async fn leave(&self, sandbox: Option<Sandbox>) {
        if let Some(sandbox) = sandbox {
            let mut pace = Backoff::new(RETRY_FIRST, RETRY_MAX);
            while let Err(error) = sandbox.remove().await {
                let message = format!("Failed to remove pod sandbox: {error:#}");
                self.event("Warning", "FailedKillPod", &message).await;
                tokio::time::sleep(pace.next_wait()).await;
            }
        }
        self.stopped().await;
        drop(tokio::fs::remove_dir_all(self.notes()).await);
        drop(tokio::fs::remove_dir_all(&self.dir).await);
        drop(tokio::fs::remove_dir_all(logs::of_pod(&self.name.uid)).await);
        let mut pace = Backoff::new(RETRY_FIRST, RETRY_MAX);
        while !matches!(*self.orders.borrow(), Order::Gone) {
            if self.delete_object().await {
                return;
            }
            tokio::time::sleep(pace.next_wait()).await;
        }
    }

    /// Whether the object is gone now.
    async fn delete_object(&self) -> bool {
        let api: Api<Pod> = Api::namespaced(self.kubelet.client.clone(), &self.name.namespace);
        let exactly = Preconditions { uid: Some(self.name.uid.clone()), ..Preconditions::default() };
        let params =
            DeleteParams { grace_period_seconds: Some(0), preconditions: Some(exactly), ..DeleteParams::default() };
        match within("deleting a pod", API_TIMEOUT, api.delete(&self.name.name, &params)).await {
            Ok(Ok(_)) => true,
            // Gone, or another pod of that name.
            Ok(Err(kube::Error::Api(status))) if status.code == 404 || status.code == 409 => true,
            Ok(Err(error)) => {
                tracing::warn!(pod = self.name.name, %error, "an ended pod is not deleted yet");
                false
            }
            Err(error) => {
                tracing::warn!(pod = self.name.name, %error, "an ended pod is not deleted yet");
                false
            }
        }
    }

    /// Tells the pod's owner something. Best effort: an event that cannot be written is logged.
    pub async fn event(&self, kind: &str, reason: &str, message: &str) {
        tracing::info!(pod = self.name.name, namespace = self.name.namespace, reason, "{message}");
        let now = Timestamp::now();
        let event = Event {
            metadata: ObjectMeta {
                generate_name: Some(format!("{}.", self.name.name)),
                namespace: Some(self.name.namespace.clone()),
                ..ObjectMeta::default()
            },
            involved_object: ObjectReference {
                api_version: Some("v1".into()),
                kind: Some("Pod".into()),
                name: Some(self.name.name.clone()),
                namespace: Some(self.name.namespace.clone()),
                uid: Some(self.name.uid.clone()),
                ..ObjectReference::default()
            },
            type_: Some(kind.into()),
            reason: Some(reason.into()),
            message: Some(message.chars().take(1000).collect()),
            count: Some(1),
            first_timestamp: Some(Time(now)),
            last_timestamp: Some(Time(now)),
            reporting_component: Some("kubelet".into()),
            reporting_instance: Some(self.kubelet.node.name()),
            source: Some(k8s_openapi::api::core::v1::EventSource {
                component: Some("kubelet".into()),
                host: Some(self.kubelet.node.name()),
            }),
            ..Event::default()
        };
        let api: Api<Event> = Api::namespaced(self.kubelet.client.clone(), &self.name.namespace);
        let written = within("writing an event", API_TIMEOUT, api.create(&PostParams::default(), &event)).await;
        if !matches!(written, Ok(Ok(_))) {
            tracing::debug!(pod = self.name.name, ?written, "an event was not written");
        }
    }
}

/// Init containers one after the other, then all others until they have ended.
async fn run_containers(run: &Arc<Running>) {
    let pod = run.current();
    let Some(spec) = pod.spec.as_ref() else { return };
    let policy = Policy::parse(spec.restart_policy.as_deref());
    let mut all = FuturesUnordered::new();
    for init in spec.init_containers.iter().flatten() {
        let beside = init.restart_policy.as_deref() == Some("Always");
        if beside {
            // A sidecar: it goes on beside the others, which wait only until it has started.
            let kept = container::keep(run.clone(), init.clone(), Policy::Always);
            run.kubelet.tasks.spawn("sidecar container", async move { drop(kept.await) });
            started(run, init).await;
            continue;
        }
        let once = if policy == Policy::Always { Policy::OnFailure } else { policy };
        let end = container::keep(run.clone(), init.clone(), once).await;
        if end.code != 0 || run.stopping() {
            return;
        }
    }
    all.extend(spec.containers.iter().map(|each| container::keep(run.clone(), each.clone(), policy)));
    let ended = all.for_each(|_| async {});
    tokio::select! {
        () = ended => {}
        () = run.keep_fresh() => {}
    }
}

/// Returns when a sidecar has started or the pod is to end.
async fn started(run: &Running, container: &Container) {
    let has = || run.board.views().get(&container.name).is_some_and(|view| view.started);
    while !has() && !run.stopping() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Keeps the pod's status in the API true until the board is finished. The only writer, so no older status overtakes a newer.
async fn publish(run: Arc<Running>) {
    let since = Timestamp::now();
    let mut last = None;
    let mut pace = Backoff::new(RETRY_FIRST, RETRY_MAX);
    let mut orders = run.orders.clone();
    loop {
        // Asked before the views are read, so that the last of them are written.
        let finished = run.board.is_finished();
        match write_status(&run, &mut last, since).await {
            Ok(()) if finished => return,
            Ok(()) => pace.reset(),
            Err(error) => {
                tracing::warn!(pod = run.name.name, %error, "the status of a pod is not written yet");
                tokio::time::sleep(pace.next_wait()).await;
                continue;
            }
        }
        // Readiness gates are set by others: a changed pod may mean another status.
        tokio::select! {
            () = run.board.changed() => {}
            _ = orders.changed() => {}
        }
    }
}

/// Writes the status if it is another than the last. Only `status` is named in the patch: annotations are others'.
async fn write_status(
    run: &Running,
    last: &mut Option<k8s_openapi::api::core::v1::PodStatus>,
    since: Timestamp,
) -> anyhow::Result<()> {
    let pod = run.current();
    let views = run.board.views();
    let begun = pod.status.as_ref().and_then(|status| status.start_time.as_ref()).map_or(since, |time| time.0);
    let facts = status::Facts {
        pod: &pod,
        views: &views,
        addresses: run.addresses.iter().map(IpAddr::to_string).collect(),
        node: run.kubelet.node.addresses().iter().map(|net| net.addr().to_string()).collect(),
        since: begun,
        now: Timestamp::now(),
    };
    let status = status::status(&facts);
    if last.as_ref() == Some(&status) {
        return Ok(());
    }
    let api: Api<Pod> = Api::namespaced(run.kubelet.client.clone(), &run.name.namespace);
    // The uid makes the API refuse to write this into another pod of the same name.
    let patch = json!({"metadata": {"uid": run.name.uid}, "status": status});
    let (params, patch) = (PatchParams::default(), Patch::Merge(&patch));
    let written = api.patch_status(&run.name.name, &params, &patch);
    match within("writing a pod's status", API_TIMEOUT, written).await? {
        Ok(_) => *last = Some(status),
        Err(kube::Error::Api(answer)) if answer.code == 404 || answer.code == 409 => {}
        Err(error) => return Err(error.into()),
    }
    Ok(())
}

/// Whether all containers of a pod have ended; such a pod is not started again.
pub(super) fn is_over(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}
