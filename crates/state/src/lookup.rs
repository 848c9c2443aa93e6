//! Questions to one [`World`].
//!
//! In: addresses, names, keys. Out: workloads, services, endpoints, policies. Absent on purpose: waiting, choosing.

use std::{net::IpAddr, sync::Arc};

use lateen_policy::model::Policy;
use lateen_types::{
    addr::NetworkAddress,
    id::Namespace,
    name::{Hostname, NamespacedHostname, NetworkId, PolicyKey, WorkloadUid},
};

use crate::{
    endpoints::Endpoints,
    gateway::{GatewayAddress, GatewayDestination},
    service::{Endpoint, Service},
    unusable::Unusable,
    workload::{PodKey, Workload},
    world::World,
};

/// What an address or a name stands for.
#[derive(Debug, Clone)]
pub enum Known {
    /// A workload.
    Workload(Arc<Workload>),
    /// A service.
    Service(Arc<Service>),
    /// Something that cannot be read, so nobody knows how it must be reached.
    Unusable(Arc<Unusable>),
}

/// The policies that concern one workload.
#[derive(Debug, Clone, Default)]
pub struct PoliciesFor {
    /// Those that are here.
    pub known: Vec<Arc<Policy>>,
    /// Those the workload names that have not arrived. What they forbid is not known: the caller must refuse.
    pub missing: Vec<PolicyKey>,
}

impl World {
    /// The workload with this key.
    pub fn workload(&self, uid: &WorkloadUid) -> Option<&Arc<Workload>> {
        self.workloads.get(uid)
    }

    /// The workload that claims this address most strongly.
    pub fn workload_by_ip(&self, address: &NetworkAddress) -> Option<&Arc<Workload>> {
        self.by_ip.get(address)
    }

    /// The workload of our node that the agent calls `pod`.
    pub fn local_workload(&self, pod: &PodKey) -> Option<&Arc<Workload>> {
        self.local.get(&pod.namespace)?.iter().find(|workload| workload.is_pod(pod))
    }

    /// Every workload of our node, in no order.
    pub fn local_workloads(&self) -> impl Iterator<Item = &Arc<Workload>> {
        self.local.values().flatten()
    }

    /// The service with this key.
    pub fn service(&self, key: &NamespacedHostname) -> Option<&Arc<Service>> {
        self.services.get(key)
    }

    /// The service behind `address` as `caller`'s namespace sees it: an exact address wins over every range.
    pub fn service_by_vip(&self, address: &NetworkAddress, caller: &Namespace) -> Option<&Arc<Service>> {
        best_for(self.vips_at(address), caller, None).or_else(|| self.service_by_cidr(address, caller))
    }

    /// All services at `address`, exact or by range, whoever may see them.
    pub fn services_at<'w>(&'w self, address: &'w NetworkAddress) -> impl Iterator<Item = &'w Arc<Service>> {
        let exact = self.by_vip.get(address).into_iter().flatten();
        let holds = |service: &&Arc<Service>| longest_prefix(service, &address.network, address.ip).is_some();
        exact.chain(self.with_cidrs.iter().filter(holds))
    }

    /// Among ranges that hold the address: own namespace, then longest prefix, then canonical.
    fn service_by_cidr(&self, address: &NetworkAddress, caller: &Namespace) -> Option<&Arc<Service>> {
        let visible = self.with_cidrs.iter().filter(|service| service.is_visible_from(caller));
        let ranked = visible.filter_map(|service| {
            let prefix = longest_prefix(service, &address.network, address.ip)?;
            Some(((service.key.namespace == *caller, prefix, service.canonical), service))
        });
        ranked.max_by_key(|(rank, _)| *rank).map(|(_, service)| service)
    }

    /// What `caller` reaches at `address`: a workload's own address first, then services.
    pub fn known_at(&self, address: &NetworkAddress, caller: &Namespace) -> Option<Known> {
        if let Some(unusable) = self.unusable_at(address, caller) {
            return Some(Known::Unusable(unusable.clone()));
        }
        if let Some(workload) = self.workload_by_ip(address) {
            return Some(Known::Workload(workload.clone()));
        }
        self.service_by_vip(address, caller).cloned().map(Known::Service)
    }

    /// What claims the address, cannot be read, and is not outdone by what is known there: by a stronger workload, by a
    /// held version of itself, or, where it claims a range only, by whatever has the very address.
    fn unusable_at<'w>(&'w self, address: &'w NetworkAddress, caller: &Namespace) -> Option<&'w Arc<Unusable>> {
        if self.unusable.is_empty() {
            return None;
        }
        let workload = self.workload_by_ip(address);
        let is_seen = |one: &&Arc<Unusable>| one.only_for.as_ref().is_none_or(|namespace| namespace == caller);
        let held = |one: &Unusable| {
            workload.is_some_and(|held| held.uid.as_str() == &*one.key)
                || self.services_at(address).any(|service| service.key.to_string() == *one.key)
        };
        let stronger = |one: &Unusable| workload.is_some_and(|other| other.address_claim() > one.claim);
        let exact = self.unusable.at(address).iter().filter(is_seen).find(|one| !held(one) && !stronger(one));
        let is_known = || workload.is_some() || best_for(self.vips_at(address), caller, None).is_some();
        exact.or_else(|| self.unusable.around(address).filter(is_seen).find(|one| !held(one) && !is_known()))
    }

    /// How many workloads and services cannot be read.
    pub fn unusable_count(&self) -> usize {
        self.unusable.len()
    }

    fn vips_at(&self, address: &NetworkAddress) -> &[Arc<Service>] {
        self.by_vip.get(address).map(Vec::as_slice).unwrap_or_default()
    }

    /// What a gateway's or waypoint's reference stands for, as `caller` sees it. By name a service comes first.
    pub fn known_as(&self, destination: &GatewayDestination, caller: &Namespace) -> Option<Known> {
        match destination {
            GatewayDestination::Address(address) => self.known_at(address, caller),
            GatewayDestination::Hostname(key) => {
                if let Some(service) = self.service(key) {
                    return Some(Known::Service(service.clone()));
                }
                self.by_workload_hostname.get(key)?.first().cloned().map(Known::Workload)
            }
        }
    }

    /// Whether a waypoint's reference, of something in the namespace `caller`, leads to the workload `uid`.
    pub fn leads_to(&self, gateway: &GatewayAddress, uid: &WorkloadUid, caller: &Namespace) -> bool {
        match self.known_as(&gateway.destination, caller) {
            Some(Known::Service(service)) => self.endpoint(&service.key, uid).is_some(),
            Some(Known::Workload(workload)) => workload.uid == *uid,
            Some(Known::Unusable(_)) | None => false,
        }
    }

    /// Whether `proxy` is a waypoint that traffic to `workload` passes: the workload's own, or that of a service it is
    /// an endpoint of.
    pub fn is_waypoint_of(&self, proxy: &WorkloadUid, workload: &Workload) -> bool {
        let leads = |gateway: &GatewayAddress| self.leads_to(gateway, proxy, &workload.namespace);
        let backed = workload.services.iter().filter_map(|(key, _)| self.service(key));
        workload.waypoint.iter().chain(backed.flat_map(|service| service.waypoints())).any(leads)
    }

    /// The service called `hostname` as `caller` sees it: own namespace, canonical, `preferred`, then any.
    pub fn service_by_hostname(
        &self,
        hostname: &Hostname,
        caller: &Namespace,
        preferred: Option<&Namespace>,
    ) -> Option<&Arc<Service>> {
        let named = self.by_hostname.get(hostname).map(Vec::as_slice).unwrap_or_default();
        best_for(named, caller, preferred)
    }

    /// Every service called `hostname`, in every namespace, whoever may see it.
    pub fn services_called(&self, hostname: &str) -> &[Arc<Service>] {
        self.by_hostname.get(&Hostname::from(hostname)).map(Vec::as_slice).unwrap_or_default()
    }

    /// All endpoints of the service that its health policy allows.
    pub fn endpoints<'w>(&'w self, service: &Service) -> impl Iterator<Item = &'w Endpoint> + use<'w> {
        let policy = service.health_policy();
        let all = self.endpoints.get(&service.key).into_iter().flat_map(Endpoints::iter);
        all.filter(move |endpoint| endpoint.is_allowed_by(policy))
    }

    /// The endpoint `uid` of the service, healthy or not.
    pub fn endpoint(&self, service: &NamespacedHostname, uid: &WorkloadUid) -> Option<&Endpoint> {
        self.endpoints.get(service)?.get(uid)
    }

    /// The policies that concern `workload`: of the mesh, of its namespace, and those it names.
    pub fn policies_for(&self, workload: &Workload) -> PoliciesFor {
        let mut found = PoliciesFor::default();
        found.known.extend(self.global_policies.iter().cloned());
        found.known.extend(self.namespace_policies.get(&workload.namespace).into_iter().flatten().cloned());
        for key in &workload.policies {
            match self.policies.get(key) {
                // A policy of another scope that is also named counts once, by its scope.
                Some(policy) if found.known.iter().any(|known| Arc::ptr_eq(known, policy)) => {}
                Some(policy) => found.known.push(policy.clone()),
                None => found.missing.push(key.clone()),
            }
        }
        found
    }

    /// Every workload, in no order.
    pub fn workloads(&self) -> impl Iterator<Item = &Arc<Workload>> {
        self.workloads.iter()
    }

    /// Every service, in no order.
    pub fn services(&self) -> impl Iterator<Item = &Arc<Service>> {
        self.services.iter()
    }

    /// Every policy, in no order.
    pub fn policies(&self) -> impl Iterator<Item = &Arc<Policy>> {
        self.policies.iter()
    }

    /// Endpoints whose service has not arrived, by service, in no order.
    pub fn staged(&self) -> impl Iterator<Item = (&NamespacedHostname, Vec<&Endpoint>)> {
        let homeless = self.endpoints.iter().filter(|(key, _)| self.services.get(key).is_none());
        homeless.map(|(key, list)| (key, list.iter().collect()))
    }

    /// Every endpoint of a service, whatever its health; for dumps.
    pub fn all_endpoints(&self, service: &NamespacedHostname) -> Vec<Endpoint> {
        self.endpoints.get(service).into_iter().flat_map(Endpoints::iter).cloned().collect()
    }

    /// Whether anything at all is known at `address`, whoever asks.
    pub fn holds(&self, address: &NetworkAddress) -> bool {
        self.by_ip.get(address).is_some()
            || self.services_at(address).next().is_some()
            || !self.unusable.at(address).is_empty()
            || self.unusable.around(address).next().is_some()
    }

    /// How many addresses lead to a service or a workload.
    pub fn address_count(&self) -> usize {
        self.by_vip.len() + self.by_ip.len()
    }
}

/// Among visible services that share a name or address: own namespace, the last canonical, `preferred`, the first.
fn best_for<'s>(
    shared: &'s [Arc<Service>],
    caller: &Namespace,
    preferred: Option<&Namespace>,
) -> Option<&'s Arc<Service>> {
    let visible = || shared.iter().filter(|service| service.is_visible_from(caller));
    visible()
        .find(|service| service.key.namespace == *caller)
        .or_else(|| visible().rfind(|service| service.canonical))
        .or_else(|| visible().find(|service| preferred == Some(&service.key.namespace)))
        .or_else(|| visible().next())
}

fn longest_prefix(service: &Service, network: &NetworkId, ip: IpAddr) -> Option<u8> {
    let holding = service.cidrs.iter().filter(|range| range.network == *network && range.cidr.contains(&ip));
    holding.map(|range| range.cidr.prefix_len()).max()
}
