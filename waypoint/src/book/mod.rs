//! What this proxy does, compiled: one immutable snapshot that a request takes once and reads to its end.
//!
//! ```text
//! resources ─► compile (each by itself) ─► Change ─► BookStore::apply: copy of the maps, one swap ─► requests
//! ```
//! In: changes made of single resources. Out: services with their routes, clusters, credentials, listeners; or why what is
//! configured must be refused. Absent on purpose: protocol buffers (behind `compile`), endpoints and their health,
//! choosing (see `route` and `balance`).

pub mod cluster;
pub mod compile;
pub mod credential;
mod names;
pub mod proxy;
pub mod route;
pub mod service;
mod store;
pub mod tcp;
#[cfg(test)]
pub(crate) mod tests;

use std::{collections::HashMap, sync::Arc};

use lateen_types::name::{Hostname, NamespacedHostname};

pub use self::{
    cluster::{Cluster, TrafficPolicy, Upstream},
    compile::DecodeError,
    credential::Credential,
    names::{Change, Kind},
    proxy::ProxyBook,
    route::{Action, Forward, HttpRoute, Target, Weighted},
    service::{PortBook, Protocol, ServiceBook},
    store::BookStore,
};
use crate::authorize::Guards;
pub use crate::route::{RouteTable, View};

/// Everything configured at one moment. A clone shares all it does not change.
#[derive(Debug, Clone, Default)]
pub struct Book {
    proxy: Option<Arc<ProxyBook>>,
    services: Arc<HashMap<NamespacedHostname, Arc<ServiceBook>>>,
    clusters: Arc<HashMap<Upstream, Arc<Cluster>>>,
    /// The same clusters by their service, so that a change finds what it replaces.
    destinations: Arc<HashMap<NamespacedHostname, Arc<[Arc<Cluster>]>>>,
    /// Clusters that are no more, which `clusters` still has.
    leaving: Arc<Vec<names::Leaving>>,
    /// Services that are no longer served here, for those who have not heard so.
    parting: Arc<HashMap<NamespacedHostname, names::Parting>>,
    /// How many services have parted so far.
    parted: u64,
    credentials: Arc<HashMap<Arc<str>, Arc<Credential>>>,
    guards: Guards,
}

/// Why something that is configured must not be served. Its text is for operators.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A route names a destination that is not here.
    #[error("the destination {0} has not arrived; check that the service, its port and the subset exist")]
    DestinationMissing(Upstream),
    /// A destination must not be used.
    #[error("the destination {upstream} must not be used: {reason}")]
    DestinationUnusable {
        /// Which one.
        upstream: Upstream,
        /// What the controller says of it.
        reason: Arc<str>,
    },
    /// TLS or a session needs a credential that is not here.
    #[error("the credential {0} has not arrived; check that the secret exists and that this proxy may read it")]
    CredentialMissing(Arc<str>),
}

impl Book {
    /// The proxy itself; `None` until its resource has arrived: then nothing is served.
    pub fn proxy(&self) -> Option<&Arc<ProxyBook>> {
        self.proxy.as_ref()
    }

    /// How the service is served here, or was until a moment ago. `None` when the proxy does not serve it, or it has not
    /// arrived: refuse.
    pub fn service(&self, key: &NamespacedHostname) -> Option<&Arc<ServiceBook>> {
        if self.is_ours(key) {
            return self.services.get(key);
        }
        self.proxy.as_ref().and_then(|_| self.parting.get(key)).map(|parting| &parting.service)
    }

    /// Whether who calls the service is served, and is to call it anew: it is no longer ours.
    pub fn is_parting(&self, key: &NamespacedHostname) -> bool {
        !self.parting.is_empty() && !self.is_ours(key)
    }

    /// Whether the proxy serves the service.
    pub fn is_ours(&self, key: &NamespacedHostname) -> bool {
        self.proxy.as_ref().is_some_and(|proxy| proxy.services.contains(key))
    }

    /// Whether a new connection to the service is taken.
    pub fn takes(&self, key: &NamespacedHostname) -> bool {
        self.is_ours(key) || self.parting.get(key).is_some_and(names::Parting::takes)
    }

    /// The services of this name to which new connections are taken.
    pub fn named<'b>(&'b self, name: &'b Hostname) -> impl Iterator<Item = &'b NamespacedHostname> {
        let ours = self.proxy.iter().flat_map(|proxy| &proxy.services);
        let parting = self.parting.iter().filter(|(_, parting)| parting.takes()).map(|(key, _)| key);
        ours.chain(parting).filter(move |key| key.hostname == *name)
    }

    /// How to send to `upstream`; `None` where nothing is known of it.
    pub fn cluster(&self, upstream: &Upstream) -> Option<&Arc<Cluster>> {
        self.clusters.get(upstream)
    }

    /// How to send to `upstream`, or why nothing may be sent there.
    pub fn usable(&self, upstream: &Upstream) -> Result<&Arc<Cluster>, Refusal> {
        let cluster = self.cluster(upstream).ok_or_else(|| Refusal::DestinationMissing(upstream.clone()))?;
        match &cluster.unusable {
            None => Ok(cluster),
            Some(reason) => Err(Refusal::DestinationUnusable { upstream: upstream.clone(), reason: reason.clone() }),
        }
    }

    /// The credential called `name`.
    pub fn credential(&self, name: &Arc<str>) -> Result<&Arc<Credential>, Refusal> {
        self.credentials.get(name).ok_or_else(|| Refusal::CredentialMissing(name.clone()))
    }

    /// Which policies hold where.
    pub fn guards(&self) -> &Guards {
        &self.guards
    }

    /// All services that have arrived, in no order; for dumps and for asking for their endpoints.
    pub fn services(&self) -> impl Iterator<Item = &Arc<ServiceBook>> {
        self.services.values()
    }

    /// All clusters that have arrived, in no order.
    pub fn clusters(&self) -> impl Iterator<Item = &Arc<Cluster>> {
        self.clusters.values()
    }
}
