//! `istio.workload`: workloads and services.

use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock},
};

use ipnet::IpNet;
use lateen_types::{
    addr::{NetworkAddress, ip_from_bytes},
    id::{SpiffeId, TrustDomain},
    intern::Interner,
    name::{ClusterId, NamespacedHostname, PolicyKey},
};
use lateen_wire::workload as wire;
use prost::Message as _;

use super::{DecodeError, known, word};
use crate::{
    gateway::{GatewayAddress, GatewayDestination},
    service::{
        HealthPolicy, IpFamilies, LoadBalancing, Mode, NetworkCidr, Scope, Service, Visibility, WeightedWaypoint,
    },
    workload::{
        ApplicationProtocol, ApplicationTunnel, Health, Labels, Locality, NetworkMode, Place, PortMap, Services,
        Template, Tunnel, Workload, WorkloadType,
    },
};

/// What siblings have in common, once for all of them.
static TEMPLATES: LazyLock<Interner<Template>> = LazyLock::new(Interner::default);
/// Nodes, once for all their workloads.
static PLACES: LazyLock<Interner<Place>> = LazyLock::new(Interner::default);

/// Equal parts of workloads are shared with those read before, and so is the name it is announced by.
pub(super) fn workload(announced: &Arc<str>, mut from: wire::Workload) -> Result<Workload, DecodeError> {
    if from.uid.is_empty() {
        return Err(DecodeError::Field { field: "uid", reason: "is empty; it is the primary key" });
    }
    let addresses = from.addresses.iter().map(|ip| word("addresses", ip_from_bytes(ip))).collect::<Result<_, _>>()?;
    let name = from.name.as_str().into();
    let uid = if **announced == *from.uid { announced.clone().into() } else { from.uid.as_str().into() };
    let place = place(std::mem::take(&mut from.node), from.locality.take().unwrap_or_default());
    let template = template(from)?;
    Ok(Workload { uid, name, addresses, place: PLACES.share(place), template: TEMPLATES.share(template) })
}

fn place(node: String, locality: wire::Locality) -> Place {
    let wire::Locality { region, zone, subzone } = locality;
    Place {
        node: node.into(),
        locality: Locality { region: region.into(), zone: zone.into(), subzone: subzone.into() },
    }
}

fn template(from: wire::Workload) -> Result<Template, DecodeError> {
    let policies = from.authorization_policies.iter().map(|key| word("authorization_policies", key.parse()));
    Ok(Template {
        tunnel: tunnel(&from)?,
        identity: identity(&from)?,
        namespace: from.namespace.into(),
        network: from.network.into(),
        waypoint: from.waypoint.map(|gateway| self::gateway("waypoint", gateway)).transpose()?,
        network_gateway: from.network_gateway.map(|gateway| self::gateway("network_gateway", gateway)).transpose()?,
        canonical_name: from.canonical_name.into(),
        canonical_revision: from.canonical_revision.into(),
        workload_type: match known("workload_type", from.workload_type)? {
            wire::WorkloadType::Deployment => WorkloadType::Deployment,
            wire::WorkloadType::Cronjob => WorkloadType::CronJob,
            wire::WorkloadType::Pod => WorkloadType::Pod,
            wire::WorkloadType::Job => WorkloadType::Job,
        },
        workload_name: from.workload_name.into(),
        native_tunnel: from.native_tunnel,
        policies: policies.collect::<Result<Vec<PolicyKey>, _>>()?,
        health: match known("status", from.status)? {
            wire::WorkloadStatus::Healthy => Health::Healthy,
            wire::WorkloadStatus::Unhealthy => Health::Unhealthy,
        },
        cluster: if from.cluster_id.is_empty() { ClusterId::default() } else { from.cluster_id.into() },
        hostname: (!from.hostname.is_empty()).then(|| from.hostname.into()),
        services: services(from.services)?,
        application_tunnel: from.application_tunnel.map(application_tunnel).transpose()?,
        network_mode: match known("network_mode", from.network_mode)? {
            wire::NetworkMode::Standard => NetworkMode::Standard,
            wire::NetworkMode::HostNetwork => NetworkMode::HostNetwork,
        },
        capacity: from.capacity.unwrap_or(1),
        believes_waypoint: from.extensions.iter().any(|extension| extension.name == BELIEVES_WAYPOINT),
        labels: labels(from.extensions)?,
    })
}

/// The extension, without content, of workloads whose waypoint is believed about its clients.
const BELIEVES_WAYPOINT: &str = "lateen.client_identity";

/// The extension that carries the labels by which endpoints are chosen.
const LABELS: &str = "lateen.labels";

fn labels(extensions: Vec<wire::Extension>) -> Result<Labels, DecodeError> {
    let ours = extensions.into_iter().find(|extension| extension.name == LABELS);
    let Some(config) = ours.and_then(|extension| extension.config) else { return Ok(Labels::default()) };
    let read = lateen_wire::proxy::Labels::decode(&config.value[..]);
    let reason = "lateen.labels does not hold lateen.proxy.Labels";
    read.map(|labels| labels.labels.into_iter().collect())
        .map_err(|_| DecodeError::Field { field: "extensions", reason })
}

fn tunnel(from: &wire::Workload) -> Result<Tunnel, DecodeError> {
    match known("tunnel_protocol", from.tunnel_protocol)? {
        wire::TunnelProtocol::None => Ok(Tunnel::None),
        wire::TunnelProtocol::Hbone => Ok(Tunnel::Hbone),
        wire::TunnelProtocol::LegacyIstioMtls => Err(DecodeError::Field {
            field: "tunnel_protocol",
            reason: "LEGACY_ISTIO_MTLS is not spoken here; use HBONE or NONE",
        }),
    }
}

fn identity(from: &wire::Workload) -> Result<SpiffeId, DecodeError> {
    let trust_domain = match from.trust_domain.as_str() {
        "" => TrustDomain::default(),
        given => given.into(),
    };
    let account = if from.service_account.is_empty() { "default" } else { from.service_account.as_str() };
    word("service_account", SpiffeId::new(trust_domain, from.namespace.as_str().into(), account.into()))
}

fn services(from: BTreeMap<String, wire::PortList>) -> Result<Services, DecodeError> {
    let one = |(key, list): (String, wire::PortList)| {
        let key: NamespacedHostname = word("services", key.parse())?;
        Ok((key, Arc::new(ports(&list.ports))))
    };
    from.into_iter().map(one).collect()
}

/// Ports are 16 bit on the wire's other side; what is above is cut off, as the reference does.
#[allow(clippy::cast_possible_truncation, reason = "the wire carries 16-bit ports in 32-bit fields")]
fn ports(list: &[wire::Port]) -> PortMap {
    list.iter().map(|port| (port.service_port as u16, port.target_port as u16)).collect()
}

#[allow(clippy::cast_possible_truncation, reason = "the wire carries 16-bit ports in 32-bit fields")]
fn application_tunnel(from: wire::ApplicationTunnel) -> Result<ApplicationTunnel, DecodeError> {
    let protocol = match known("application_tunnel.protocol", from.protocol)? {
        wire::application_tunnel::Protocol::None => ApplicationProtocol::None,
        wire::application_tunnel::Protocol::Proxy => ApplicationProtocol::Proxy,
    };
    let port = from.port as u16;
    Ok(ApplicationTunnel { protocol, port: (port != 0).then_some(port) })
}

#[allow(clippy::cast_possible_truncation, reason = "the wire carries 16-bit ports in 32-bit fields")]
fn gateway(field: &'static str, from: wire::GatewayAddress) -> Result<GatewayAddress, DecodeError> {
    use wire::gateway_address::Destination;
    let destination = match from.destination {
        Some(Destination::Address(address)) => {
            let ip = word(field, ip_from_bytes(&address.address))?;
            GatewayDestination::Address(NetworkAddress { network: address.network.into(), ip })
        }
        Some(Destination::Hostname(name)) => GatewayDestination::Hostname(NamespacedHostname {
            namespace: name.namespace.into(),
            hostname: name.hostname.into(),
        }),
        None => return Err(DecodeError::Field { field, reason: "must name a destination, none is set" }),
    };
    Ok(GatewayAddress { destination, port: from.hbone_mtls_port as u16 })
}

pub(super) fn service(from: wire::Service) -> Result<Service, DecodeError> {
    if from.hostname.is_empty() {
        return Err(DecodeError::Field { field: "hostname", reason: "is empty; with the namespace it is the key" });
    }
    let (mut vips, mut cidrs) = (Vec::new(), Vec::new());
    for address in from.addresses {
        match virtual_address(address)? {
            Virtual::Host(vip) => vips.push(vip),
            Virtual::Range(range) => cidrs.push(range),
        }
    }
    let visibility = match wire::service::Visibility::try_from(from.visibility) {
        Ok(wire::service::Visibility::Namespace) => Visibility::Namespace,
        // Unknown visibility is public, as the reference has it: hiding a service breaks callers, showing it does not
        // admit anyone.
        Ok(wire::service::Visibility::Public) | Err(_) => Visibility::Public,
    };
    Ok(Service {
        subject_alt_names: names(&from.hostname, &from.subject_alt_names),
        key: NamespacedHostname { namespace: from.namespace.into(), hostname: from.hostname.into() },
        name: from.name.into(),
        vips,
        cidrs,
        ports: ports(&from.ports),
        waypoint: from.waypoint.map(|gateway| self::gateway("waypoint", gateway)).transpose()?,
        weighted_waypoints: from.weighted_waypoints.into_iter().map(weighted).collect::<Result<_, _>>()?,
        balancing: from.load_balancing.map(balancing).transpose()?,
        families: match known("ip_families", from.ip_families)? {
            wire::IpFamilies::Automatic => IpFamilies::Automatic,
            wire::IpFamilies::Ipv4Only => IpFamilies::Ipv4,
            wire::IpFamilies::Ipv6Only => IpFamilies::Ipv6,
            wire::IpFamilies::Dual => IpFamilies::Dual,
        },
        canonical: from.canonical,
        visibility,
    })
}

/// One host or a range.
pub(super) enum Virtual {
    Host(NetworkAddress),
    Range(NetworkCidr),
}

pub(super) fn virtual_address(from: wire::NetworkAddress) -> Result<Virtual, DecodeError> {
    let ip = word("addresses", ip_from_bytes(&from.address))?;
    let full: u32 = if ip.is_ipv4() { 32 } else { 128 };
    let network = from.network.into();
    let length = from.length.unwrap_or(full);
    if length == full {
        return Ok(Virtual::Host(NetworkAddress { network, ip }));
    }
    let cidr = u8::try_from(length).ok().and_then(|length| IpNet::new(ip, length).ok());
    let cidr = cidr.ok_or(DecodeError::Field {
        field: "addresses",
        reason: "the prefix length exceeds the address; use at most 32 (IPv4) or 128 (IPv6)",
    })?;
    Ok(Virtual::Range(NetworkCidr { network, cidr: cidr.trunc() }))
}

/// Names that are no SPIFFE ids can never match a certificate of the mesh; they are left out.
fn names(service: &str, from: &[String]) -> Vec<SpiffeId> {
    let parse = |name: &String| {
        let parsed = name.parse();
        if let Err(error) = &parsed {
            tracing::debug!(service, %error, "a subject alternative name is left out");
        }
        parsed.ok()
    };
    from.iter().filter_map(parse).collect()
}

fn weighted(from: wire::WeightedWaypoint) -> Result<WeightedWaypoint, DecodeError> {
    let reason = "an entry has no destination";
    let destination = from.destination.ok_or(DecodeError::Field { field: "weighted_waypoints", reason })?;
    Ok(WeightedWaypoint { destination: gateway("weighted_waypoints", destination)?, weight: from.weight })
}

fn balancing(from: wire::LoadBalancing) -> Result<LoadBalancing, DecodeError> {
    use wire::load_balancing as lb;
    let scope = |given: i32| {
        Ok(match known("load_balancing.routing_preference", given)? {
            lb::Scope::UnspecifiedScope => {
                return Err(DecodeError::Enum { field: "load_balancing.routing_preference", given });
            }
            lb::Scope::Region => Scope::Region,
            lb::Scope::Zone => Scope::Zone,
            lb::Scope::Subzone => Scope::Subzone,
            lb::Scope::Node => Scope::Node,
            lb::Scope::Cluster => Scope::Cluster,
            lb::Scope::Network => Scope::Network,
        })
    };
    Ok(LoadBalancing {
        preferences: from.routing_preference.into_iter().map(scope).collect::<Result<_, _>>()?,
        mode: match known("load_balancing.mode", from.mode)? {
            lb::Mode::UnspecifiedMode => Mode::Any,
            lb::Mode::Strict => Mode::Strict,
            lb::Mode::Failover => Mode::Failover,
            lb::Mode::Passthrough => Mode::Passthrough,
        },
        health: match known("load_balancing.health_policy", from.health_policy)? {
            lb::HealthPolicy::OnlyHealthy => HealthPolicy::OnlyHealthy,
            lb::HealthPolicy::AllowAll => HealthPolicy::AllowAll,
        },
    })
}
