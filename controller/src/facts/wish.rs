//! Which waypoint an object asks for.
//!
//! In: labels and annotations. Out: a [`Wish`]. Absent on purpose: whether it is granted (see `derive::waypoint`).

use kube::core::ObjectMeta;
use lateen_cluster::{labels, store::Key};

/// What an object's labels say about its waypoint.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wish {
    /// The waypoint itself.
    pub waypoint: Asked,
    /// A second waypoint for a share of the traffic.
    pub canary: Option<Canary>,
    /// Whether ingress gateways pass the waypoint too; `None` leaves it to the namespace.
    pub ingress: Option<bool>,
    /// Whether traffic may go direct while the waypoint is missing.
    pub bypass: bool,
    /// Whether what the waypoint says of its clients' identities is believed; `None` leaves it to the namespace.
    pub believes: Option<bool>,
}

/// A word on the waypoint.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Asked {
    /// None: the namespace decides.
    #[default]
    Unsaid,
    /// No waypoint, whatever the namespace says.
    Declined,
    /// This Gateway, which need not exist.
    Gateway(Key),
}

/// A second waypoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Canary {
    /// The Gateway.
    pub gateway: Key,
    /// Its share in percent; `None` where what is written is no share.
    pub weight: Option<u32>,
}

impl Wish {
    /// Reads an object of `namespace`.
    pub fn of(meta: &ObjectMeta, namespace: &str) -> Self {
        let label = |key: &str| meta.labels.as_ref().and_then(|all| all.get(key)).map(String::as_str);
        let place = |key: &str| label(key).filter(|text| !text.is_empty()).unwrap_or(namespace);
        let canary = label(labels::USE_WAYPOINT_CANARY).map(|name| Canary {
            gateway: Key::new(place(labels::USE_WAYPOINT_CANARY_NAMESPACE), name),
            weight: weight_of(meta),
        });
        let waypoint = match label(labels::USE_WAYPOINT) {
            None => Asked::Unsaid,
            Some(labels::NO_WAYPOINT) => Asked::Declined,
            // An empty name is no word for "unsaid": nothing is called that, and the status says so.
            Some(name) => Asked::Gateway(Key::new(place(labels::USE_WAYPOINT_NAMESPACE), name)),
        };
        let annotation = |key: &str| meta.annotations.as_ref().and_then(|all| all.get(key)).map(String::as_str);
        Self {
            waypoint,
            canary,
            ingress: label(labels::INGRESS_USE_WAYPOINT).and_then(super::boolean),
            bypass: annotation(labels::WAYPOINT_MISSING) == Some(labels::BYPASS),
            // What is not understood lets nobody speak for others.
            believes: annotation(labels::CLIENT_IDENTITY).map(|word| word == labels::CLIENT_IDENTITY_BELIEVED),
        }
    }
}

fn weight_of(meta: &ObjectMeta) -> Option<u32> {
    let written = meta.annotations.as_ref().and_then(|all| all.get(labels::USE_WAYPOINT_CANARY_WEIGHT));
    let Some(text) = written else { return Some(0) };
    text.parse::<u32>().ok().filter(|weight| *weight <= 100)
}
