//! One end of a request as metrics describe it.
//!
//! In: a workload of the world, or what a peer's baggage says; an identity. Out: words. Parties are kept by who they are, so
//! that the connections of one client share their counters, and its counters are found by the party's address.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
};

use lateen_hbone::request::Baggage;
use lateen_state::workload::Workload;
use lateen_types::id::SpiffeId;
use metrics::SharedString;
use parking_lot::Mutex;

/// Who is at one end.
#[derive(Debug, Default)]
pub struct Party {
    workload: Option<Arc<Workload>>,
    baggage: Baggage,
    principal: Option<SpiffeId>,
}

/// In words; what is not known is absent.
#[derive(Debug, Default)]
pub(super) struct Words {
    pub(super) workload: Option<SharedString>,
    pub(super) canonical_service: Option<SharedString>,
    pub(super) canonical_revision: Option<SharedString>,
    pub(super) namespace: Option<SharedString>,
    pub(super) app: Option<SharedString>,
    pub(super) version: Option<SharedString>,
    pub(super) cluster: Option<SharedString>,
    pub(super) principal: Option<SharedString>,
}

impl Party {
    pub(super) fn principal(&self) -> Option<&SpiffeId> {
        self.principal.as_ref()
    }

    pub(super) fn words(&self) -> Words {
        let principal = self.principal.as_ref().map(|id| SharedString::from(id.to_string()));
        match &self.workload {
            Some(workload) => Words { principal, ..Words::of(workload) },
            None => Words { principal, ..Words::of_baggage(&self.baggage) },
        }
    }
}

impl Words {
    pub(super) fn of(workload: &Workload) -> Self {
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
            principal: Some(SharedString::from(workload.identity.to_string())),
        }
    }

    fn of_baggage(baggage: &Baggage) -> Self {
        let word = |field: &Option<String>| field.clone().map(SharedString::from);
        Self {
            workload: word(&baggage.workload),
            canonical_service: word(&baggage.service),
            canonical_revision: word(&baggage.version),
            namespace: word(&baggage.namespace),
            app: word(&baggage.service),
            version: word(&baggage.version),
            cluster: word(&baggage.cluster),
            principal: None,
        }
    }
}

/// All parties that somebody still speaks of.
#[derive(Debug, Default)]
pub(super) struct Parties(Mutex<HashMap<String, Weak<Party>>>);

/// So many are remembered before those that nobody speaks of are forgotten.
const REMEMBERED_MAX: usize = 4096;

impl Parties {
    /// The party of who these facts are about. Asked once for each connection.
    pub(super) fn get(
        &self,
        workload: Option<&Arc<Workload>>,
        baggage: &Baggage,
        principal: Option<&SpiffeId>,
    ) -> Arc<Party> {
        // A workload that changed is another one: its words may differ.
        let address = workload.map_or(0, |workload| Arc::as_ptr(workload).addr());
        let principal_text = principal.map_or("", |id| id.principal().as_str());
        let key = match workload {
            Some(_) => format!("{address}/{principal_text}"),
            None => format!("{baggage:?}/{principal_text}"),
        };
        let mut all = self.0.lock();
        if let Some(party) = all.get(&key).and_then(Weak::upgrade) {
            return party;
        }
        if all.len() >= REMEMBERED_MAX {
            all.retain(|_, party| party.strong_count() > 0);
        }
        let party = Arc::new(Party {
            workload: workload.cloned(),
            baggage: if workload.is_some() { Baggage::default() } else { baggage.clone() },
            principal: principal.cloned(),
        });
        all.insert(key, Arc::downgrade(&party));
        party
    }
}
