//! How a proxy sends to a service: its endpoints by port and subset, with every default filled in.
//!
//! ```text
//! rules that name the host ─► lookup: the tier and host that count, merged ─► blocks of a port and subset ─► clusters
//! ```
//! In: the service, the destination rules that name it, who sends. Out: `lateen.proxy.Destination`, what it needs of
//! Secrets. Absent on purpose: endpoints themselves, which come as workloads.

mod balance;
mod blocks;
mod lookup;
mod pool;
mod tls;

use std::{collections::BTreeSet, time::Duration};

use lateen_cluster::store::Key;
use lateen_wire::proxy as wire;

pub use balance::label_keys;
pub use lookup::{Asker, Merged, lookup};
pub use tls::{Authority, Backing};

use self::blocks::Blocks;
use super::{
    attached::Problem,
    backend::{Backend, Port},
    credential::Wanted,
};
use crate::facts::{Lookup, Source};

/// What a destination depends on besides its service.
#[derive(Clone, Copy)]
pub struct Around<'a> {
    /// The proxy's Gateway, in whose namespace its Secrets are.
    pub gateway: &'a Key,
    /// What is known of Secrets.
    pub look: &'a dyn Fn(&Source) -> Lookup,
    /// Where no rule says how long to wait for a connection.
    pub connect_timeout: Duration,
    /// What the destination rules say.
    pub merged: Option<&'a Merged<'a>>,
    /// By which labels of workloads proxies may choose.
    pub label_keys: &'a BTreeSet<String>,
    /// Whether it is sent to through its own waypoint, which does what destination rules say.
    pub through_waypoint: bool,
    /// What the Gateway shows where a backend TLS policy asks for TLS; or why it cannot be had.
    pub client: Option<&'a Result<Wanted, Problem>>,
    /// What backend TLS policies say, by port.
    pub backing: &'a dyn Fn(&Port) -> Option<Backing>,
}

/// The destination, with the Secrets that proxies need for it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Made {
    /// The message.
    pub destination: wire::Destination,
    /// What it names.
    pub wanted: BTreeSet<Wanted>,
}

/// How the proxy sends to `backend`.
pub fn derive(backend: &Backend, around: Around<'_>) -> Made {
    let mut made = Made {
        destination: wire::Destination {
            namespace: backend.name.namespace.to_string(),
            hostname: backend.name.hostname.to_string(),
            clusters: Vec::new(),
        },
        wanted: BTreeSet::new(),
    };
    for port in &backend.ports {
        let whole = Blocks::of(around.merged.and_then(|merged| merged.policy), None, port.number);
        let all = cluster(backend, port, (&whole, around), &mut made.wanted);
        made.destination.clusters.push(all);
        for subset in around.merged.iter().flat_map(|merged| &merged.subsets) {
            let own = subset.traffic_policy.as_ref();
            let blocks = Blocks::of(around.merged.and_then(|merged| merged.policy), own, port.number);
            let mut part = cluster(backend, port, (&blocks, around), &mut made.wanted);
            if let Some(label) = subset.labels.keys().find(|label| !around.label_keys.contains(*label)) {
                part.unusable = format!("no further labels are chosen by, and {label} came too late");
            }
            made.destination.clusters.push(wire::Cluster {
                subset: subset.name.clone(),
                labels: subset.labels.clone(),
                ..part
            });
        }
    }
    made
}

fn cluster(
    backend: &Backend,
    port: &Port,
    (blocks, around): (&Blocks<'_>, Around<'_>),
    wanted: &mut BTreeSet<Wanted>,
) -> wire::Cluster {
    if around.through_waypoint {
        let pool = Some(pool::derive(blocks.connection_pool, around.connect_timeout));
        return wire::Cluster {
            port: port.number.into(),
            protocol: port.protocol.into(),
            policy: Some(wire::TrafficPolicy { pool, ..wire::TrafficPolicy::default() }),
            resolution: wire::Resolution::OfWaypoint.into(),
            ..wire::Cluster::default()
        };
    }
    let backing = (around.backing)(port);
    let sender = tls::Sender { gateway: around.gateway, look: around.look, client: around.client };
    let tls = tls::derive(backend, (blocks.tls, backing), sender);
    wanted.extend(tls.wanted);
    let policy = wire::TrafficPolicy {
        load_balancer: Some(balance::derive(backend, blocks)),
        pool: Some(pool::derive(blocks.connection_pool, around.connect_timeout)),
        outlier: blocks.outlier_detection.map(pool::outlier),
        tls: tls.tls,
        proxy_protocol: blocks.proxy_protocol.map_or(0, |asked| pool::proxy_protocol(asked).into()),
        tunnel: blocks.tunnel.map(pool::tunnel),
        retry_budget: blocks.retry_budget.map(pool::retry_budget),
    };
    wire::Cluster {
        port: port.number.into(),
        protocol: port.protocol.into(),
        policy: Some(policy),
        resolution: backend.resolution.into(),
        unusable: tls.unusable,
        ..wire::Cluster::default()
    }
}

/// A duration on the wire.
pub(crate) fn on_wire(length: std::time::Duration) -> prost_types::Duration {
    prost_types::Duration {
        seconds: i64::try_from(length.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(length.subsec_nanos()).unwrap_or_default(),
    }
}
