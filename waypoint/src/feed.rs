//! The control plane's resources into the book and the world.
//!
//! In: responses of the delta stream. Out: one batch for each store, which resources were refused, and what is asked for
//! next: whoever is sent to must be known. Absent on purpose: the protocol (see `lateen-xds`), what resources mean (see
//! `book::compile` and `lateen-state`).

use lateen_state::{
    decode::{self, Refused},
    index::Change,
    wait::{Asked, Demands},
    world::WorldStore,
};
use lateen_wire::{discovery::Resource, type_url};
use lateen_xds::client::{Handler, Rejected, Told};

use crate::book::{self, BookStore, Kind};

/// Feeds what a waypoint knows.
#[derive(Debug, Clone)]
pub struct Feed {
    /// What we do.
    pub book: BookStore,
    /// Whom there is.
    pub world: WorldStore,
    /// What is asked for.
    pub asked: Asked,
}

impl Feed {
    /// How others ask for what the world does not know.
    pub fn demands(&self) -> Demands {
        Demands::On(self.asked.clone())
    }

    fn addresses(&self, told: Vec<Told>, removed: Vec<String>) -> Vec<Rejected> {
        let mut rejected = Vec::new();
        let mut changes = Vec::with_capacity(told.len() + removed.len());
        for one in told {
            match decode::address_named(&one.name, bytes(&one.resource)) {
                Ok(change) => changes.push(change),
                Err(error) => {
                    let (resource, reason) = (one.resource, error.to_string());
                    let refused = Refused {
                        name: &resource.name,
                        aliases: &resource.aliases,
                        bytes: bytes(&resource),
                        reason: &reason,
                    };
                    changes.extend(decode::unreadable_address(&refused));
                    rejected.push(Rejected { name: resource.name, reason });
                }
            }
        }
        changes.extend(removed.into_iter().map(Change::RemoveAddress));
        self.world.apply(changes);
        metrics::gauge!("istio_xds_unusable").set(self.world.load().unusable_count() as f64);
        rejected
    }

    fn configured(&self, kind: Kind, told: Vec<Told>, removed: Vec<String>) -> Vec<Rejected> {
        let mut rejected = Vec::new();
        let mut changes = Vec::with_capacity(told.len() + removed.len());
        for one in told {
            match book::compile::resource(kind, &one.name, bytes(&one.resource)) {
                Ok(change) => changes.push(change),
                Err(error) => {
                    changes.extend(book::compile::unreadable(kind, &one.name, bytes(&one.resource)));
                    rejected.push(Rejected { name: one.resource.name, reason: error.to_string() });
                }
            }
        }
        changes.extend(removed.into_iter().map(|name| book::Change::Removed { kind, name: name.into() }));
        for change in &changes {
            self.ask_for(change);
        }
        self.book.apply(changes);
        rejected
    }

    /// Endpoints are needed before the first request wants one.
    fn ask_for(&self, change: &book::Change) {
        match change {
            book::Change::Service(service) => self.asked.inbox().push(service.key.to_string()),
            book::Change::Destination { service, .. } => self.asked.inbox().push(service.to_string()),
            book::Change::Proxy(_)
            | book::Change::Credential { .. }
            | book::Change::Policy { .. }
            | book::Change::PolicyIfNew { .. }
            | book::Change::Removed { .. } => {}
        }
    }
}

impl Handler for Feed {
    fn apply(&self, type_url: &str, resources: Vec<Told>, removed: Vec<String>) -> Result<(), Vec<Rejected>> {
        let kind = Kind::ALL.into_iter().find(|kind| kind.type_url() == type_url);
        let rejected = match (kind, type_url) {
            (Some(kind), _) => self.configured(kind, resources, removed),
            (None, type_url::ADDRESS) => self.addresses(resources, removed),
            (None, other) => {
                tracing::warn!(type_url = other, "resources of a type we did not ask for are passed over");
                Vec::new()
            }
        };
        metrics::counter!("istio_xds_rejected").increment(rejected.len() as u64);
        if rejected.is_empty() { Ok(()) } else { Err(rejected) }
    }

    fn answered(&self, _: &str, keys: &[String]) {
        self.asked.answered(keys);
    }
}

fn bytes(resource: &Resource) -> &[u8] {
    resource.resource.as_ref().map_or(&[][..], |any| &any.value)
}
