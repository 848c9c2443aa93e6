//! Services and their EndpointSlices, as the API tells them.
//!
//! In: a client. Out: a value that is up to date after every [`Followed::next`].
//! Absent on purpose: what is made of them (`services`, `dns`).

use futures::{Stream, StreamExt as _, stream::BoxStream};
use k8s_openapi::api::{core::v1::Service, discovery::v1::EndpointSlice};
use kube::{
    Api, Client,
    runtime::{
        WatchStreamExt as _,
        watcher::{self, watcher},
    },
};

use crate::controllers::board::Shelf;

/// How many events are taken at once.
const BATCH_MAX: usize = 512;

/// What the watches have told.
#[derive(Debug, Default)]
pub struct Seen {
    /// Every Service.
    pub services: Shelf<Service>,
    /// Every EndpointSlice.
    pub slices: Shelf<EndpointSlice>,
}

impl Seen {
    /// Whether both kinds have been listed once.
    pub fn is_complete(&self) -> bool {
        self.services.is_listed() && self.slices.is_listed()
    }
}

type Change = Box<dyn FnOnce(&mut Seen) + Send>;

/// Both watches and what they have told.
pub struct Followed {
    seen: Seen,
    changes: BoxStream<'static, Vec<Change>>,
}

impl Followed {
    /// Begins to follow.
    pub fn with(client: &Client) -> Self {
        let services = watcher(Api::<Service>::all(client.clone()), watcher::Config::default()).default_backoff();
        let slices = watcher(Api::<EndpointSlice>::all(client.clone()), watcher::Config::default()).default_backoff();
        let changes = futures::stream::select(
            told(services, |event| Box::new(|seen: &mut Seen| seen.services.take(event))),
            told(slices, |event| Box::new(|seen: &mut Seen| seen.slices.take(event))),
        );
        Self { seen: Seen::default(), changes: changes.ready_chunks(BATCH_MAX).boxed() }
    }

    /// Waits for the next events. May be dropped while it waits; nothing is lost then.
    pub async fn next(&mut self) {
        match self.changes.next().await {
            Some(batch) => batch.into_iter().for_each(|change| change(&mut self.seen)),
            // Watches restart themselves; a stream that ends would be a bug of theirs, and spinning would hide it.
            None => std::future::pending().await,
        }
    }

    /// What has been told.
    pub fn seen(&self) -> &Seen {
        &self.seen
    }
}

/// The events of one watch as changes; its failures are told and left to its back-off.
fn told<E: Send + 'static>(
    events: impl Stream<Item = Result<E, watcher::Error>> + Send + 'static,
    change: fn(E) -> Change,
) -> BoxStream<'static, Change> {
    let changes = events.filter_map(move |event| async move {
        event.map(change).map_err(|error| tracing::warn!(%error, "a watch of services failed; it restarts")).ok()
    });
    changes.boxed()
}
