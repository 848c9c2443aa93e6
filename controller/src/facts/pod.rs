//! What is used of a Pod.

use std::{net::IpAddr, sync::Arc};

use k8s_openapi::api::core::v1 as core;
use lateen_cluster::{labels, store::Reading};
use lateen_types::label::Labels;

use super::{Wish, service::is_waypoint};

/// Where a pod is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Pending, running or unknown.
    Live,
    /// Ended well. Its account still counts for its node's identities, as in the reference.
    Succeeded,
    /// Ended badly.
    Failed,
}

/// The object that controls a pod.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Owner {
    /// Its kind.
    pub kind: String,
    /// Its name.
    pub name: String,
}

/// A TCP port of a container that has a name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct NamedPort {
    /// The name a service's `targetPort` may use.
    pub name: String,
    /// The number.
    pub number: u16,
}

/// What is used of a pod. What pods have in common may be shared (see `common`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pod {
    /// Kubernetes' uid.
    pub uid: Arc<str>,
    /// All labels: policies and services select by any of them.
    pub labels: Arc<Labels>,
    /// Its addresses, primary first.
    pub addresses: Vec<IpAddr>,
    /// Its node; empty until scheduled.
    pub node: Arc<str>,
    /// Its service account.
    pub service_account: Arc<str>,
    /// Whether it is ready and not being deleted.
    pub healthy: bool,
    /// Whether it shares the node's network namespace.
    pub host_network: bool,
    /// Whether the node agent says that redirection works.
    pub redirected: bool,
    /// Its controller, where its name was generated from one.
    pub owner: Option<Arc<Owner>>,
    /// Named ports: of containers, then of native sidecars.
    pub ports: Arc<Vec<NamedPort>>,
    /// Where it is in its life.
    pub phase: Phase,
    /// Which waypoint it asks for.
    pub wish: Wish,
}

impl Pod {
    /// Whether it is a waypoint's own, which has no waypoint.
    pub fn is_waypoint(&self) -> bool {
        is_waypoint(Some(&*self.labels))
    }

    /// The name of the Gateway it is an instance of.
    pub fn gateway(&self) -> Option<&str> {
        self.labels.get(labels::GATEWAY_NAME).map(String::as_str)
    }

    /// Reads a Kubernetes pod.
    pub fn read(pod: core::Pod) -> Reading<Self> {
        let (meta, spec) = (pod.metadata, pod.spec.unwrap_or_default());
        let status = pod.status.unwrap_or_default();
        let annotation = meta.annotations.as_ref().and_then(|all| all.get(labels::REDIRECTION));
        Reading::Value(Self {
            healthy: is_ready(&status) && meta.deletion_timestamp.is_none(),
            addresses: addresses_of(&status),
            phase: phase_of(&status),
            redirected: annotation.is_some_and(|value| value == labels::REDIRECTION_ENABLED),
            owner: owner_of(meta.generate_name.as_deref(), meta.owner_references.as_deref().unwrap_or_default())
                .map(Arc::new),
            ports: ports_of(&spec).into(),
            wish: Wish::of(&meta, meta.namespace.as_deref().unwrap_or_default()),
            uid: meta.uid.unwrap_or_default().into(),
            labels: meta.labels.unwrap_or_default().into(),
            node: spec.node_name.unwrap_or_default().into(),
            service_account: spec.service_account_name.unwrap_or_default().into(),
            host_network: spec.host_network.unwrap_or_default(),
        })
    }
}

fn is_ready(status: &core::PodStatus) -> bool {
    let mut conditions = status.conditions.iter().flatten();
    conditions.any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

fn addresses_of(status: &core::PodStatus) -> Vec<IpAddr> {
    let many = status.pod_ips.iter().flatten().map(|ip| ip.ip.as_str());
    let found: Vec<IpAddr> = many.filter_map(|text| text.parse().ok()).collect();
    if !found.is_empty() {
        return found;
    }
    status.pod_ip.iter().filter_map(|text| text.parse().ok()).collect()
}

fn phase_of(status: &core::PodStatus) -> Phase {
    match status.phase.as_deref() {
        Some("Succeeded") => Phase::Succeeded,
        Some("Failed") => Phase::Failed,
        Some(_) | None => Phase::Live,
    }
}

fn owner_of(
    generated: Option<&str>,
    owners: &[k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference],
) -> Option<Owner> {
    generated.filter(|prefix| !prefix.is_empty())?;
    let controller = owners.iter().find(|owner| owner.controller == Some(true))?;
    Some(Owner { kind: controller.kind.clone(), name: controller.name.clone() })
}

fn ports_of(spec: &core::PodSpec) -> Vec<NamedPort> {
    let sidecars = spec.init_containers.iter().flatten().filter(|one| one.restart_policy.as_deref() == Some("Always"));
    let ports = spec.containers.iter().chain(sidecars).flat_map(|container| container.ports.iter().flatten());
    let tcp = ports.filter(|port| port.protocol.as_deref().is_none_or(|protocol| protocol == "TCP"));
    tcp.filter_map(|port| {
        let number = u16::try_from(port.container_port).ok()?;
        Some(NamedPort { name: port.name.clone()?, number })
    })
    .collect()
}
