//! A waypoint itself: whom it serves.
//!
//! In: its Gateway, who is bound to it, the labels of its pods. Out: `lateen.proxy.Proxy`.

use lateen_cluster::store::Key;
use lateen_types::label::Labels;
use lateen_wire::proxy as wire;

use super::{
    backend::ServiceName,
    waypoint::{self, Found},
};
use crate::facts::Traffic;

/// The name of how the Gateway serves, or sends to, a service.
pub fn name_at(gateway: &Key, service: &ServiceName) -> String {
    format!("{gateway}/{service}")
}

/// Whom a waypoint serves.
#[derive(Debug, Clone, Default)]
pub struct Around<'a> {
    /// Services, in order.
    pub services: Vec<&'a ServiceName>,
    /// Workloads by uid, in order.
    pub workloads: Vec<&'a str>,
    /// Names of the policies that hold for every request.
    pub policies: Vec<String>,
    /// What all its pods carry, of the labels by which endpoints are chosen.
    pub labels: Labels,
}

/// The waypoint of a Gateway.
pub fn waypoint(key: &Key, found: Found<'_>, around: Around<'_>) -> wire::Proxy {
    let traffic = waypoint::traffic(found);
    wire::Proxy {
        namespace: key.namespace.to_string(),
        name: key.name.to_string(),
        role: wire::Role::Waypoint.into(),
        options: Some(options(around.labels)),
        listeners: Vec::new(),
        services: around.services.into_iter().map(|service| name_at(key, service)).collect(),
        policies: around.policies,
        serves_workloads: matches!(traffic, Traffic::Workload | Traffic::All),
        serves_services: matches!(traffic, Traffic::Service | Traffic::All),
        workloads: around.workloads.into_iter().map(|uid| wire::ServedWorkload { uid: uid.to_owned() }).collect(),
    }
}

/// The reference's defaults.
pub(super) fn options(labels: Labels) -> wire::Options {
    wire::Options {
        path_normalization: wire::PathNormalization::Base.into(),
        labels,
        connect_timeout: Some(prost_types::Duration { seconds: 10, nanos: 0 }),
        ..wire::Options::default()
    }
}
