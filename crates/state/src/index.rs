//! Changes to a [`World`]: how one resource moves every index that mentions it.
//!
//! In: changes in order. Out: a world in which all indexes agree. Absent on purpose: sharing worlds between threads
//! (see `world`), look-ups (see `lookup`).

use std::sync::Arc;

use lateen_policy::model::{Policy, Scope};
use lateen_types::name::{NamespacedHostname, PolicyKey, WorkloadUid};

use crate::{
    endpoints::Endpoints,
    service::{Endpoint, Service},
    unusable::Unusable,
    workload::Workload,
    world::World,
};

/// One step of a batch.
#[derive(Debug, Clone)]
pub enum Change {
    /// A workload is new or differs.
    Workload(Arc<Workload>),
    /// A service is new or differs.
    Service(Box<Service>),
    /// A policy is new or differs.
    Policy(Box<Policy>),
    /// Stands in for a policy that cannot be read, unless an earlier state of it is held.
    PolicyIfNew(Box<Policy>),
    /// A workload or a service that cannot be read. What is held of it stays, and answers for the addresses it holds.
    Unusable(Box<Unusable>),
    /// A workload (by uid) or a service (by `namespace/hostname`) is gone; unknown names are ignored.
    RemoveAddress(String),
    /// A policy (by `namespace/name`) is gone; unknown names are ignored.
    RemovePolicy(String),
}

impl World {
    /// Applies one step. Whatever is not touched stays shared with the world this one was cloned from.
    pub(crate) fn change(&mut self, change: Change) {
        match change {
            Change::Workload(workload) => self.put_workload(workload),
            Change::Service(service) => self.put_service(Arc::new(*service)),
            Change::Policy(policy) => self.put_policy(Arc::new(*policy)),
            Change::PolicyIfNew(policy) if self.policies.get(&policy.key).is_some() => {}
            Change::PolicyIfNew(policy) => self.put_policy(Arc::new(*policy)),
            Change::Unusable(one) => self.unusable.put(Arc::new(*one)),
            Change::RemoveAddress(name) => self.remove_address(&name),
            Change::RemovePolicy(name) => {
                if let Ok(key) = name.parse() {
                    self.remove_policy(&key);
                }
            }
        }
    }

    fn put_workload(&mut self, workload: Arc<Workload>) {
        self.unusable.remove(workload.uid.as_str());
        if self.workloads.get(&workload.uid).is_some_and(|held| **held == *workload) {
            return;
        }
        self.remove_workload(&workload.uid);
        if self.is_local(&workload) {
            self.local_epoch += 1;
            self.local.edit(&workload.namespace, |list| list.push(workload.clone()), Vec::is_empty);
        }
        self.by_ip.put(&workload);
        if let Some(hostname) = &workload.hostname {
            let key = NamespacedHostname { namespace: workload.namespace.clone(), hostname: hostname.clone() };
            self.by_workload_hostname.edit(&key, |list| list.push(workload.clone()), Vec::is_empty);
        }
        for (service, ports) in workload.services.iter() {
            let endpoint = Endpoint { workload: workload.clone(), ports: ports.clone() };
            self.endpoints.edit(service, |list| list.put(endpoint), Endpoints::is_empty);
        }
        self.workloads.put(workload);
    }

    fn remove_workload(&mut self, uid: &WorkloadUid) -> bool {
        let Some(workload) = self.workloads.remove(uid) else { return false };
        let others = |list: &mut Vec<Arc<Workload>>| list.retain(|other| other.uid != *uid);
        if self.is_local(&workload) {
            self.local_epoch += 1;
            self.local.edit(&workload.namespace, others, Vec::is_empty);
        }
        self.by_ip.remove(&workload);
        if let Some(hostname) = &workload.hostname {
            let key = NamespacedHostname { namespace: workload.namespace.clone(), hostname: hostname.clone() };
            self.by_workload_hostname.edit(&key, others, Vec::is_empty);
        }
        for (service, _) in workload.services.iter() {
            self.endpoints.edit(service, |list| list.remove(uid), Endpoints::is_empty);
        }
        true
    }

    fn is_local(&self, workload: &Workload) -> bool {
        self.node.as_ref().is_none_or(|node| *node == workload.place.node)
    }

    fn put_service(&mut self, service: Arc<Service>) {
        if !self.unusable.is_empty() {
            self.unusable.remove(&service.key.to_string());
        }
        if self.services.get(&service.key).is_some_and(|held| **held == *service) {
            return;
        }
        self.remove_service(&service.key);
        for vip in &service.vips {
            self.by_vip.edit(vip, |list| push_once(list, &service), Vec::is_empty);
        }
        if !service.cidrs.is_empty() {
            Arc::make_mut(&mut self.with_cidrs).push(service.clone());
        }
        self.by_hostname.edit(&service.key.hostname, |list| list.push(service.clone()), Vec::is_empty);
        self.services.put(service);
    }

    /// The endpoints stay: they belong to the workloads that name the service, and wait for it to come back.
    fn remove_service(&mut self, key: &NamespacedHostname) {
        let Some(service) = self.services.remove(key) else { return };
        let others = |list: &mut Vec<Arc<Service>>| list.retain(|other| other.key != *key);
        for vip in &service.vips {
            self.by_vip.edit(vip, others, Vec::is_empty);
        }
        if !service.cidrs.is_empty() {
            Arc::make_mut(&mut self.with_cidrs).retain(|other| other.key != *key);
        }
        self.by_hostname.edit(&key.hostname, others, Vec::is_empty);
    }

    /// A workload's uid is tried first, then `namespace/hostname`.
    fn remove_address(&mut self, name: &str) {
        self.unusable.remove(name);
        if self.remove_workload(&WorkloadUid::from(name)) {
            return;
        }
        if let Ok(key) = name.parse() {
            self.remove_service(&key);
        }
    }

    fn put_policy(&mut self, policy: Arc<Policy>) {
        if self.policies.get(&policy.key).is_some_and(|held| **held == *policy) {
            return;
        }
        self.remove_policy(&policy.key);
        self.policy_epoch += 1;
        match policy.scope {
            Scope::Global => Arc::make_mut(&mut self.global_policies).push(policy.clone()),
            Scope::Namespace => {
                self.namespace_policies.edit(&policy.key.namespace, |list| list.push(policy.clone()), Vec::is_empty);
            }
            Scope::WorkloadSelector => {}
        }
        self.policies.put(policy);
    }

    fn remove_policy(&mut self, key: &PolicyKey) {
        let Some(policy) = self.policies.remove(key) else { return };
        self.policy_epoch += 1;
        let others = |list: &mut Vec<Arc<Policy>>| list.retain(|other| other.key != *key);
        match policy.scope {
            Scope::Global => others(Arc::make_mut(&mut self.global_policies)),
            Scope::Namespace => self.namespace_policies.edit(&key.namespace, others, Vec::is_empty),
            Scope::WorkloadSelector => {}
        }
    }
}

fn push_once(list: &mut Vec<Arc<Service>>, service: &Arc<Service>) {
    if !list.iter().any(|other| other.key == service.key) {
        list.push(service.clone());
    }
}
