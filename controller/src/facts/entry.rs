//! What is used of ServiceEntry and WorkloadEntry: services and workloads that Kubernetes does not know.

use std::{collections::BTreeMap, net::IpAddr};

use ipnet::IpNet;
use kube::core::{DynamicObject, ObjectMeta};
pub use lateen_cluster::api::Resolution;
use lateen_cluster::{
    api::{AllocatedAddress, Location, ServiceEntrySpec, ServicePort, WorkloadEntrySpec},
    labels,
    store::Reading,
};
use lateen_types::label::Labels;
use lateen_wire::{proxy::Protocol, workload::AppProtocol};
use serde::Deserialize as _;

use super::{Age, Distribution, Wish, gateway::part, has_condition, protocol, service::spoken};

/// A port of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntryPort {
    /// Its name.
    pub name: String,
    /// The number callers use.
    pub number: u16,
    /// The number at endpoints, where it is said.
    pub target: Option<u16>,
    /// What is spoken there, as node proxies are told.
    pub protocol: AppProtocol,
    /// What is spoken there, as proxies at layer 7 serve it; none where it is not TCP.
    pub spoken: Option<Protocol>,
}

/// Where an endpoint is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EndpointPlace {
    /// At an address.
    Ip(IpAddr),
    /// Wherever the name leads.
    Hostname(String),
    /// Known by its network's gateway only.
    Unknown,
}

/// An endpoint: of a service entry, or a workload entry of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct External {
    /// As written.
    pub address: String,
    /// As understood.
    pub place: EndpointPlace,
    /// Port numbers by name.
    pub ports: BTreeMap<String, u16>,
    /// Its labels.
    pub labels: Labels,
    /// Its network; empty is the cluster's.
    pub network: String,
    /// `region/zone/subzone`.
    pub locality: String,
    /// Its share; 0 is unsaid.
    pub weight: u32,
    /// Its account.
    pub account: String,
    /// Which waypoint its labels ask for.
    pub wish: Wish,
}

/// Who an entry says may see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Export {
    /// All namespaces; a list of some is the same, since the wire cannot say it.
    All,
    /// Its own.
    Own,
    /// None.
    Nobody,
}

impl Export {
    /// Reads `exportTo` of an object in `namespace`; nothing is said by an empty list.
    pub fn read(written: &[String], namespace: &str) -> Option<Self> {
        let is_own = |entry: &String| entry == "." || entry == namespace;
        match written {
            [] => None,
            all if all.iter().all(is_own) => Some(Self::Own),
            all if all.iter().all(|entry| entry == "~") => Some(Self::Nobody),
            _ => Some(Self::All),
        }
    }
}

/// What is used of a service entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceEntry {
    /// The older one wins a host.
    pub age: Age,
    /// All labels.
    pub labels: Labels,
    /// Its names, each once.
    pub hosts: Vec<String>,
    /// Its virtual addresses.
    pub addresses: Vec<IpNet>,
    /// Its ports.
    pub ports: Vec<EntryPort>,
    /// How endpoints are found.
    pub resolution: Resolution,
    /// Endpoints written out.
    pub endpoints: Vec<External>,
    /// Labels of its pods and workload entries; `None` asks for none.
    pub selector: Option<Labels>,
    /// Identities its endpoints may have.
    pub identities: Vec<String>,
    /// Whether its endpoints have no identity of the mesh.
    pub is_external: bool,
    /// Addresses given out, by host.
    pub allocated: BTreeMap<String, Vec<IpAddr>>,
    /// Whether addresses may be given out.
    pub allocate: bool,
    /// Which endpoints it prefers; `None` leaves it to the namespace.
    pub distribution: Option<Distribution>,
    /// Who it says may see it, if it does.
    pub export: Option<Export>,
    /// Which waypoint it asks for.
    pub wish: Wish,
    /// Whether it asks for something only a waypoint does.
    pub races_connects: bool,
    /// The generation a status speaks of.
    pub generation: i64,
    /// Whether its status speaks of waypoints.
    pub has_condition: bool,
}

impl ServiceEntry {
    /// Reads an entry of any served version.
    pub fn read(object: &DynamicObject) -> Reading<Self> {
        match Self::parse(object) {
            Ok(entry) => Reading::Value(entry),
            Err(reason) => Reading::Unreadable(reason),
        }
    }

    fn parse(object: &DynamicObject) -> Result<Self, String> {
        let spec: ServiceEntrySpec = part(object, "spec")?;
        let meta = &object.metadata;
        let namespace = meta.namespace.as_deref().unwrap_or_default();
        let annotation = |key: &str| meta.annotations.as_ref().and_then(|all| all.get(key));
        let own = meta.labels.clone().unwrap_or_default();
        let mut allocated: BTreeMap<String, Vec<IpAddr>> = BTreeMap::new();
        for given in given(object)? {
            if let Ok(ip) = given.value.parse() {
                allocated.entry(given.host).or_default().push(ip);
            }
        }
        let mut hosts = spec.hosts;
        let mut seen = std::collections::BTreeSet::new();
        hosts.retain(|host| seen.insert(host.clone()));
        let endpoints = spec.endpoints.iter().flatten().enumerate();
        let endpoints = endpoints.map(|(at, one)| {
            let all = one.labels.clone().unwrap_or_default();
            external(one, all, namespace).map_err(|reason| format!("spec.endpoints[{at}].{reason}"))
        });
        let selector = spec.workload_selector.map(|selector| selector.labels.unwrap_or_default());
        Ok(Self {
            age: Age::of(meta),
            hosts,
            addresses: networks(spec.addresses.as_deref().unwrap_or_default())?,
            ports: spec.ports.iter().flatten().enumerate().map(port_of).collect::<Result<_, _>>()?,
            resolution: spec.resolution.unwrap_or_default(),
            endpoints: endpoints.collect::<Result<_, _>>()?,
            selector: selector.filter(|asked| !asked.is_empty()),
            identities: spec.subject_alt_names.unwrap_or_default(),
            is_external: spec.location.unwrap_or_default() == Location::MeshExternal,
            allocated,
            allocate: own.get(labels::AUTO_ALLOCATE).is_none_or(|value| value != "false"),
            distribution: annotation(labels::TRAFFIC_DISTRIBUTION).map(|text| Distribution::annotated(text)),
            export: Export::read(spec.export_to.as_deref().unwrap_or_default(), namespace),
            wish: Wish::of(meta, namespace),
            races_connects: annotation(labels::CONNECT_STRATEGY).is_some_and(|word| word == "RACE_FIRST_TCP_CONNECT"),
            generation: meta.generation.unwrap_or_default(),
            has_condition: has_condition(&object.data),
            labels: own,
        })
    }

    /// The addresses `host` is called by: what was written, else what was given out.
    pub fn addresses_of(&self, host: &str) -> Vec<IpNet> {
        if !self.addresses.is_empty() {
            return self.addresses.clone();
        }
        let wild = host.starts_with('*') && self.resolution != Resolution::DynamicDns;
        if self.resolution == Resolution::None || wild {
            return Vec::new();
        }
        self.allocated.get(host).into_iter().flatten().map(|ip| IpNet::from(*ip)).collect()
    }
}

/// What is used of a workload entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkloadEntry {
    /// Where it is and who it is.
    pub external: External,
    /// Whether the node agent says that redirection works.
    pub redirected: bool,
    /// The group it registered for.
    pub group: Option<String>,
    /// The generation a status speaks of.
    pub generation: i64,
    /// Whether its status speaks of waypoints.
    pub has_condition: bool,
}

impl WorkloadEntry {
    /// Reads an entry of any served version.
    pub fn read(object: &DynamicObject) -> Reading<Self> {
        match Self::parse(object) {
            Ok(entry) => Reading::Value(entry),
            Err(reason) => Reading::Unreadable(reason),
        }
    }

    fn parse(object: &DynamicObject) -> Result<Self, String> {
        let spec: WorkloadEntrySpec = part(object, "spec")?;
        let meta = &object.metadata;
        let namespace = meta.namespace.as_deref().unwrap_or_default();
        let mut all = spec.labels.clone().unwrap_or_default();
        all.extend(meta.labels.clone().unwrap_or_default());
        let annotation = |key: &str| meta.annotations.as_ref().and_then(|all| all.get(key));
        Ok(Self {
            external: external(&spec, all, namespace).map_err(|reason| format!("spec.{reason}"))?,
            redirected: annotation(labels::REDIRECTION).is_some_and(|word| word == labels::REDIRECTION_ENABLED),
            group: annotation(labels::AUTO_REGISTRATION_GROUP).cloned(),
            generation: meta.generation.unwrap_or_default(),
            has_condition: has_condition(&object.data),
        })
    }
}

/// The addresses in its status. Conditions beside them may be of anybody, and are not read.
fn given(object: &DynamicObject) -> Result<Vec<AllocatedAddress>, String> {
    let addresses = object.data.pointer("/status/addresses").filter(|addresses| !addresses.is_null());
    addresses.map_or(Ok(Vec::new()), |addresses| {
        Vec::deserialize(addresses).map_err(|error| format!("status.addresses: {error}"))
    })
}

fn networks(written: &[String]) -> Result<Vec<IpNet>, String> {
    let one = |(at, text): (usize, &String)| {
        let net: Option<IpNet> = text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
        net.map(|net| net.trunc()).ok_or_else(|| format!("spec.addresses[{at}]: {text:?} is no address or CIDR"))
    };
    written.iter().enumerate().map(one).collect()
}

fn port_of((at, written): (usize, &ServicePort)) -> Result<EntryPort, String> {
    let number = |field: &str, number: u32| {
        u16::try_from(number).map_err(|_| format!("spec.ports[{at}].{field}: {number} is no port; use 1 to 65535"))
    };
    let target = number("targetPort", written.target_port.unwrap_or_default())?;
    Ok(EntryPort {
        name: written.name.clone(),
        number: number("number", written.number)?,
        target: Some(target).filter(|port| *port != 0),
        protocol: spoken(written.protocol.as_deref().unwrap_or_default()),
        spoken: protocol::of_word(written.protocol.as_deref().unwrap_or_default(), number("number", written.number)?),
    })
}

/// The place, `None` for what is no place on a network (a Unix socket).
fn external(written: &WorkloadEntrySpec, all: Labels, namespace: &str) -> Result<External, String> {
    let port = |(name, number): (&String, &u32)| match u16::try_from(*number) {
        Ok(number) => Ok((name.clone(), number)),
        Err(_) => Err(format!("ports[{name:?}]: {number} is no port; use 1 to 65535")),
    };
    let address = written.address.as_deref().unwrap_or_default();
    let place = match address.parse() {
        Ok(ip) => EndpointPlace::Ip(ip),
        Err(_) if address.is_empty() || address.starts_with("unix:") => EndpointPlace::Unknown,
        Err(_) => EndpointPlace::Hostname(address.to_owned()),
    };
    let meta = ObjectMeta { labels: Some(all), ..ObjectMeta::default() };
    Ok(External {
        address: address.to_owned(),
        place,
        ports: written.ports.iter().flatten().map(port).collect::<Result<_, _>>()?,
        network: written.network.clone().unwrap_or_default(),
        locality: written.locality.clone().unwrap_or_default(),
        weight: written.weight.unwrap_or_default(),
        account: written.service_account.clone().unwrap_or_default(),
        wish: Wish::of(&meta, namespace),
        labels: meta.labels.unwrap_or_default(),
    })
}
