//! Workloads, services and policies as the dump shows them: the shapes of the local file.

use std::{collections::BTreeMap, sync::Arc};

use lateen_policy::model::{Action, Match, Policy, Scope as PolicyScope, StringMatch};
use lateen_state::{
    gateway::{GatewayAddress, GatewayDestination},
    service::{HealthPolicy, IpFamilies, Mode, Scope, Service, Visibility},
    workload::{ApplicationProtocol, Health, NetworkMode, PortMap, Tunnel, Workload},
    world::World,
};
use serde::Serialize;
use serde_json::{Map, Value, json};

/// Without the entries that say nothing, as the reference's dump leaves them out.
fn compact(value: Value) -> Value {
    let Value::Object(fields) = value else { return value };
    let says = |value: &Value| match value {
        Value::Null => false,
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Bool(_) | Value::Number(_) | Value::Object(_) => true,
    };
    Value::Object(fields.into_iter().filter(|(_, value)| says(value)).collect())
}

/// Sorted by uid.
pub(super) fn workloads(world: &World) -> Vec<Value> {
    let mut all: Vec<&Arc<Workload>> = world.workloads().collect();
    all.sort_by(|a, b| a.uid.cmp(&b.uid));
    all.into_iter().map(|one| workload(one)).collect()
}

fn workload(one: &Workload) -> Value {
    let services: BTreeMap<String, Value> =
        one.services.iter().map(|(key, map)| (key.to_string(), ports(map))).collect();
    compact(json!({
        "uid": one.uid.as_str(),
        "name": &*one.name,
        "namespace": one.namespace.as_str(),
        "serviceAccount": one.identity.service_account().as_str(),
        "trustDomain": one.identity.trust_domain().as_str(),
        "workloadIps": one.addresses.as_slice(),
        "protocol": match one.tunnel { Tunnel::None => "TCP", Tunnel::Hbone => "HBONE" },
        "networkMode": match one.network_mode {
            NetworkMode::Standard => "Standard",
            NetworkMode::HostNetwork => "HostNetwork",
        },
        "network": one.network.as_str(),
        "node": one.place.node.as_str(),
        "clusterId": one.cluster.as_str(),
        "workloadName": &*one.workload_name,
        "workloadType": one.workload_type.as_str(),
        "canonicalName": &*one.canonical_name,
        "canonicalRevision": &*one.canonical_revision,
        "hostname": one.hostname.as_ref().map(|name| name.as_str()),
        "nativeTunnel": one.native_tunnel,
        "believesWaypoint": one.believes_waypoint.then_some(true),
        "applicationTunnel": one.application_tunnel.as_ref().map(|tunnel| {
            let protocol = match tunnel.protocol {
                ApplicationProtocol::None => "NONE",
                ApplicationProtocol::Proxy => "PROXY",
            };
            json!({ "protocol": protocol, "port": tunnel.port })
        }),
        "waypoint": one.waypoint.as_ref().map(gateway),
        "networkGateway": one.network_gateway.as_ref().map(gateway),
        "authorizationPolicies": one.policies.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "status": health(one.health),
        "locality": {
            "region": &*one.place.locality.region,
            "zone": &*one.place.locality.zone,
            "subzone": &*one.place.locality.subzone,
        },
        "capacity": one.capacity,
        "services": services,
    }))
}

fn health(health: Health) -> &'static str {
    match health {
        Health::Healthy => "Healthy",
        Health::Unhealthy => "Unhealthy",
    }
}

fn gateway(one: &GatewayAddress) -> Value {
    let destination = match &one.destination {
        GatewayDestination::Address(address) => address.to_string(),
        GatewayDestination::Hostname(key) => key.to_string(),
    };
    json!({ "destination": destination, "hboneMtlsPort": one.port })
}

fn ports(map: &PortMap) -> Value {
    Value::Object(map.iter().map(|(service, target)| (service.to_string(), target.into())).collect::<Map<_, _>>())
}

/// Sorted by hostname, then namespace.
pub(super) fn services(world: &World) -> Vec<Value> {
    let mut all: Vec<&Arc<Service>> = world.services().collect();
    all.sort_by(|a, b| (&a.key.hostname, &a.key.namespace).cmp(&(&b.key.hostname, &b.key.namespace)));
    all.into_iter().map(|one| service(one, world)).collect()
}

fn service(one: &Service, world: &World) -> Value {
    let ranges = one.cidrs.iter().map(|range| format!("{}/{}", range.network, range.cidr));
    let weighted = one
        .weighted_waypoints
        .iter()
        .map(|weighted| json!({ "destination": gateway(&weighted.destination), "weight": weighted.weight }));
    let balancer = one.balancing.as_ref().map(|balancing| {
        json!({
            "routingPreferences": balancing.preferences.iter().map(|scope| word_of_scope(*scope)).collect::<Vec<_>>(),
            "mode": word_of_mode(balancing.mode),
            "healthPolicy": match balancing.health {
                HealthPolicy::OnlyHealthy => "OnlyHealthy",
                HealthPolicy::AllowAll => "AllowAll",
            },
        })
    });
    compact(json!({
        "name": &*one.name,
        "namespace": one.key.namespace.as_str(),
        "hostname": one.key.hostname.as_str(),
        "vips": one.vips.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "cidrVips": ranges.collect::<Vec<_>>(),
        "ports": ports(&one.ports),
        "endpoints": endpoints(world.all_endpoints(&one.key).iter()),
        "subjectAltNames": one.subject_alt_names.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "waypoint": one.waypoint.as_ref().map(gateway),
        "weightedWaypoints": weighted.collect::<Vec<_>>(),
        "loadBalancer": balancer,
        "ipFamilies": match one.families {
            IpFamilies::Automatic => None,
            IpFamilies::Ipv4 => Some("IPv4"),
            IpFamilies::Ipv6 => Some("IPv6"),
            IpFamilies::Dual => Some("Dual"),
        },
        "canonical": one.canonical,
        "visibility": match one.visibility {
            Visibility::Public => "Public",
            Visibility::Namespace => "Namespace",
        },
    }))
}

fn endpoints<'e>(list: impl Iterator<Item = &'e lateen_state::service::Endpoint>) -> Value {
    let one = |endpoint: &lateen_state::service::Endpoint| {
        let uid = endpoint.workload.uid.as_str();
        let view = json!({
            "workloadUid": uid,
            "port": ports(&endpoint.ports),
            "status": health(endpoint.workload.health),
        });
        (uid.to_owned(), view)
    };
    Value::Object(list.map(one).collect::<Map<_, _>>())
}

fn word_of_scope(scope: Scope) -> &'static str {
    match scope {
        Scope::Region => "Region",
        Scope::Zone => "Zone",
        Scope::Subzone => "Subzone",
        Scope::Node => "Node",
        Scope::Cluster => "Cluster",
        Scope::Network => "Network",
    }
}

fn word_of_mode(mode: Mode) -> &'static str {
    match mode {
        Mode::Any => "Standard",
        Mode::Strict => "Strict",
        Mode::Failover => "Failover",
        Mode::Passthrough => "Passthrough",
    }
}

/// Endpoints whose service has not arrived, by service.
pub(super) fn staged(world: &World) -> BTreeMap<String, Value> {
    world.staged().map(|(key, list)| (key.to_string(), endpoints(list.into_iter()))).collect()
}

/// Sorted by key.
pub(super) fn policies(world: &World) -> Vec<Value> {
    let mut all: Vec<&Arc<Policy>> = world.policies().collect();
    all.sort_by(|a, b| a.key.cmp(&b.key));
    all.into_iter().map(|one| policy(one)).collect()
}

fn policy(one: &Policy) -> Value {
    // Rule, clause, match: three levels of lists, as the reference's dump has them.
    let rules = one.rules.iter().map(|rule| {
        let clauses = rule.clauses.iter().map(|clause| Value::Array(clause.matches.iter().map(match_view).collect()));
        Value::Array(clauses.collect())
    });
    json!({
        "name": &*one.key.name,
        "namespace": one.key.namespace.as_str(),
        "scope": match one.scope {
            PolicyScope::Global => "Global",
            PolicyScope::Namespace => "Namespace",
            PolicyScope::WorkloadSelector => "WorkloadSelector",
        },
        "action": match one.action { Action::Allow => "Allow", Action::Deny => "Deny" },
        "dryRun": one.dry_run,
        "rules": rules.collect::<Vec<_>>(),
    })
}

fn match_view(one: &Match) -> Value {
    let texts = |list: Vec<StringMatch>| list.iter().map(text).collect::<Vec<_>>();
    let listed = |list: Vec<String>| list;
    let account = |one: &lateen_policy::model::Account| json!({ "namespace": one.namespace.as_str(), "serviceAccount": one.service_account.as_str() });
    compact(json!({
        "namespaces": texts(one.namespaces.iter().collect()),
        "notNamespaces": texts(one.not_namespaces.iter().collect()),
        "principals": texts(one.principals.iter().collect()),
        "notPrincipals": texts(one.not_principals.iter().collect()),
        "serviceAccounts": one.service_accounts.iter().map(account).collect::<Vec<_>>(),
        "notServiceAccounts": one.not_service_accounts.iter().map(account).collect::<Vec<_>>(),
        "sourceIps": listed(one.source_ips.iter().map(|net| net.to_string()).collect()),
        "notSourceIps": listed(one.not_source_ips.iter().map(|net| net.to_string()).collect()),
        "destinationIps": listed(one.destination_ips.iter().map(|net| net.to_string()).collect()),
        "notDestinationIps": listed(one.not_destination_ips.iter().map(|net| net.to_string()).collect()),
        "destinationPorts": one.destination_ports.iter().collect::<Vec<_>>(),
        "notDestinationPorts": one.not_destination_ports.iter().collect::<Vec<_>>(),
    }))
}

#[derive(Serialize)]
enum Text<'t> {
    Exact(&'t str),
    Prefix(&'t str),
    Suffix(&'t str),
    Presence([(); 0]),
}

fn text(one: &StringMatch) -> Value {
    let view = match one {
        StringMatch::Exact(text) => Text::Exact(text),
        StringMatch::Prefix(text) => Text::Prefix(text),
        StringMatch::Suffix(text) => Text::Suffix(text),
        StringMatch::Presence => Text::Presence([]),
    };
    // Plain strings and a list without elements always become JSON.
    serde_json::to_value(view).unwrap_or_default()
}
