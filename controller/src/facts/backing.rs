//! What is used of a BackendTLSPolicy.

use kube::core::DynamicObject;
use lateen_cluster::{
    api::{self, BackendTlsPolicySpec, ParentRef},
    store::Reading,
};

use super::{Age, attached};

/// How the services it names are sent to by TLS.
#[derive(Debug, Clone, PartialEq)]
pub struct BackendTls {
    /// The older one counts.
    pub age: Age,
    /// As written.
    pub spec: BackendTlsPolicySpec,
    /// The generation a status speaks of.
    pub generation: i64,
    /// The ancestors its status speaks of in our name, perhaps as an earlier process wrote it.
    pub told: Vec<ParentRef>,
}

impl BackendTls {
    /// Reads a policy of any served version.
    pub fn read(object: &DynamicObject) -> Reading<Self> {
        match api::spec_of("BackendTLSPolicy", object) {
            Ok(spec) => Reading::Value(Self {
                age: Age::of(&object.metadata),
                spec,
                generation: object.metadata.generation.unwrap_or_default(),
                told: attached::told(object, ("/status/ancestors", "ancestorRef")),
            }),
            Err(error) => Reading::Unreadable(error.to_string()),
        }
    }
}
