//! Endpoints that are no pods, as the mesh knows them: addresses without identity.

use lateen_cluster::store::Key;
use lateen_wire::workload::{self as wire, NetworkMode, WorkloadStatus, WorkloadType};

use super::Mesh;
use crate::facts::{Endpoint, EndpointSlice, Service};

/// The workloads for the endpoints of a slice that no pod stands behind.
pub fn derive(mesh: &Mesh, network: &str, key: &Key, slice: &EndpointSlice, service: &Service) -> Vec<wire::Workload> {
    let ports: Vec<wire::Port> = service
        .ports
        .iter()
        .filter_map(|port| {
            let target = slice.ports.iter().find(|target| target.name == port.name)?.number;
            Some(wire::Port { service_port: port.number.into(), target_port: target.into(), app_protocol: 0 })
        })
        .collect();
    let ports = wire::PortList { ports };
    let service_key = mesh.service_key(&slice.service);
    let bare = slice.endpoints.iter().filter(|endpoint| endpoint.pod.is_none());
    bare.map(|endpoint| wire::Workload {
        network: network.to_owned(),
        services: [(service_key.clone(), ports.clone())].into(),
        ..workload(mesh, key, endpoint)
    })
    .collect()
}

fn workload(mesh: &Mesh, key: &Key, endpoint: &Endpoint) -> wire::Workload {
    wire::Workload {
        uid: format!(
            "{}/discovery.k8s.io/EndpointSlice/{}/{}/{}",
            mesh.cluster, key.namespace, key.name, endpoint.address
        ),
        name: key.name.to_string(),
        namespace: key.namespace.to_string(),
        addresses: vec![crate::facts::ip_bytes(endpoint.address)],
        trust_domain: mesh.wire_trust_domain(),
        workload_type: WorkloadType::Pod.into(),
        status: if endpoint.ready { WorkloadStatus::Healthy } else { WorkloadStatus::Unhealthy }.into(),
        cluster_id: mesh.cluster.clone(),
        // Its address may be anything, even a node's; it must never be found by address.
        network_mode: NetworkMode::HostNetwork.into(),
        ..wire::Workload::default()
    }
}
