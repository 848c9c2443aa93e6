//! Which policies hold at a waypoint or gateway, and for which of its services.
//!
//! In: policies, a proxy or a service. Out: the names of those that are for it, in order.
//!
//! | policy | waypoint | gateway |
//! | --- | --- | --- |
//! | targetRef Gateway, of its own namespace | every request | every request |
//! | targetRef Service or ServiceEntry, of its own namespace | requests to it | - |
//! | targetRef GatewayClass, in the root namespace | every request at waypoints of the class | every request |
//! | selector that its pods carry, or none | - (node proxies enforce it) | every request, also from the root namespace |

use lateen_cluster::{api::TargetRef, store::Key};
use lateen_types::label::Labels;

use super::{Mesh, targets};
use crate::facts::{self, AuthorizationPolicy};

/// A waypoint or gateway.
#[derive(Debug, Clone, Copy)]
pub struct Proxy<'a> {
    /// Its Gateway.
    pub gateway: &'a Key,
    /// Its Gateway's class.
    pub class: &'a str,
    /// The labels of its pods, by which policies select gateways; `None` for a waypoint, which none selects.
    pub selectable: Option<&'a Labels>,
}

/// A service of a waypoint.
#[derive(Debug, Clone, Copy)]
pub enum Served<'a> {
    /// Of Kubernetes.
    Service(&'a Key),
    /// An entry.
    Entry(&'a Key),
}

/// Names of policies that hold for every request at `proxy`: what belongs into `Proxy.policies`. `policies` must hold
/// those of the proxy's namespace and of the root namespace.
pub fn to_proxy<'p>(
    mesh: &Mesh,
    proxy: Proxy<'_>,
    policies: impl Iterator<Item = (&'p Key, &'p AuthorizationPolicy)>,
) -> Vec<String> {
    names(policies.filter(|(key, policy)| is_for_proxy(mesh, proxy, key, policy)))
}

/// Names of policies that hold for requests to `service` at the waypoints it is bound to: what belongs into
/// `Service.policies`. `policies` must hold those of the service's namespace.
pub fn to_service<'p>(
    service: Served<'_>,
    policies: impl Iterator<Item = (&'p Key, &'p AuthorizationPolicy)>,
) -> Vec<String> {
    names(policies.filter(|(key, policy)| is_for_service(service, key, policy)))
}

/// Whether a policy holds for every request at a proxy.
pub fn is_for_proxy(mesh: &Mesh, proxy: Proxy<'_>, key: &Key, policy: &AuthorizationPolicy) -> bool {
    let is_root = *key.namespace == *mesh.root_namespace;
    let is_near = key.namespace == proxy.gateway.namespace;
    if policy.has_target() {
        let names_proxy = |reference: &TargetRef| match kind(reference) {
            Some(Kind::Gateway) => is_near && *reference.name == *proxy.gateway.name,
            Some(Kind::Class) => is_root && *reference.name == *proxy.class,
            Some(Kind::Service | Kind::Entry) | None => false,
        };
        return targets::references(policy).filter(|reference| is_own(key, reference)).any(names_proxy);
    }
    let Some(labels) = proxy.selectable else { return false };
    (is_near || is_root) && policy.selector.as_ref().is_none_or(|asked| facts::selects(asked, labels))
}

/// Whether a policy holds for requests to a service.
pub fn is_for_service(service: Served<'_>, key: &Key, policy: &AuthorizationPolicy) -> bool {
    let (wanted, object) = match service {
        Served::Service(object) => (Kind::Service, object),
        Served::Entry(object) => (Kind::Entry, object),
    };
    let names_it = |reference: &TargetRef| kind(reference) == Some(wanted) && *reference.name == *object.name;
    key.namespace == object.namespace
        && targets::references(policy).filter(|reference| is_own(key, reference)).any(names_it)
}

fn names<'p>(policies: impl Iterator<Item = (&'p Key, &'p AuthorizationPolicy)>) -> Vec<String> {
    let mut names: Vec<String> = policies.map(|(key, _)| key.to_string()).collect();
    names.sort_unstable();
    names
}

/// A reference into another namespace is none.
fn is_own(key: &Key, reference: &TargetRef) -> bool {
    reference.namespace.as_deref().is_none_or(|namespace| namespace.is_empty() || *namespace == *key.namespace)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Service,
    Entry,
    Gateway,
    Class,
}

fn kind(reference: &TargetRef) -> Option<Kind> {
    match (reference.group.as_deref().unwrap_or_default(), reference.kind.as_str()) {
        ("" | "core", "Service") => Some(Kind::Service),
        ("networking.istio.io", "ServiceEntry") => Some(Kind::Entry),
        ("gateway.networking.k8s.io", "Gateway") => Some(Kind::Gateway),
        ("gateway.networking.k8s.io", "GatewayClass") => Some(Kind::Class),
        _ => None,
    }
}
