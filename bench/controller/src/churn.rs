//! Pods that leave and pods that come, in turn, at a rate.
//!
//! In: a client of the API, which pods are there. Out: the changes, marked in [`Deliveries`] as they are made. Each change also
//! rewrites its service's slice, as the cluster's own controller does.
//! A change is made when it is due, however long earlier ones take, up to [`AT_ONCE`].

use std::{ops::Range, sync::Arc, time::Duration};

use anyhow::Context as _;
use lateen_rt::tasks::Tasks;
use parking_lot::Mutex as SyncMutex;
use serde_json::json;
use tokio::{
    sync::{Mutex, Semaphore},
    time::{Instant, sleep_until},
};

use crate::{
    crowd::{self, Size},
    deliveries::{Deliveries, Way},
    fill,
    rest::{Rest, Write},
};

/// Changes under way.
const AT_ONCE: usize = 128;

/// The pods that are there, and who changes them.
pub(crate) struct Churn {
    rest: Rest,
    size: Size,
    /// The lowest leave, the next come.
    there: Range<usize>,
    /// The pods of each service; held while its slice is written.
    members: Arc<Vec<Mutex<Vec<usize>>>>,
}

/// What was done.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Done {
    pub changes: usize,
    /// From the first change's begin to the last one's end.
    pub took: Duration,
}

impl Churn {
    /// Over a filled cluster.
    pub fn new(rest: Rest, size: Size) -> Self {
        let mut members = vec![Vec::new(); size.services];
        (0..size.pods).for_each(|pod| members[size.service_of(pod)].push(pod));
        let members = Arc::new(members.into_iter().map(Mutex::new).collect());
        Self { rest, size, there: 0..size.pods, members }
    }

    /// The pods that are there.
    pub fn there(&self) -> Range<usize> {
        self.there.clone()
    }

    /// The pods that so many changes let go, and those they bring.
    pub fn next(&self, changes: usize) -> (Range<usize>, Range<usize>) {
        let (left, came) = (changes.div_ceil(2), changes / 2);
        (self.there.start..self.there.start + left, self.there.end..self.there.end + came)
    }

    /// Makes so many changes, so many a second.
    pub async fn run(&mut self, changes: usize, rate: f64, deliveries: &Arc<Deliveries>) -> anyhow::Result<Done> {
        let (tasks, places) = (Tasks::new(), Arc::new(Semaphore::new(AT_ONCE)));
        let failed: Arc<SyncMutex<Option<anyhow::Error>>> = Arc::default();
        let (left, came) = self.next(changes);
        let began = Instant::now();
        for number in 0..changes {
            sleep_until(began + Duration::from_secs_f64(number as f64 / rate)).await;
            let place = places.clone().acquire_owned().await.context("never closed")?;
            let change = Change {
                rest: self.rest.clone(),
                size: self.size,
                members: self.members.clone(),
                deliveries: deliveries.clone(),
            };
            let (half, failed) = (number / 2, failed.clone());
            let (leaving, coming) = (left.start + half, came.start + half);
            tasks.spawn("a change", async move {
                let done = if number % 2 == 0 { change.leave(leaving).await } else { change.come(coming).await };
                if let Err(error) = done {
                    failed.lock().get_or_insert(error);
                }
                drop(place);
            });
        }
        tasks.join(crate::program::START_TIMEOUT).await?;
        self.there = left.end..came.end;
        match failed.lock().take() {
            Some(error) => Err(error.context("changing pods")),
            None => Ok(Done { changes, took: began.elapsed() }),
        }
    }
}

struct Change {
    rest: Rest,
    size: Size,
    members: Arc<Vec<Mutex<Vec<usize>>>>,
    deliveries: Arc<Deliveries>,
}

impl Change {
    async fn leave(self, pod: usize) -> anyhow::Result<()> {
        self.deliveries.made(Way::Left, pod);
        self.rest.delete(&fill::pod_path(pod, &self.size)).await?;
        self.slice(pod, |members| members.retain(|member| *member != pod)).await
    }

    async fn come(self, pod: usize) -> anyhow::Result<()> {
        self.rest.write(&fill::new_pod(pod, &self.size)).await?;
        self.deliveries.made(Way::Came, pod);
        self.rest.write(&fill::now_running(pod, &self.size)).await?;
        self.slice(pod, |members| members.push(pod)).await
    }

    async fn slice(&self, pod: usize, change: impl FnOnce(&mut Vec<usize>)) -> anyhow::Result<()> {
        let service = self.size.service_of(pod);
        let mut members = self.members[service].lock().await;
        change(&mut members);
        let namespace = crowd::namespace_of(service);
        let name = crowd::slice_name(service);
        let path = format!("/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices/{name}");
        let whole = crowd::slice(service, &members, &self.size);
        self.rest.write(&Write::patch(path, json!({"endpoints": whole["endpoints"]}))).await.map(drop)
    }
}
