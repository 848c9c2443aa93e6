//! Gathers what each derivation needs, and derives.

use std::collections::BTreeMap;

use lateen_cluster::store::Key;
use lateen_types::label::Labels;
use lateen_wire::workload as wire;

use super::{
    Derived, Graph, Made, Thing,
    bindings::{Binding, Bound},
    resource::{self, Resource},
    told::{Enforcing, Kind, Object, Reporter, Told},
};
use crate::{
    derive::{
        self,
        backend::ServiceName,
        enforced::Enforceable,
        entry::{self, Behind},
        gateway::{self, Way},
        peer,
        targets::{self, Ask, Target},
        visible::Visible,
        waypoint::{self, Asker, Found, Granted},
        word::Word,
    },
    facts::{self, Gateway, Namespace, PeerAuthentication, Phase, Pod, Service, ServiceEntry, Traffic, Wish},
};

impl Graph {
    pub(super) fn derive(&self, derived: &Derived) -> Made {
        match derived {
            Derived::Pod(key) => self.pod(key),
            Derived::Service(key) => self.service(key),
            Derived::Slice(key) => plain(self.slice(key)),
            Derived::Policy(key) => self.policy(key),
            Derived::Peer(key) => self.peer(key),
            Derived::StaticStrict if self.world.peers.is_empty() => Made::default(),
            Derived::StaticStrict => plain(vec![resource::policy(&peer::static_strict(&self.mesh))]),
            Derived::Host(host) => self.host(host),
            Derived::Entry(key) => self.entry(key),
            Derived::External(key) => self.external(key),
            Derived::Ways => plain(self.all_ways().into_iter().map(|way| resource::workload(way.workload)).collect()),
            Derived::Served(place) => self.served(place),
            Derived::Sent(place) => self.sent(place),
            Derived::Proxy(key) => self.proxy(key),
            Derived::RoutesTold(key) => self.author_of_routes(key),
            Derived::RuleTold(key) => self.author_of_rules(key),
            Derived::RouteTold(kind, key) => self.author_of_route(&(*kind, key.clone())),
            Derived::ServersTold(key) => self.author_of_servers(key),
            Derived::BackingTold(key) => self.author_of_backing(key),
            Derived::Credential(need) => self.credential(need),
        }
    }

    fn service(&self, key: &Key) -> Made {
        let said = |generation, words, was_said, is_gone| Told {
            object: Object { kind: Kind::Service, key: key.clone() },
            reporter: Reporter::Service,
            generation,
            words,
            was_said,
            parents: Vec::new(),
            listeners: Vec::new(),
            is_gone,
        };
        let Some(service) = self.world.services.find(key) else {
            return Made { told: vec![said(0, Vec::new(), false, true)], ..Made::default() };
        };
        let mut granted = Granted::default();
        if !service.is_waypoint {
            granted = self.grant_service(key, service);
        }
        let around =
            derive::service::Around { network: self.network(), space: self.space(&key.namespace), granted: &granted };
        let made = derive::service::derive(&self.mesh, key, service, around);
        let to = Bound::Service(ServiceName::new(&key.namespace, &self.mesh.hostname(key)));
        Made {
            resources: vec![resource::service(made)],
            told: vec![said(0, granted.word.into_iter().collect(), service.has_condition, false)],
            bound: bindings(granted.serving, &to).collect(),
            looked_at: looked(granted.looked_at).collect(),
            ..Made::default()
        }
    }

    fn slice(&self, key: &Key) -> Vec<Resource> {
        let Some(slice) = self.world.slices.find(key) else { return Vec::new() };
        let Some(service) = self.world.services.find(&slice.service) else { return Vec::new() };
        let workloads = derive::endpoint::derive(&self.mesh, self.network(), key, slice, service);
        // An address listed twice is one endpoint.
        by_name(workloads.into_iter())
    }

    fn host(&self, host: &str) -> Made {
        let holders = self.holders(host);
        let mut made = Made::default();
        for (key, entry) in holders.each {
            let granted = self.grant_entry(key, entry);
            let around = entry::HostAround {
                network: self.network(),
                space: self.space(&key.namespace),
                granted: &granted,
                canonical: holders.canonical == Some(key),
                visible: self.visible(key, entry),
            };
            made.resources.push(resource::service(entry::service(key, entry, host, around)));
            let to = Bound::Service(ServiceName::new(&key.namespace, host));
            made.bound.extend(bindings(granted.serving, &to));
            made.looked_at.extend(looked(granted.looked_at));
        }
        made
    }

    fn entry(&self, key: &Key) -> Made {
        let said = |generation, words, was_said, is_gone| Told {
            object: Object { kind: Kind::ServiceEntry, key: key.clone() },
            reporter: Reporter::Service,
            generation,
            words,
            was_said,
            parents: Vec::new(),
            listeners: Vec::new(),
            is_gone,
        };
        let Some(found) = self.world.entries.find(key) else {
            return Made { told: vec![said(0, Vec::new(), false, true)], ..Made::default() };
        };
        let granted = self.grant_entry(key, found);
        let seen = self.mesh.sight.word(self.visible(key, found));
        let words: Vec<Word> = entry::missing(found, &granted).into_iter().chain(granted.word).chain(seen).collect();
        let mut made = Made {
            told: vec![said(found.generation, words, found.has_condition, false)],
            looked_at: looked(granted.looked_at).collect(),
            ..Made::default()
        };
        let held: Vec<&String> = found.hosts.iter().filter(|host| self.has_host(key, host)).collect();
        if found.endpoints.is_empty() && found.selector.is_none() && found.resolution.is_by_name() {
            let implicit = held.iter().map(|host| entry::implicit(&self.mesh, key, found, host, self.network()));
            made.resources = by_name(implicit);
        } else if !held.is_empty() {
            let policies = self.policies_of(&key.namespace, &found.labels);
            let workloads = found.endpoints.iter().filter_map(|external| {
                let asks = (Traffic::Workload, external.account.as_str());
                let granted = self.grant(&key.namespace, &external.wish, asks);
                let around = entry::Around {
                    network: self.network(),
                    behind: held.iter().map(|host| Behind::Host(key, found, host)).collect(),
                    policies: policies.clone(),
                    waypoint: granted.must_pass(),
                    gateway: self.way_to(&external.network),
                    extensions: self.extensions(&key.namespace, &external.wish, &external.labels),
                };
                made.looked_at.extend(looked(granted.looked_at));
                let workload = entry::inline(&self.mesh, key, external, around)?;
                made.bound.extend(bindings(granted.serving, &Bound::Workload(workload.uid.clone())));
                Some(workload)
            });
            made.resources = by_name(workloads);
        }
        made
    }

    fn external(&self, key: &Key) -> Made {
        let said = |generation, words, was_said, is_gone| Told {
            object: Object { kind: Kind::WorkloadEntry, key: key.clone() },
            reporter: Reporter::WorkloadEntry,
            generation,
            words,
            was_said,
            parents: Vec::new(),
            listeners: Vec::new(),
            is_gone,
        };
        let Some(found) = self.world.externals.find(key) else {
            return Made { told: vec![said(0, Vec::new(), false, true)], ..Made::default() };
        };
        let external = &found.external;
        let granted = self.grant(&key.namespace, &external.wish, (Traffic::Workload, &external.account));
        let around = entry::Around {
            network: self.network(),
            behind: self.behind(&key.namespace, &external.labels).collect(),
            policies: self.policies_of(&key.namespace, &external.labels),
            waypoint: granted.must_pass(),
            gateway: self.way_to(&external.network),
            extensions: self.extensions(&key.namespace, &external.wish, &external.labels),
        };
        let workload = entry::workload(&self.mesh, key, found, around);
        let uid = workload.as_ref().map(|workload| Bound::Workload(workload.uid.clone()));
        Made {
            bound: uid.iter().flat_map(|uid| bindings(granted.serving.clone(), uid)).collect(),
            resources: workload.map(resource::workload).into_iter().collect(),
            told: vec![said(found.generation, granted.word.into_iter().collect(), found.has_condition, false)],
            looked_at: looked(granted.looked_at).collect(),
            ..Made::default()
        }
    }

    fn policy(&self, key: &Key) -> Made {
        let object = Object { kind: Kind::AuthorizationPolicy, key: key.clone() };
        let said = |reporter, generation, words, is_gone| Told {
            object: object.clone(),
            reporter,
            generation,
            words,
            // What an earlier process said of a policy that has targets now, or has them no more, must go.
            was_said: true,
            parents: Vec::new(),
            listeners: Vec::new(),
            is_gone,
        };
        let Some(policy) = self.world.policies.find(key) else {
            let told = [Reporter::Ztunnel, Reporter::Waypoint].map(|reporter| said(reporter, 0, Vec::new(), true));
            let enforcing = Some(Enforcing { object: object.clone(), generation: 0, what: None });
            return Made { told: told.into(), enforcing, ..Made::default() };
        };
        let made = derive::authorization::derive(&self.mesh, key, policy);
        let at_waypoint = policy.has_target().then(|| {
            let lost = derive::authorization::l7::derive(&self.mesh, key, policy);
            targets::word_with(&lost, targets::word(&self.mesh, key, policy, &|ask| self.target(ask)))
        });
        let enforcing =
            Enforcing { object: object.clone(), generation: policy.generation, what: Some(made.enforceable) };
        let word = made.condition.map(|condition| condition.word());
        Made {
            resources: made.policy.iter().map(resource::policy).collect(),
            told: vec![
                said(Reporter::Ztunnel, policy.generation, word.into_iter().collect(), false),
                said(Reporter::Waypoint, policy.generation, at_waypoint.into_iter().collect(), false),
            ],
            enforcing: Some(enforcing),
            ..Made::default()
        }
    }

    fn target(&self, ask: &Ask) -> Target {
        let bound = |granted: Granted| if granted.waypoint.is_some() { Target::Bound } else { Target::Unbound };
        match ask {
            Ask::Service(key) => {
                self.world.services.find(key).map_or(Target::Absent, |service| bound(self.grant_service(key, service)))
            }
            Ask::ServiceEntry(key) => {
                self.world.entries.find(key).map_or(Target::Absent, |entry| bound(self.grant_entry(key, entry)))
            }
            Ask::Gateway(key) if self.world.gateways.find(key).is_some() => Target::Bound,
            Ask::Gateway(_) => Target::Absent,
            Ask::GatewayClass(_) => Target::Bound,
        }
    }

    fn peer(&self, key: &Key) -> Made {
        let object = Object { kind: Kind::PeerAuthentication, key: key.clone() };
        let Some((key, found)) = self.world.peers.pair(key) else {
            return Made { enforcing: Some(Enforcing { object, generation: 0, what: None }), ..Made::default() };
        };
        let counts = found.selector.is_some() && *key.namespace != *self.mesh.root_namespace;
        let strict = self.levels(&key.namespace).strict();
        let policy = peer::ports(key, found, strict).filter(|_| counts);
        let holder = self.level(&key.namespace).map(|(holder, _)| holder);
        let what: Enforceable = peer::enforceable(&self.mesh, key, found, holder);
        Made {
            resources: policy.iter().map(resource::policy).collect(),
            enforcing: Some(Enforcing { object, generation: found.generation, what: Some(what) }),
            ..Made::default()
        }
    }

    /// The peer authentication without selector that holds for a namespace.
    fn level(&self, namespace: &str) -> Option<(&Key, &PeerAuthentication)> {
        let whole = self.world.peers.within(namespace).filter(|(_, one)| one.selector.is_none());
        peer::oldest(whole.map(|(key, one)| (key, &**one)))
    }

    fn levels(&self, namespace: &str) -> peer::Levels<'_> {
        let of = |namespace: &str| self.level(namespace).map(|(_, one)| one);
        let root = &self.mesh.root_namespace;
        peer::Levels { mesh: of(root), namespace: if *namespace == **root { None } else { of(namespace) } }
    }

    fn pod(&self, key: &Key) -> Made {
        let Some(pod) = self.world.pods.find(key) else { return Made::default() };
        let mut granted = Granted::default();
        if !pod.is_waypoint() {
            granted = self.grant(&key.namespace, &pod.wish, (Traffic::Workload, &pod.service_account));
        }
        let instance_of = pod.gateway().and_then(|name| self.found(&Key::new(&key.namespace, name)));
        let around = derive::pod::Surroundings {
            network: self.network(),
            node: self.world.nodes.find(&Key::new("", &pod.node)).map(|node| &**node),
            services: self.services_of(key, pod),
            policies: self.policies_of(&key.namespace, &pod.labels),
            waypoint: granted.must_pass(),
            application_tunnel: instance_of.and_then(waypoint::tunnel_to_app),
            gateway: self.ways.get(self.network()).cloned(),
            extensions: self.extensions(&key.namespace, &pod.wish, &pod.labels),
        };
        let workload = derive::pod::derive(&self.mesh, key, pod, around);
        let uid = workload.as_ref().map(|workload| Bound::Workload(workload.uid.clone()));
        Made {
            bound: uid.iter().flat_map(|uid| bindings(granted.serving.clone(), uid)).collect(),
            resources: workload.map(resource::workload).into_iter().collect(),
            looked_at: looked(granted.looked_at).collect(),
            ..Made::default()
        }
    }

    fn services_of<'a>(&'a self, key: &'a Key, pod: &'a Pod) -> Vec<Behind<'a>> {
        let mut all: Vec<Behind<'_>> = self.behind(&key.namespace, &pod.labels).collect();
        for slice in self.world.slices_naming_pod.of(key).filter_map(|slice| self.world.slices.find(slice)) {
            let names = slice
                .endpoints
                .iter()
                .any(|endpoint| endpoint.pod.as_ref().is_some_and(|one| one.key == *key && *one.uid == *pod.uid));
            let service = self.world.services.pair(&slice.service).filter(|(_, service)| service.selector.is_empty());
            all.extend(service.filter(|_| names).map(|(key, service)| Behind::Service(key, service)));
        }
        all
    }

    /// What selects workloads with `labels`: services, and hosts of entries.
    fn behind<'a>(&'a self, namespace: &'a str, labels: &'a Labels) -> impl Iterator<Item = Behind<'a>> {
        let services = self.world.services.within(namespace);
        let services = services.filter(|(_, one)| !one.selector.is_empty() && facts::selects(&one.selector, labels));
        let services = services.map(|(key, service)| Behind::Service(key, service));
        services.chain(self.hosts_of(namespace, labels))
    }

    fn policies_of(&self, namespace: &str, labels: &Labels) -> Vec<String> {
        let root = &*self.mesh.root_namespace;
        let own = self.world.policies.within(namespace);
        let mesh_wide = self.world.policies.within(root).filter(|_| *namespace != *root);
        let selecting = own.chain(mesh_wide).filter(|(_, policy)| {
            let selects = policy.selector.as_ref().is_some_and(|asked| facts::selects(asked, labels));
            // Only what is really sent may be named: a proxy must refuse where a named policy is missing.
            selects && derive::authorization::is_sent(&self.mesh, policy)
        });
        let mut names: Vec<String> = selecting.map(|(key, _)| key.to_string()).collect();
        let peers = self.world.peers.within(namespace).filter(|_| *namespace != *root);
        let peers = peers.map(|(key, one)| (key, &**one));
        names.extend(peer::names(&self.mesh, self.levels(namespace), peers, labels));
        names
    }

    /// The cluster's network: a label of the root namespace.
    pub(super) fn network(&self) -> &str {
        self.space(&self.mesh.root_namespace).map_or("", |namespace| namespace.network.as_str())
    }

    pub(super) fn space(&self, namespace: &str) -> Option<&Namespace> {
        self.world.namespaces.find(&Key::new("", namespace)).map(|found| &**found)
    }

    pub(super) fn found(&self, key: &Key) -> Option<Found<'_>> {
        let gateway = self.world.gateways.find(key)?;
        let class = self.world.classes.find(&Key::new("", &gateway.class)).map(|class| &**class);
        Some(Found { gateway, class })
    }

    /// What only proxies of ours read of a workload.
    fn extensions(&self, namespace: &str, wish: &Wish, labels: &Labels) -> Vec<wire::Extension> {
        let chosen_by = derive::chosen_by(labels, &self.world.label_keys);
        chosen_by.into_iter().chain(derive::believes(wish, self.space(namespace))).collect()
    }

    /// What somebody of `account` gets; an empty account is none.
    fn grant(&self, namespace: &str, wish: &Wish, (traffic, account): (Traffic, &str)) -> Granted {
        let asker = Asker { of_account: self.waypoint_for(namespace, account), ..self.asker(namespace, wish, traffic) };
        waypoint::resolve(asker, &|key| self.found(key))
    }

    pub(super) fn grant_service(&self, key: &Key, service: &Service) -> Granted {
        let account = self.account_behind(&key.namespace, service);
        self.grant(&key.namespace, &service.wish, (Traffic::Service, account))
    }

    /// The waypoint for an account of a namespace; of several the first by name.
    fn waypoint_for(&self, namespace: &str, account: &str) -> Option<&Key> {
        let serves = |gateway: &Gateway| !account.is_empty() && gateway.serves_account.as_deref() == Some(account);
        self.world.gateways.within(namespace).find(|(_, gateway)| serves(gateway)).map(|(key, _)| key)
    }

    /// Whether waypoints of a namespace are for accounts, so that a service's pods matter to its waypoint.
    pub(super) fn has_account_waypoints(&self, namespace: &str) -> bool {
        self.world.gateways.within(namespace).any(|(_, gateway)| gateway.serves_account.is_some())
    }

    /// The one account of all pods a service selects; empty where there are several, or none.
    fn account_behind(&self, namespace: &str, service: &Service) -> &str {
        if service.selector.is_empty() || !self.has_account_waypoints(namespace) {
            return "";
        }
        let pods = self.world.pods.within(namespace).filter(|(_, pod)| pod.phase == Phase::Live);
        let mut accounts = pods
            .filter(|(_, pod)| facts::selects(&service.selector, &pod.labels))
            .map(|(_, pod)| &*pod.service_account);
        let first = accounts.next().unwrap_or_default();
        if accounts.all(|account| account == first) { first } else { "" }
    }

    pub(super) fn grant_entry(&self, key: &Key, entry: &ServiceEntry) -> Granted {
        let asker = self.asker(&key.namespace, &entry.wish, Traffic::Service);
        let is_private = self.visible(key, entry) != Visible::Public;
        waypoint::resolve(Asker { is_private, ..asker }, &|key| self.found(key))
    }

    fn asker<'a>(&'a self, namespace: &'a str, wish: &'a Wish, traffic: Traffic) -> Asker<'a> {
        let space = self.space(namespace);
        Asker { namespace, space, wish, traffic, network: self.network(), is_private: false, of_account: None }
    }

    /// Who sees an entry.
    pub(super) fn visible(&self, key: &Key, entry: &ServiceEntry) -> Visible {
        self.mesh.sight.of(entry, self.space(&key.namespace))
    }

    pub(super) fn all_ways(&self) -> Vec<Way> {
        let mut gateways: Vec<_> = self.world.gateways.all().collect();
        gateways.sort_unstable_by_key(|(key, _)| *key);
        gateway::ways(&self.mesh, gateways.into_iter().map(|(key, gateway)| (key, &**gateway)))
    }

    /// The way into the network of an endpoint.
    fn way_to(&self, network: &str) -> Option<wire::GatewayAddress> {
        let network = if network.is_empty() { self.network() } else { network };
        self.ways.get(network).cloned()
    }
}

fn looked(gateways: Vec<Key>) -> impl Iterator<Item = Thing> {
    gateways.into_iter().map(Thing::Gateway)
}

fn bindings(gateways: Vec<Key>, to: &Bound) -> impl Iterator<Item = Binding> {
    gateways.into_iter().map(|gateway| Binding { gateway, to: to.clone() })
}

fn plain(resources: Vec<Resource>) -> Made {
    Made { resources, ..Made::default() }
}

fn by_name(workloads: impl Iterator<Item = wire::Workload>) -> Vec<Resource> {
    let all: BTreeMap<String, Resource> = workloads.map(|one| (one.uid.clone(), resource::workload(one))).collect();
    all.into_values().collect()
}
