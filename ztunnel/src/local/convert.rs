//! The file's form to the messages of the wire.

use std::{collections::BTreeMap, net::IpAddr};

use lateen_wire::{security, workload as wire};

use super::shapes::{
    Account, Action, Clause, Gateway, HealthPolicy, IpFamilies, LoadBalancer, Match, Mode, NetworkMode, Policy,
    PolicyScope, Protocol, Rule, Scope, Service, Status, Text, TunnelProtocol, Visibility, Workload,
};

pub(super) fn workload(from: Workload) -> Result<wire::Workload, String> {
    let services = from.services.into_iter().map(|(key, map)| (key, wire::PortList { ports: ports(&map) }));
    let locality = from.locality;
    Ok(wire::Workload {
        uid: from.uid,
        name: from.name,
        namespace: from.namespace,
        service_account: from.service_account,
        trust_domain: from.trust_domain,
        addresses: from.workload_ips.iter().map(ip_bytes).collect(),
        tunnel_protocol: match from.protocol {
            Protocol::Tcp => wire::TunnelProtocol::None,
            Protocol::Hbone => wire::TunnelProtocol::Hbone,
        } as i32,
        network_mode: match from.network_mode {
            NetworkMode::Standard => wire::NetworkMode::Standard,
            NetworkMode::HostNetwork => wire::NetworkMode::HostNetwork,
        } as i32,
        network: from.network,
        node: from.node,
        cluster_id: from.cluster_id,
        workload_name: from.workload_name,
        workload_type: workload_type(&from.workload_type) as i32,
        canonical_name: from.canonical_name,
        canonical_revision: from.canonical_revision,
        hostname: from.hostname,
        native_tunnel: from.native_tunnel,
        application_tunnel: from.application_tunnel.map(|tunnel| wire::ApplicationTunnel {
            protocol: match tunnel.protocol {
                TunnelProtocol::None => wire::application_tunnel::Protocol::None,
                TunnelProtocol::Proxy => wire::application_tunnel::Protocol::Proxy,
            } as i32,
            port: tunnel.port.map(u32::from).unwrap_or_default(),
        }),
        waypoint: from.waypoint.map(gateway).transpose()?,
        network_gateway: from.network_gateway.map(gateway).transpose()?,
        authorization_policies: from.authorization_policies,
        status: match from.status {
            Status::Healthy => wire::WorkloadStatus::Healthy,
            Status::Unhealthy => wire::WorkloadStatus::Unhealthy,
        } as i32,
        locality: Some(wire::Locality { region: locality.region, zone: locality.zone, subzone: locality.subzone }),
        capacity: from.capacity,
        services: services.collect(),
        ..wire::Workload::default()
    })
}

/// A free text in the file; what is not one of the known words is a pod.
fn workload_type(text: &str) -> wire::WorkloadType {
    match text.to_ascii_lowercase().as_str() {
        "deployment" => wire::WorkloadType::Deployment,
        "cronjob" => wire::WorkloadType::Cronjob,
        "job" => wire::WorkloadType::Job,
        _ => wire::WorkloadType::Pod,
    }
}

pub(super) fn service(from: Service) -> Result<wire::Service, String> {
    let vips = from.vips.iter().map(|vip| network_address(vip));
    let ranges = from.cidr_vips.iter().map(|range| {
        Ok(wire::NetworkAddress {
            network: range.network.clone(),
            address: ip_bytes(&range.cidr.addr()),
            length: Some(u32::from(range.cidr.prefix_len())),
        })
    });
    let weighted = from.weighted_waypoints.into_iter().map(|one| {
        Ok::<_, String>(wire::WeightedWaypoint { destination: Some(gateway(one.destination)?), weight: one.weight })
    });
    Ok(wire::Service {
        name: from.name,
        namespace: from.namespace,
        hostname: from.hostname,
        addresses: vips.chain(ranges).collect::<Result<_, String>>()?,
        ports: ports(&from.ports),
        subject_alt_names: from.subject_alt_names,
        waypoint: from.waypoint.map(gateway).transpose()?,
        weighted_waypoints: weighted.collect::<Result<_, _>>()?,
        load_balancing: from.load_balancer.map(load_balancing),
        ip_families: match from.ip_families {
            None => wire::IpFamilies::Automatic,
            Some(IpFamilies::Dual) => wire::IpFamilies::Dual,
            Some(IpFamilies::IPv4) => wire::IpFamilies::Ipv4Only,
            Some(IpFamilies::IPv6) => wire::IpFamilies::Ipv6Only,
        } as i32,
        canonical: from.canonical,
        visibility: match from.visibility {
            Visibility::Public => wire::service::Visibility::Public,
            Visibility::Namespace => wire::service::Visibility::Namespace,
        } as i32,
        ..wire::Service::default()
    })
}

fn load_balancing(from: LoadBalancer) -> wire::LoadBalancing {
    use wire::load_balancing::{HealthPolicy as WireHealth, Mode as WireMode, Scope as WireScope};
    let scope = |scope: &Scope| match scope {
        Scope::Region => WireScope::Region,
        Scope::Zone => WireScope::Zone,
        Scope::Subzone => WireScope::Subzone,
        Scope::Node => WireScope::Node,
        Scope::Cluster => WireScope::Cluster,
        Scope::Network => WireScope::Network,
    } as i32;
    wire::LoadBalancing {
        routing_preference: from.routing_preferences.iter().map(scope).collect(),
        mode: match from.mode {
            Mode::Standard => WireMode::UnspecifiedMode,
            Mode::Strict => WireMode::Strict,
            Mode::Failover => WireMode::Failover,
            Mode::Passthrough => WireMode::Passthrough,
        } as i32,
        health_policy: match from.health_policy {
            HealthPolicy::OnlyHealthy => WireHealth::OnlyHealthy,
            HealthPolicy::AllowAll => WireHealth::AllowAll,
        } as i32,
    }
}

fn ports(map: &BTreeMap<u16, u16>) -> Vec<wire::Port> {
    let port = |(service, target): (&u16, &u16)| wire::Port {
        service_port: (*service).into(),
        target_port: (*target).into(),
        ..wire::Port::default()
    };
    map.iter().map(port).collect()
}

fn gateway(from: Gateway) -> Result<wire::GatewayAddress, String> {
    use wire::gateway_address::Destination;
    let destination = match (network_address(&from.destination), from.destination.split_once('/')) {
        (Ok(address), _) => Destination::Address(address),
        (Err(_), Some((namespace, hostname))) if !hostname.is_empty() => {
            Destination::Hostname(wire::NamespacedHostname {
                namespace: namespace.to_owned(),
                hostname: hostname.to_owned(),
            })
        }
        _ => return Err(format!("{:?} is neither <network>/<ip> nor <namespace>/<hostname>", from.destination)),
    };
    Ok(wire::GatewayAddress { destination: Some(destination), hbone_mtls_port: from.hbone_mtls_port.into() })
}

fn network_address(text: &str) -> Result<wire::NetworkAddress, String> {
    let parsed = text.split_once('/').and_then(|(network, ip)| Some((network, ip.parse::<IpAddr>().ok()?)));
    let (network, ip) = parsed.ok_or_else(|| format!("{text:?} is not <network>/<ip>; the network may be empty"))?;
    Ok(wire::NetworkAddress { network: network.to_owned(), address: ip_bytes(&ip), length: None })
}

fn ip_bytes(ip: &IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

pub(super) fn policy(from: Policy) -> Result<security::Authorization, String> {
    let clause = |Clause(matches): Clause| security::Clause { matches: matches.into_iter().map(one_match).collect() };
    let rule = |Rule(clauses): Rule| security::Rule { clauses: clauses.into_iter().map(clause).collect() };
    Ok(security::Authorization {
        name: from.name,
        namespace: from.namespace,
        scope: match from.scope {
            PolicyScope::Global => security::Scope::Global,
            PolicyScope::Namespace => security::Scope::Namespace,
            PolicyScope::WorkloadSelector => security::Scope::WorkloadSelector,
        } as i32,
        action: match from.action {
            Action::Allow => security::Action::Allow,
            Action::Deny => security::Action::Deny,
        } as i32,
        dry_run: from.dry_run,
        rules: from.rules.into_iter().map(rule).collect(),
        ..security::Authorization::default()
    })
}

fn one_match(from: Match) -> security::Match {
    let blocks = |list: Vec<ipnet::IpNet>| -> Vec<security::Address> {
        let block = |net: ipnet::IpNet| security::Address {
            address: ip_bytes(&net.addr()),
            length: u32::from(net.prefix_len()),
        };
        list.into_iter().map(block).collect()
    };
    let texts = |list: Vec<Text>| -> Vec<security::StringMatch> { list.into_iter().map(text).collect() };
    let accounts = |list: Vec<Account>| -> Vec<security::ServiceAccountMatch> {
        let account = |one: Account| security::ServiceAccountMatch {
            namespace: one.namespace,
            service_account: one.service_account,
        };
        list.into_iter().map(account).collect()
    };
    let ports = |list: Vec<u16>| -> Vec<u32> { list.into_iter().map(u32::from).collect() };
    security::Match {
        namespaces: texts(from.namespaces),
        not_namespaces: texts(from.not_namespaces),
        principals: texts(from.principals),
        not_principals: texts(from.not_principals),
        source_ips: blocks(from.source_ips),
        not_source_ips: blocks(from.not_source_ips),
        destination_ips: blocks(from.destination_ips),
        not_destination_ips: blocks(from.not_destination_ips),
        destination_ports: ports(from.destination_ports),
        not_destination_ports: ports(from.not_destination_ports),
        service_accounts: accounts(from.service_accounts),
        not_service_accounts: accounts(from.not_service_accounts),
        extensions: Vec::new(),
    }
}

fn text(from: Text) -> security::StringMatch {
    use security::string_match::MatchType;
    let kind = match from {
        Text::Exact(text) => MatchType::Exact(text),
        Text::Prefix(text) => MatchType::Prefix(text),
        Text::Suffix(text) => MatchType::Suffix(text),
        Text::Presence([]) => MatchType::Presence(()),
    };
    security::StringMatch { match_type: Some(kind) }
}
