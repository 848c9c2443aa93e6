//! From cluster objects to mesh resources: pure functions, one file per kind of result.
//!
//! In: [`facts`](crate::facts) and the mesh's own settings. Out: wire messages, policy names, status conditions.
//! Absent on purpose: where facts come from, what changed (see `graph`), encoding (see `publish`).

pub mod attach;
pub mod authorization;
pub mod endpoint;
pub mod enforced;
pub mod entry;
pub mod gateway;
pub mod matching;
pub mod peer;
pub mod pod;
pub mod service;
pub mod targets;
pub mod visible;
pub mod waypoint;
pub mod word;

#[cfg(test)]
pub(crate) mod tests;

use std::net::IpAddr;

use lateen_cluster::store::Key;
use lateen_wire::workload::NetworkAddress;

/// What holds for the whole mesh.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mesh {
    /// This cluster's id.
    pub cluster: String,
    /// The domain of service names.
    pub domain: String,
    /// The mesh's trust domain.
    pub trust_domain: String,
    /// The namespace whose policies hold everywhere.
    pub root_namespace: String,
    /// Whether proxies understand policies that are only evaluated.
    pub dry_run: bool,
    /// Who sees service entries.
    pub sight: visible::Sight,
}

impl Mesh {
    /// The trust domain as the wire carries it: the usual one is left out.
    pub(crate) fn wire_trust_domain(&self) -> String {
        if self.trust_domain == "cluster.local" { String::new() } else { self.trust_domain.clone() }
    }

    /// The full name of a service.
    pub fn hostname(&self, service: &Key) -> String {
        format!("{}.{}.svc.{}", service.name, service.namespace, self.domain)
    }

    /// The key of a service in a workload's list.
    pub fn service_key(&self, service: &Key) -> String {
        format!("{}/{}", service.namespace, self.hostname(service))
    }
}

/// An address on the wire.
fn network_address(network: &str, ip: IpAddr) -> NetworkAddress {
    NetworkAddress { network: network.to_owned(), address: crate::facts::ip_bytes(ip), length: None }
}
