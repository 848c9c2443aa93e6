//! What a resource is called, and what its arrival or its end changes.
//!
//! In: compiled resources, and names of removed ones. Out: changes of a [`Book`]. Absent on purpose: reading resources.

use std::{collections::HashMap, sync::Arc};

use lateen_types::name::NamespacedHostname;
use lateen_wire::type_url;

use super::{Book, Cluster, Credential, ProxyBook, ServiceBook};
use crate::authorize::Policy;

/// The kinds of resources that make a book.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The proxy itself.
    Proxy,
    /// How a service is served.
    Service,
    /// How a service is sent to.
    Destination,
    /// What TLS needs.
    Credential,
    /// Who may ask.
    Policy,
}

impl Kind {
    /// All, in the order in which they are pushed.
    pub const ALL: [Self; 5] = [Self::Credential, Self::Policy, Self::Destination, Self::Service, Self::Proxy];

    /// The type URL of its resources.
    pub fn type_url(self) -> &'static str {
        match self {
            Self::Proxy => type_url::PROXY,
            Self::Service => type_url::SERVICE,
            Self::Destination => type_url::DESTINATION,
            Self::Credential => type_url::CREDENTIAL,
            Self::Policy => type_url::POLICY,
        }
    }
}

/// What one resource changes.
#[derive(Debug, Clone)]
pub enum Change {
    /// The proxy itself, new or changed.
    Proxy(Arc<ProxyBook>),
    /// A service, new or changed.
    Service(Arc<ServiceBook>),
    /// The clusters of one service, in the place of all it had.
    Destination {
        /// The service sent to.
        service: NamespacedHostname,
        /// One for each port and subset.
        clusters: Vec<Arc<Cluster>>,
    },
    /// A credential, new or changed.
    Credential {
        /// Its resource's name.
        name: Arc<str>,
        /// The credential.
        credential: Arc<Credential>,
    },
    /// A policy, new or changed.
    Policy {
        /// Its resource's name.
        name: Arc<str>,
        /// The policy.
        policy: Arc<Policy>,
    },
    /// What stands in for a policy that cannot be read, where no earlier state of it is held.
    PolicyIfNew {
        /// Its resource's name.
        name: Arc<str>,
        /// What refuses in its place.
        policy: Arc<Policy>,
    },
    /// The resource is no more.
    Removed {
        /// Which kind.
        kind: Kind,
        /// Its name.
        name: Arc<str>,
    },
}

/// The service in "<gateway namespace>/<gateway>/<service namespace>/<hostname>".
pub(super) fn service_of(name: &str) -> Option<NamespacedHostname> {
    let mut parts = name.rsplitn(3, '/');
    let (hostname, namespace) = (parts.next()?, parts.next()?);
    parts.next().filter(|gateway| gateway.contains('/'))?;
    let empty = hostname.is_empty() || namespace.is_empty();
    (!empty).then(|| NamespacedHostname { namespace: namespace.into(), hostname: hostname.into() })
}

impl Book {
    /// Takes one change in. What is not touched stays shared with the book this one was copied from.
    pub(super) fn change(&mut self, change: Change) {
        match change {
            Change::Proxy(proxy) => self.become_proxy(proxy),
            Change::Service(service) => {
                Arc::make_mut(&mut self.services).insert(service.key.clone(), service);
            }
            Change::Destination { service, clusters } => self.redirect(&service, clusters),
            Change::Credential { name, credential } => {
                Arc::make_mut(&mut self.credentials).insert(name, credential);
            }
            Change::Policy { name, policy } => self.guards.put(&name, Some(policy)),
            Change::PolicyIfNew { name, .. } if self.guards.holds(&name) => {}
            Change::PolicyIfNew { name, policy } => self.guards.put(&name, Some(policy)),
            Change::Removed { kind, name } => self.remove(kind, &name),
        }
    }

    /// What is made of several resources, once a batch is in.
    pub(super) fn settle(&mut self) {
        let of_proxy = self.proxy.as_ref().map_or(&[][..], |proxy| &proxy.policies);
        let parting = self.parting.iter().map(|(key, parting)| (key, &*parting.service.policies));
        let services = self.services.iter().map(|(key, service)| (key, &*service.policies));
        // Of a service that comes back what it is now counts.
        self.guards.settle(of_proxy, parting.chain(services));
    }

    /// What is no longer served stays as it was for a while (see [`Parting`]).
    fn become_proxy(&mut self, proxy: Arc<ProxyBook>) {
        let before = self.proxy.replace(proxy.clone());
        let gone = before.iter().flat_map(|before| &before.services).filter(|key| !proxy.services.contains(*key));
        let gone =
            gone.filter_map(|key| Some((key.clone(), Parting { service: self.services.get(key)?.clone(), looks: 0 })));
        let gone: Vec<_> = gone.collect();
        if !gone.is_empty() || !self.parting.is_empty() {
            let parting = Arc::make_mut(&mut self.parting);
            parting.retain(|key, _| !proxy.services.contains(key));
            self.parted += gone.len() as u64;
            parting.extend(gone);
        }
    }

    /// How many services have parted so far.
    pub(super) fn parted(&self) -> u64 {
        self.parted
    }

    fn remove(&mut self, kind: Kind, name: &Arc<str>) {
        match (kind, service_of(name)) {
            (Kind::Proxy, _) => self.proxy = None,
            (Kind::Credential, _) => drop(Arc::make_mut(&mut self.credentials).remove(name)),
            (Kind::Policy, _) => self.guards.put(name, None),
            (Kind::Service, Some(key)) => drop(Arc::make_mut(&mut self.services).remove(&key)),
            (Kind::Destination, Some(key)) => self.redirect(&key, Vec::new()),
            (Kind::Service | Kind::Destination, None) => {}
        }
    }

    /// Puts `clusters` in the place of all that `service` had. Those that are no more stay for a while (see [`Leaving`]).
    fn redirect(&mut self, service: &NamespacedHostname, clusters: Vec<Arc<Cluster>>) {
        let before = Arc::make_mut(&mut self.destinations).remove(service).unwrap_or_default();
        let stays = |cluster: &&Arc<Cluster>| clusters.iter().any(|new| new.upstream == cluster.upstream);
        let gone = before.iter().filter(|cluster| !stays(cluster));
        let gone: Vec<_> = gone.map(|cluster| Leaving { cluster: cluster.clone(), looks: 0 }).collect();
        if !gone.is_empty() {
            Arc::make_mut(&mut self.leaving).extend(gone);
        }
        let all: &mut HashMap<_, _> = Arc::make_mut(&mut self.clusters);
        all.extend(clusters.iter().map(|cluster| (cluster.upstream.clone(), cluster.clone())));
        if !clusters.is_empty() {
            Arc::make_mut(&mut self.destinations).insert(service.clone(), clusters.into());
        }
    }

    /// Whether [`Book::look`] has anything to do.
    pub(super) fn has_leaving(&self) -> bool {
        !self.leaving.is_empty() || !self.parting.is_empty()
    }

    /// Forgets what has been leaving for long enough. What a parting service may lead to stays with it.
    pub(super) fn look(&mut self) {
        if !self.parting.is_empty() {
            Arc::make_mut(&mut self.parting).retain(|_, parting| {
                parting.looks += 1;
                parting.looks < PARTING_LOOKS
            });
            return self.settle();
        }
        let leaving = Arc::make_mut(&mut self.leaving);
        leaving.iter_mut().for_each(|one| one.looks += 1);
        for one in leaving.extract_if(.., |one| one.looks >= LEAVING_LOOKS) {
            let upstream = &one.cluster.upstream;
            // It may have come back as another.
            if self.clusters.get(upstream).is_some_and(|now| Arc::ptr_eq(now, &one.cluster)) {
                Arc::make_mut(&mut self.clusters).remove(upstream);
            }
        }
    }
}

/// A cluster that is no more. Clusters and the routes that lead to them come in responses of their own, so a route that
/// leads elsewhere now may arrive after the cluster's end did: until then requests go where they went before.
#[derive(Debug, Clone)]
pub(super) struct Leaving {
    cluster: Arc<Cluster>,
    looks: u32,
}

/// After so many looks, a second apart, it is forgotten.
pub(super) const LEAVING_LOOKS: u32 = 5;

/// A service that is no longer served here. Its clients' proxies hear that on their own, sooner or later, and connections that
/// are here already hear it with their next answer: until then they are served as they were, by the same policies.
#[derive(Debug, Clone)]
pub(super) struct Parting {
    pub(super) service: Arc<ServiceBook>,
    looks: u32,
}

impl Parting {
    /// Whether new connections are taken.
    pub(super) fn takes(&self) -> bool {
        self.looks < NEWCOMERS_LOOKS
    }
}

/// For so many looks, a second apart, proxies may not have heard that a service is not ours.
const NEWCOMERS_LOOKS: u32 = 10;
/// After so many it is forgotten. A request that lasts longer is served to its end all the same.
pub(super) const PARTING_LOOKS: u32 = 60;
