//! One end of a connection as metrics and the access record describe it.
//!
//! In: a workload of the world, or what a peer's baggage says. Out: words. A party holds whom it describes and makes
//! words when they are asked for: most connections are counted by handles that are already there, and need none.
//! Absent on purpose: counting.

use std::sync::Arc;

use lateen_hbone::request::Baggage;
use lateen_state::workload::Workload;
use lateen_telemetry::access::End;
use lateen_types::id::SpiffeId;
use metrics::SharedString;

/// Who is at one end.
#[derive(Debug, Clone, Default)]
pub struct Party {
    who: Who,
    /// The identity in metrics, which for a destination is the expected one, even in plain.
    principal: Option<SpiffeId>,
    /// Whether mutual TLS proved it.
    proven: bool,
    /// Whom it calls for, where it is a waypoint that is believed.
    client: Option<SpiffeId>,
}

#[derive(Debug, Clone, Default)]
pub(super) enum Who {
    /// Nobody knows.
    #[default]
    Unknown,
    /// Somebody the world knows.
    Workload(Arc<Workload>),
    /// Somebody who says who they are.
    Baggage(Box<Baggage>),
}

/// A party in words; what is not known is absent.
#[derive(Debug, Default)]
pub(super) struct Words {
    pub(super) workload: Option<SharedString>,
    pub(super) canonical_service: Option<SharedString>,
    pub(super) canonical_revision: Option<SharedString>,
    pub(super) namespace: Option<SharedString>,
    pub(super) app: Option<SharedString>,
    pub(super) version: Option<SharedString>,
    pub(super) cluster: Option<SharedString>,
    pub(super) region: Option<SharedString>,
    pub(super) zone: Option<SharedString>,
}

impl Party {
    /// Somebody the world knows.
    pub fn workload(workload: &Arc<Workload>) -> Self {
        Self { who: Who::Workload(workload.clone()), principal: None, proven: false, client: None }
    }

    /// Somebody who says who they are.
    pub fn baggage(baggage: &Baggage) -> Self {
        let who = if *baggage == Baggage::default() { Who::Unknown } else { Who::Baggage(Box::new(baggage.clone())) };
        Self { who, principal: None, proven: false, client: None }
    }

    /// The same, proven to be `identity`.
    pub fn proven(self, identity: Option<SpiffeId>) -> Self {
        Self { principal: identity, proven: true, ..self }
    }

    /// The same, expected but not proven to be `identity`.
    pub fn expected(self, identity: Option<SpiffeId>) -> Self {
        Self { principal: identity, proven: false, ..self }
    }

    /// The same, calling for `client`.
    pub fn on_behalf_of(self, client: Option<SpiffeId>) -> Self {
        Self { client, ..self }
    }

    pub(super) fn who(&self) -> &Who {
        &self.who
    }

    pub(super) fn principal(&self) -> Option<&SpiffeId> {
        self.principal.as_ref()
    }

    /// Whether anything at all is known: decides whether localities are printed.
    pub(super) fn is_known(&self) -> bool {
        !matches!(self.who, Who::Unknown)
    }

    /// As the metrics have it.
    pub(super) fn words(&self) -> Words {
        match &self.who {
            Who::Unknown => Words::default(),
            Who::Workload(workload) => Words::of_workload(workload),
            Who::Baggage(baggage) => Words::of_baggage(baggage),
        }
    }

    /// As the access record has it: the pod, else the canonical service.
    pub(super) fn end(&self) -> End {
        let identity = self.principal.clone().filter(|_| self.proven);
        let on_behalf_of = self.client.clone();
        match &self.who {
            Who::Unknown => End { identity, on_behalf_of, ..End::default() },
            Who::Workload(of) => End {
                workload: [&of.name, &of.canonical_name].into_iter().find(|name| !name.is_empty()).cloned(),
                namespace: (!of.namespace.as_str().is_empty()).then(|| of.namespace.clone()),
                identity,
                cluster: (!of.cluster.as_str().is_empty()).then(|| of.cluster.clone()),
                on_behalf_of,
            },
            Who::Baggage(of) => End {
                workload: of.service.as_deref().map(Into::into),
                namespace: of.namespace.as_deref().map(Into::into),
                identity,
                cluster: of.cluster.as_deref().map(Into::into),
                on_behalf_of,
            },
        }
    }
}

impl Words {
    fn of_workload(workload: &Workload) -> Self {
        let word = |text: &Arc<str>| (!text.is_empty()).then(|| SharedString::from(text.clone()));
        let text = |text: &str| (!text.is_empty()).then(|| SharedString::from(text.to_owned()));
        Self {
            workload: word(&workload.workload_name),
            canonical_service: word(&workload.canonical_name),
            canonical_revision: word(&workload.canonical_revision),
            namespace: text(workload.namespace.as_str()),
            app: word(&workload.canonical_name),
            version: word(&workload.canonical_revision),
            cluster: text(workload.cluster.as_str()),
            region: text(&workload.place.locality.region),
            zone: text(&workload.place.locality.zone),
        }
    }

    fn of_baggage(baggage: &Baggage) -> Self {
        let word = |field: &Option<String>| field.clone().map(SharedString::from);
        Self {
            workload: word(&baggage.workload),
            canonical_service: word(&baggage.service),
            canonical_revision: word(&baggage.version),
            namespace: word(&baggage.namespace),
            app: word(&baggage.workload),
            version: word(&baggage.version),
            cluster: word(&baggage.cluster),
            region: word(&baggage.region),
            zone: word(&baggage.zone),
        }
    }
}
