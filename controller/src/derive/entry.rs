//! ServiceEntry and WorkloadEntry as the mesh knows them.
//!
//! In: one entry and what surrounds it. Out: one service per host, the workloads written in it, or one workload.
//! Absent on purpose: which of several entries has a host (see `graph::hosts`).

use std::collections::BTreeMap;

use ipnet::IpNet;
use lateen_cluster::{labels, store::Key};
use lateen_types::label::Labels;
use lateen_wire::workload::{
    self as wire, LoadBalancing, NetworkAddress, TunnelProtocol, WorkloadStatus, WorkloadType,
    load_balancing::{HealthPolicy, Mode},
};

use super::{
    Mesh, pod, service,
    visible::Visible,
    waypoint::{self, Granted},
    word::{Truth, Word},
};
use crate::facts::{
    EndpointPlace, External, Namespace, Pod, Resolution, Service, ServiceEntry, TargetPort, WorkloadEntry, ip_bytes,
};

/// What a host's service depends on besides its entry.
#[derive(Debug, Clone, Copy)]
pub struct HostAround<'a> {
    /// The network of the cluster.
    pub network: &'a str,
    /// The entry's namespace.
    pub space: Option<&'a Namespace>,
    /// Its waypoint.
    pub granted: &'a Granted,
    /// Whether this one counts for namespaces without an entry of their own.
    pub canonical: bool,
    /// Who sees it.
    pub visible: Visible,
}

/// The mesh's service for one host of an entry.
pub fn service(key: &Key, entry: &ServiceEntry, host: &str, around: HostAround<'_>) -> wire::Service {
    let addresses = entry.addresses_of(host);
    wire::Service {
        name: key.name.to_string(),
        namespace: key.namespace.to_string(),
        hostname: host.to_owned(),
        addresses: addresses.iter().map(|net| range(around.network, *net)).collect(),
        ports: entry.ports.iter().map(port).collect(),
        subject_alt_names: entry.identities.clone(),
        waypoint: around.granted.must_pass(),
        weighted_waypoints: waypoint::weighted(around.granted),
        ingress_use_waypoint: around.granted.ingress,
        load_balancing: balancing(entry, around.space),
        canonical: around.canonical,
        visibility: around.visible.on_wire().into(),
        ..wire::Service::default()
    }
}

fn range(network: &str, net: IpNet) -> NetworkAddress {
    let length = Some(u32::from(net.prefix_len())).filter(|_| net.prefix_len() != net.max_prefix_len());
    NetworkAddress { network: network.to_owned(), address: ip_bytes(net.network()), length }
}

fn port(port: &crate::facts::EntryPort) -> wire::Port {
    wire::Port {
        service_port: port.number.into(),
        target_port: port.target.unwrap_or(port.number).into(),
        app_protocol: port.protocol.into(),
    }
}

fn balancing(entry: &ServiceEntry, space: Option<&Namespace>) -> Option<LoadBalancing> {
    if entry.resolution == Resolution::None {
        return Some(LoadBalancing {
            mode: Mode::Passthrough.into(),
            health_policy: HealthPolicy::AllowAll.into(),
            ..LoadBalancing::default()
        });
    }
    let preference = entry.distribution.or_else(|| space.and_then(|space| space.distribution));
    service::preference(preference).map(|(scopes, mode)| LoadBalancing {
        routing_preference: scopes.into_iter().map(i32::from).collect(),
        mode: mode.into(),
        health_policy: HealthPolicy::OnlyHealthy.into(),
    })
}

/// What an entry without waypoint is told, where it asks for something only a waypoint does.
pub fn missing(entry: &ServiceEntry, granted: &Granted) -> Option<Word> {
    let told = |reason, message: &str| Word {
        kind: "istio.io/WaypointMissing",
        truth: Truth::True,
        reason,
        message: message.to_owned(),
    };
    if granted.waypoint.is_some() {
        return None;
    }
    if entry.hosts.iter().any(|host| host.starts_with('*')) {
        let message = "a wildcard host has no effect without a waypoint; bind one with the label istio.io/use-waypoint";
        return Some(told("NoWaypointForWildcardService", message));
    }
    entry.races_connects.then(|| {
        let message = "the connect strategy has no effect without a waypoint; bind one with istio.io/use-waypoint";
        told("NoWaypointForRacingConnectStrategy", message)
    })
}

/// A service something stands behind.
#[derive(Debug, Clone, Copy)]
pub enum Behind<'a> {
    /// Of Kubernetes.
    Service(&'a Key, &'a Service),
    /// A host of an entry.
    Host(&'a Key, &'a ServiceEntry, &'a str),
}

impl Behind<'_> {
    /// The key in a workload's list of services.
    pub fn name(&self, mesh: &Mesh) -> String {
        match self {
            Self::Service(key, _) => mesh.service_key(key),
            Self::Host(key, _, host) => format!("{}/{host}", key.namespace),
        }
    }

    /// The ports at a pod. A name the pod does not know is no port of this pod; for an entry it is only a preference.
    pub fn at_pod(&self, pod: &Pod) -> wire::PortList {
        let named = |name: &str| pod.ports.iter().find(|port| port.name == name).map(|port| port.number);
        self.ports(&|name| named(name), &|entry| named(&entry.name))
    }

    /// The ports at an endpoint that says numbers by name.
    pub fn at_external(&self, external: &External) -> wire::PortList {
        match self {
            Self::Service(_, service) => {
                let ports = service.ports.iter().filter_map(|port| {
                    let target = match &port.target {
                        TargetPort::Name(name) => *external.ports.get(name)?,
                        TargetPort::Number(number) => external.ports.get(&port.name).copied().unwrap_or(*number),
                    };
                    Some(pair(port.number, target))
                });
                wire::PortList { ports: ports.collect() }
            }
            Self::Host(..) => self.ports(&|_| None, &|port| external.ports.get(&port.name).copied()),
        }
    }

    fn ports(
        &self,
        named: &dyn Fn(&str) -> Option<u16>,
        own: &dyn Fn(&crate::facts::EntryPort) -> Option<u16>,
    ) -> wire::PortList {
        let ports = match self {
            Self::Service(_, service) => service
                .ports
                .iter()
                .filter_map(|port| {
                    let target = match &port.target {
                        TargetPort::Number(number) => *number,
                        TargetPort::Name(name) => named(name)?,
                    };
                    Some(pair(port.number, target))
                })
                .collect(),
            Self::Host(_, entry, _) => entry
                .ports
                .iter()
                .map(|port| pair(port.number, own(port).or(port.target).unwrap_or(port.number)))
                .collect(),
        };
        wire::PortList { ports }
    }
}

fn pair(from: u16, to: u16) -> wire::Port {
    wire::Port { service_port: from.into(), target_port: to.into(), app_protocol: 0 }
}

/// What an entry's workload depends on besides the entry.
#[derive(Debug, Clone, Default)]
pub struct Around<'a> {
    /// The network of the cluster.
    pub network: &'a str,
    /// The services it stands behind.
    pub behind: Vec<Behind<'a>>,
    /// Keys of the policies that select it.
    pub policies: Vec<String>,
    /// Its waypoint.
    pub waypoint: Option<wire::GatewayAddress>,
    /// The way into its network.
    pub gateway: Option<wire::GatewayAddress>,
    /// What only proxies of ours read of it.
    pub extensions: Vec<wire::Extension>,
}

/// The mesh's workload for a workload entry; none for what is no place on a network.
pub fn workload(mesh: &Mesh, key: &Key, entry: &WorkloadEntry, around: Around<'_>) -> Option<wire::Workload> {
    let external = &entry.external;
    if external.place == EndpointPlace::Unknown && external.network.is_empty() {
        return None;
    }
    let named = || external.labels.get(labels::WORKLOAD_NAME).cloned().unwrap_or_else(|| key.name.to_string());
    let name = entry.group.clone().unwrap_or_else(named);
    let uid = format!("{}/networking.istio.io/WorkloadEntry/{}/{}", mesh.cluster, key.namespace, key.name);
    let mut made = of_external(mesh, key, external, around);
    if entry.redirected {
        made.tunnel_protocol = TunnelProtocol::Hbone.into();
    }
    Some(wire::Workload {
        uid,
        canonical_name: pod::canonical_name(&external.labels, &name),
        workload_name: name,
        ..made
    })
}

/// The mesh's workload for an endpoint written in a service entry; none for what is no place on a network.
pub fn inline(mesh: &Mesh, key: &Key, external: &External, around: Around<'_>) -> Option<wire::Workload> {
    if external.place == EndpointPlace::Unknown && external.network.is_empty() {
        return None;
    }
    let made = of_external(mesh, key, external, around);
    let name = key.name.to_string();
    Some(wire::Workload {
        uid: inline_uid(mesh, key, &external.address),
        canonical_name: pod::canonical_name(&external.labels, &name),
        workload_name: name,
        ..made
    })
}

/// The workload a host is by itself: wherever its name leads.
pub fn implicit(mesh: &Mesh, key: &Key, entry: &ServiceEntry, host: &str, network: &str) -> wire::Workload {
    let behind = Behind::Host(key, entry, host);
    let name = key.name.to_string();
    wire::Workload {
        uid: inline_uid(mesh, key, host),
        name: name.clone(),
        namespace: key.namespace.to_string(),
        hostname: host.to_owned(),
        network: network.to_owned(),
        trust_domain: mesh.wire_trust_domain(),
        canonical_name: pod::canonical_name(&entry.labels, &name),
        canonical_revision: pod::canonical_revision(&entry.labels),
        workload_name: name,
        workload_type: WorkloadType::Pod.into(),
        cluster_id: mesh.cluster.clone(),
        services: [(behind.name(mesh), behind.ports(&|_| None, &|_| None))].into(),
        ..wire::Workload::default()
    }
}

fn inline_uid(mesh: &Mesh, key: &Key, address: &str) -> String {
    format!("{}/networking.istio.io/ServiceEntry/{}/{}/{address}", mesh.cluster, key.namespace, key.name)
}

fn of_external(mesh: &Mesh, key: &Key, external: &External, around: Around<'_>) -> wire::Workload {
    let (addresses, hostname) = match &external.place {
        EndpointPlace::Ip(ip) => (vec![ip_bytes(*ip)], String::new()),
        EndpointPlace::Hostname(name) => (Vec::new(), name.clone()),
        EndpointPlace::Unknown => (Vec::new(), String::new()),
    };
    let network = if external.network.is_empty() { around.network } else { &external.network };
    let (protocol, native) = tunnel(&external.labels);
    let mut policies = around.policies;
    policies.sort_unstable();
    policies.dedup();
    let services: BTreeMap<String, wire::PortList> =
        around.behind.iter().map(|behind| (behind.name(mesh), behind.at_external(external))).collect();
    wire::Workload {
        name: key.name.to_string(),
        namespace: key.namespace.to_string(),
        addresses,
        hostname,
        network: network.to_owned(),
        tunnel_protocol: protocol.into(),
        native_tunnel: native,
        trust_domain: mesh.wire_trust_domain(),
        service_account: external.account.clone(),
        canonical_revision: pod::canonical_revision(&external.labels),
        workload_type: WorkloadType::Pod.into(),
        authorization_policies: policies,
        status: WorkloadStatus::Healthy.into(),
        cluster_id: mesh.cluster.clone(),
        services,
        locality: locality(&external.locality),
        capacity: (external.weight > 0).then_some(external.weight),
        waypoint: around.waypoint,
        network_gateway: around.gateway,
        extensions: around.extensions,
        ..wire::Workload::default()
    }
}

fn tunnel(all: &Labels) -> (TunnelProtocol, bool) {
    if pod::ends_tunnels(all) { (TunnelProtocol::Hbone, true) } else { (TunnelProtocol::None, false) }
}

fn locality(text: &str) -> Option<wire::Locality> {
    let mut parts = text.splitn(3, '/').map(str::to_owned);
    let region = parts.next().filter(|region| !region.is_empty())?;
    Some(wire::Locality { region, zone: parts.next().unwrap_or_default(), subzone: parts.next().unwrap_or_default() })
}
