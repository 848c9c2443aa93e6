//! What is looked after while nothing happens: connections kept too long, memory, the quiet at the end.
//!
//! In: the lanes' state, the metrics. Out: closed connections, fewer series. Absent on purpose: requests.

use std::{sync::Arc, time::Duration};

use lateen_net::trim;
use lateen_rt::drain::Drain;
use lateen_telemetry::metrics::{Kind, Registry, Sample};

use crate::{book::Upstream, catalogue, lane::Lane, report};

/// How often idle connections are looked at; they may outlive their time by as much.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);
/// How often freed memory is looked for.
const MEMORY_INTERVAL: Duration = Duration::from_secs(10);
/// How often the end asks whether all is quiet.
const QUIET_INTERVAL: Duration = Duration::from_millis(50);

/// Closes connections of one thread that nobody needs, until the end.
pub async fn sweep(lane: Arc<Lane>) {
    let mut ticks = tokio::time::interval(SWEEP_INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = lane.drain.forced() => return,
        }
        let world = lane.shared.world.load();
        lane.shared.clusters.sweep(lane.number, |key| {
            let sealed = key.terms.as_ref().and_then(|terms| terms.seal.as_ref());
            let is_sealed_so = sealed.is_none_or(|seal| lane.shared.origins.holds(&seal.origin));
            is_sealed_so && key.endpoint.workload.as_ref().is_none_or(|uid| world.workload(uid).is_some())
        });
        if lane.number == 0 {
            lane.shared.find_itself();
            lane.shared.book.look();
            let book = lane.shared.book.peek();
            lane.shared.origins.review(&book);
            // A workload that is called itself has a cluster by its own name.
            let is_workload = |of: &Upstream| world.workload(&of.service.hostname.as_str().into()).is_some();
            lane.shared.clusters.retain(|upstream| book.cluster(upstream).is_some() || is_workload(upstream));
            lane.shared.clusters.look(&book, lane.shared.now());
        }
    }
}

/// Gives freed memory back to the kernel now and then, until the end.
pub async fn memory(drain: Drain) {
    let (mut memory, mut ticks) = (trim::Memory::default(), tokio::time::interval(MEMORY_INTERVAL));
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = drain.forced() => return,
        }
        match memory.look() {
            Ok(trim::Looked::Returned(bytes)) => tracing::debug!(bytes, "freed memory went back to the kernel"),
            Ok(trim::Looked::Fine) => {}
            Err(error) => return tracing::warn!(%error, "freed memory is kept: its size cannot be read"),
        }
    }
}

/// Forgets metrics of traffic that is no more, until the end.
pub async fn series(registry: Registry, drain: Drain) {
    let mut ticks = tokio::time::interval(report::EXPIRE_EVERY);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = drain.forced() => return,
        }
        report::expire(&registry);
    }
}

/// What is under way on all threads, at a scrape.
pub fn active(lanes: Vec<Arc<Lane>>) -> impl Fn(&mut Vec<Sample>) + Send + Sync + 'static {
    move |samples| {
        let active: u32 = lanes.iter().map(|lane| lane.active()).sum();
        samples.push(Sample {
            name: catalogue::ACTIVE,
            kind: Kind::Gauge,
            help: "Requests and connections under way",
            labels: Vec::new(),
            value: f64::from(active),
        });
    }
}

/// Returns once nothing is under way any more, after `timeout` at the latest.
pub async fn quiet(lanes: &[Arc<Lane>], timeout: Duration) {
    let active = || lanes.iter().map(|lane| lane.active()).sum::<u32>();
    let waiting = async {
        let mut ticks = tokio::time::interval(QUIET_INTERVAL);
        loop {
            ticks.tick().await;
            if active() == 0 {
                return;
            }
        }
    };
    if tokio::time::timeout(timeout, waiting).await.is_err() {
        tracing::warn!(left = active(), "requests and connections that did not end are cut");
    }
}
