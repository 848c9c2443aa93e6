//! The classes of Gateways that we run, and the objects that announce them.
//!
//! In: a class's name, or the controller a GatewayClass names. Out: what its Gateways become, and whether its author knows.

use kube::core::DynamicObject;
use serde_json::{Value, json};

use super::features;

/// What a Gateway's proxy is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Traffic inside the mesh, by tunnel.
    Waypoint,
    /// Traffic from outside, or to outside.
    Gateway,
}

/// A class that we run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Class {
    /// The class's name.
    pub name: &'static str,
    /// As a GatewayClass names it.
    pub controller: &'static str,
    /// What its proxies are for.
    pub role: Role,
    description: &'static str,
}

/// The reference's two, which people's YAML names, and our own, which are ours also where the reference runs beside us.
pub const CLASSES: [Class; 4] = [
    Class {
        name: "istio",
        controller: "istio.io/gateway-controller",
        role: Role::Gateway,
        description: "Gateways into and out of the mesh, run by Lateen.",
    },
    Class {
        name: "istio-waypoint",
        controller: "istio.io/mesh-controller",
        role: Role::Waypoint,
        description: "Waypoints of the mesh, run by Lateen.",
    },
    Class {
        name: "lateen",
        controller: "lateen.io/gateway-controller",
        role: Role::Gateway,
        description: "Gateways into and out of the mesh, run by Lateen.",
    },
    Class {
        name: "lateen-waypoint",
        controller: "lateen.io/mesh-controller",
        role: Role::Waypoint,
        description: "Waypoints of the mesh, run by Lateen.",
    },
];

impl Class {
    /// The class of a Gateway that says `name`, whose GatewayClass names `controller` where there is one. A class of
    /// another name is ours when it names one of our controllers; one of our names that names another's is not.
    pub fn of(name: &str, controller: Option<&str>) -> Option<Self> {
        let by_name = || CLASSES.into_iter().find(|class| class.name == name);
        match controller {
            None => by_name(),
            Some(controller) => by_name()
                .filter(|class| class.controller == controller)
                .or_else(|| CLASSES.into_iter().find(|class| class.controller == controller)),
        }
    }

    /// The label of what we made for such a Gateway.
    pub fn managed(self) -> String {
        self.controller.replace('/', "-")
    }

    /// What its Gateways do beyond the core. Of a waypoint the Gateway API has no such words.
    pub fn features(self) -> &'static [&'static str] {
        match self.role {
            Role::Gateway => features::SUPPORTED,
            Role::Waypoint => &[],
        }
    }

    /// The object that announces the class.
    pub fn object(self) -> Value {
        json!({
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "GatewayClass",
            "metadata": {"name": self.name},
            "spec": {"controllerName": self.controller, "description": self.description},
        })
    }
}

/// What is used of a GatewayClass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announced {
    /// As it names it.
    pub controller: String,
    /// Of what it wants.
    pub generation: i64,
    /// Since when its author is told that it is ours.
    pub accepted_since: Option<String>,
    /// Whether all that is to be said of it, as it is now, was said.
    pub is_told: bool,
}

impl Announced {
    /// Reads the object.
    pub fn of(object: &DynamicObject) -> Self {
        let all = |pointer: &str| {
            object.data.pointer(pointer).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
        };
        let controller = object.data.pointer("/spec/controllerName").and_then(Value::as_str).unwrap_or_default();
        let generation = object.metadata.generation.unwrap_or_default();
        let accepted =
            all("/status/conditions").iter().find(|one| one["type"] == "Accepted" && one["status"] == "True");
        let features = all("/status/supportedFeatures").iter().map(|one| one["name"].as_str().unwrap_or_default());
        let class = Class::of(object.metadata.name.as_deref().unwrap_or_default(), Some(controller));
        Self {
            controller: controller.to_owned(),
            generation,
            accepted_since: accepted.and_then(|one| one["lastTransitionTime"].as_str()).map(str::to_owned),
            is_told: accepted.is_some_and(|one| one["observedGeneration"] == generation)
                && class.is_none_or(|class| features.eq(class.features().iter().copied())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_is_ours_by_its_controller() {
        let check = |name: &str, controller: Option<&str>, expected: Option<&str>| {
            assert_eq!(Class::of(name, controller).map(|class| class.name), expected, "{name} {controller:?}");
        };
        check("istio-waypoint", None, Some("istio-waypoint"));
        check("istio-waypoint", Some("istio.io/mesh-controller"), Some("istio-waypoint"));
        check("istio-waypoint", Some("somebody.else/controller"), None);
        check("team-waypoint", Some("lateen.io/mesh-controller"), Some("lateen-waypoint"));
        check("team-waypoint", None, None);
        check("istio-remote", None, None);
        check("istio-remote", Some("istio.io/unmanaged-gateway"), None);
    }

    /// A class of this generation that was told of these features when it was of the first.
    fn told(controller: &str, generation: i64, features: &[&str]) -> Announced {
        let features: Vec<Value> = features.iter().map(|name| json!({"name": name})).collect();
        let accepted =
            json!({"type": "Accepted", "status": "True", "observedGeneration": 1, "lastTransitionTime": "then"});
        let object = json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "GatewayClass",
            "metadata": {"name": "mine", "generation": generation},
            "spec": {"controllerName": controller},
            "status": {"conditions": [accepted], "supportedFeatures": features},
        });
        Announced::of(&serde_json::from_value(object).expect("a GatewayClass"))
    }

    #[test]
    fn a_class_is_told_again_when_it_or_what_we_do_changes() {
        let (gateways, waypoints) = ("lateen.io/gateway-controller", "lateen.io/mesh-controller");
        assert!(told(gateways, 1, features::SUPPORTED).is_told);
        assert!(!told(gateways, 2, features::SUPPORTED).is_told, "another generation");
        assert_eq!(told(gateways, 2, &[]).accepted_since.as_deref(), Some("then"));
        assert!(!told(gateways, 1, &["Gone"]).is_told, "a feature went");
        assert!(told(waypoints, 1, &[]).is_told, "of a waypoint nothing is said");
        assert!(!told(waypoints, 1, &["Gateway"]).is_told);
    }
}
