//! Who sees a service entry.
//!
//! In: what the mesh's settings say of namespaces, what the entry's `exportTo` says. Out: everybody, its own namespace, or
//! nobody. The wire knows no other answers, so a list of further namespaces is everybody.
//! Services of Kubernetes are seen by everybody whatever their `exportTo` says: to a proxy that does not know an address it
//! is none of the mesh's, so that hiding one would take its traffic out of mTLS and around its waypoint.

use lateen_types::label::Selector;
use lateen_wire::workload::service::Visibility;

use super::word::{Truth, Word};
use crate::facts::{Export, Namespace, ServiceEntry};

/// Who sees it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Visible {
    /// Everybody.
    #[default]
    Public,
    /// Its own namespace.
    Namespace,
    /// Nobody: it is as if it were not there.
    Nowhere,
}

/// What the mesh's settings say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sight {
    /// `serviceEntryVisibility`, which decides alone where it is set.
    pub policies: Option<Policies>,
    /// `defaultServiceExportTo`, for entries that say nothing.
    pub export: Option<Export>,
}

/// Policies in their order; the first that matches decides.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policies {
    /// Each with what it asks of the entry's namespace, all of it.
    pub each: Vec<Policy>,
    /// Where none matches.
    pub otherwise: Visible,
}

/// One policy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policy {
    /// What it decides.
    pub visible: Visible,
    /// What it asks of the entry's namespace.
    pub asks: Vec<Selector>,
}

impl Sight {
    /// Who sees an entry of this namespace.
    pub fn of(&self, entry: &ServiceEntry, space: Option<&Namespace>) -> Visible {
        let Some(policies) = &self.policies else {
            return match entry.export.or(self.export) {
                None | Some(Export::All) => Visible::Public,
                Some(Export::Own) => Visible::Namespace,
                Some(Export::Nobody) => Visible::Nowhere,
            };
        };
        let none = lateen_types::label::Labels::new();
        let labels = space.map_or(&none, |space| &space.labels);
        let matching = policies.each.iter().find(|policy| policy.asks.iter().all(|asked| asked.matches(labels)));
        matching.map_or(policies.otherwise, |policy| policy.visible)
    }

    /// What its author is told; nothing where everybody sees it and nobody asked.
    pub fn word(&self, visible: Visible) -> Option<Word> {
        let (truth, reason, message) = match visible {
            Visible::Public if self.policies.is_none() => return None,
            Visible::Public => (Truth::True, "Public", "all namespaces see it"),
            Visible::Namespace => (Truth::True, "Namespace", "only its own namespace sees it"),
            Visible::Nowhere => (Truth::True, "None", "nobody sees it, so it has no effect"),
        };
        let by = if self.policies.is_some() { "serviceEntryVisibility of the mesh config" } else { "exportTo" };
        Some(Word { kind: APPLIED, truth, reason, message: format!("{message}, by {by}") })
    }
}

/// The condition's type.
pub const APPLIED: &str = "istio.io/VisibilityApplied";

impl Visible {
    /// As the wire says it.
    pub fn on_wire(self) -> Visibility {
        match self {
            Self::Public => Visibility::Public,
            Self::Namespace | Self::Nowhere => Visibility::Namespace,
        }
    }
}
