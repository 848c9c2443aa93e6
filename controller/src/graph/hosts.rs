//! Who has a host: the name of a Kubernetes service is that service's; among entries of a namespace the oldest has it.

use lateen_cluster::store::Key;
use lateen_types::label::Labels;

use super::Graph;
use crate::{
    derive::{backend::ServiceName, entry::Behind, visible::Visible},
    facts::{self, Service, ServiceEntry},
};

/// The entries that have a host.
pub(super) struct Holders<'a> {
    /// One for each namespace.
    pub(super) each: Vec<(&'a Key, &'a ServiceEntry)>,
    /// The one that counts elsewhere; none where a Kubernetes service has the name, or no other namespace sees any.
    pub(super) canonical: Option<&'a Key>,
}

impl Graph {
    pub(super) fn holders(&self, host: &str) -> Holders<'_> {
        let service = self.service_named(host).map(|(key, _)| key);
        let mut each: Vec<(&Key, &ServiceEntry)> = Vec::new();
        // Claimers come in the order of their keys, so those of a namespace come together.
        for key in self.world.entries_of_host.of(host) {
            let Some((key, entry)) = self.world.entries.pair(key) else { continue };
            let is_hidden = self.visible(key, entry) == Visible::Nowhere;
            if is_hidden || service.is_some_and(|service| service.namespace == key.namespace) {
                continue;
            }
            match each.last_mut().filter(|(other, _)| other.namespace == key.namespace) {
                Some(held) if entry.age < held.1.age => *held = (key, entry),
                Some(_) => {}
                None => each.push((key, entry)),
            }
        }
        // What only its own namespace sees cannot count for others.
        let public = each.iter().filter(|(key, entry)| self.visible(key, entry) == Visible::Public);
        let oldest = public.min_by_key(|(key, entry)| (&entry.age, *key)).map(|(key, _)| *key);
        Holders { canonical: oldest.filter(|_| service.is_none()), each }
    }

    pub(super) fn has_host(&self, key: &Key, host: &str) -> bool {
        self.holders(host).each.iter().any(|(holder, _)| *holder == key)
    }

    /// The Kubernetes service of this name, if there is one.
    pub(super) fn service_named(&self, host: &str) -> Option<(&Key, &Service)> {
        let name = host.strip_suffix(&self.mesh.domain)?.strip_suffix(".svc.")?;
        let (name, namespace) = name.split_once('.')?;
        self.world.services.pair(&Key::new(namespace, name)).map(|(key, service)| (key, &**service))
    }

    /// The service that `host` is to somebody in `namespace`: of Kubernetes, else of an entry of that namespace, else of
    /// the entry that counts elsewhere.
    pub(super) fn service_seen(&self, host: &str, namespace: &str) -> Option<ServiceName> {
        if let Some((key, _)) = self.service_named(host) {
            return Some(ServiceName::new(&key.namespace, host));
        }
        let holders = self.holders(host);
        let own = holders.each.iter().map(|(key, _)| *key).find(|key| *key.namespace == *namespace);
        own.or(holders.canonical).map(|key| ServiceName::new(&key.namespace, host))
    }

    /// The hosts of entries that select workloads with `labels`.
    pub(super) fn hosts_of<'a>(&'a self, namespace: &str, labels: &'a Labels) -> impl Iterator<Item = Behind<'a>> {
        let selecting = self
            .world
            .entries
            .within(namespace)
            .filter(move |(_, entry)| entry.selector.as_ref().is_some_and(|asked| facts::selects(asked, labels)));
        selecting.flat_map(move |(key, entry)| {
            let held = entry.hosts.iter().filter(move |host| self.has_host(key, host));
            held.map(move |host| Behind::Host(key, entry, host))
        })
    }
}
