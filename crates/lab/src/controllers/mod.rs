//! The controllers a cluster needs so that Deployments become running pods and Services have endpoints.
//!
//! In: a client of the embedded API. Out: the same objects a Kubernetes control plane would write.
//! Absent on purpose: resource requests, volumes claims, pod affinity, horizontal scaling, adoption of orphans.
//!
//! ```text
//!   watches ──► board ──► pure controllers ──► actions ──► API
//!                 ▲                                         │
//!                 └────────────── answers ──────────────────┘
//! ```
//!
//! One task owns all of it. After every batch of events each controller looks at the whole board and says what is to
//! be done; a lab has hundreds of objects, so looking at all of them costs less than remembering what changed.

pub mod action;
pub mod board;
mod daemonset;
mod deployment;
mod endpoints;
mod job;
mod nodes;
pub mod pods;
mod replicaset;
mod scheduler;
mod statefulset;
#[cfg(test)]
mod tests;

use std::{fmt::Debug, time::Duration};

use futures::{Stream, StreamExt as _, stream::BoxStream};
use k8s_openapi::jiff::Timestamp;
use kube::{
    Api, Client, Resource,
    runtime::{
        WatchStreamExt as _,
        watcher::{self, watcher},
    },
};
use lateen_rt::tasks::Tasks;
use serde::de::DeserializeOwned;
use tokio::time::MissedTickBehavior;

use action::{Action, Done, act};
use board::{Board, Shelf};

/// How often the controllers look although nothing changed: for leases that run out and calls that failed.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);
/// How many rounds of deciding one batch of events may cause; what is left waits for the next event or look.
const ROUNDS_MAX: usize = 16;
/// How many events are taken before the controllers look.
const BATCH_MAX: usize = 512;

/// Starts the controllers; they end with their task.
pub fn run(client: Client, tasks: &Tasks) {
    tasks.spawn("lab controllers", control(client));
}

async fn control(client: Client) {
    let mut events = events(&client).ready_chunks(BATCH_MAX);
    let mut look = tokio::time::interval(LOOK_INTERVAL);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut board = Board::default();
    loop {
        tokio::select! {
            batch = events.next() => match batch {
                Some(batch) => batch.into_iter().for_each(|change| change(&mut board)),
                None => return,
            },
            _ = look.tick() => {}
        }
        if board.is_complete() {
            settle(&client, &mut board).await;
        }
    }
}

/// Decides and acts until nothing is left to do, at most [`ROUNDS_MAX`] times.
async fn settle(client: &Client, board: &mut Board) {
    for _ in 0..ROUNDS_MAX {
        let actions = decide(board, Timestamp::now());
        let mut failed = false;
        for action in &actions {
            match act(client, action).await {
                Ok(Done::Now(kind, object)) => board.learn(kind, object),
                Ok(Done::Gone(target)) => board.forget(&target),
                Ok(Done::Nothing) => failed = true,
                Err(error) if error.is_race() => {
                    tracing::debug!(%error, ?action, "somebody was quicker; deciding again later");
                    failed = true;
                }
                Err(error) => {
                    tracing::warn!(%error, ?action, "a controller could not act; it tries again");
                    failed = true;
                }
            }
        }
        // What was not learned is decided again when its event has come, not at once.
        if actions.is_empty() || failed {
            return;
        }
    }
}

/// Everything to be done about the board as it is. Pure.
pub fn decide(board: &Board, now: Timestamp) -> Vec<Action> {
    let mut actions = nodes::plan(board, now);
    actions.extend(deployment::plan(board, now));
    actions.extend(replicaset::plan(board, now));
    actions.extend(daemonset::plan(board, now));
    actions.extend(statefulset::plan(board, now));
    actions.extend(job::plan(board, now));
    actions.extend(scheduler::plan(board, now));
    actions.extend(endpoints::plan(board));
    actions
}

/// A change to the board, made by a watch.
type Change = Box<dyn FnOnce(&mut Board) + Send>;

/// All watches as one stream. They are polled by the owner of the board only: a list that follows an `Init` is then
/// never older than what our own writes have put on the board before.
fn events(client: &Client) -> impl Stream<Item = Change> + Send + use<> {
    futures::stream::select_all([
        watch(Api::all(client.clone()), |board| &mut board.nodes),
        watch(Api::all(client.clone()), |board| &mut board.leases),
        watch(Api::all(client.clone()), |board| &mut board.pods),
        watch(Api::all(client.clone()), |board| &mut board.services),
        watch(Api::all(client.clone()), |board| &mut board.endpoints),
        watch(Api::all(client.clone()), |board| &mut board.slices),
        watch(Api::all(client.clone()), |board| &mut board.replica_sets),
        watch(Api::all(client.clone()), |board| &mut board.deployments),
        watch(Api::all(client.clone()), |board| &mut board.daemon_sets),
        watch(Api::all(client.clone()), |board| &mut board.stateful_sets),
        watch(Api::all(client.clone()), |board| &mut board.jobs),
    ])
}

fn watch<K>(api: Api<K>, shelf: fn(&mut Board) -> &mut Shelf<K>) -> BoxStream<'static, Change>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let events = watcher(api, watcher::Config::default()).default_backoff();
    events
        .filter_map(move |event| async move {
            match event {
                Ok(event) => Some(Box::new(move |board: &mut Board| shelf(board).take(event)) as Change),
                Err(error) => {
                    tracing::warn!(kind = %K::kind(&()), %error, "a watch of the lab's controllers failed; it restarts");
                    None
                }
            }
        })
        .boxed()
}
