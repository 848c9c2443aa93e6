//! A Kubernetes service as the mesh knows it.

use lateen_cluster::store::Key;
use lateen_wire::workload::{
    self as wire, LoadBalancing,
    load_balancing::{HealthPolicy, Mode, Scope},
};

use super::{
    Mesh, network_address,
    waypoint::{self, Granted},
};
use crate::facts::{Distribution, Namespace, Service, TargetPort};

/// What a service depends on besides itself.
#[derive(Debug, Clone, Copy)]
pub struct Around<'a> {
    /// The network of the cluster.
    pub network: &'a str,
    /// Its namespace.
    pub space: Option<&'a Namespace>,
    /// Its waypoint.
    pub granted: &'a Granted,
}

/// The mesh's service for a Kubernetes service.
pub fn derive(mesh: &Mesh, key: &Key, service: &Service, around: Around<'_>) -> wire::Service {
    wire::Service {
        name: key.name.to_string(),
        namespace: key.namespace.to_string(),
        hostname: mesh.hostname(key),
        addresses: service.addresses.iter().map(|ip| network_address(around.network, *ip)).collect(),
        ports: service.ports.iter().map(port).collect(),
        load_balancing: balancing(service, around.space.and_then(|space| space.distribution)),
        ip_families: service.families.into(),
        // A Kubernetes service always wins over whatever else claims its name.
        canonical: true,
        waypoint: around.granted.must_pass(),
        weighted_waypoints: waypoint::weighted(around.granted),
        ingress_use_waypoint: around.granted.ingress,
        ..wire::Service::default()
    }
}

/// Scopes and mode of a distribution. Built anew each time: a shared one that somebody changes would change all.
pub(super) fn preference(distribution: Option<Distribution>) -> Option<(Vec<Scope>, Mode)> {
    match distribution? {
        Distribution::PreferClose => Some((vec![Scope::Network, Scope::Region, Scope::Zone], Mode::Failover)),
        Distribution::PreferSameNode => {
            let scopes = vec![Scope::Network, Scope::Region, Scope::Zone, Scope::Subzone, Scope::Node];
            Some((scopes, Mode::Failover))
        }
        Distribution::Any => None,
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
        preference(service.distribution.or(inherited))
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
