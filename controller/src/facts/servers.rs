//! What is used of the mesh's own kind Gateway.

use kube::core::DynamicObject;
use lateen_cluster::{
    api::{self, IstioGatewaySpec},
    fields,
    store::Reading,
};

use super::{Age, traffic};

/// Servers that gateways are to be.
#[derive(Debug, Clone, PartialEq)]
pub struct Servers {
    /// The older one comes first.
    pub age: Age,
    /// As written.
    pub spec: IstioGatewaySpec,
    /// Fields that do nothing here, with the reason.
    pub unused: Vec<String>,
    /// The generation a status speaks of.
    pub generation: i64,
    /// Whether its status holds conditions of ours.
    pub has_condition: bool,
}

impl Servers {
    /// Reads a Gateway of any served version.
    pub fn read(object: &DynamicObject) -> Reading<Self> {
        let spec: IstioGatewaySpec = match api::spec_of("Gateway", object) {
            Ok(spec) => spec,
            Err(error) => return Reading::Unreadable(error.to_string()),
        };
        Reading::Value(Self {
            age: Age::of(&object.metadata),
            spec,
            unused: fields::unused("Gateway", &object.data).iter().map(ToString::to_string).collect(),
            generation: object.metadata.generation.unwrap_or_default(),
            has_condition: traffic::has_condition(object),
        })
    }
}
