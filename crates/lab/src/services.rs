//! ClusterIPs on one node: what kube-proxy does, by one nft table in the node's namespace.
//!
//! In: Services and EndpointSlices as the API tells them. Out: the table, replaced as a whole when it changes.
//! Absent on purpose: node ports, load balancers, session affinity. The node needs a route for the service ranges (any
//! will do): a packet without one is refused before a rule sees it.

mod plan;
#[cfg(test)]
mod tests;

use std::time::Duration;

use kube::Client;
use lateen_net::{netns::Netns, nft};
use lateen_rt::tasks::Tasks;
use tokio::time::MissedTickBehavior;

use crate::followed::Followed;

/// How soon a table that could not be written is tried again.
const RETRY_INTERVAL: Duration = Duration::from_secs(2);

/// Starts keeping the table of `node`, whose namespace is `netns`; it ends with its task, the table with the namespace.
pub fn run(client: &Client, netns: Netns, node: String, tasks: &Tasks) {
    tasks.spawn("lab services", keep(Followed::with(client), netns, node));
}

async fn keep(mut followed: Followed, netns: Netns, node: String) {
    let mut retry = tokio::time::interval(RETRY_INTERVAL);
    retry.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut written = None;
    loop {
        tokio::select! {
            () = followed.next() => {}
            _ = retry.tick() => {}
        }
        let seen = followed.seen();
        if !seen.is_complete() {
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
