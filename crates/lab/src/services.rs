//! ClusterIPs on one node: what kube-proxy does, by one nft table in the node's namespace.
//!
//! In: Services and EndpointSlices as the API tells them. Out: the table, replaced as a whole when it changes.
//! Absent on purpose: node ports, load balancers, session affinity. The node needs a route for the service ranges (any
//! will do): a packet without one is refused before a rule sees it.

mod plan;
#[cfg(test)]
mod tests;

use std::time::Duration;

use futures::{Stream, StreamExt as _, stream::BoxStream};
use k8s_openapi::api::{core::v1::Service, discovery::v1::EndpointSlice};
use kube::{
    Api, Client,
    runtime::{
        WatchStreamExt as _,
        watcher::{self, watcher},
    },
};
use lateen_net::{netns::Netns, nft};
use lateen_rt::tasks::Tasks;
use tokio::time::MissedTickBehavior;

use crate::controllers::board::Shelf;

/// How soon a table that could not be written is tried again.
const RETRY_INTERVAL: Duration = Duration::from_secs(2);
/// How many events are taken before the table is planned.
const BATCH_MAX: usize = 512;

/// Starts keeping the table of `node`, whose namespace is `netns`; it ends with its task, the table with the namespace.
pub fn run(client: Client, netns: Netns, node: String, tasks: &Tasks) {
    tasks.spawn("lab services", keep(client, netns, node));
}

/// What the watches have told.
#[derive(Debug, Default)]
struct Seen {
    services: Shelf<Service>,
    slices: Shelf<EndpointSlice>,
}

async fn keep(client: Client, netns: Netns, node: String) {
    let mut events = events(&client).ready_chunks(BATCH_MAX);
    let mut retry = tokio::time::interval(RETRY_INTERVAL);
    retry.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut seen = Seen::default();
    let mut written = None;
    loop {
        tokio::select! {
            batch = events.next() => match batch {
                Some(batch) => batch.into_iter().for_each(|change| change(&mut seen)),
                None => return,
            },
            _ = retry.tick() => {}
        }
        if !(seen.services.is_listed() && seen.slices.is_listed()) {
            continue;
        }
        let table = plan::table(&plan::ports(seen.services.live(), seen.slices.live(), &node));
        if written.as_ref() == Some(&table) {
            continue;
        }
        match nft::transaction(&netns, &table).await {
            Ok(()) => written = Some(table),
            Err(error) => tracing::warn!(%error, node, "cannot write the node's service rules; trying again"),
        }
    }
}

type Change = Box<dyn FnOnce(&mut Seen) + Send>;

fn events(client: &Client) -> impl Stream<Item = Change> + Send + use<> {
    let services = watcher(Api::<Service>::all(client.clone()), watcher::Config::default()).default_backoff();
    let slices = watcher(Api::<EndpointSlice>::all(client.clone()), watcher::Config::default()).default_backoff();
    futures::stream::select(
        told(services, |event| Box::new(|seen: &mut Seen| seen.services.take(event))),
        told(slices, |event| Box::new(|seen: &mut Seen| seen.slices.take(event))),
    )
}

/// The events of one watch as changes; its failures are told and left to its back-off.
fn told<E: Send + 'static>(
    events: impl Stream<Item = Result<E, watcher::Error>> + Send + 'static,
    change: fn(E) -> Change,
) -> BoxStream<'static, Change> {
    let changes = events.filter_map(move |event| async move {
        event
            .map(change)
            .map_err(|error| tracing::warn!(%error, "a watch of the node's services failed; it restarts"))
            .ok()
    });
    changes.boxed()
}
