//! A waypoint itself: whom it serves; a gateway itself: what it listens on.
//!
//! In: its Gateway, who is bound to it or what is attached, the labels of its pods. Out: `lateen.proxy.Proxy`.

use std::time::Duration;

use lateen_cluster::store::Key;
use lateen_types::label::Labels;
use lateen_wire::proxy as wire;

use super::{
    backend::ServiceName,
    destination::on_wire,
    waypoint::{self, Found},
};
use crate::facts::{Connections, ProxyConfig, ServerHeader, Traffic};

/// What holds for the requests of all proxies, where nothing nearer says otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Defaults {
    /// What is written of each request; nothing where nobody asks for it.
    pub access_log: Option<AccessLog>,
    /// What paths are made of before anything looks at them.
    pub normalization: wire::PathNormalization,
    /// Until an endpoint answers a connection.
    pub connect_timeout: Duration,
    /// Until the first bytes tell what is spoken; zero waits for ever.
    pub detection_timeout: Duration,
    /// What all proxies are told.
    pub config: ProxyConfig,
    /// Whether a mirrored request's host gets `-shadow`, as the documents have it and the reference no longer does.
    pub shadow_suffix: bool,
}

/// What is written of each request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessLog {
    /// Whether as JSON.
    pub json: bool,
    /// Empty is the usual one.
    pub format: String,
}

impl Default for Defaults {
    fn default() -> Self {
        Self {
            access_log: None,
            normalization: wire::PathNormalization::Base,
            connect_timeout: Duration::from_secs(10),
            detection_timeout: Duration::ZERO,
            config: ProxyConfig::default(),
            shadow_suffix: false,
        }
    }
}

/// The name of how the Gateway serves, or sends to, a service.
pub fn name_at(gateway: &Key, service: &ServiceName) -> String {
    format!("{gateway}/{service}")
}

/// Whom a waypoint serves.
#[derive(Debug, Clone, Default)]
pub struct Around<'a> {
    /// Services, in order.
    pub services: Vec<&'a ServiceName>,
    /// Workloads by uid, in order.
    pub workloads: Vec<&'a str>,
    /// Names of the policies that hold for every request.
    pub policies: Vec<String>,
    /// What all its pods carry, of the labels by which endpoints are chosen.
    pub labels: Labels,
}

/// The waypoint of a Gateway.
pub fn waypoint(defaults: &Defaults, key: &Key, found: Found<'_>, around: Around<'_>) -> wire::Proxy {
    let traffic = waypoint::traffic(found);
    // What nobody can read is as if it were not there: a waypoint has nothing in front.
    let config = found.gateway.proxy.clone().unwrap_or_default().or(&defaults.config);
    let options = wire::Options {
        xfcc_client_identity: found.gateway.tells_client,
        ..options(defaults, around.labels, (&config, config.connections))
    };
    wire::Proxy {
        namespace: key.namespace.to_string(),
        name: key.name.to_string(),
        role: wire::Role::Waypoint.into(),
        options: Some(options),
        listeners: Vec::new(),
        services: around.services.into_iter().map(|service| name_at(key, service)).collect(),
        policies: around.policies,
        serves_workloads: matches!(traffic, Traffic::Workload | Traffic::All),
        serves_services: matches!(traffic, Traffic::Service | Traffic::All),
        workloads: around.workloads.into_iter().map(|uid| wire::ServedWorkload { uid: uid.to_owned() }).collect(),
    }
}

/// What a gateway is told of itself.
#[derive(Debug, Clone, Default)]
pub struct Facing {
    /// What it listens on.
    pub listeners: Vec<wire::Listener>,
    /// Names of the policies that hold for every request.
    pub policies: Vec<String>,
    /// What all its pods carry, of the labels by which endpoints are chosen.
    pub labels: Labels,
    /// What its own annotation says.
    pub config: ProxyConfig,
}

/// The gateway of a Gateway.
pub fn gateway(defaults: &Defaults, key: &Key, facing: Facing) -> wire::Proxy {
    let config = facing.config.or(&defaults.config);
    wire::Proxy {
        namespace: key.namespace.to_string(),
        name: key.name.to_string(),
        role: wire::Role::Gateway.into(),
        options: Some(wire::Options {
            trusted_proxies: config.trusted_proxies.unwrap_or_default(),
            proxy_protocol: config.proxy_protocol.unwrap_or_default(),
            http10: config.http10.unwrap_or_default(),
            ..options(defaults, facing.labels, (&config, config.connections.at_gateway()))
        }),
        listeners: facing.listeners,
        policies: facing.policies,
        ..wire::Proxy::default()
    }
}

fn options(defaults: &Defaults, labels: Labels, (config, connections): (&ProxyConfig, Connections)) -> wire::Options {
    use wire::access_log::Encoding;
    let access_log = defaults.access_log.as_ref().map(|log| wire::AccessLog {
        encoding: if log.json { Encoding::Json } else { Encoding::Text }.into(),
        format: log.format.clone(),
    });
    wire::Options {
        path_normalization: defaults.normalization.into(),
        labels,
        access_log,
        connect_timeout: Some(on_wire(defaults.connect_timeout)),
        protocol_detection_timeout: Some(on_wire(defaults.detection_timeout)),
        server_name: config.server.as_ref().map(|server| match server {
            ServerHeader::Theirs => String::new(),
            ServerHeader::Named(name) => name.clone(),
        }),
        suppress_debug_headers: config.hides_debug_headers.unwrap_or_default(),
        preserve_header_case: config.keeps_case.unwrap_or_default(),
        stream_idle_timeout: connections.stream_idle.map(|length| on_wire(length.0)),
        request_timeout: connections.request.map(|length| on_wire(length.0)),
        merge_slashes: connections.merge_slashes.unwrap_or_default(),
        escaped_slashes: connections.escaped_slashes.unwrap_or_default().into(),
        underscores: connections.underscores.unwrap_or_default().into(),
        mirror_shadow_suffix: defaults.shadow_suffix,
        ..wire::Options::default()
    }
}
