//! This node's pods and the cluster's namespaces, kept small.
//!
//! In: watches. Out: two stores, keys of changed pods in an inbox, a word when both are complete.
//! Absent on purpose: what a change means (see `decide`).

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::{Api, Client, runtime::watcher};
use lateen_cluster::{
    enrol::{Candidate, Rules, enrolled},
    labels::{REDIRECTION, REDIRECTION_ENABLED, REDIRECTION_PENDING, SIDECAR_STATUS},
    store::{Key, Listener, Reading, Store, follow},
};
use lateen_rt::{
    deadline::{Elapsed, within},
    inbox::Inbox,
    tasks::Tasks,
};
use lateen_types::{label::Labels, name::PodUid};
use tokio::sync::watch;

use crate::decide::Annotated;

/// For one read of the API when a store has not caught up.
const FETCH_TIMEOUT: Duration = Duration::from_secs(2);

/// What of a pod we use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodView {
    /// Its place.
    pub key: Key,
    /// Its UID.
    pub uid: PodUid,
    /// Its service account.
    pub service_account: String,
    /// Its addresses.
    pub ips: Vec<IpAddr>,
    /// Its labels.
    pub labels: Labels,
    /// Its annotations under names of the mesh.
    pub annotations: BTreeMap<String, String>,
    /// Whether it shares the node's network.
    pub host_network: bool,
    /// Whether it has ended for good.
    pub finished: bool,
    /// Whether its deletion has been asked for.
    pub ending: bool,
}

impl PodView {
    /// What we use of `pod`; `None` for an object without name or UID, which no API server sends.
    pub fn of(pod: &Pod) -> Option<Self> {
        let candidate = Candidate::of(pod);
        let status = pod.status.as_ref();
        let listed = status.and_then(|status| status.pod_ips.as_ref()).into_iter().flatten();
        let mut ips: Vec<IpAddr> = listed.filter_map(|one| one.ip.parse().ok()).collect();
        if ips.is_empty() {
            ips.extend(status.and_then(|status| status.pod_ip.as_deref()?.parse::<IpAddr>().ok()));
        }
        let meta = &pod.metadata;
        let ours = |name: &String| name.contains("istio.io/");
        let annotations = meta.annotations.iter().flatten().filter(|(name, _)| ours(name));
        meta.name.as_ref()?;
        Some(Self {
            key: Key::of(pod),
            uid: meta.uid.as_deref()?.into(),
            service_account: pod
                .spec
                .as_ref()
                .and_then(|spec| spec.service_account_name.clone())
                .unwrap_or_else(|| "default".into()),
            ips,
            labels: candidate.labels.clone(),
            annotations: annotations.map(|(name, value)| (name.clone(), value.clone())).collect(),
            host_network: candidate.host_network,
            finished: candidate.finished,
            ending: meta.deletion_timestamp.is_some(),
        })
    }

    /// The redirection annotation.
    pub fn annotated(&self) -> Annotated {
        match self.annotations.get(REDIRECTION).map(String::as_str) {
            Some(REDIRECTION_ENABLED) => Annotated::Enabled,
            Some(REDIRECTION_PENDING) => Annotated::Pending,
            Some(_) | None => Annotated::No,
        }
    }

    /// Whether the pod is to be in the mesh.
    pub fn wanted(&self, namespace_labels: &Labels, rules: &Rules) -> bool {
        let candidate = Candidate {
            namespace: &self.key.namespace,
            labels: &self.labels,
            sidecar: self.annotations.contains_key(SIDECAR_STATUS),
            host_network: self.host_network,
            finished: self.finished,
        };
        enrolled(candidate, namespace_labels, rules).is_in()
    }
}

/// Why the cluster did not tell us of a pod.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// It does not know it.
    #[error("{0} is not known to the Kubernetes API")]
    Unknown(String),
    /// Another pod has its name now.
    #[error("pod {key} has UID {found}, not {wanted}: it was replaced")]
    Replaced {
        /// The pod's place.
        key: Key,
        /// Who is there.
        found: PodUid,
        /// Who was asked for.
        wanted: PodUid,
    },
    /// It refused.
    #[error("reading from the Kubernetes API: {0}")]
    Api(#[source] Box<kube::Error>),
    /// It does not answer.
    #[error(transparent)]
    Timeout(#[from] Elapsed),
}

/// The stores; clones share them.
#[derive(Clone)]
pub struct Cluster {
    client: Client,
    rules: Rules,
    pods: Store<PodView>,
    namespaces: Store<Labels>,
    complete: watch::Receiver<(bool, bool)>,
    /// Pods to be looked at.
    pub changed: Inbox<Key>,
}

impl Cluster {
    /// Begins to follow the pods of `node`.
    pub fn follow(client: Client, node: &str, rules: Rules, tasks: &Tasks) -> Self {
        let (done, complete) = watch::channel((false, false));
        let cluster = Self {
            client: client.clone(),
            rules,
            pods: Store::default(),
            namespaces: Store::default(),
            complete,
            changed: Inbox::new(),
        };
        let of_node = watcher::Config::default().fields(&format!("spec.nodeName={node}"));
        let pods = PodListener { changed: cluster.changed.clone(), done: done.clone() };
        tasks.spawn("pods", follow(Api::all(client.clone()), of_node, cluster.pods.clone(), pods));
        let namespaces = NamespaceListener { changed: cluster.changed.clone(), pods: cluster.pods.clone(), done };
        let all = watcher::Config::default();
        tasks.spawn("namespaces", follow(Api::all(client), all, cluster.namespaces.clone(), namespaces));
        cluster
    }

    /// Returns once both stores hold everything. Safe to drop and call again.
    pub async fn complete(&self) {
        let mut complete = self.complete.clone();
        // It fails only when both followers have ended, at shutdown.
        let _ = complete.wait_for(|(pods, namespaces)| *pods && *namespaces).await;
    }

    /// The pod at `key`, as far as we have heard.
    pub fn pod(&self, key: &Key) -> Option<PodView> {
        self.pods.find(key).map(|pod| (*pod).clone())
    }

    /// All pods of the node.
    pub fn pods(&self) -> Vec<PodView> {
        self.pods.snapshot().into_iter().map(|(_, pod)| (*pod).clone()).collect()
    }

    /// Whether `pod` is to be in the mesh, as far as we have heard of its namespace.
    pub fn wanted(&self, pod: &PodView) -> bool {
        let labels = self.namespaces.find(&Key::new("", &pod.key.namespace));
        pod.wanted(labels.as_deref().unwrap_or(&Labels::new()), &self.rules)
    }

    /// The pod at `key` with this UID, from the store or, if that is behind, from the API.
    pub async fn pod_now(&self, key: &Key, uid: Option<&PodUid>) -> Result<PodView, FetchError> {
        let is_it = |pod: &PodView| uid.is_none_or(|uid| *uid == pod.uid);
        if let Some(pod) = self.pod(key).filter(is_it) {
            return Ok(pod);
        }
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &key.namespace);
        let asked = within("reading the pod from the Kubernetes API", FETCH_TIMEOUT, api.get_opt(&key.name)).await?;
        let pod = asked.map_err(|error| FetchError::Api(Box::new(error)))?;
        let unknown = || FetchError::Unknown(format!("pod {key}"));
        let view = pod.as_ref().and_then(PodView::of).ok_or_else(unknown)?;
        match uid.filter(|uid| **uid != view.uid) {
            None => Ok(view),
            Some(uid) => Err(FetchError::Replaced { key: key.clone(), found: view.uid.clone(), wanted: uid.clone() }),
        }
    }

    /// Whether `pod` is to be in the mesh, asking the API for a namespace the store does not have yet.
    pub async fn wanted_now(&self, pod: &PodView) -> Result<bool, FetchError> {
        let name = &pod.key.namespace;
        if self.namespaces.find(&Key::new("", name)).is_some() {
            return Ok(self.wanted(pod));
        }
        let api: Api<Namespace> = Api::all(self.client.clone());
        let asked = within("reading the namespace from the Kubernetes API", FETCH_TIMEOUT, api.get_opt(name)).await?;
        let namespace = asked.map_err(|error| FetchError::Api(Box::new(error)))?;
        let namespace = namespace.ok_or_else(|| FetchError::Unknown(format!("namespace {name}")))?;
        Ok(pod.wanted(&namespace.metadata.labels.unwrap_or_default(), &self.rules))
    }
}

struct PodListener {
    changed: Inbox<Key>,
    done: watch::Sender<(bool, bool)>,
}

impl FetchError {
    /// Whether it says that there is no such pod (rather than that nobody knows).
    pub fn is_absence(&self) -> bool {
        match self {
            Self::Unknown(_) | Self::Replaced { .. } => true,
            Self::Api(_) | Self::Timeout(_) => false,
        }
    }
}

impl Listener<Pod> for PodListener {
    type Value = PodView;

    fn read(&mut self, pod: Pod) -> Reading<PodView> {
        PodView::of(&pod).map_or_else(|| Reading::Unreadable("it has no name or UID".into()), Reading::Value)
    }

    fn changed(&mut self, key: &Key) {
        self.changed.push(key.clone());
    }

    fn complete(&mut self) {
        self.done.send_modify(|(pods, _)| *pods = true);
    }
}

struct NamespaceListener {
    changed: Inbox<Key>,
    pods: Store<PodView>,
    done: watch::Sender<(bool, bool)>,
}

impl Listener<Namespace> for NamespaceListener {
    type Value = Labels;

    fn read(&mut self, namespace: Namespace) -> Reading<Labels> {
        Reading::Value(namespace.metadata.labels.unwrap_or_default())
    }

    fn changed(&mut self, key: &Key) {
        for (pod, _) in self.pods.snapshot().iter().filter(|(pod, _)| pod.namespace == key.name) {
            self.changed.push(pod.clone());
        }
    }

    fn complete(&mut self) {
        self.done.send_modify(|(_, namespaces)| *namespaces = true);
    }
}
