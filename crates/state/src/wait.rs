//! Waiting until the world knows something.
//!
//! In: a store, a question, a deadline. Out: the answer, or which question stayed open. Absent on purpose: asking the
//! control plane; [`Asked`] only carries the keys to whoever speaks to it.

use std::{sync::Arc, time::Duration};

use lateen_rt::inbox::Inbox;
use lateen_types::addr::NetworkAddress;
use tokio::sync::broadcast::{self, error::RecvError};

use crate::{
    workload::{PodKey, Workload},
    world::{World, WorldStore},
};

/// How long a connection waits for its own pod's workload to arrive: the pod may be newer than our picture of it.
pub const LOCAL_WORKLOAD_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a connection waits for an answer about an address it asked for.
pub const DEMAND_TIMEOUT: Duration = Duration::from_secs(5);

/// The pod a connection belongs to did not become known.
#[derive(Debug, Clone, thiserror::Error)]
#[error("failed to fetch information about local workload: {pod} is not known after {after:?}")]
pub struct UnknownLocal {
    /// What was looked for.
    pub pod: PodKey,
    /// How long.
    pub after: Duration,
}

/// The workload of our node that the agent calls `pod`, with the world it was found in; waits for it at most `timeout`.
pub async fn local_workload(
    store: &WorldStore,
    pod: &PodKey,
    timeout: Duration,
) -> Result<(Arc<World>, Arc<Workload>), UnknownLocal> {
    let found = |world: &World| world.local_workload(pod).cloned();
    until(store, timeout, found).await.ok_or_else(|| UnknownLocal { pod: pod.clone(), after: timeout })
}

/// The first world in which `find` finds something, and what; `None` after `timeout`.
pub async fn until<T>(
    store: &WorldStore,
    timeout: Duration,
    find: impl Fn(&World) -> Option<T>,
) -> Option<(Arc<World>, T)> {
    // The common case takes no subscription and no timer.
    let world = store.load();
    if let Some(found) = find(&world) {
        return Some((world, found));
    }
    let mut changes = store.subscribe();
    let search = async {
        loop {
            // Subscribed before looking, so a change in between is seen as one.
            let world = store.load();
            if let Some(found) = find(&world) {
                return Some((world, found));
            }
            changes.changed().await.ok()?;
        }
    };
    tokio::time::timeout(timeout, search).await.ok().flatten()
}

/// Whether, and through whom, connections ask for what the world does not know.
#[derive(Debug, Clone)]
pub enum Demands {
    /// Everything known is pushed unasked; an unknown address stays unknown.
    Off,
    /// Unknown keys are asked for.
    On(Asked),
}

/// Keys that connections want to know about, merged, for the one who speaks to the control plane; and word of answers.
#[derive(Debug, Clone)]
pub struct Asked {
    inbox: Inbox<String>,
    answers: broadcast::Sender<Arc<[String]>>,
}

/// Batches of answers a waiter may be behind. One that is further behind waits for the world or the deadline instead.
const ANSWERS_MAX: usize = 256;

impl Default for Asked {
    fn default() -> Self {
        Self { inbox: Inbox::new(), answers: broadcast::Sender::new(ANSWERS_MAX) }
    }
}

impl Asked {
    /// The keys to ask for.
    pub fn inbox(&self) -> &Inbox<String> {
        &self.inbox
    }

    /// These keys were answered, with something or with "there is none"; to be called after the world has changed.
    pub fn answered(&self, keys: &[String]) {
        // Without a waiter there is nobody to tell.
        let _nobody = self.answers.send(keys.into());
    }
}

impl Demands {
    /// Whether unknown addresses are asked for.
    pub fn is_on(&self) -> bool {
        matches!(self, Self::On(_))
    }

    /// Asks for a key, without waiting for its answer; nothing where everything is pushed unasked.
    pub fn ask(&self, key: String) {
        if let Self::On(asked) = self {
            asked.inbox.push(key);
        }
    }
}

/// The control plane did not say whether there is anything at an address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the control plane did not say within {after:?} what {address} is")]
pub struct Unanswered {
    /// What was asked for.
    pub address: String,
    /// How long.
    pub after: Duration,
}

/// The current world, or, when it does not know `address` and demands are on, the one after the answer about it.
/// Without an answer there is no world to decide in: taking the address for unknown would pass traffic in clear.
pub async fn address(
    store: &WorldStore,
    demands: &Demands,
    address: &NetworkAddress,
) -> Result<Arc<World>, Unanswered> {
    let world = store.load();
    let Demands::On(asked) = demands else { return Ok(world) };
    if world.holds(address) {
        return Ok(world);
    }
    let key = address.to_string();
    // Subscribed before asking, so that no answer is missed.
    let answers = asked.answers.subscribe();
    asked.inbox.push(key.clone());
    tokio::select! {
        known = until(store, DEMAND_TIMEOUT, |world| world.holds(address).then_some(())) => match known {
            Some((world, ())) => Ok(world),
            None => Err(Unanswered { address: key, after: DEMAND_TIMEOUT }),
        },
        () = answer_about(&key, answers) => Ok(store.load()),
    }
}

async fn answer_about(key: &str, mut answers: broadcast::Receiver<Arc<[String]>>) {
    loop {
        match answers.recv().await {
            Ok(keys) if keys.iter().any(|answered| answered == key) => return,
            // Missing an answer must not look like "there is none", which would pass traffic in clear.
            Ok(_) | Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => std::future::pending().await,
        }
    }
}
