//! One thread of the data path: everything its connections and requests need.
//!
//! In: what all threads share. Out: handles for the rooms. Nothing of a connection moves to another thread, so what is here
//! is locked by nobody else but where limits are exact over all threads (see `upstream::pool`). Absent on purpose: what
//! happens to a connection.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use http::HeaderValue;
use lateen_hbone::{
    pool::{Pool, PoolLimits},
    request::{Baggage, WorkloadKind},
    settings::Settings as Hbone,
};
use lateen_identity::keeper::Keeper;
use lateen_rt::{drain::Drain, tasks::Tasks};
use lateen_state::{wait::Demands, world::WorldStore};
use lateen_types::{
    id::{Namespace, SpiffeId},
    name::{NetworkId, WorkloadUid},
};

use tokio::time::Instant;

use crate::{
    balance::Spot,
    book::BookStore,
    config::Place,
    listen::Configs,
    report::Reporting,
    upstream::{
        dial::{DialError, HopKey, Met},
        pool::Clusters,
        tls::Origins,
    },
};

/// What all threads share.
pub struct Shared {
    /// Who we are and where.
    pub own: Own,
    /// What we do.
    pub book: BookStore,
    /// Whom there is.
    pub world: WorldStore,
    /// How what the world does not know is asked for.
    pub demands: Demands,
    /// Our certificate.
    pub keeper: Keeper,
    /// TLS with the outside, as it was made ready.
    pub tls: Configs,
    /// The state of clusters, which outlives configurations.
    pub clusters: Clusters,
    /// How TLS of destinations is begun.
    pub origins: Origins,
    /// Tunnels' numbers.
    pub hbone: Hbone,
    /// Where we are among the endpoints.
    pub here: ArcSwap<Spot>,
    /// When the process began; a clock that never goes back.
    pub epoch: Instant,
    /// Where requests are told of.
    pub reporting: Arc<Reporting>,
    /// Set once the process is about to end: connections are told to go elsewhere with their next answer.
    pub leaving: AtomicBool,
}

/// Who we are and where.
#[derive(Debug, Clone)]
pub struct Own {
    /// Our identity.
    pub identity: SpiffeId,
    /// Our own workload's name in the mesh.
    pub workload: Option<WorkloadUid>,
    /// Our namespace.
    pub namespace: Namespace,
    /// Our network.
    pub network: NetworkId,
    /// What we say of ourselves on each tunnel.
    pub baggage: Option<HeaderValue>,
}

impl Shared {
    /// The time since the process began.
    pub fn now(&self) -> Duration {
        self.epoch.elapsed()
    }

    /// Works out anew where this proxy is: where its own workload is said to be, with the labels its Gateway gives it.
    pub fn find_itself(&self) {
        let world = self.world.load();
        let own = self.own.workload.as_ref().and_then(|uid| world.workload(uid));
        let mut spot = own.map_or_else(Spot::default, |workload| Spot::of(workload));
        if spot.network.is_empty() {
            spot.network = self.own.network.as_str().into();
        }
        if let Some(proxy) = self.book.peek().proxy() {
            spot.labels.extend(proxy.options.labels.iter().map(|(key, value)| (key.clone(), value.clone())));
        }
        if **self.here.load() != spot {
            self.here.store(Arc::new(spot));
        }
    }
}

impl Own {
    /// As a pod is placed.
    pub fn of(place: &Place) -> Self {
        let baggage = Baggage {
            cluster: Some(place.cluster.as_str().to_owned()),
            namespace: Some(place.namespace.as_str().to_owned()),
            kind: WorkloadKind::Deployment,
            workload: Some(place.gateway.clone()),
            service: Some(place.gateway.clone()),
            version: Some("latest".to_owned()),
            ..Baggage::default()
        };
        Self {
            identity: place.identity.clone(),
            workload: Some(format!("{}//Pod/{}/{}", place.cluster, place.namespace, place.pod).into()),
            namespace: place.namespace.clone(),
            network: place.network.clone(),
            baggage: baggage.to_header(),
        }
    }
}

/// One thread.
pub struct Lane {
    /// Its number, from 0.
    pub number: usize,
    /// What all threads share.
    pub shared: Arc<Shared>,
    /// Connections that carry our tunnels.
    pub tunnels: Pool<HopKey, Met, DialError>,
    /// Owns the thread's tasks.
    pub tasks: Tasks,
    /// Ends them.
    pub drain: Drain,
    /// Requests and connections under way.
    active: AtomicU32,
}

/// Something is under way on a thread.
pub struct Busy(Arc<Lane>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.active.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Lane {
    /// Counts until the guard is dropped.
    pub fn busy(self: &Arc<Self>) -> Busy {
        self.active.fetch_add(1, Ordering::Relaxed);
        Busy(self.clone())
    }

    /// Requests and connections under way.
    pub fn active(&self) -> u32 {
        self.active.load(Ordering::Relaxed)
    }

    /// Whether clients are told to go elsewhere.
    pub fn is_leaving(&self) -> bool {
        self.shared.leaving.load(Ordering::Relaxed)
    }

    /// The thread `number`, on which `tasks` start.
    pub fn new(number: usize, shared: Arc<Shared>, tasks: Tasks, drain: Drain) -> Self {
        // Requests under way still need tunnels while the process drains: only its forced end ends them.
        let tunnels = Pool::new(PoolLimits::default(), &tasks, &ends_with(&drain, &tasks));
        Self { number, shared, tunnels, tasks, drain, active: AtomicU32::new(0) }
    }
}

/// A shutdown without a first step, that follows the forced one of `drain`.
fn ends_with(drain: &Drain, tasks: &Tasks) -> Drain {
    let (late, drain) = (Drain::new(), drain.clone());
    let told = late.clone();
    tasks.spawn("late-drain", async move {
        drain.forced().await;
        told.force();
    });
    late
}
