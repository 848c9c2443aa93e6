//! What is used of a Gateway and its class: where it can be reached, and for whom it works as a waypoint.

use std::{collections::BTreeMap, net::IpAddr};

use kube::core::{DynamicObject, ObjectMeta};
use lateen_cluster::{
    api::{self, GatewayTls, ListenerTls, RouteGroupKind},
    enrol::selector_of,
    fields, labels,
    store::Reading,
};
use lateen_types::label::Selector;
use serde::Deserialize;

use super::ProxyConfig;

/// The traffic a waypoint takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Traffic {
    /// To services.
    Service,
    /// To workloads.
    Workload,
    /// Both.
    All,
    /// Neither.
    Nothing,
}

/// How the pods of a waypoint take connections from their node's proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InboundBinding {
    /// Whether a PROXY header precedes the bytes.
    pub proxy: bool,
    /// At this port; 0 is the port that was called.
    pub port: u16,
}

/// Where a Gateway is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GatewayPlace {
    /// By name.
    Hostname(String),
    /// By address.
    Ip(IpAddr),
}

/// Whose routes, and whose traffic, a listener takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AllowedFrom {
    /// Of its own namespace.
    Same,
    /// Of all.
    All,
    /// Of namespaces with such labels.
    Selected(Selector),
    /// Nobody's.
    Nobody,
}

/// One listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GatewayListener {
    /// Its name.
    pub name: String,
    /// The hosts it is for, in lower case; empty is all.
    pub hostname: String,
    /// Its port.
    pub port: u16,
    /// Its protocol, as written.
    pub protocol: String,
    /// Whom it serves.
    pub from: AllowedFrom,
    /// The kinds of routes it takes; none is all that fit.
    pub kinds: Vec<RouteGroupKind>,
    /// How TLS ends.
    pub tls: Option<ListenerTls>,
}

/// What is used of a Gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gateway {
    /// Its class.
    pub class: String,
    /// Where it is; empty until somebody runs it.
    pub places: Vec<GatewayPlace>,
    /// Its listeners.
    pub listeners: Vec<GatewayListener>,
    /// The traffic it takes; `None` leaves it to the class.
    pub traffic: Option<Traffic>,
    /// How its pods take connections; `None` leaves it to the class.
    pub binding: Option<InboundBinding>,
    /// The network it leads to; usually empty.
    pub network: String,
    /// The account of its pods, where it is said.
    pub account: Option<String>,
    /// The account whose workloads it is the waypoint of, without any word of theirs.
    pub serves_account: Option<String>,
    /// TLS towards clients and backends.
    pub tls: GatewayTls,
    /// What the annotation says of its proxies; or why it cannot be read.
    pub proxy: Result<ProxyConfig, String>,
    /// Whether a waypoint tells endpoints who the client is.
    pub tells_client: bool,
    /// Fields that do nothing here, with the reason.
    pub unused: Vec<String>,
    /// The generation a status speaks of.
    pub generation: i64,
    /// Whether its status speaks of listeners in our name, perhaps as an earlier process wrote it.
    pub has_listeners_told: bool,
}

/// What is used of a GatewayClass.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GatewayClass {
    /// The traffic its Gateways take.
    pub traffic: Option<Traffic>,
    /// How their pods take connections.
    pub binding: Option<InboundBinding>,
    /// Who runs them.
    pub controller: String,
}

impl GatewayClass {
    /// Reads a class.
    pub fn read(object: &DynamicObject) -> Reading<Self> {
        let controller = object.data.pointer("/spec/controllerName").and_then(serde_json::Value::as_str);
        Reading::Value(Self {
            traffic: traffic_of(&object.metadata),
            binding: binding_of(&object.metadata),
            controller: controller.unwrap_or_default().to_owned(),
        })
    }
}

/// The class of Gateways that stand for one in another network.
pub const REMOTE_CLASS: &str = "istio-remote";

impl Gateway {
    /// Reads a Gateway.
    pub fn read(object: &DynamicObject) -> Reading<Self> {
        match Self::parse(object) {
            Ok(gateway) => Reading::Value(gateway),
            Err(reason) => Reading::Unreadable(reason),
        }
    }

    fn parse(object: &DynamicObject) -> Result<Self, String> {
        let spec: WrittenSpec = part(object, "spec")?;
        let status: WrittenStatus = part(object, "status")?;
        let meta = &object.metadata;
        let mut places = places_of(&status.addresses);
        // Nobody in this cluster runs it: what its author wrote is all there is.
        if places.is_empty() && spec.gateway_class_name == REMOTE_CLASS {
            places = places_of(&spec.addresses);
        }
        let proxy = match spec.infrastructure.and_then(|own| own.annotations) {
            Some(own) => ProxyConfig::annotated(own.get(labels::PROXY_CONFIG)),
            None => ProxyConfig::annotated(annotation(meta, labels::PROXY_CONFIG).as_ref()),
        };
        let mut unused: Vec<String> = fields::unused("Gateway", &object.data).iter().map(ToString::to_string).collect();
        unused.extend(proxy.iter().flat_map(|read| read.unused.iter().cloned()));
        let listeners = spec.listeners.iter().enumerate().map(|(at, one)| listener_of(at, one));
        Ok(Self {
            places,
            listeners: listeners.collect::<Result<_, _>>()?,
            traffic: traffic_of(meta),
            binding: binding_of(meta),
            network: label(meta, labels::NETWORK).unwrap_or_default().to_owned(),
            account: annotation(meta, labels::GATEWAY_ACCOUNT),
            serves_account: annotation(meta, labels::FOR_SERVICE_ACCOUNT).filter(|name| !name.is_empty()),
            tls: spec.tls.unwrap_or_default(),
            proxy,
            tells_client: annotation(meta, labels::XFCC_CLIENT).is_some_and(|word| word == "true"),
            unused,
            generation: meta.generation.unwrap_or_default(),
            has_listeners_told: is_told_by(meta, LISTENERS_MANAGER),
            class: spec.gateway_class_name,
        })
    }
}

/// The field manager of what we say of listeners.
pub const LISTENERS_MANAGER: &str = "lateen-listeners";

/// Whether `manager` has said anything of an object. What others say of their own is theirs.
fn is_told_by(meta: &ObjectMeta, manager: &str) -> bool {
    meta.managed_fields.iter().flatten().any(|one| one.manager.as_deref() == Some(manager))
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct WrittenSpec {
    gateway_class_name: String,
    listeners: Vec<api::Listener>,
    addresses: Vec<WrittenAddress>,
    tls: Option<GatewayTls>,
    infrastructure: Option<WrittenInfrastructure>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct WrittenInfrastructure {
    annotations: Option<BTreeMap<String, String>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct WrittenStatus {
    addresses: Vec<WrittenAddress>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct WrittenAddress {
    #[serde(rename = "type")]
    kind: Option<String>,
    value: String,
}

/// A member of an object, empty where it is absent.
pub(super) fn part<T: serde::de::DeserializeOwned + Default>(
    object: &DynamicObject,
    name: &'static str,
) -> Result<T, String> {
    let Some(found) = object.data.get(name).filter(|found| !found.is_null()) else { return Ok(T::default()) };
    T::deserialize(found).map_err(|error| format!("{name}: {error}"))
}

fn places_of(addresses: &[WrittenAddress]) -> Vec<GatewayPlace> {
    let one = |address: &WrittenAddress| match address.kind.as_deref() {
        Some("Hostname") => Some(GatewayPlace::Hostname(address.value.clone())).filter(|_| !address.value.is_empty()),
        Some("IPAddress") | None => address.value.parse().ok().map(GatewayPlace::Ip),
        Some(_) => None,
    };
    addresses.iter().filter_map(one).collect()
}

fn listener_of(at: usize, written: &api::Listener) -> Result<GatewayListener, String> {
    let namespaces = written.allowed_routes.as_ref().and_then(|routes| routes.namespaces.as_ref());
    let from = match namespaces.and_then(|namespaces| namespaces.from.as_deref()) {
        Some("All") => AllowedFrom::All,
        Some("None") => AllowedFrom::Nobody,
        Some("Selector") => {
            let selector = namespaces.and_then(|namespaces| namespaces.selector.as_ref());
            let selector = selector
                .map(selector_of)
                .transpose()
                .map_err(|error| format!("spec.listeners[{at}].allowedRoutes.namespaces.selector: {error}"))?;
            // A selector that is not there selects nothing.
            selector.map_or(AllowedFrom::Nobody, AllowedFrom::Selected)
        }
        Some("Same") | None => AllowedFrom::Same,
        // Whatever a newer API means by it, it is not more than was allowed so far.
        Some(_) => AllowedFrom::Nobody,
    };
    Ok(GatewayListener {
        name: written.name.clone(),
        hostname: written.hostname.as_deref().unwrap_or_default().to_ascii_lowercase(),
        port: written.port,
        protocol: written.protocol.clone(),
        from,
        kinds: written.allowed_routes.as_ref().map(|routes| routes.kinds.clone()).unwrap_or_default(),
        tls: written.tls.clone(),
    })
}

fn label<'a>(meta: &'a ObjectMeta, key: &str) -> Option<&'a str> {
    meta.labels.as_ref().and_then(|all| all.get(key)).map(String::as_str)
}

fn annotation(meta: &ObjectMeta, key: &str) -> Option<String> {
    meta.annotations.as_ref().and_then(|all| all.get(key)).cloned()
}

/// A word nobody knows takes no traffic.
fn traffic_of(meta: &ObjectMeta) -> Option<Traffic> {
    label(meta, labels::WAYPOINT_FOR).map(|word| match word {
        "service" => Traffic::Service,
        "workload" => Traffic::Workload,
        "all" => Traffic::All,
        _ => Traffic::Nothing,
    })
}

/// `PROXY`, `NONE`, each with `/<port>` or without.
fn binding_of(meta: &ObjectMeta) -> Option<InboundBinding> {
    let text = meta.annotations.as_ref()?.get(labels::WAYPOINT_INBOUND_BINDING)?;
    let (word, port) = text.split_once('/').unwrap_or((text, "0"));
    let proxy = match word {
        "PROXY" => true,
        "NONE" => false,
        _ => return None,
    };
    Some(InboundBinding { proxy, port: port.parse().ok()? })
}
