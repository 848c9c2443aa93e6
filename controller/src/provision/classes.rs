//! The classes of Gateways that we run, and the objects that announce them.
//!
//! In: a class's name, or the controller a GatewayClass names. Out: what its Gateways become.

use serde_json::{Value, json};

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
}
