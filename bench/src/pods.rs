//! The pods that load is put into: objects for the cluster, and whether they are there.
//!
//! ```text
//!              node-1           node-2
//! meshed       client   near    far       (labelled: enrolled)
//! plain        client   near    far
//! ```
//! In: a lab's kubeconfig. Out: addresses of pods that are ready and, where they should be, enrolled.

use std::{collections::BTreeMap, net::IpAddr, path::Path, time::Duration};

use anyhow::{Context as _, bail};
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::{
    Api, Client, Config,
    api::{ListParams, PostParams},
    config::{KubeConfigOptions, Kubeconfig},
};
use lateen_rt::deadline::within;
use serde_json::json;
use tokio::time::Instant;

/// The variable that tells a pod's process from others.
pub(crate) const MARK: &str = "LATEEN_BENCH_POD";
const ENROLLED: &str = "ambient.istio.io/redirection";
const API_TIMEOUT: Duration = Duration::from_secs(20);
const PODS_TIMEOUT: Duration = Duration::from_secs(90);
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Whether pods belong to the mesh.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Side {
    /// They do.
    Meshed,
    /// They do not.
    Plain,
}

impl Side {
    /// Its namespace.
    pub fn namespace(self) -> &'static str {
        match self {
            Self::Meshed => "meshed",
            Self::Plain => "plain",
        }
    }
}

/// What a pod is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Role {
    /// Asks; on the first node.
    Client,
    /// Answers, on the client's node.
    Near,
    /// Answers, on the other node.
    Far,
}

impl Role {
    /// The pod's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Near => "near",
            Self::Far => "far",
        }
    }

    fn node(self) -> &'static str {
        if self == Self::Far { "node-2" } else { "node-1" }
    }
}

/// All pods of a lab.
pub(crate) const ALL: [(Side, Role); 6] = [
    (Side::Meshed, Role::Client),
    (Side::Meshed, Role::Near),
    (Side::Meshed, Role::Far),
    (Side::Plain, Role::Client),
    (Side::Plain, Role::Near),
    (Side::Plain, Role::Far),
];

/// Makes the pods and waits for them; their addresses.
pub(crate) async fn make(kubeconfig: &Path) -> anyhow::Result<BTreeMap<(Side, Role), IpAddr>> {
    let client = client(kubeconfig).await?;
    let namespaces: Api<Namespace> = Api::all(client.clone());
    for side in [Side::Meshed, Side::Plain] {
        let labels = if side == Side::Meshed { json!({"istio.io/dataplane-mode": "ambient"}) } else { json!({}) };
        let object = json!({"metadata": {"name": side.namespace(), "labels": labels}});
        let object = serde_json::from_value(object).context("a namespace")?;
        within("making a namespace", API_TIMEOUT, namespaces.create(&PostParams::default(), &object)).await??;
    }
    for (side, role) in ALL {
        let pods: Api<Pod> = Api::namespaced(client.clone(), side.namespace());
        let object = serde_json::from_value(pod(side, role)).context("a pod")?;
        within("making a pod", API_TIMEOUT, pods.create(&PostParams::default(), &object)).await??;
    }
    let until = Instant::now() + PODS_TIMEOUT;
    loop {
        let mut addresses = BTreeMap::new();
        for side in [Side::Meshed, Side::Plain] {
            let pods: Api<Pod> = Api::namespaced(client.clone(), side.namespace());
            let listed = within("listing pods", API_TIMEOUT, pods.list(&ListParams::default())).await??;
            for role in [Role::Client, Role::Near, Role::Far] {
                let found = listed.items.iter().find(|pod| pod.metadata.name.as_deref() == Some(role.name()));
                if let Some(address) = found.and_then(|pod| usable(pod, side)) {
                    addresses.insert((side, role), address);
                }
            }
        }
        if addresses.len() == ALL.len() {
            return Ok(addresses);
        }
        if Instant::now() > until {
            bail!("only {} of {} pods became usable within {PODS_TIMEOUT:?}", addresses.len(), ALL.len());
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// A client for the lab's API.
pub(crate) async fn client(kubeconfig: &Path) -> anyhow::Result<Client> {
    let file = Kubeconfig::read_from(kubeconfig).context("reading the lab's kubeconfig")?;
    let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await.context("the kubeconfig")?;
    Client::try_from(config).context("a client for the lab's API")
}

/// A pod whose process does nothing: load is started in its network from outside.
fn pod(side: Side, role: Role) -> serde_json::Value {
    let mark = format!("{}/{}", side.namespace(), role.name());
    json!({
        "metadata": {"name": role.name(), "namespace": side.namespace()},
        "spec": {
            "nodeName": role.node(),
            "terminationGracePeriodSeconds": 0,
            "containers": [{"name": "pause", "image": "pause", "env": [{"name": MARK, "value": mark}]}],
        },
    })
}

/// The address of a pod that runs and, on the meshed side, is enrolled.
pub(crate) fn usable(pod: &Pod, side: Side) -> Option<IpAddr> {
    let status = pod.status.as_ref()?;
    let annotation = pod.metadata.annotations.as_ref().and_then(|all| all.get(ENROLLED)).map(String::as_str);
    let enrolled = side == Side::Plain || annotation == Some("enabled");
    let running = status.phase.as_deref() == Some("Running");
    (running && enrolled).then(|| status.pod_ip.as_ref()?.parse().ok()).flatten()
}
