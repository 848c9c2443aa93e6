//! The chooser of one cluster, made anew when what it is made of has changed; and the health of its endpoints, which
//! outlives it.
//!
//! ```text
//! request ─► current(): same world, cluster, ejections? ─ yes ─► chooser
//!                                                       └ no ──► the same endpoints? ─ yes ─► the same chooser
//!                                                                                    └ no ──► a new one
//! outcome ─► observe() ─► counters ─► a cause? ─► ejected, if the gate is open ─► the next current() makes a new one
//! ```
//! In: snapshots, outcomes, the time. Out: choosers. Absent on purpose: clocks and tasks; somebody calls
//! [`Keeper::sweep`] now and then.

use std::{
    collections::HashMap,
    sync::{
        Arc, Weak,
        atomic::{
            AtomicU64,
            Ordering::{AcqRel, Acquire},
        },
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
use lateen_state::{service::Service, workload::Workload, world::World};
use lateen_types::name::WorkloadUid;
use parking_lot::Mutex;

use super::{
    chooser::{Chooser, Member},
    tier::{Candidate, Spot},
};
use crate::{
    book::{Cluster, cluster::Resolution},
    upstream::health::{Ejections, EndpointHealth, Event, GateClosed, Suspect},
};

/// Kept as long as its cluster is configured; shared by all threads.
#[derive(Debug)]
pub struct Keeper<E> {
    current: ArcSwapOption<Kept<E>>,
    /// Grows with every ejection and return.
    ejections: AtomicU64,
    state: Mutex<State>,
}

impl<E> Default for Keeper<E> {
    fn default() -> Self {
        Self { current: ArcSwapOption::empty(), ejections: AtomicU64::new(0), state: Mutex::default() }
    }
}

/// A chooser and what it was made of.
#[derive(Debug)]
struct Kept<E> {
    chooser: Arc<Chooser<E>>,
    cluster: Arc<Cluster>,
    /// Only to know it again; it may be long gone.
    world: Weak<World>,
    service: Option<Arc<Service>>,
    workloads: Vec<Arc<Workload>>,
    ejections: u64,
}

#[derive(Debug, Default)]
struct State {
    healths: HashMap<WorkloadUid, Known>,
    ejections: Ejections,
    swept: Duration,
}

#[derive(Debug)]
struct Known {
    health: Arc<EndpointHealth>,
    since: Duration,
}

/// What is known at the moment of a request.
#[derive(Debug, Clone, Copy)]
pub struct Snapshot<'a> {
    /// The cluster as configured.
    pub cluster: &'a Arc<Cluster>,
    /// The endpoints.
    pub world: &'a Arc<World>,
    /// Where the proxy is.
    pub here: &'a Spot,
    /// The time, by a clock that never goes back.
    pub now: Duration,
    /// Where turns begin.
    pub seed: u64,
}

/// An endpoint as its owner wants it back, with the address it is known by.
#[derive(Debug)]
pub struct Made<E> {
    /// Handed back when it is chosen.
    pub endpoint: E,
    /// By which sessions and rings know it.
    pub address: std::net::SocketAddr,
}

impl<E> Keeper<E> {
    /// The chooser for `at`. `make` is asked for the endpoints of a service when they have changed; `None` leaves one out.
    pub fn current(
        &self,
        at: Snapshot<'_>,
        make: impl Fn(&lateen_state::service::Endpoint, &Service) -> Option<Made<E>>,
    ) -> Arc<Chooser<E>> {
        let kept = self.current.load();
        let ejections = self.ejections.load(Acquire);
        if let Some(kept) = kept.as_ref().filter(|kept| kept.is_of(at, ejections)) {
            return kept.chooser.clone();
        }
        drop(kept);
        self.renew(at, make)
    }

    /// Makes a new chooser, unless the endpoints are the same. One thread at a time does.
    fn renew(
        &self,
        at: Snapshot<'_>,
        make: impl Fn(&lateen_state::service::Endpoint, &Service) -> Option<Made<E>>,
    ) -> Arc<Chooser<E>> {
        let mut state = self.state.lock();
        let ejections = self.ejections.load(Acquire);
        let kept = self.current.load_full();
        let service = at.service();
        let workloads: Vec<Arc<Workload>> = at.endpoints(service).map(|one| one.workload.clone()).collect();
        let same = kept.filter(|kept| kept.is_made_of(at, service, &workloads) && kept.ejections == ejections);
        let chooser = match same {
            Some(kept) => kept.chooser.clone(),
            None => {
                let candidates = at.endpoints(service).filter_map(|endpoint| {
                    let made = make(endpoint, service?)?;
                    Some(state.candidate(&endpoint.workload, made, at.now))
                });
                let candidates: Vec<Candidate<E>> = candidates.collect();
                state.keep(&workloads);
                Arc::new(Chooser::new(&at.cluster.policy, at.here, candidates, at.now, at.seed))
            }
        };
        self.current.store(Some(Arc::new(Kept {
            chooser: chooser.clone(),
            cluster: at.cluster.clone(),
            world: Arc::downgrade(at.world),
            service: service.cloned(),
            workloads,
            ejections,
        })));
        chooser
    }

    /// What happened with an endpoint. An error says that it would have been ejected, but for the others that are.
    pub fn observe(
        &self,
        cluster: &Cluster,
        member: &Member<E>,
        event: Event,
        now: Duration,
    ) -> Result<(), GateClosed> {
        let Some(detection) = &cluster.policy.outlier else { return Ok(()) };
        if member.health.observe(detection, event).is_none() {
            return Ok(());
        }
        let mut state = self.state.lock();
        let total = self.current.load().as_ref().map_or(0, |kept| kept.chooser.len());
        let total = u32::try_from(total).unwrap_or(u32::MAX);
        let suspect = Suspect { uid: &member.uid, health: &member.health, total };
        state.ejections.eject(suspect, detection, now)?;
        self.ejections.fetch_add(1, AcqRel);
        Ok(())
    }

    /// To be called often: looks, every interval of the cluster's, who returns.
    pub fn sweep(&self, cluster: &Cluster, now: Duration) {
        let mut state = self.state.lock();
        let changed = match &cluster.policy.outlier {
            None => state.ejections.clear(),
            Some(detection) if now.saturating_sub(state.swept) >= detection.interval => {
                state.swept = now;
                state.ejections.sweep(detection, now)
            }
            Some(_) => false,
        };
        if changed {
            self.ejections.fetch_add(1, AcqRel);
        }
    }

    /// How many endpoints are ejected.
    pub fn ejected(&self) -> u32 {
        self.state.lock().ejections.count()
    }
}

impl<E> Kept<E> {
    fn is_of(&self, at: Snapshot<'_>, ejections: u64) -> bool {
        std::ptr::eq(self.world.as_ptr(), Arc::as_ptr(at.world))
            && Arc::ptr_eq(&self.cluster, at.cluster)
            && self.ejections == ejections
    }

    fn is_made_of(&self, at: Snapshot<'_>, service: Option<&Arc<Service>>, workloads: &[Arc<Workload>]) -> bool {
        let same_service = match (&self.service, service) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        same_service
            && Arc::ptr_eq(&self.cluster, at.cluster)
            && self.workloads.len() == workloads.len()
            && self.workloads.iter().zip(workloads).all(|(one, other)| Arc::ptr_eq(one, other))
    }
}

impl<'a> Snapshot<'a> {
    fn service(&self) -> Option<&'a Arc<Service>> {
        match self.cluster.resolution {
            Resolution::Endpoints => self.world.service(&self.cluster.upstream.service),
            Resolution::Original | Resolution::RequestHost | Resolution::Waypoint => None,
        }
    }

    /// The endpoints of the subset.
    fn endpoints(
        &self,
        service: Option<&'a Arc<Service>>,
    ) -> impl Iterator<Item = &'a lateen_state::service::Endpoint> {
        let (cluster, world): (&'a Arc<Cluster>, &'a Arc<World>) = (self.cluster, self.world);
        let all = service.into_iter().flat_map(move |service| world.endpoints(service));
        all.filter(move |endpoint| cluster.takes(&endpoint.workload.labels))
    }
}

impl State {
    fn candidate<E>(&mut self, workload: &Workload, made: Made<E>, now: Duration) -> Candidate<E> {
        let new = || Known { health: Arc::default(), since: now };
        let known = self.healths.entry(workload.uid.clone()).or_insert_with(new);
        Candidate {
            endpoint: made.endpoint,
            uid: workload.uid.clone(),
            address: made.address,
            weight: workload.capacity,
            spot: Spot::of(workload),
            since: known.since,
            health: known.health.clone(),
        }
    }

    /// Forgets those that are no endpoints any more.
    fn keep(&mut self, workloads: &[Arc<Workload>]) {
        // Both are sorted by uid, as the world keeps them.
        let is_there = |uid: &WorkloadUid| workloads.binary_search_by(|one| one.uid.cmp(uid)).is_ok();
        self.healths.retain(|uid, _| is_there(uid));
        self.ejections.keep(is_there);
    }
}
