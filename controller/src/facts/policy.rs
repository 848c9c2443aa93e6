//! What is used of our own policies.

use std::collections::BTreeMap;

use kube::core::DynamicObject;
use lateen_cluster::{
    api::{self, AuthorizationPolicySpec, MutualTlsMode, PeerAuthenticationSpec},
    labels,
    store::Reading,
};
use lateen_types::label::Labels;

use super::{Age, boolean, labels_asked};

/// What is used of an authorization policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthorizationPolicy {
    /// The spec as written.
    pub spec: AuthorizationPolicySpec,
    /// Labels its pods must carry; an empty selector is one too, and selects all pods of the namespace.
    pub selector: Option<Labels>,
    /// Whether it is only to be evaluated.
    pub dry_run: bool,
    /// The generation a status speaks of.
    pub generation: i64,
}

impl AuthorizationPolicy {
    /// Reads a policy of any served version.
    pub fn read(object: &DynamicObject) -> Reading<Self> {
        let spec: AuthorizationPolicySpec = match api::spec_of("AuthorizationPolicy", object) {
            Ok(spec) => spec,
            Err(error) => return Reading::Unreadable(error.to_string()),
        };
        let dry_run = object.metadata.annotations.as_ref().and_then(|all| all.get(labels::DRY_RUN));
        Reading::Value(Self {
            selector: spec.selector.as_ref().map(|selector| selector.match_labels.clone().unwrap_or_default()),
            dry_run: dry_run.and_then(|value| boolean(value)).unwrap_or_default(),
            generation: object.metadata.generation.unwrap_or_default(),
            spec,
        })
    }

    /// Whether it is enforced at a waypoint.
    pub fn has_target(&self) -> bool {
        self.spec.target_ref.is_some() || self.spec.target_refs.as_ref().is_some_and(|refs| !refs.is_empty())
    }
}

/// What is used of a peer authentication.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerAuthentication {
    /// The older one wins on its level.
    pub age: Age,
    /// Labels its pods must carry, `None` for all pods.
    pub selector: Option<Labels>,
    /// For all ports.
    pub mode: MutualTlsMode,
    /// For single ports.
    pub ports: BTreeMap<u16, MutualTlsMode>,
    /// The generation a status speaks of.
    pub generation: i64,
}

impl PeerAuthentication {
    /// Reads a policy of any served version.
    pub fn read(object: &DynamicObject) -> Reading<Self> {
        let spec: PeerAuthenticationSpec = match api::spec_of("PeerAuthentication", object) {
            Ok(spec) => spec,
            Err(error) => return Reading::Unreadable(error.to_string()),
        };
        let mode = |mtls: &api::MutualTls| mtls.mode.unwrap_or_default();
        let mut ports = BTreeMap::new();
        for (text, mtls) in spec.port_level_mtls.iter().flatten() {
            match text.parse::<u16>() {
                Ok(port) if port != 0 => ports.insert(port, mode(mtls)),
                // A port nobody can listen on needs no rule; an unreadable one must not loosen the others.
                Ok(_) => None,
                Err(_) => {
                    return Reading::Unreadable(format!("portLevelMtls: {text:?} is no port; use 1 to 65535"));
                }
            };
        }
        Reading::Value(Self {
            age: Age::of(&object.metadata),
            selector: labels_asked(spec.selector.as_ref()),
            mode: spec.mtls.as_ref().map(mode).unwrap_or_default(),
            ports,
            generation: object.metadata.generation.unwrap_or_default(),
        })
    }
}
