//! What is used of a Gateway to run it.
//!
//! In: the object. Out: [`Wanted`]. Absent on purpose: what its listeners serve (see `crate::facts`).

use std::{collections::BTreeMap, net::IpAddr};

use kube::core::DynamicObject;
use lateen_cluster::{api::StatusCondition, labels, store::Reading};
use serde::Deserialize;

use crate::facts::GatewayListener;

/// Labels or annotations.
pub type Words = BTreeMap<String, String>;

/// A Gateway as somebody wants it to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Kubernetes' uid, for owner references.
    pub uid: String,
    /// What its status speaks of.
    pub generation: i64,
    /// The class's name.
    pub class: String,
    /// Its labels.
    pub labels: Words,
    /// Its annotations.
    pub annotations: Words,
    /// Its listeners.
    pub listeners: Vec<GatewayListener>,
    /// What its author says of its address.
    pub address: Address,
    /// What is written below `infrastructure`.
    pub infrastructure: Infrastructure,
    /// What its author was told before.
    pub held: Held,
}

/// The part of a Gateway's status that is ours.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Held {
    /// Where it is.
    pub places: Vec<Place>,
    /// `Accepted` and `Programmed`.
    pub conditions: Vec<StatusCondition>,
}

/// What an author says of addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// Nothing: any will do.
    Any,
    /// This one.
    Ip(IpAddr),
    /// The proxies are run by somebody else, and are found there.
    Elsewhere(Vec<Place>),
    /// Of a type nobody knows.
    Unsupported(String),
}

/// An address as a status carries it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// By name.
    Hostname(String),
    /// By address.
    Ip(IpAddr),
}

/// `spec.infrastructure`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Infrastructure {
    /// Labels of what is made; absent: the Gateway's own.
    pub labels: Option<Words>,
    /// Annotations of what is made; absent: the Gateway's own.
    pub annotations: Option<Words>,
    /// Where overlays are.
    pub parameters_ref: Option<Parameters>,
}

/// A reference to overlays.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Parameters {
    /// Empty for a ConfigMap.
    #[serde(default)]
    pub group: String,
    /// The kind.
    pub kind: String,
    /// The name, in the Gateway's namespace.
    pub name: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct WrittenSpec {
    gateway_class_name: String,
    addresses: Vec<WrittenAddress>,
    infrastructure: Option<Infrastructure>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct WrittenAddress {
    #[serde(rename = "type")]
    kind: Option<String>,
    value: String,
}

impl Wanted {
    /// Reads a Gateway.
    pub fn read(object: &DynamicObject) -> Reading<Self> {
        let spec = object.data.get("spec").cloned().unwrap_or_default();
        let spec = match spec {
            serde_json::Value::Null => WrittenSpec::default(),
            spec => match serde_json::from_value(spec) {
                Ok(spec) => spec,
                Err(error) => return Reading::Unreadable(format!("spec: {error}")),
            },
        };
        let listeners = match crate::facts::Gateway::read(object) {
            Reading::Value(gateway) => gateway.listeners,
            Reading::Nothing => Vec::new(),
            Reading::Unreadable(why) => return Reading::Unreadable(why),
        };
        // What is on its way out is not repaired.
        if object.metadata.deletion_timestamp.is_some() {
            return Reading::Nothing;
        }
        let meta = object.metadata.clone();
        Reading::Value(Self {
            uid: meta.uid.unwrap_or_default(),
            generation: meta.generation.unwrap_or_default(),
            class: spec.gateway_class_name,
            labels: meta.labels.unwrap_or_default(),
            annotations: meta.annotations.unwrap_or_default(),
            listeners,
            address: address_of(&spec.addresses),
            infrastructure: spec.infrastructure.unwrap_or_default(),
            held: Held::read(object),
        })
    }

    /// Whether the control plane of `revision` is to run it.
    pub fn is_for(&self, revision: &str) -> bool {
        let usual = |name: &str| name.is_empty() || name == "default";
        let label = self.labels.get(labels::REVISION).map_or("", String::as_str);
        label == revision || (usual(label) && usual(revision))
    }

    /// Whether a newer control plane of the reference's numbering has taken it over. What cannot be read is as good.
    pub fn is_of_newer(&self) -> bool {
        let version = self.annotations.get(labels::GATEWAY_CONTROLLER_VERSION);
        version.is_some_and(|text| text.parse::<u32>().map_or(true, |version| version > CONTROLLER_VERSION))
    }
}

/// The conditions that are ours.
pub const ACCEPTED: &str = "Accepted";
/// See [`ACCEPTED`].
pub const PROGRAMMED: &str = "Programmed";

impl Held {
    /// What cannot be read was not said by us.
    fn read(object: &DynamicObject) -> Self {
        fn part<T: serde::de::DeserializeOwned + Default>(object: &DynamicObject, pointer: &str) -> T {
            let found = object.data.pointer(pointer).cloned().unwrap_or_default();
            serde_json::from_value(found).unwrap_or_default()
        }
        let mut conditions: Vec<StatusCondition> = part(object, "/status/conditions");
        conditions.retain(|one| [ACCEPTED, PROGRAMMED].contains(&one.type_.as_str()));
        let written: Vec<WrittenAddress> = part(object, "/status/addresses");
        let place = |one: &WrittenAddress| match one.kind.as_deref() {
            Some("Hostname") => Some(Place::Hostname(one.value.clone())),
            Some("IPAddress") | None => one.value.parse().ok().map(Place::Ip),
            Some(_) => None,
        };
        Self { places: written.iter().filter_map(place).collect(), conditions }
    }
}

/// The reference's number for control planes that run Gateways as we do.
const CONTROLLER_VERSION: u32 = 5;

fn address_of(written: &[WrittenAddress]) -> Address {
    let mut places = Vec::new();
    for one in written {
        match one.kind.as_deref() {
            Some("Hostname") => places.push(Place::Hostname(one.value.clone())),
            Some("IPAddress") | None => match one.value.parse() {
                Ok(ip) => places.push(Place::Ip(ip)),
                Err(_) => return Address::Unsupported(format!("{:?} is no IP address", one.value)),
            },
            Some(kind) => return Address::Unsupported(format!("addresses of type {kind:?} are not supported")),
        }
    }
    match places.as_slice() {
        [] => Address::Any,
        [Place::Ip(ip)] => Address::Ip(*ip),
        _ => Address::Elsewhere(places),
    }
}
