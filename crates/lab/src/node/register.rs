//! The node's own object: made once, then kept alive.
//!
//! In: the node's number. Out: a Node with labels, ranges, addresses and a Ready condition; a lease, renewed.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use k8s_openapi::{
    api::{coordination::v1::Lease, core::v1::Node},
    jiff::Timestamp,
};
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use lateen_rt::deadline::within;
use serde_json::{Value, json};

use super::Kubelet;

/// How often the node says that it lives, as the kubelet's lease.
const HEARTBEAT_EVERY: Duration = Duration::from_secs(10);
const LEASE_SECONDS: u32 = 40;
/// How long the API may take.
const API_TIMEOUT: Duration = Duration::from_secs(10);
/// The server-side apply owner.
const OWNER: &str = "lateen-lab-kubelet";

/// Makes the Node and says that it is ready.
pub(super) async fn register(kubelet: &Kubelet) -> anyhow::Result<()> {
    let api: Api<Node> = Api::all(kubelet.client.clone());
    let name = kubelet.node.name();
    let params = PatchParams::apply(OWNER).force();
    let made =
        within("making the Node", API_TIMEOUT, api.patch(&name, &params, &Patch::Apply(&object(kubelet)))).await?;
    made.with_context(|| format!("making the Node {name}"))?;
    beat(kubelet).await
}

/// Says again and again that the node lives.
pub(super) async fn heartbeat(kubelet: Arc<Kubelet>) {
    loop {
        tokio::time::sleep(HEARTBEAT_EVERY).await;
        if let Err(error) = beat(&kubelet).await {
            tracing::warn!(error = format!("{error:#}"), "the API did not hear that this node lives");
        }
    }
}

async fn beat(kubelet: &Kubelet) -> anyhow::Result<()> {
    let name = kubelet.node.name();
    let now = Timestamp::now();
    let lease = json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {"name": name},
        "spec": {"holderIdentity": name, "leaseDurationSeconds": LEASE_SECONDS, "renewTime": format!("{now:.6}")},
    });
    let leases: Api<Lease> = Api::namespaced(kubelet.client.clone(), "kube-node-lease");
    let params = PatchParams::apply(OWNER).force();
    within("renewing the node's lease", API_TIMEOUT, leases.patch(&name, &params, &Patch::Apply(&lease))).await??;
    let nodes: Api<Node> = Api::all(kubelet.client.clone());
    let known = within("reading the Node", API_TIMEOUT, nodes.get_opt(&name)).await??;
    let status = json!({"status": status(kubelet, known.as_ref(), now)});
    let params = PatchParams::default();
    let patch = Patch::Merge(&status);
    within("writing the node's status", API_TIMEOUT, nodes.patch_status(&name, &params, &patch)).await??;
    Ok(())
}

fn object(kubelet: &Kubelet) -> Value {
    let node = kubelet.node;
    let ranges: Vec<String> = node.pods().iter().map(ToString::to_string).collect();
    json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": node.name(), "labels": {
            "kubernetes.io/hostname": node.name(),
            "kubernetes.io/os": "linux",
            "kubernetes.io/arch": arch(),
            "topology.kubernetes.io/region": "lab-region",
            "topology.kubernetes.io/zone": node.zone(),
        }},
        "spec": {"podCIDR": ranges.first(), "podCIDRs": ranges, "providerID": format!("lateen-lab://{}", node.name())},
    })
}

fn status(kubelet: &Kubelet, known: Option<&Node>, now: Timestamp) -> Value {
    let node = kubelet.node;
    let mut addresses: Vec<Value> =
        node.addresses().iter().map(|net| json!({"type": "InternalIP", "address": net.addr()})).collect();
    addresses.push(json!({"type": "Hostname", "address": node.name()}));
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let capacity = json!({"cpu": cpus.to_string(), "memory": "8Gi", "pods": "250", "ephemeral-storage": "10Gi"});
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    json!({
        "addresses": addresses, "capacity": capacity, "allocatable": capacity,
        "conditions": conditions(known, now),
        "nodeInfo": {
            "architecture": arch(), "operatingSystem": "linux", "osImage": "lateen lab",
            "kernelVersion": kernel.trim(), "kubeletVersion": concat!("v1.33.0-lateen-", env!("CARGO_PKG_VERSION")),
            "containerRuntimeVersion": "lateen-lab://1", "kubeProxyVersion": "", "machineID": "", "systemUUID": "",
            "bootID": "",
        },
    })
}

fn conditions(known: Option<&Node>, now: Timestamp) -> Vec<Value> {
    let before = known.and_then(|node| node.status.as_ref()?.conditions.as_ref());
    let kinds = [("MemoryPressure", "False"), ("DiskPressure", "False"), ("PIDPressure", "False"), ("Ready", "True")];
    let condition = |(kind, status): (&str, &str)| {
        let same = before.into_iter().flatten().find(|old| old.type_ == kind && old.status == status);
        let since = same.and_then(|old| old.last_transition_time.as_ref()).map_or(now, |time| time.0);
        let reason = if kind == "Ready" { "KubeletReady".to_owned() } else { format!("KubeletHasNo{kind}") };
        json!({
            "type": kind, "status": status, "reason": reason, "message": "",
            "lastHeartbeatTime": second(now), "lastTransitionTime": second(since),
        })
    };
    kinds.into_iter().map(condition).collect()
}

/// The format of a Kubernetes `Time`.
fn second(time: Timestamp) -> String {
    format!("{time:.0}")
}

fn arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
