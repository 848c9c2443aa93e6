//! A Kubernetes service as the mesh knows it.

use lateen_cluster::store::Key;
use lateen_wire::workload::{
    self as wire, LoadBalancing,
    load_balancing::{HealthPolicy, Mode, Scope},
};

use super::{Mesh, network_address};
use crate::facts::{Distribution, Namespace, Service, TargetPort};

/// The mesh's service for a Kubernetes service.
pub fn derive(
    mesh: &Mesh,
    network: &str,
    key: &Key,
    service: &Service,
    namespace: Option<&Namespace>,
) -> wire::Service {
    wire::Service {
        name: key.name.to_string(),
        namespace: key.namespace.to_string(),
        hostname: mesh.hostname(key),
        addresses: service.addresses.iter().map(|ip| network_address(network, *ip)).collect(),
        ports: service.ports.iter().map(port).collect(),
        load_balancing: balancing(service, namespace.and_then(|namespace| namespace.distribution)),
        ip_families: service.families.into(),
        // A Kubernetes service always wins over whatever else claims its name.
        canonical: true,
        ..wire::Service::default()
    }
}

fn port(port: &crate::facts::ServicePort) -> wire::Port {
    let target = match &port.target {
        TargetPort::Number(number) => u32::from(*number),
        TargetPort::Name(_) => 0,
    };
    wire::Port { service_port: port.number.into(), target_port: target, app_protocol: port.protocol.into() }
}

fn balancing(service: &Service, inherited: Option<Distribution>) -> Option<LoadBalancing> {
    let preference = if service.node_local {
        Some((vec![Scope::Node], Mode::Strict))
    } else {
        match service.distribution.or(inherited) {
            Some(Distribution::PreferClose) => Some((vec![Scope::Network, Scope::Region, Scope::Zone], Mode::Failover)),
            Some(Distribution::PreferSameNode) => {
                let scopes = vec![Scope::Network, Scope::Region, Scope::Zone, Scope::Subzone, Scope::Node];
                Some((scopes, Mode::Failover))
            }
            Some(Distribution::Any) | None => None,
        }
    };
    if preference.is_none() && !service.publish_not_ready {
        return None;
    }
    let (scopes, mode) = preference.unwrap_or((Vec::new(), Mode::UnspecifiedMode));
    let health = if service.publish_not_ready { HealthPolicy::AllowAll } else { HealthPolicy::OnlyHealthy };
    Some(LoadBalancing {
        routing_preference: scopes.into_iter().map(i32::from).collect(),
        mode: mode.into(),
        health_policy: health.into(),
    })
}
