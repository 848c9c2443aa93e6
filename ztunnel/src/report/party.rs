//! One end of a connection as metrics and the access record describe it.
//!
//! In: a workload of the world, or what a peer's baggage says. Out: words. Absent on purpose: counting.

use std::sync::Arc;

use lateen_hbone::request::Baggage;
use lateen_state::workload::Workload;
use lateen_telemetry::access::End;
use lateen_types::id::SpiffeId;
use metrics::SharedString;

/// Who is at one end; what is not known is absent.
#[derive(Debug, Clone, Default)]
pub struct Party {
    /// Whether anything at all is known: decides whether localities are printed.
    pub known: bool,
    pub workload: Option<SharedString>,
    pub canonical_service: Option<SharedString>,
    pub canonical_revision: Option<SharedString>,
    pub namespace: Option<SharedString>,
    pub app: Option<SharedString>,
    pub version: Option<SharedString>,
    pub cluster: Option<SharedString>,
    pub region: Option<SharedString>,
    pub zone: Option<SharedString>,
    /// Proven by mutual TLS.
    pub identity: Option<SpiffeId>,
    /// The identity in metrics, which for a destination is the expected one, even in plain.
    pub principal: Option<SpiffeId>,
    /// What the access record calls it: the pod, else the canonical service.
    name: Option<String>,
}

impl Party {
    /// Somebody the world knows.
    pub fn workload(workload: &Workload) -> Self {
        let word = |text: &Arc<str>| (!text.is_empty()).then(|| SharedString::from(text.clone()));
        let text = |text: &str| (!text.is_empty()).then(|| SharedString::from(text.to_owned()));
        let name = [&workload.name, &workload.canonical_name].into_iter().find(|name| !name.is_empty());
        Self {
            known: true,
            workload: word(&workload.workload_name),
            canonical_service: word(&workload.canonical_name),
            canonical_revision: word(&workload.canonical_revision),
            namespace: text(workload.namespace.as_str()),
            app: word(&workload.canonical_name),
            version: word(&workload.canonical_revision),
            cluster: text(workload.cluster.as_str()),
            region: text(&workload.locality.region),
            zone: text(&workload.locality.zone),
            identity: None,
            principal: None,
            name: name.map(ToString::to_string),
        }
    }

    /// Somebody who says who they are.
    pub fn baggage(baggage: &Baggage) -> Self {
        let word = |field: &Option<String>| field.clone().map(SharedString::from);
        Self {
            known: *baggage != Baggage::default(),
            workload: word(&baggage.workload),
            canonical_service: word(&baggage.service),
            canonical_revision: word(&baggage.version),
            namespace: word(&baggage.namespace),
            app: word(&baggage.workload),
            version: word(&baggage.version),
            cluster: word(&baggage.cluster),
            region: word(&baggage.region),
            zone: word(&baggage.zone),
            identity: None,
            principal: None,
            name: baggage.service.clone(),
        }
    }

    /// The same, proven to be `identity`.
    pub fn proven(mut self, identity: Option<SpiffeId>) -> Self {
        self.principal.clone_from(&identity);
        self.identity = identity;
        self
    }

    /// The same, expected but not proven to be `identity`.
    pub fn expected(mut self, identity: Option<SpiffeId>) -> Self {
        self.principal = identity;
        self
    }

    /// As the access record has it.
    pub fn end(&self) -> End {
        End {
            workload: self.name.clone(),
            namespace: self.namespace.as_deref().map(str::to_owned),
            identity: self.identity.clone(),
            cluster: self.cluster.as_deref().map(str::to_owned),
        }
    }
}
