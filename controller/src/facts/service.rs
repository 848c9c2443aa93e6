//! What is used of a Service.

use std::net::IpAddr;

use k8s_openapi::{
    api::core::v1 as core,
    apimachinery::pkg::{apis::meta::v1::ObjectMeta, util::intstr::IntOrString},
};
use lateen_cluster::{labels, store::Reading};
use lateen_types::label::Labels;
use lateen_wire::{
    proxy::Protocol,
    workload::{AppProtocol, IpFamilies},
};

use super::{Wish, protocol};

/// Which endpoints a service prefers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Distribution {
    /// Those in the caller's zone.
    PreferClose,
    /// Those on the caller's node.
    PreferSameNode,
    /// No preference, and none is inherited.
    Any,
}

impl Distribution {
    /// As annotations write it: any case, and an unknown word means no preference.
    pub fn annotated(text: &str) -> Self {
        match text.to_ascii_lowercase().as_str() {
            "preferclose" | "prefersamezone" => Self::PreferClose,
            "prefersamenode" => Self::PreferSameNode,
            _ => Self::Any,
        }
    }

    fn in_spec(text: &str) -> Option<Self> {
        match text {
            "PreferClose" | "PreferSameZone" => Some(Self::PreferClose),
            "PreferSameNode" => Some(Self::PreferSameNode),
            _ => None,
        }
    }
}

/// Where a service port leads in a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TargetPort {
    /// This port.
    Number(u16),
    /// The port of this name, which may differ from pod to pod.
    Name(String),
}

/// One port of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServicePort {
    /// Its name; may be empty when it is the only one.
    pub name: String,
    /// The number callers use.
    pub number: u16,
    /// Where it leads.
    pub target: TargetPort,
    /// What is spoken there, as node proxies are told.
    pub protocol: AppProtocol,
    /// What is spoken there, as proxies at layer 7 serve it; none where it is not TCP.
    pub spoken: Option<Protocol>,
}

/// What is used of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// Virtual addresses; none for a headless service.
    pub addresses: Vec<IpAddr>,
    /// Its ports.
    pub ports: Vec<ServicePort>,
    /// The pods behind it; empty when its endpoints come from elsewhere.
    pub selector: Labels,
    /// Which families it serves.
    pub families: IpFamilies,
    /// Whether only endpoints on the caller's node may be used.
    pub node_local: bool,
    /// Which endpoints it prefers; `None` leaves it to the namespace.
    pub distribution: Option<Distribution>,
    /// Whether endpoints that are not ready serve too.
    pub publish_not_ready: bool,
    /// Which waypoint it asks for.
    pub wish: Wish,
    /// Whether it is a waypoint's own, which has no waypoint.
    pub is_waypoint: bool,
    /// Whether its status speaks of waypoints.
    pub has_condition: bool,
}

impl Service {
    /// Reads a Kubernetes service. An `ExternalName` is a matter of DNS, and one with an unreadable address is skipped.
    pub fn read(service: core::Service) -> Reading<Self> {
        let (meta, spec) = (service.metadata, service.spec.unwrap_or_default());
        if spec.type_.as_deref() == Some("ExternalName") {
            return Reading::Nothing;
        }
        let Some(addresses) = addresses_of(&spec) else { return Reading::Nothing };
        let conditions = service.status.and_then(|status| status.conditions).unwrap_or_default();
        Reading::Value(Self {
            addresses,
            ports: spec.ports.iter().flatten().filter_map(port_of).collect(),
            families: families_of(&spec),
            node_local: spec.internal_traffic_policy.as_deref() == Some("Local"),
            distribution: distribution_of(&spec, &meta),
            publish_not_ready: spec.publish_not_ready_addresses.unwrap_or_default(),
            selector: spec.selector.unwrap_or_default(),
            wish: Wish::of(&meta, meta.namespace.as_deref().unwrap_or_default()),
            is_waypoint: is_waypoint(meta.labels.as_ref()),
            has_condition: conditions.iter().any(|one| one.type_.starts_with("istio.io/Waypoint")),
        })
    }
}

/// Whether a controller made the object for a waypoint.
pub(super) fn is_waypoint(all: Option<&Labels>) -> bool {
    let made_for = all.and_then(|all| all.get(labels::MANAGED));
    made_for.is_some_and(|word| labels::MANAGED_WAYPOINTS.contains(&word.as_str()))
}

fn addresses_of(spec: &core::ServiceSpec) -> Option<Vec<IpAddr>> {
    let many = spec.cluster_ips.as_deref().unwrap_or_default();
    let all = if many.is_empty() { spec.cluster_ip.as_slice() } else { many };
    all.iter().filter(|text| !text.is_empty() && *text != "None").map(|text| text.parse().ok()).collect()
}

fn families_of(spec: &core::ServiceSpec) -> IpFamilies {
    match spec.ip_families.as_deref().unwrap_or_default() {
        [] => IpFamilies::Automatic,
        [one] if one == "IPv6" => IpFamilies::Ipv6Only,
        [_] => IpFamilies::Ipv4Only,
        [..] => IpFamilies::Dual,
    }
}

fn distribution_of(spec: &core::ServiceSpec, meta: &ObjectMeta) -> Option<Distribution> {
    let annotation = || meta.annotations.as_ref().and_then(|all| all.get(labels::TRAFFIC_DISTRIBUTION));
    let in_spec = spec.traffic_distribution.as_deref().and_then(Distribution::in_spec);
    in_spec.or_else(|| annotation().map(|text| Distribution::annotated(text)))
}

fn port_of(port: &core::ServicePort) -> Option<ServicePort> {
    let number = u16::try_from(port.port).ok()?;
    let target = match &port.target_port {
        Some(IntOrString::Int(target)) if *target != 0 => TargetPort::Number(u16::try_from(*target).ok()?),
        Some(IntOrString::String(name)) if !name.is_empty() => match name.parse() {
            Ok(target) => TargetPort::Number(target),
            Err(_) => TargetPort::Name(name.clone()),
        },
        Some(_) | None => TargetPort::Number(number),
    };
    Some(ServicePort {
        name: port.name.clone().unwrap_or_default(),
        number,
        target,
        protocol: protocol_of(port, number),
        spoken: protocol::of_service(
            port.protocol.as_deref(),
            port.app_protocol.as_deref(),
            port.name.as_deref().unwrap_or_default(),
            number,
        ),
    })
}

/// SMTP, MySQL and MongoDB: there the server speaks first, so nothing may wait for the client's first bytes.
const SERVER_FIRST: [u16; 3] = [25, 3306, 27017];

/// From `appProtocol`, else from the word before the first `-` of the port's name, else from well-known numbers.
fn protocol_of(port: &core::ServicePort, number: u16) -> AppProtocol {
    if port.protocol.as_deref().is_some_and(|transport| transport != "TCP") {
        return AppProtocol::Unknown;
    }
    match port.app_protocol.as_deref() {
        Some("kubernetes.io/h2c") => return AppProtocol::Http2,
        Some("kubernetes.io/ws") => return AppProtocol::Http11,
        Some("kubernetes.io/wss") => return AppProtocol::Tls,
        Some(word) => return spoken(word),
        None => {}
    }
    let name = port.name.as_deref().unwrap_or_default().to_ascii_lowercase();
    // The one protocol whose own name holds a dash.
    let word = if name == "grpc-web" || name.starts_with("grpc-web-") { "grpc-web" } else { first_word(&name) };
    match spoken(word) {
        AppProtocol::Unknown if SERVER_FIRST.contains(&number) => AppProtocol::Tcp,
        protocol => protocol,
    }
}

fn first_word(name: &str) -> &str {
    name.split_once('-').map_or(name, |(word, _)| word)
}

pub(super) fn spoken(word: &str) -> AppProtocol {
    match word.to_ascii_lowercase().as_str() {
        "http" => AppProtocol::Http11,
        "http2" => AppProtocol::Http2,
        "grpc" => AppProtocol::Grpc,
        "tls" | "https" => AppProtocol::Tls,
        "tcp" => AppProtocol::Tcp,
        _ => AppProtocol::Unknown,
    }
}
