//! Which policies hold at a waypoint or gateway, and for which of its services.
//!
//! In: policies, a proxy or a service. Out: those that are for it, in order.
//!
//! | policy | waypoint | gateway |
//! | --- | --- | --- |
//! | targetRef Gateway, of its own namespace | every request | every request |
//! | targetRef Service or ServiceEntry, of its own namespace | requests to it | - |
//! | targetRef GatewayClass, in the root namespace | every request at waypoints of the class | every request |
//! | selector that its pods carry, or none | - (node proxies enforce it) | every request, also from the root namespace |

use lateen_cluster::store::Key;
use lateen_types::label::Labels;

use super::{
    Mesh,
    targets::{self, Ask},
};
use crate::facts::{self, AuthorizationPolicy};

/// A waypoint or gateway.
#[derive(Debug, Clone, Copy)]
pub struct Proxy<'a> {
    /// Its Gateway.
    pub gateway: &'a Key,
    /// Its Gateway's class.
    pub class: &'a str,
    /// The labels of its pods, by which policies select gateways, of each of them: while pods with other labels take the
    /// places of old ones, what selects either holds for both. `None` for a waypoint, which none selects.
    pub selectable: Option<&'a [&'a Labels]>,
}

/// A service of a waypoint.
#[derive(Debug, Clone, Copy)]
pub enum Served<'a> {
    /// Of Kubernetes.
    Service(&'a Key),
    /// An entry.
    Entry(&'a Key),
}

impl Served<'_> {
    /// As policies name it.
    pub fn ask(self) -> Ask {
        match self {
            Self::Service(key) => Ask::Service(key.clone()),
            Self::Entry(key) => Ask::ServiceEntry(key.clone()),
        }
    }
}

/// The policies that hold for every request at `proxy`: what belongs into `Proxy.policies`. `policies` must hold
/// those of the proxy's namespace and of the root namespace.
pub fn to_proxy<'p>(
    mesh: &Mesh,
    proxy: Proxy<'_>,
    policies: impl Iterator<Item = (&'p Key, &'p AuthorizationPolicy)>,
) -> Vec<(&'p Key, &'p AuthorizationPolicy)> {
    sorted(policies.filter(|(key, policy)| is_for_proxy(mesh, proxy, key, policy)))
}

/// The policies that hold for requests to `service` at the waypoints it is bound to: what belongs into
/// `Service.policies`. `policies` must hold those of the service's namespace.
pub fn to_service<'p>(
    service: Served<'_>,
    policies: impl Iterator<Item = (&'p Key, &'p AuthorizationPolicy)>,
) -> Vec<(&'p Key, &'p AuthorizationPolicy)> {
    sorted(policies.filter(|(key, policy)| is_for_service(service, key, policy)))
}

/// Whether a policy holds for every request at a proxy.
pub fn is_for_proxy(mesh: &Mesh, proxy: Proxy<'_>, key: &Key, policy: &AuthorizationPolicy) -> bool {
    let is_root = *key.namespace == *mesh.root_namespace;
    let is_near = key.namespace == proxy.gateway.namespace;
    if policy.has_target() {
        return targets::asks(key, policy).any(|target| match target {
            Ask::Gateway(gateway) => gateway == *proxy.gateway,
            Ask::GatewayClass(class) => is_root && *class == *proxy.class,
            Ask::Service(_) | Ask::ServiceEntry(_) => false,
        });
    }
    let Some(pods) = proxy.selectable else { return false };
    let chosen = |asked| pods.iter().any(|labels| facts::selects(asked, labels));
    (is_near || is_root) && policy.selector.as_ref().is_none_or(chosen)
}

/// Whether a policy holds for requests to a service.
pub fn is_for_service(service: Served<'_>, key: &Key, policy: &AuthorizationPolicy) -> bool {
    let ask = service.ask();
    targets::asks(key, policy).any(|target| target == ask)
}

fn sorted<'p>(
    policies: impl Iterator<Item = (&'p Key, &'p AuthorizationPolicy)>,
) -> Vec<(&'p Key, &'p AuthorizationPolicy)> {
    let mut all: Vec<_> = policies.collect();
    all.sort_unstable_by_key(|(key, _)| *key);
    all
}
