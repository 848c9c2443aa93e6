//! The objects of Gateways as they are.
//!
//! In: objects with our label. Out: [`Present`], small enough to keep and to compare.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    net::IpAddr,
};

use kube::core::DynamicObject;
use lateen_cluster::{
    labels,
    store::{Key, Listener, Reading},
};
use lateen_rt::inbox::Inbox;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::{facts::Place, run::Task};

/// What is kept of one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Present {
    /// The Gateway it was made for.
    pub gateway: Key,
    /// The uids of its owners.
    pub owners: Vec<String>,
    /// Differs as soon as what anybody wants of the object does; its state does not count.
    pub shape: u64,
    /// Of a Deployment: pods that serve.
    pub available: u64,
    /// Of a Service: where it is.
    pub places: Vec<Place>,
}

impl Present {
    /// Reads an object; nothing where it was made for no Gateway.
    pub fn of(object: &DynamicObject) -> Option<Self> {
        let meta = &object.metadata;
        let gateway = meta.labels.as_ref()?.get(labels::GATEWAY_NAME)?;
        let owners = meta.owner_references.iter().flatten().map(|owner| owner.uid.clone()).collect();
        Some(Self {
            gateway: Key::new(meta.namespace.as_deref().unwrap_or_default(), gateway),
            owners,
            shape: shape_of(object),
            available: object.data.pointer("/status/availableReplicas").and_then(Value::as_u64).unwrap_or_default(),
            places: places_of(&object.data),
        })
    }
}

/// Numbers its rollouts, by the cluster's own controller.
const ROLLOUT: &str = "deployment.kubernetes.io/revision";

fn shape_of(object: &DynamicObject) -> u64 {
    let mut annotations = object.metadata.annotations.clone().unwrap_or_default();
    annotations.remove(ROLLOUT);
    let shape = json!([
        object.metadata.uid,
        object.metadata.labels,
        annotations,
        object.metadata.owner_references,
        object.data.get("spec")
    ]);
    let mut hasher = DefaultHasher::new();
    shape.to_string().hash(&mut hasher);
    hasher.finish()
}

fn places_of(data: &Value) -> Vec<Place> {
    let ips = |pointer: &str, field: Option<&str>| -> Vec<Place> {
        let all = data.pointer(pointer).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let text = |one: &Value| field.map_or_else(|| one.as_str(), |field| one[field].as_str()).map(str::to_owned);
        all.iter().filter_map(text).filter_map(|text| text.parse::<IpAddr>().ok()).map(Place::Ip).collect()
    };
    if data.pointer("/spec/type").is_none_or(|kind| kind != "LoadBalancer") {
        return ips("/spec/clusterIPs", None);
    }
    let mut places = ips("/status/loadBalancer/ingress", Some("ip"));
    let ingress = data.pointer("/status/loadBalancer/ingress").and_then(Value::as_array);
    let names =
        ingress.into_iter().flatten().filter_map(|one| one["hostname"].as_str()).filter(|name| !name.is_empty());
    places.extend(names.map(|name| Place::Hostname(name.to_owned())));
    places
}

/// Asks for a look at the Gateway of each object that changes.
pub struct Noted {
    /// Where looks are asked for.
    pub inbox: Inbox<Task>,
    /// Kinds whose first list is still on its way.
    pub left: Option<watch::Sender<usize>>,
    gateways: HashMap<Key, Key>,
}

impl Noted {
    /// Counts itself in `left` until its first list is complete.
    pub fn new(inbox: Inbox<Task>, left: watch::Sender<usize>) -> Self {
        left.send_modify(|left| *left += 1);
        Self { inbox, left: Some(left), gateways: HashMap::new() }
    }
}

impl Listener<DynamicObject> for Noted {
    type Value = Present;

    fn read(&mut self, object: DynamicObject) -> Reading<Present> {
        let Some(present) = Present::of(&object) else { return Reading::Nothing };
        self.gateways.insert(Key::of(&object), present.gateway.clone());
        Reading::Value(present)
    }

    fn changed(&mut self, key: &Key) {
        if let Some(gateway) = self.gateways.get(key) {
            self.inbox.push(Task::Gateway(gateway.clone()));
        }
    }

    fn complete(&mut self) {
        if let Some(left) = self.left.take() {
            left.send_modify(|left| *left -= 1);
        }
    }
}
