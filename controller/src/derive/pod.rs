//! A pod as the mesh knows it.

use lateen_cluster::{labels, store::Key};
use lateen_types::label::Labels;
use lateen_wire::workload::{self as wire, NetworkMode, TunnelProtocol, WorkloadStatus, WorkloadType};

use super::{Mesh, entry::Behind};
use crate::facts::{Node, Phase, Pod};

/// What a pod's workload depends on besides the pod.
#[derive(Debug, Clone, Default)]
pub struct Surroundings<'a> {
    /// The network of the cluster.
    pub network: &'a str,
    /// The pod's node, once known.
    pub node: Option<&'a Node>,
    /// The services the pod stands behind.
    pub services: Vec<Behind<'a>>,
    /// Keys of the policies that select the pod.
    pub policies: Vec<String>,
    /// The pod's waypoint.
    pub waypoint: Option<wire::GatewayAddress>,
    /// How the pod, as a waypoint's own, takes connections.
    pub application_tunnel: Option<wire::ApplicationTunnel>,
    /// The way into the pod's network.
    pub gateway: Option<wire::GatewayAddress>,
    /// What only proxies of ours read of it.
    pub extensions: Vec<wire::Extension>,
}

/// The primary key of a pod's workload.
pub fn uid(mesh: &Mesh, key: &Key) -> String {
    format!("{}//Pod/{}/{}", mesh.cluster, key.namespace, key.name)
}

/// The mesh's workload for a pod; none once it has ended, or while it has no address.
pub fn derive(mesh: &Mesh, key: &Key, pod: &Pod, around: Surroundings<'_>) -> Option<wire::Workload> {
    if pod.phase != Phase::Live || pod.addresses.is_empty() {
        return None;
    }
    let name = workload_name(key, pod);
    let tunnels = tunnel(pod);
    let mut policies = around.policies;
    policies.sort_unstable();
    policies.dedup();
    Some(wire::Workload {
        uid: uid(mesh, key),
        name: key.name.to_string(),
        namespace: key.namespace.to_string(),
        addresses: pod.addresses.iter().map(|ip| crate::facts::ip_bytes(*ip)).collect(),
        network: around.network.to_owned(),
        tunnel_protocol: tunnels.protocol.into(),
        native_tunnel: tunnels.native,
        trust_domain: mesh.wire_trust_domain(),
        service_account: pod.service_account.to_string(),
        node: pod.node.to_string(),
        canonical_name: canonical_name(&pod.labels, &name),
        canonical_revision: canonical_revision(&pod.labels),
        workload_name: name,
        workload_type: WorkloadType::Pod.into(),
        authorization_policies: policies,
        status: if pod.healthy { WorkloadStatus::Healthy } else { WorkloadStatus::Unhealthy }.into(),
        cluster_id: mesh.cluster.clone(),
        services: around.services.iter().map(|behind| (behind.name(mesh), behind.at_pod(pod))).collect(),
        waypoint: around.waypoint,
        application_tunnel: around.application_tunnel,
        network_gateway: around.gateway,
        locality: around.node.and_then(locality),
        extensions: around.extensions,
        network_mode: if pod.host_network { NetworkMode::HostNetwork } else { NetworkMode::Standard }.into(),
        ..wire::Workload::default()
    })
}

struct Tunnel {
    protocol: TunnelProtocol,
    /// Whether the pod ends tunnels itself.
    native: bool,
}

/// Peers may tunnel to a pod once redirection was seen to work, or where it ends tunnels itself. What a namespace's
/// label wishes for is not enough: its pods would be unreachable until the agent is done.
fn tunnel(pod: &Pod) -> Tunnel {
    let native = ends_tunnels(&pod.labels);
    let protocol = if native || pod.redirected { TunnelProtocol::Hbone } else { TunnelProtocol::None };
    Tunnel { protocol, native }
}

/// Whether labels say that their object ends tunnels itself.
pub(super) fn ends_tunnels(all: &Labels) -> bool {
    all.get(labels::TUNNEL).is_some_and(|list| list.split(',').any(|one| one.trim() == "http"))
}

const NAME_LABELS: [&str; 3] = [labels::CANONICAL_NAME, "app.kubernetes.io/name", "app"];
const REVISION_LABELS: [&str; 3] = [labels::CANONICAL_REVISION, "app.kubernetes.io/version", "version"];

fn first_label<'a>(all: &'a Labels, keys: &[&str]) -> Option<&'a str> {
    keys.iter().find_map(|key| all.get(*key)).map(String::as_str)
}

/// The revision telemetry shows.
pub(super) fn canonical_revision(all: &Labels) -> String {
    first_label(all, &REVISION_LABELS).unwrap_or("latest").to_owned()
}

/// The service name telemetry shows.
pub(super) fn canonical_name(all: &Labels, workload: &str) -> String {
    first_label(all, &NAME_LABELS).unwrap_or(workload).to_owned()
}

/// What a person calls the workload: the Deployment rather than its ReplicaSet, the CronJob rather than its Job.
fn workload_name(key: &Key, pod: &Pod) -> String {
    if let Some(name) = pod.labels.get(labels::WORKLOAD_NAME) {
        return name.clone();
    }
    let Some(owner) = &pod.owner else { return key.name.to_string() };
    let without_hash = |label: &str| {
        let hash = pod.labels.get(label).filter(|hash| !hash.is_empty())?;
        owner.name.strip_suffix(hash)?.strip_suffix('-').map(str::to_owned)
    };
    let made_by = match owner.kind.as_str() {
        "ReplicaSet" => without_hash("pod-template-hash").or_else(|| without_hash("rollouts-pod-template-hash")),
        "ReplicationController" => pod.labels.get("deploymentconfig").cloned(),
        "Job" => scheduled_job(&owner.name).map(str::to_owned),
        _ => None,
    };
    made_by.unwrap_or_else(|| owner.name.clone())
}

/// The CronJob behind a Job: its name ends in the minute it was scheduled for, 8 to 10 digits.
fn scheduled_job(name: &str) -> Option<&str> {
    let (cron, minute) = name.rsplit_once('-')?;
    let scheduled = (8..=10).contains(&minute.len()) && minute.bytes().all(|byte| byte.is_ascii_digit());
    scheduled.then_some(cron)
}

fn locality(node: &Node) -> Option<wire::Locality> {
    let known = [&node.region, &node.zone, &node.subzone].iter().any(|part| !part.is_empty());
    known.then(|| wire::Locality {
        region: node.region.clone(),
        zone: node.zone.clone(),
        subzone: node.subzone.clone(),
    })
}
