//! From cluster objects to mesh resources: pure functions, one file per kind of result.
//!
//! In: [`facts`](crate::facts) and the mesh's own settings. Out: wire messages, policy names, status conditions.
//! Absent on purpose: where facts come from, what changed (see `graph`), encoding (see `publish`).

pub mod attach;
pub mod attached;
pub mod authorization;
pub mod backend;
pub mod backing;
pub mod credential;
pub mod destination;
pub mod endpoint;
pub mod enforced;
pub mod entry;
pub mod gate;
pub mod gateway;
pub mod matching;
pub mod patterns;
pub mod peer;
pub mod pod;
pub mod proxy;
pub mod route;
pub mod served;
pub mod service;
pub mod targets;
pub mod visible;
pub mod waypoint;
pub mod word;

#[cfg(test)]
pub(crate) mod tests;

use std::{collections::BTreeSet, net::IpAddr};

use lateen_cluster::store::Key;
use lateen_types::label::Labels;
use lateen_wire::{
    proxy as proxy_wire, type_url,
    workload::{Extension, NetworkAddress},
};
use prost::Message as _;

use crate::facts::{DestinationRule, Namespace, Seen, VirtualService, Wish};

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
    /// Who sees traffic rules that say nothing of it.
    pub shown: Shown,
    /// What holds for the requests of all waypoints.
    pub proxies: proxy::Defaults,
    /// Whether Gateways of the mesh's own API select gateways of their own namespace only.
    pub confines_servers: bool,
    /// The Secret that what seals sessions is derived from.
    pub sessions: Key,
}

/// Who sees traffic rules that say nothing of it: `exportTo` as it would be written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shown {
    /// `defaultVirtualServiceExportTo`.
    pub routes: Vec<String>,
    /// `defaultDestinationRuleExportTo`.
    pub rules: Vec<String>,
}

impl Shown {
    /// Who sees a virtual service.
    pub fn route(&self, key: &Key, service: &VirtualService) -> Seen {
        service.seen.clone().or_else(|| Seen::read(&self.routes, &key.namespace)).unwrap_or_default()
    }

    /// Who sees a destination rule.
    pub fn rule(&self, key: &Key, rule: &DestinationRule) -> Seen {
        rule.seen.clone().or_else(|| Seen::read(&self.rules, &key.namespace)).unwrap_or_default()
    }
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

    /// The full name of `host` as written in an object of `namespace`: a name without dots is a service there.
    pub fn fqdn(&self, host: &str, namespace: &str) -> String {
        let lower = host.to_ascii_lowercase();
        if lower.contains('.') || lower.starts_with('*') || lower.is_empty() {
            return lower;
        }
        format!("{lower}.{namespace}.svc.{}", self.domain)
    }

    /// The key of a service in a workload's list.
    pub fn service_key(&self, service: &Key) -> String {
        format!("{}/{}", service.namespace, self.hostname(service))
    }
}

/// Whether `pattern`, a host or one with a wildcard in front, names `hostname`.
pub fn host_matches(pattern: &str, hostname: &str) -> bool {
    match pattern.strip_prefix('*') {
        Some(end) => pattern == hostname || hostname.len() > end.len() && hostname.ends_with(end),
        None => pattern == hostname,
    }
}

/// What proxies choose endpoints by, of a workload's labels: those of `keys`. None is no extension, so that nothing is
/// sent where no rule asks for it.
pub fn chosen_by(labels: &Labels, keys: &BTreeSet<String>) -> Option<Extension> {
    let labels: Labels =
        labels.iter().filter(|(key, _)| keys.contains(*key)).map(|(key, value)| (key.clone(), value.clone())).collect();
    let value = proxy_wire::Labels { labels }.encode_to_vec();
    let config = prost_types::Any { type_url: type_url::LABELS.to_owned(), value };
    (!config.value.is_empty()).then(|| Extension { name: "lateen.labels".to_owned(), config: Some(config) })
}

/// What proxies are told of a workload whose waypoint is believed about its clients, as its own annotation or else its
/// namespace's has it.
pub fn believes(own: &Wish, namespace: Option<&Namespace>) -> Option<Extension> {
    let said = own.believes.or_else(|| namespace?.wish.believes);
    said.unwrap_or_default().then(|| Extension { name: "lateen.client_identity".to_owned(), config: None })
}

/// An address on the wire.
fn network_address(network: &str, ip: IpAddr) -> NetworkAddress {
    NetworkAddress { network: network.to_owned(), address: crate::facts::ip_bytes(ip), length: None }
}
