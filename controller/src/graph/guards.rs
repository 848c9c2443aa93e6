//! The policies that waypoints enforce, each sent to the one waypoint and for the one service it is for.
//!
//! In: policies with targets. Out: resources, and their names for whoever must not be served without them. A policy with
//! several targets is sent once for each: what hangs on one of them then hangs on nothing else.

use lateen_cluster::store::Key;
use lateen_types::label::Labels;
use lateen_wire::{proxy as wire, type_url};

use super::{
    Graph, Place, Thing,
    proxies::Looked,
    resource::{self, Resource},
};
use crate::{
    derive::{
        attach::{self, Proxy, Served},
        authorization::l7,
        proxy::name_at,
        targets::Ask,
        waypoint::Found,
    },
    facts::AuthorizationPolicy,
};

/// One policy at one place.
pub(super) struct Guard {
    gateway: Key,
    name: String,
    policy: wire::Policy,
}

impl Guard {
    /// What whoever needs it calls it.
    pub(super) fn name(&self) -> String {
        self.name.clone()
    }

    pub(super) fn resource(&self) -> Resource {
        resource::own(type_url::POLICY, &self.name, &self.policy, &self.gateway)
    }
}

impl Graph {
    /// The policies for requests to a service at a waypoint.
    pub(super) fn guards_at(&self, place: &Place, looked: &Looked) -> Vec<Guard> {
        let service = &place.service;
        let named = self.service_named(&service.hostname).filter(|(key, _)| key.namespace == service.namespace);
        let holders = self.holders(&service.hostname);
        let entry = || holders.each.iter().find(|(key, _)| key.namespace == service.namespace).map(|(key, _)| *key);
        let Some(served) = named.map(|(key, _)| Served::Service(key)).or_else(|| entry().map(Served::Entry)) else {
            return Vec::new();
        };
        looked.borrow_mut().insert(Thing::Ruled(served.ask()));
        let found = attach::to_service(served, self.policies_in(&service.namespace));
        let prefix = name_at(&place.gateway, service);
        self.guards(&place.gateway, &prefix, found)
    }

    /// The policies for every request at a waypoint.
    pub(super) fn guards_of(&self, gateway: &Key, found: Found<'_>, looked: &Looked) -> Vec<Guard> {
        let class = &*found.gateway.class;
        let asks = [Ask::Gateway(gateway.clone()), Ask::GatewayClass(class.to_owned())];
        looked.borrow_mut().extend(asks.map(Thing::Ruled));
        let root = &*self.mesh.root_namespace;
        let spaces = [&*gateway.namespace, root];
        let spaces = &spaces[..if *root == *gateway.namespace { 1 } else { 2 }];
        if !self.is_gate(found) {
            let policies = spaces.iter().flat_map(|space| self.policies_in(space));
            let found = attach::to_proxy(&self.mesh, Proxy { gateway, class, selectable: None }, policies);
            return self.guards(gateway, &gateway.to_string(), found);
        }
        // Gateways are selected by the labels of their pods too.
        looked.borrow_mut().extend(spaces.iter().map(|space| Thing::Policies((*space).into())));
        let labels: Vec<&Labels> = self.pod_labels(gateway).collect();
        let all = spaces.iter().flat_map(|space| self.world.policies.within(space));
        let policies = all.map(|(key, policy)| (key, &**policy));
        let found = attach::to_proxy(&self.mesh, Proxy { gateway, class, selectable: Some(&labels) }, policies);
        self.guards(gateway, &gateway.to_string(), found)
    }

    /// The policies with targets in a namespace.
    fn policies_in(&self, namespace: &str) -> impl Iterator<Item = (&Key, &AuthorizationPolicy)> {
        let keys = self.world.targeted_in.of(namespace);
        keys.filter_map(|key| self.world.policies.pair(key)).map(|(key, policy)| (key, &**policy))
    }

    fn guards(&self, gateway: &Key, prefix: &str, found: Vec<(&Key, &AuthorizationPolicy)>) -> Vec<Guard> {
        let guard = |(key, policy): (&Key, &AuthorizationPolicy)| Guard {
            gateway: gateway.clone(),
            name: format!("{prefix}/{key}"),
            policy: l7::derive(&self.mesh, key, policy).policy,
        };
        found.into_iter().map(guard).collect()
    }
}
