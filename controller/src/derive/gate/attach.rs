//! Which listeners a route is attached to, and for which hosts.
//!
//! In: a route's reference to a Gateway, the Gateway's listeners. Out: listeners with the hosts both are for, or why there
//! is none: nothing it names, nothing that takes it, nothing for its hosts.

use lateen_cluster::{api::ParentRef, store::Key};
use lateen_types::label::Labels;

use super::{hosts, judge::Judged, problem};
use crate::{
    derive::attached::Problem,
    facts::{AllowedFrom, GatewayListener, Route, RouteKind},
};

/// A Gateway with its listeners.
#[derive(Clone, Copy)]
pub struct Gate<'a> {
    /// Its place.
    pub key: &'a Key,
    /// Its listeners.
    pub listeners: &'a [GatewayListener],
    /// What was found of each.
    pub judged: &'a [Judged],
}

/// A route that asks.
#[derive(Clone, Copy)]
pub struct Asking<'a> {
    /// Its namespace.
    pub namespace: &'a str,
    /// Its namespace's labels.
    pub labels: &'a Labels,
    /// It.
    pub route: &'a Route,
}

/// A listener that takes a route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// Its number.
    pub listener: usize,
    /// The hosts that both are for.
    pub hosts: Vec<String>,
}

/// The listeners that `reference` attaches a route to.
pub fn attach(gate: Gate<'_>, reference: &ParentRef, asking: Asking<'_>) -> Result<Vec<Taken>, Problem> {
    let is_named = |one: &GatewayListener| {
        reference.section_name.as_deref().is_none_or(|name| name == one.name)
            && reference.port.is_none_or(|port| port == one.port)
    };
    let named: Vec<usize> = (0..gate.listeners.len()).filter(|at| is_named(&gate.listeners[*at])).collect();
    if named.is_empty() {
        let message = format!("the Gateway {} has no such listener (sectionName, port)", gate.key);
        return Err(problem("NoMatchingParent", message));
    }
    let allowing: Vec<usize> = named.into_iter().filter(|at| allows(gate, *at, asking)).collect();
    if allowing.is_empty() {
        let message = format!(
            "no such listener of the Gateway {} takes a {} of the namespace {}; see allowedRoutes",
            gate.key,
            asking.route.kind.as_str(),
            asking.namespace
        );
        return Err(problem("NotAllowedByListeners", message));
    }
    let taken = allowing.into_iter().map(|at| Taken { listener: at, hosts: shared(&gate.listeners[at], asking.route) });
    let taken: Vec<Taken> = taken.filter(|one| !one.hosts.is_empty()).collect();
    if taken.is_empty() {
        let message = format!("no listener of the Gateway {} is for any of its hostnames", gate.key);
        return Err(problem("NoMatchingListenerHostname", message));
    }
    Ok(taken)
}

fn allows(gate: Gate<'_>, at: usize, asking: Asking<'_>) -> bool {
    let namespace = match &gate.listeners[at].from {
        AllowedFrom::All => true,
        AllowedFrom::Same => *asking.namespace == *gate.key.namespace,
        AllowedFrom::Selected(selector) => selector.matches(asking.labels),
        AllowedFrom::Nobody => false,
    };
    namespace && gate.judged[at].kinds.contains(&asking.route.kind)
}

/// The hosts both are for. A TCP route is for whatever its listener is for.
fn shared(listener: &GatewayListener, route: &Route) -> Vec<String> {
    let own = hosts::written(&listener.hostname);
    if route.kind == RouteKind::Tcp || route.spec.hostnames.is_empty() {
        return vec![own.to_owned()];
    }
    let all = route.spec.hostnames.iter().map(|host| host.to_ascii_lowercase());
    let mut shared: Vec<String> = all.filter_map(|host| hosts::intersection(own, &host)).collect();
    shared.sort_unstable();
    shared.dedup();
    shared
}
