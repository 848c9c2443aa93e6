//! Pods that change while they run: enrolled late, taken out, dropped; tried again until it is so.
//!
//! In: keys of changed pods. Out: acts, one pod at a time but many pods at once.
//! Absent on purpose: which act (see `decide`) and how (see `enrol`).

use std::{collections::HashMap, sync::Arc, time::Duration};

use lateen_cluster::store::Key;
use lateen_rt::{backoff::Backoff, drain::Drain, tasks::Tasks};
use lateen_types::name::PodUid;
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use crate::{
    annotate::Mark,
    catalogue::RECONCILE_EVENTS,
    decide::{Action, Holding, Wish, decide},
    enrol::{EnrolError, Enroller},
    pods::{Cluster, PodView},
};

/// Pods worked on at once.
const AT_ONCE_MAX: usize = 16;
const RETRY_START: Duration = Duration::from_millis(5);
const RETRY_MAX: Duration = Duration::from_secs(5);

/// The worker.
#[derive(Clone)]
pub struct Worker {
    /// What the cluster wants.
    pub cluster: Cluster,
    /// Who does it.
    pub enroller: Arc<Enroller>,
    /// Waits of pods whose last act failed.
    paces: Arc<Mutex<HashMap<Key, Backoff>>>,
    places: Arc<Semaphore>,
}

impl Worker {
    /// A worker that has not begun.
    pub fn new(cluster: Cluster, enroller: Arc<Enroller>) -> Self {
        Self { cluster, enroller, paces: Arc::default(), places: Arc::new(Semaphore::new(AT_ONCE_MAX)) }
    }

    /// Works until the drain begins.
    pub async fn run(self, tasks: Tasks, drain: Drain) {
        loop {
            let changed = tokio::select! {
                changed = self.cluster.changed.drain() => changed,
                () = drain.draining() => return,
            };
            for key in changed {
                let Ok(place) = self.places.clone().acquire_owned().await else { return };
                let (worker, drain) = (self.clone(), drain.clone());
                tasks.spawn("pod change", async move {
                    let again = worker.work(&key).await;
                    drop(place);
                    let Some(wait) = again else { return };
                    tokio::select! {
                        () = tokio::time::sleep(wait) => worker.cluster.changed.push(key),
                        () = drain.draining() => {}
                    }
                });
            }
        }
    }

    /// Brings everything at `key` to where it should be. Out: when to try again.
    async fn work(&self, key: &Key) -> Option<Duration> {
        let pod = self.cluster.pod(key);
        let mut outcome = Ok(());
        // Pods that had this name before, or have it no more.
        let gone = |uid: &PodUid| pod.as_ref().is_none_or(|pod| pod.uid != *uid);
        let held: Vec<PodUid> = self.of_key(key).into_iter().filter(gone).collect();
        for uid in held {
            match self.cluster.pod_now(key, Some(&uid)).await {
                // The plugin told us of it before the watch did.
                Ok(_) => continue,
                Err(error) if error.is_absence() => {}
                // Nobody knows whether it is gone: dropping a running pod would cut its traffic.
                Err(error) => {
                    outcome = outcome.and(Err(EnrolError::Cluster(error)));
                    continue;
                }
            }
            let _turn = self.enroller.turns.take(&uid).await;
            count(Action::Forget);
            outcome = outcome.and(self.enroller.forget(&uid).await);
        }
        if let Some(pod) = &pod {
            outcome = outcome.and(self.pod(pod).await);
        }
        self.next_wait(key, outcome)
    }

    fn of_key(&self, key: &Key) -> Vec<PodUid> {
        let all = self.enroller.ledger.all();
        all.into_iter().filter(|held| held.entry.key() == *key).map(|held| held.entry.pod_uid()).collect()
    }

    async fn pod(&self, pod: &PodView) -> Result<(), EnrolError> {
        let _turn = self.enroller.turns.take(&pod.uid).await;
        let held = self.enroller.ledger.find(&pod.uid);
        let holding = held.as_ref().map(|held| Holding { stage: held.entry.stage, ips: &held.entry.ips });
        let wish = Wish {
            wanted: self.cluster.wanted(pod),
            finished: pod.finished,
            ending: pod.ending,
            annotated: pod.annotated(),
            ips: &pod.ips,
        };
        let action = decide(Some(&wish), holding.as_ref());
        if action != Action::Nothing {
            tracing::debug!(pod = %pod.key, uid = %pod.uid, act = action.as_str(), "working on a pod");
            count(action);
        }
        act(&self.enroller, pod, action).await
    }

    fn next_wait(&self, key: &Key, outcome: Result<(), EnrolError>) -> Option<Duration> {
        let mut paces = self.paces.lock();
        match outcome {
            Ok(()) => {
                paces.remove(key);
                None
            }
            Err(error) if error.retry() => {
                let pace = paces.entry(key.clone()).or_insert_with(|| Backoff::new(RETRY_START, RETRY_MAX));
                let wait = pace.next_wait();
                // The first tries are quick and often enough; a person needs the rest.
                if wait >= Duration::from_secs(1) {
                    tracing::warn!(pod = %key, %error, "a pod is not yet where it should be; trying again");
                }
                Some(wait)
            }
            Err(error) => {
                paces.remove(key);
                tracing::error!(pod = %key, %error, "a pod cannot be brought where it should be; giving up until it changes");
                None
            }
        }
    }
}

async fn act(enroller: &Enroller, pod: &PodView, action: Action) -> Result<(), EnrolError> {
    match action {
        Action::Nothing => Ok(()),
        Action::Enrol => {
            let place = enroller.locate(pod).await?;
            let enrolled = enroller.enrol(pod, &pod.ips, &place).await;
            if let Err(EnrolError::Ztunnel(_)) = &enrolled
                && pod.annotated() != crate::decide::Annotated::Pending
            {
                enroller.annotator.write(&pod.key, &pod.uid, Mark::Pending).await?;
            }
            enrolled?;
            tracing::info!(pod = %pod.key, uid = %pod.uid, "enrolled a running pod");
            Ok(enroller.annotator.write(&pod.key, &pod.uid, Mark::Enabled).await?)
        }
        Action::Annotate => Ok(enroller.annotator.write(&pod.key, &pod.uid, Mark::Enabled).await?),
        Action::Readdress => enroller.readdress(pod).await,
        Action::Unenrol => {
            enroller.unenrol(pod).await?;
            tracing::info!(pod = %pod.key, uid = %pod.uid, "took a running pod out of the mesh");
            Ok(())
        }
        Action::Forget => enroller.forget(&pod.uid).await,
    }
}

fn count(action: Action) {
    metrics::counter!(RECONCILE_EVENTS, "type" => action.as_str()).increment(1);
}
