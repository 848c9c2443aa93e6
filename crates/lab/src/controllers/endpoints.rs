//! EndpointSlices and Endpoints: which pods stand behind a Service.
//!
//! In: the board. Out: slices and endpoints to make, change or delete.
//! Absent on purpose: Services without a selector; whoever leaves the selector out writes the endpoints.
//!
//! A slice's name is derived from what it is for, so that a repeated decision can never make a second one.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use k8s_openapi::{
    api::{
        core::v1::{
            EndpointAddress, EndpointPort as CorePort, EndpointSubset, Endpoints, ObjectReference, Pod, Service,
            ServicePort, ServiceSpec,
        },
        discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice},
    },
    apimachinery::pkg::{apis::meta::v1::ObjectMeta, util::intstr::IntOrString},
};
use kube::{Resource as _, ResourceExt as _};
use serde_json::json;

use super::{
    action::{Action, Kind, Target},
    board::Board,
    pods::{is_finished, is_ready, is_terminating, node_of, short_hash},
};

const SERVICE_NAME: &str = "kubernetes.io/service-name";
const SLICE_MANAGER: &str = "endpointslice.kubernetes.io/managed-by";
const SLICE_MANAGER_US: &str = "endpointslice-controller.k8s.io";
const ENDPOINTS_MANAGER: &str = "endpoints.kubernetes.io/managed-by";
const ENDPOINTS_MANAGER_US: &str = "endpoint-controller";
const HEADLESS: &str = "service.kubernetes.io/headless";
const ZONE: &str = "topology.kubernetes.io/zone";
/// As in Kubernetes (`--max-endpoints-per-slice`).
const ENDPOINTS_PER_SLICE_MAX: usize = 100;

/// What to do about every Service's slices and endpoints.
pub fn plan(board: &Board) -> Vec<Action> {
    let mut wanted_slices = Vec::new();
    let mut wanted_endpoints = Vec::new();
    for service in board.services.live() {
        let Some(backing) = Backing::of(board, service) else { continue };
        wanted_slices.extend(backing.slices());
        wanted_endpoints.push(backing.endpoints());
    }
    let mut actions = slice_changes(board, wanted_slices);
    actions.extend(endpoints_changes(board, wanted_endpoints));
    actions
}

fn slice_changes(board: &Board, wanted: Vec<EndpointSlice>) -> Vec<Action> {
    let names: BTreeSet<_> = wanted.iter().map(|slice| (slice.namespace(), slice.name_any())).collect();
    let ours = |slice: &&EndpointSlice| slice.labels().get(SLICE_MANAGER).is_some_and(|who| who == SLICE_MANAGER_US);
    let surplus =
        board.slices.live().filter(ours).filter(|slice| !names.contains(&(slice.namespace(), slice.name_any())));
    let mut actions: Vec<Action> = surplus.map(|slice| Action::delete(Kind::EndpointSlice, slice)).collect();
    for slice in &wanted {
        match board.slices.find(&slice.namespace().unwrap_or_default(), &slice.name_any()) {
            None => actions.push(Action::create(Kind::EndpointSlice, slice)),
            Some(held) if says_the_same(held, slice) => {}
            Some(_) => actions.push(Action::Patch {
                target: Target::of(Kind::EndpointSlice, slice),
                patch: json!({
                    "metadata": { "labels": slice.labels() },
                    "endpoints": slice.endpoints,
                    "ports": slice.ports,
                }),
            }),
        }
    }
    actions
}

/// Whether the held slice needs no change. Labels that others added are theirs.
fn says_the_same(held: &EndpointSlice, wanted: &EndpointSlice) -> bool {
    held.endpoints == wanted.endpoints
        && held.ports.as_deref().unwrap_or_default() == wanted.ports.as_deref().unwrap_or_default()
        && wanted.labels().iter().all(|(key, value)| held.labels().get(key) == Some(value))
}

fn endpoints_changes(board: &Board, wanted: Vec<Endpoints>) -> Vec<Action> {
    let names: BTreeSet<_> = wanted.iter().map(|one| (one.namespace(), one.name_any())).collect();
    let ours = |one: &&Endpoints| one.labels().get(ENDPOINTS_MANAGER).is_some_and(|who| who == ENDPOINTS_MANAGER_US);
    let surplus = board.endpoints.live().filter(ours).filter(|one| !names.contains(&(one.namespace(), one.name_any())));
    let mut actions: Vec<Action> = surplus.map(|one| Action::delete(Kind::Endpoints, one)).collect();
    for one in &wanted {
        match board.endpoints.find(&one.namespace().unwrap_or_default(), &one.name_any()) {
            None => actions.push(Action::create(Kind::Endpoints, one)),
            Some(held) if held.subsets.as_deref().unwrap_or_default() == one.subsets.as_deref().unwrap_or_default() => {
            }
            Some(_) => actions.push(Action::Patch {
                target: Target::of(Kind::Endpoints, one),
                patch: json!({ "metadata": { "labels": one.labels() }, "subsets": one.subsets }),
            }),
        }
    }
    actions
}

/// A Service with the pods its selector selects.
struct Backing<'b> {
    board: &'b Board,
    service: &'b Service,
    spec: &'b ServiceSpec,
    pods: Vec<&'b Pod>,
}

/// The numbers a Service's ports have in one pod. Pods that number a named port differently need slices of their own.
type PodPorts = Vec<(ServicePort, i32)>;

impl<'b> Backing<'b> {
    fn of(board: &'b Board, service: &'b Service) -> Option<Self> {
        let spec = service.spec.as_ref()?;
        let selector = spec.selector.as_ref().filter(|selector| !selector.is_empty())?;
        if spec.type_.as_deref() == Some("ExternalName") {
            return None;
        }
        let selected = |pod: &&Pod| {
            pod.metadata.namespace == service.metadata.namespace
                && !is_finished(pod)
                && selector.iter().all(|(key, value)| pod.labels().get(key) == Some(value))
        };
        Some(Self { board, service, spec, pods: board.pods.all().filter(selected).collect() })
    }

    fn slices(&self) -> Vec<EndpointSlice> {
        self.families().into_iter().flat_map(|family| self.slices_of(family)).collect()
    }

    fn families(&self) -> Vec<Family> {
        let said: Vec<Family> = self.spec.ip_families.iter().flatten().map(|name| Family::named(name)).collect();
        if !said.is_empty() {
            return said;
        }
        let ip = self.spec.cluster_ip.as_deref().and_then(|ip| ip.parse::<IpAddr>().ok());
        vec![ip.map_or(Family::V4, Family::of)]
    }

    fn slices_of(&self, family: Family) -> Vec<EndpointSlice> {
        let mut groups: BTreeMap<String, (PodPorts, Vec<Endpoint>)> = BTreeMap::new();
        for pod in &self.pods {
            let (Some(ip), ports) = (address(pod, family), self.ports_of(pod)) else { continue };
            let numbers = ports.iter().map(|(port, number)| format!("{}={number}", port_name(port)));
            let group = groups.entry(numbers.collect::<Vec<_>>().join(","));
            group.or_insert_with(|| (ports, Vec::new())).1.push(self.endpoint(pod, ip));
        }
        if groups.is_empty() {
            // An empty slice says "nobody"; no slice would say "not looked at yet".
            return vec![self.slice(family, "", &Vec::new(), Vec::new())];
        }
        let mut slices = Vec::new();
        for (numbers, (ports, endpoints)) in groups {
            for (at, chunk) in endpoints.chunks(ENDPOINTS_PER_SLICE_MAX).enumerate() {
                let part = if at == 0 { numbers.clone() } else { format!("{numbers}#{at}") };
                slices.push(self.slice(family, &part, &ports, chunk.to_vec()));
            }
        }
        slices
    }

    fn slice(&self, family: Family, part: &str, ports: &PodPorts, endpoints: Vec<Endpoint>) -> EndpointSlice {
        let name = self.service.name_any();
        let mut labels = self.service.labels().clone();
        labels.insert(SERVICE_NAME.to_owned(), name.clone());
        labels.insert(SLICE_MANAGER.to_owned(), SLICE_MANAGER_US.to_owned());
        if self.spec.cluster_ip.as_deref() == Some("None") {
            labels.insert(HEADLESS.to_owned(), String::new());
        }
        let part = short_hash(&(self.service.uid(), family.name(), part));
        let port = |(port, number): &(ServicePort, i32)| EndpointPort {
            name: Some(port_name(port).to_owned()),
            port: Some(*number),
            protocol: Some(protocol(port).to_owned()),
            app_protocol: port.app_protocol.clone(),
        };
        EndpointSlice {
            metadata: self.owned(format!("{name}-{}", &part[..5]), labels),
            address_type: family.name().to_owned(),
            endpoints,
            ports: Some(ports.iter().map(port).collect()),
        }
    }

    fn owned(&self, name: String, labels: BTreeMap<String, String>) -> ObjectMeta {
        ObjectMeta {
            name: Some(name),
            namespace: self.service.namespace(),
            labels: Some(labels),
            owner_references: self.service.controller_owner_ref(&()).map(|owner| vec![owner]),
            ..ObjectMeta::default()
        }
    }

    fn endpoint(&self, pod: &Pod, ip: IpAddr) -> Endpoint {
        let (serving, terminating) = (is_ready(pod), is_terminating(&pod.metadata));
        let node = node_of(pod);
        let zone = node.and_then(|name| self.board.nodes.find("", name)?.labels().get(ZONE).cloned());
        Endpoint {
            addresses: vec![ip.to_string()],
            conditions: Some(EndpointConditions {
                ready: Some(self.publishes_unready() || (serving && !terminating)),
                serving: Some(serving),
                terminating: Some(terminating),
            }),
            hostname: self.hostname(pod),
            node_name: node.map(str::to_owned),
            target_ref: Some(reference(pod)),
            zone,
            ..Endpoint::default()
        }
    }

    /// The name a pod has below the service, where it asked for one.
    fn hostname(&self, pod: &Pod) -> Option<String> {
        let spec = pod.spec.as_ref()?;
        let below = spec.subdomain.as_deref() == self.service.metadata.name.as_deref();
        spec.hostname.clone().filter(|name| below && !name.is_empty())
    }

    fn publishes_unready(&self) -> bool {
        self.spec.publish_not_ready_addresses == Some(true)
    }

    /// The Service's ports as this pod numbers them; a named port the pod does not have is left out.
    fn ports_of(&self, pod: &Pod) -> PodPorts {
        let ports = self.spec.ports.iter().flatten();
        ports.filter_map(|port| Some((port.clone(), target(port, pod)?))).collect()
    }

    /// The old form: one object, the Service's first family.
    fn endpoints(&self) -> Endpoints {
        let family = self.families().first().copied().unwrap_or(Family::V4);
        let mut subsets: BTreeMap<String, EndpointSubset> = BTreeMap::new();
        for pod in &self.pods {
            let (Some(ip), ports) = (address(pod, family), self.ports_of(pod)) else { continue };
            let numbers: Vec<String> =
                ports.iter().map(|(port, number)| format!("{}={number}", port_name(port))).collect();
            let subset = subsets.entry(numbers.join(",")).or_insert_with(|| EndpointSubset {
                ports: Some(ports.iter().map(core_port).collect()).filter(|ports: &Vec<_>| !ports.is_empty()),
                ..EndpointSubset::default()
            });
            let address = EndpointAddress {
                ip: ip.to_string(),
                hostname: self.hostname(pod),
                node_name: node_of(pod).map(str::to_owned),
                target_ref: Some(reference(pod)),
            };
            let serves = self.publishes_unready() || (is_ready(pod) && !is_terminating(&pod.metadata));
            let list = if serves { &mut subset.addresses } else { &mut subset.not_ready_addresses };
            list.get_or_insert_default().push(address);
        }
        let mut labels = self.service.labels().clone();
        labels.insert(ENDPOINTS_MANAGER.to_owned(), ENDPOINTS_MANAGER_US.to_owned());
        Endpoints {
            metadata: self.owned(self.service.name_any(), labels),
            subsets: Some(subsets.into_values().collect()),
        }
    }
}

fn core_port((port, number): &(ServicePort, i32)) -> CorePort {
    CorePort {
        name: port.name.clone(),
        port: *number,
        protocol: Some(protocol(port).to_owned()),
        app_protocol: port.app_protocol.clone(),
    }
}

fn port_name(port: &ServicePort) -> &str {
    port.name.as_deref().unwrap_or_default()
}

fn protocol(port: &ServicePort) -> &str {
    port.protocol.as_deref().unwrap_or("TCP")
}

/// The port of a pod that a Service's port means.
fn target(port: &ServicePort, pod: &Pod) -> Option<i32> {
    match &port.target_port {
        None => Some(port.port),
        Some(IntOrString::Int(0)) => Some(port.port),
        Some(IntOrString::Int(number)) => Some(*number),
        Some(IntOrString::String(name)) => {
            let containers = &pod.spec.as_ref()?.containers;
            let mut ports = containers.iter().flat_map(|container| container.ports.iter().flatten());
            let same_protocol = |held: Option<&str>| held.unwrap_or("TCP") == protocol(port);
            let found = ports.find(|held| held.name.as_ref() == Some(name) && same_protocol(held.protocol.as_deref()));
            found.map(|found| found.container_port)
        }
    }
}

fn reference(pod: &Pod) -> ObjectReference {
    ObjectReference {
        kind: Some("Pod".to_owned()),
        namespace: pod.namespace(),
        name: pod.metadata.name.clone(),
        uid: pod.uid(),
        ..ObjectReference::default()
    }
}

/// An address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    V4,
    V6,
}

impl Family {
    fn named(name: &str) -> Self {
        if name == "IPv6" { Self::V6 } else { Self::V4 }
    }

    fn of(ip: IpAddr) -> Self {
        if ip.is_ipv6() { Self::V6 } else { Self::V4 }
    }

    fn name(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }
}

/// The pod's address of one family.
fn address(pod: &Pod, family: Family) -> Option<IpAddr> {
    let status = pod.status.as_ref()?;
    let several = status.pod_ips.iter().flatten().map(|one| one.ip.as_str());
    several.chain(status.pod_ip.as_deref()).filter_map(|ip| ip.parse().ok()).find(|ip| Family::of(*ip) == family)
}
