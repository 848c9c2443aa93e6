//! A policy that is attached to objects: its waypoint enforces it, and no node proxy does.
//!
//! In: the policy, what is known of each object it names. Out: the condition `WaypointAccepted`.

use lateen_cluster::{api::TargetRef, store::Key};

use super::{
    Mesh,
    authorization::l7::Derived,
    word::{Truth, Word},
};
use crate::facts::AuthorizationPolicy;

/// What is known of an object a policy names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// It is there, and a waypoint will do it.
    Bound,
    /// It is there, without waypoint.
    Unbound,
    /// There is none.
    Absent,
}

/// What a policy may be attached to.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Ask {
    /// A Kubernetes service.
    Service(Key),
    /// A service entry.
    ServiceEntry(Key),
    /// A waypoint itself.
    Gateway(Key),
    /// All waypoints of this class.
    GatewayClass(String),
}

/// The condition's type.
const ACCEPTED: &str = "WaypointAccepted";

/// The references of a policy.
pub fn references(policy: &AuthorizationPolicy) -> impl Iterator<Item = &TargetRef> {
    policy.spec.target_ref.iter().chain(policy.spec.target_refs.iter().flatten())
}

/// What the policy's author is told, with what of it waypoints cannot enforce.
pub fn word_with(lost: &Derived, word: Word) -> Word {
    let Some(consequence) = lost.consequence.filter(|_| word.truth == Truth::True) else { return word };
    let message = format!("{}; but waypoints cannot enforce {}: {consequence}", word.message, lost.lost.join("; "));
    let reason = if word.reason == "Accepted" { "UnsupportedValue" } else { word.reason };
    Word { reason, message, ..word }
}

/// What the policy's author is told of its targets.
pub fn word(mesh: &Mesh, key: &Key, policy: &AuthorizationPolicy, look: &dyn Fn(&Ask) -> Target) -> Word {
    let results: Vec<(String, Outcome)> = references(policy)
        .map(|reference| (format!("{}/{}", reference.kind, reference.name), outcome(mesh, key, reference, look)))
        .collect();
    let told = |truth, reason, message| Word { kind: ACCEPTED, truth, reason, message };
    if let [(name, only)] = results.as_slice() {
        let truth = if *only == Outcome::Accepted { Truth::True } else { Truth::False };
        return told(truth, only.reason(), only.message(name));
    }
    let bad: Vec<String> =
        results.iter().filter(|(_, one)| *one != Outcome::Accepted).map(|(name, one)| one.message(name)).collect();
    match (bad.len(), results.len()) {
        (0, _) => told(Truth::True, "Accepted", "attached to all targets".to_owned()),
        (bad_count, all) if bad_count == all => told(Truth::False, "Invalid", bad.join("; ")),
        _ => told(Truth::True, "PartiallyInvalid", bad.join("; ")),
    }
}

/// What the policy may be attached to; references that are none, or lead elsewhere, are passed over.
pub fn asks(key: &Key, policy: &AuthorizationPolicy) -> impl Iterator<Item = Ask> {
    references(policy).filter(|reference| is_own(key, reference)).filter_map(|reference| ask(key, reference))
}

/// A reference into another namespace is none.
fn is_own(key: &Key, reference: &TargetRef) -> bool {
    reference.namespace.as_deref().is_none_or(|namespace| namespace.is_empty() || *namespace == *key.namespace)
}

fn ask(key: &Key, reference: &TargetRef) -> Option<Ask> {
    let named = Key::new(&key.namespace, &reference.name);
    match (reference.group.as_deref().unwrap_or_default(), reference.kind.as_str()) {
        ("" | "core", "Service") => Some(Ask::Service(named)),
        ("networking.istio.io", "ServiceEntry") => Some(Ask::ServiceEntry(named)),
        ("gateway.networking.k8s.io", "Gateway") => Some(Ask::Gateway(named)),
        ("gateway.networking.k8s.io", "GatewayClass") => Some(Ask::GatewayClass(reference.name.clone())),
        _ => None,
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Accepted,
    NotBound,
    NotFound,
    OtherNamespace,
    NoSuchKind,
    NotRoot,
    OtherClass,
}

impl Outcome {
    fn reason(self) -> &'static str {
        match self {
            Self::Accepted => "Accepted",
            Self::NotBound => "AncestorNotBound",
            Self::NotFound => "TargetNotFound",
            Self::OtherNamespace | Self::NoSuchKind | Self::NotRoot | Self::OtherClass => "Invalid",
        }
    }

    fn message(self, name: &str) -> String {
        let why = match self {
            Self::Accepted => "attached",
            Self::NotBound => {
                "is not bound to a waypoint, so that nothing enforces the policy; use istio.io/use-waypoint"
            }
            Self::NotFound => "was not found in the policy's namespace",
            Self::OtherNamespace => "may not be in another namespace than the policy",
            Self::NoSuchKind => "is none of Service, ServiceEntry, Gateway and GatewayClass of their groups",
            Self::NotRoot => "may only be named by a policy of the root namespace",
            Self::OtherClass => "must be istio-waypoint or lateen-waypoint",
        };
        format!("{name} {why}")
    }
}

fn outcome(mesh: &Mesh, key: &Key, reference: &TargetRef, look: &dyn Fn(&Ask) -> Target) -> Outcome {
    if !is_own(key, reference) {
        return Outcome::OtherNamespace;
    }
    let Some(ask) = ask(key, reference) else { return Outcome::NoSuchKind };
    if let Ask::GatewayClass(class) = &ask {
        if *key.namespace != *mesh.root_namespace {
            return Outcome::NotRoot;
        }
        if !["istio-waypoint", "lateen-waypoint"].contains(&class.as_str()) {
            return Outcome::OtherClass;
        }
    }
    match look(&ask) {
        Target::Bound => Outcome::Accepted,
        Target::Unbound => Outcome::NotBound,
        Target::Absent => Outcome::NotFound,
    }
}
