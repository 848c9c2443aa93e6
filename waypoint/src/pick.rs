//! The endpoint of one attempt.
//!
//! In: a cluster, the world as of now, what was tried before. Out: an endpoint, with the health that its outcome is told
//! to. Absent on purpose: how endpoints are compared (see `balance`).

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use http::{HeaderMap, StatusCode, request::Parts};
use lateen_types::name::NamespacedHostname;
use rand::RngExt as _;

use crate::{
    arrival::{Arrival, Target},
    book::{Cluster, Protocol, TrafficPolicy, Upstream, cluster::Resolution},
    lane::Lane,
    request::Context,
    upstream::{endpoint::Endpoint, failure::Failure},
};

/// An endpoint that was chosen.
#[derive(Debug, Clone)]
pub struct Picked {
    /// Where to.
    pub endpoint: Endpoint,
}

impl Picked {
    /// It answered.
    pub fn answered(&self, _cluster: &Cluster, _status: StatusCode, _headers: &HeaderMap) {}

    /// It did not.
    pub fn failed(&self, _cluster: &Cluster, _why: &Failure) {}
}

/// Chooses for one attempt.
pub fn pick(context: &Context, cluster: &Cluster, _parts: &Parts, tried: &[Picked]) -> Result<Picked, Failure> {
    choose(&context.on.lane, cluster, (&context.on.arrival, context.destination()), tried)
}

/// Chooses for one connection.
pub fn for_connection(lane: &Lane, cluster: &Cluster, arrival: &Arrival) -> Result<Picked, Failure> {
    choose(lane, cluster, (arrival, arrival.destination()), &[])
}

fn choose(
    lane: &Lane,
    cluster: &Cluster,
    (arrival, destination): (&Arrival, SocketAddr),
    tried: &[Picked],
) -> Result<Picked, Failure> {
    let world = lane.shared.world.load();
    if let Target::Workload { uid, addr } = &arrival.target {
        let workload = world.workload(uid).ok_or(Failure::NoHealthyUpstream)?;
        return Ok(Picked { endpoint: Endpoint::workload(workload, *addr) });
    }
    match cluster.resolution {
        Resolution::Endpoints => {}
        Resolution::Original => return Ok(Picked { endpoint: Endpoint::bare(destination) }),
        Resolution::RequestHost => return Err(Failure::NoHealthyUpstream),
    }
    let service = world.service(&cluster.upstream.service).ok_or(Failure::NoHealthyUpstream)?;
    let all: Vec<Endpoint> =
        world.endpoints(service).filter_map(|one| Endpoint::of(one, service, cluster.upstream.port)).collect();
    let fresh: Vec<&Endpoint> =
        all.iter().filter(|one| tried.iter().all(|tried| tried.endpoint.key != one.key)).collect();
    let among: Vec<&Endpoint> = if fresh.is_empty() { all.iter().collect() } else { fresh };
    match among.len() {
        0 => Err(Failure::NoHealthyUpstream),
        count => Ok(Picked { endpoint: among[rand::rng().random_range(0..count)].clone() }),
    }
}

/// The cluster of workloads that are called themselves: every default, and what is spoken is what the client speaks.
pub fn direct(target: &Target) -> Option<(Arc<Upstream>, Arc<Cluster>)> {
    let Target::Workload { uid, addr } = target else { return None };
    let service = NamespacedHostname { namespace: "".into(), hostname: uid.as_str().into() };
    let upstream = Upstream { service, port: addr.port(), subset: "".into() };
    let cluster = Cluster {
        upstream: upstream.clone(),
        labels: BTreeMap::new(),
        protocol: Protocol::Auto,
        policy: TrafficPolicy::default(),
        resolution: Resolution::Endpoints,
        unusable: None,
    };
    Some((Arc::new(upstream), Arc::new(cluster)))
}
