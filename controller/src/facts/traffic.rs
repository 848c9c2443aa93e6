//! What is used of VirtualService and DestinationRule: their specs, how old they are, who sees them.

use std::sync::Arc;

use kube::core::DynamicObject;
use lateen_cluster::{
    api::{self, DestinationRuleSpec, VirtualServiceSpec},
    fields,
    store::Reading,
};

use super::Age;

/// The namespaces that see an object.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Seen {
    /// All of them.
    #[default]
    Everywhere,
    /// These, in order.
    By(Vec<Arc<str>>),
}

impl Seen {
    /// Reads `exportTo` of an object in `namespace`; an empty list says nothing.
    pub fn read(written: &[String], namespace: &str) -> Option<Self> {
        if written.is_empty() {
            return None;
        }
        if written.iter().any(|entry| entry == "*") {
            return Some(Self::Everywhere);
        }
        let named = written.iter().filter(|entry| *entry != "~");
        let mut all: Vec<Arc<str>> = named.map(|entry| if entry == "." { namespace } else { entry }.into()).collect();
        all.sort_unstable();
        all.dedup();
        Some(Self::By(all))
    }

    /// Whether `namespace` sees it, and no other.
    pub fn is_only(&self, namespace: &str) -> bool {
        matches!(self, Self::By(all) if all.iter().all(|one| **one == *namespace))
    }

    /// Whether `namespace` sees it.
    pub fn by(&self, namespace: &str) -> bool {
        match self {
            Self::Everywhere => true,
            Self::By(all) => all.iter().any(|one| **one == *namespace),
        }
    }
}

/// What is used of a virtual service.
#[derive(Debug, Clone, PartialEq)]
pub struct VirtualService {
    /// The older one comes first.
    pub age: Age,
    /// As written.
    pub spec: VirtualServiceSpec,
    /// Who sees it; `None` leaves it to the mesh.
    pub seen: Option<Seen>,
    /// Fields that do nothing here, with the reason.
    pub unused: Vec<String>,
    /// The generation a status speaks of.
    pub generation: i64,
    /// Whether its status holds conditions of ours.
    pub has_condition: bool,
}

impl VirtualService {
    /// Reads a virtual service of any served version.
    pub fn read(object: &DynamicObject) -> Reading<Self> {
        let spec: VirtualServiceSpec = match api::spec_of("VirtualService", object) {
            Ok(spec) => spec,
            Err(error) => return Reading::Unreadable(error.to_string()),
        };
        let namespace = object.metadata.namespace.as_deref().unwrap_or_default();
        Reading::Value(Self {
            age: Age::of(&object.metadata),
            seen: Seen::read(&spec.export_to, namespace),
            spec,
            unused: unused("VirtualService", object),
            generation: object.metadata.generation.unwrap_or_default(),
            has_condition: has_condition(object),
        })
    }
}

/// What is used of a destination rule.
#[derive(Debug, Clone, PartialEq)]
pub struct DestinationRule {
    /// The older one comes first.
    pub age: Age,
    /// As written.
    pub spec: DestinationRuleSpec,
    /// Who sees it; `None` leaves it to the mesh.
    pub seen: Option<Seen>,
    /// Fields that do nothing here, with the reason.
    pub unused: Vec<String>,
    /// The generation a status speaks of.
    pub generation: i64,
    /// Whether its status holds conditions of ours.
    pub has_condition: bool,
}

impl DestinationRule {
    /// Reads a destination rule of any served version.
    pub fn read(object: &DynamicObject) -> Reading<Self> {
        let spec: DestinationRuleSpec = match api::spec_of("DestinationRule", object) {
            Ok(spec) => spec,
            Err(error) => return Reading::Unreadable(error.to_string()),
        };
        let namespace = object.metadata.namespace.as_deref().unwrap_or_default();
        Reading::Value(Self {
            age: Age::of(&object.metadata),
            seen: Seen::read(&spec.export_to, namespace),
            spec,
            unused: unused("DestinationRule", object),
            generation: object.metadata.generation.unwrap_or_default(),
            has_condition: has_condition(object),
        })
    }
}

/// What of an object does nothing, in words.
fn unused(kind: &'static str, object: &DynamicObject) -> Vec<String> {
    fields::unused(kind, &object.data).iter().map(ToString::to_string).collect()
}

/// Whether its status holds conditions of ours, perhaps of an earlier process's.
pub(super) fn has_condition(object: &DynamicObject) -> bool {
    let conditions = object.data.pointer("/status/conditions").and_then(serde_json::Value::as_array);
    let is_ours = |one: &serde_json::Value| one["type"].as_str().is_some_and(|text| text.starts_with("lateen.io/"));
    conditions.is_some_and(|all| all.iter().any(is_ours))
}
