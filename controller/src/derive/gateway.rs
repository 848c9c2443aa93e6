//! Ways into other networks: Gateways of this cluster that stand for one there.

use std::collections::BTreeMap;

use lateen_cluster::store::Key;
use lateen_wire::workload::{self as wire, TunnelProtocol, WorkloadType};

use super::{Mesh, waypoint::place_on_wire};
use crate::facts::{Gateway, GatewayPlace, REMOTE_CLASS, ip_bytes};

/// One address of a Gateway that leads to another network.
#[derive(Debug, Clone, PartialEq)]
pub struct Way {
    /// As workloads of that network carry it.
    pub address: wire::GatewayAddress,
    /// The Gateway as a workload, so that its identity is known.
    pub workload: wire::Workload,
}

/// The network a Gateway leads to, if it does.
pub fn network_of(gateway: &Gateway) -> Option<&str> {
    let leads = gateway.class == REMOTE_CLASS && !gateway.network.is_empty() && tunnel_port(gateway).is_some();
    leads.then_some(gateway.network.as_str())
}

fn tunnel_port(gateway: &Gateway) -> Option<u16> {
    gateway.listeners.iter().find(|listener| listener.protocol == "HBONE").map(|listener| listener.port)
}

/// Every way of these Gateways, the first Gateway by name first; an address listed twice is one way.
pub fn ways<'a>(mesh: &Mesh, gateways: impl Iterator<Item = (&'a Key, &'a Gateway)>) -> Vec<Way> {
    let (mut all, mut seen) = (Vec::new(), BTreeMap::new());
    for (key, gateway) in gateways {
        let Some(port) = tunnel_port(gateway).filter(|_| network_of(gateway).is_some()) else { continue };
        for place in &gateway.places {
            let workload = workload(mesh, key, gateway, (place, port));
            if seen.insert(workload.uid.clone(), ()).is_none() {
                let address = place_on_wire(place, &key.namespace, &gateway.network, port);
                all.push(Way { address, workload });
            }
        }
    }
    all
}

fn workload(mesh: &Mesh, key: &Key, gateway: &Gateway, (place, port): (&GatewayPlace, u16)) -> wire::Workload {
    let (text, addresses, hostname) = match place {
        GatewayPlace::Ip(ip) => (ip.to_string(), vec![ip_bytes(*ip)], String::new()),
        GatewayPlace::Hostname(name) => (name.clone(), Vec::new(), name.clone()),
    };
    wire::Workload {
        uid: format!("NetworkGateway/{}/{text}/{port}", gateway.network),
        name: key.name.to_string(),
        namespace: key.namespace.to_string(),
        addresses,
        hostname,
        network: gateway.network.clone(),
        tunnel_protocol: TunnelProtocol::Hbone.into(),
        trust_domain: mesh.wire_trust_domain(),
        service_account: gateway.account.clone().unwrap_or_else(|| format!("{}-{REMOTE_CLASS}", key.name)),
        workload_name: key.name.to_string(),
        canonical_name: key.name.to_string(),
        canonical_revision: "latest".to_owned(),
        workload_type: WorkloadType::Pod.into(),
        cluster_id: mesh.cluster.clone(),
        ..wire::Workload::default()
    }
}
