//! From changes in the inbox to resources in the table proxies are served from.
//!
//! In: the inbox, once all stores are complete. Out: one published batch per burst of changes, and what authors of
//! policies are told. A burst ends when nothing arrives for `quiet`, or after `max`.

use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
    time::Duration,
};

use lateen_rt::{inbox::Inbox, ready::Condition};
use lateen_xds::server::{Table, View};
use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};

use crate::{
    ca::residents::Residents,
    enforcement::{Enforcement, Moves},
    facts::Source,
    graph::{Delta, Graph},
    names,
    scope::Scope,
    settings::Settings,
    status::Statuses,
    watch::{Change, Incomplete, Stores},
};

/// How long to wait for more before publishing. The reference waits 100 ms to 10 s; deriving is cheap here, so that a
/// change that should be in force need not wait that long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// Without any change.
    pub quiet: Duration,
    /// In all.
    pub max: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self { quiet: Duration::from_millis(25), max: Duration::from_millis(500) }
    }
}

/// How long the first picture waits for what proxies need of Secrets: what cannot be read by then is left out of it.
const CREDENTIALS_TIMEOUT: Duration = Duration::from_secs(10);

/// What publishing needs.
pub struct Publisher {
    /// What changed.
    pub inbox: Inbox<Change>,
    /// What it is now.
    pub stores: Stores,
    /// What follows from it.
    pub graph: Graph,
    /// Where it goes.
    pub table: Table,
    /// What authors are told.
    pub statuses: Statuses,
    /// Which policies are in force where.
    pub enforcement: Enforcement,
    /// What holds for the whole mesh.
    pub settings: watch::Receiver<Option<Arc<Settings>>>,
    /// The namespaces within, as of the last batch.
    pub scope: Scope,
    /// Who lives on which node, within the scope only.
    pub residents: Residents,
    /// Which Secrets and ConfigMaps proxies need.
    pub asked: watch::Sender<BTreeSet<Source>>,
    /// How long to wait for more.
    pub pace: Pace,
    /// Holds once the first picture is published.
    pub published: Condition,
}

impl Publisher {
    /// Publishes, for ever. Nothing is published before every store is complete: half a cluster would take services
    /// from proxies that know all of it.
    pub async fn run(mut self, mut incomplete: Incomplete) {
        if incomplete.wait_for(|left| *left == 0).await.is_err() {
            return;
        }
        // What the lists brought. It may be nothing at all.
        let mut batch: HashSet<Change> = self.inbox.take().into_iter().collect();
        let mut since = Instant::now();
        let late = since + CREDENTIALS_TIMEOUT;
        let mut is_shown = false;
        loop {
            let Some(graph) = self.publish(batch, since).await else { return };
            self.graph = graph;
            // A proxy that came back to a picture without its certificates would lose those it has.
            is_shown |= self.graph.is_complete() || Instant::now() >= late;
            self.published.set(is_shown);
            let first = match is_shown {
                true => self.inbox.drain().await,
                false => timeout_at(late, self.inbox.drain()).await.unwrap_or_default(),
            };
            since = Instant::now();
            batch = burst(&self.inbox, self.pace, first, since).await;
        }
    }

    /// Derives and publishes; gives the graph back, unless deriving panicked.
    async fn publish(&mut self, mut batch: HashSet<Change>, since: Instant) -> Option<Graph> {
        let started = Instant::now();
        let settings = self.settings.borrow().clone();
        let mesh = settings.as_ref().map_or_else(|| self.graph.mesh().clone(), |settings| settings.mesh.clone());
        if let Some(settings) = settings.filter(|_| changes_scope(&batch)) {
            let scope = Scope::of(&settings, &self.stores.namespaces);
            self.residents.keep_within(scope.clone());
            batch.extend(self.stores.moved(&self.scope, &scope));
            self.scope = scope;
        }
        let (stores, scope) = (self.stores.clone(), self.scope.clone());
        let empty = Graph::new(self.graph.mesh().clone());
        let mut graph = std::mem::replace(&mut self.graph, empty);
        // With many thousands of changes this takes long enough to hold up the streams of a worker thread.
        let work = move || {
            let updates = batch.iter().filter_map(|change| stores.update(change, &scope)).collect();
            let delta = graph.apply(&mesh, updates);
            (graph, delta)
        };
        let (graph, Delta { changes, conditions, enforcing, asked }) = match tokio::task::spawn_blocking(work).await {
            Ok(done) => done,
            Err(error) => {
                tracing::error!(%error, "deriving failed; this is a bug, please report it. Proxies keep what they have");
                self.published.set(false);
                return None;
            }
        };
        let moves = Moves::of(&changes);
        if !changes.is_empty() {
            tracing::debug!(resources = changes.len(), "publishing changes");
            metrics::counter!(names::PUSHES).increment(1);
            self.table.publish(changes);
        }
        self.enforcement.begin(enforcing, moves, self.table.with(View::revision));
        conditions.into_iter().for_each(|told| self.statuses.tell(told));
        if let Some(asked) = asked {
            self.ask(asked);
        }
        metrics::histogram!(names::DERIVE).record(started.elapsed().as_secs_f64());
        metrics::histogram!(names::DEBOUNCE).record(since.elapsed().as_secs_f64());
        Some(graph)
    }

    /// Has these Secrets and ConfigMaps looked at. What is known of one that was not asked for until now is told at once:
    /// whoever looks may not even have seen that nobody asked for it, and would find no news in it.
    fn ask(&self, asked: BTreeSet<Source>) {
        let before = self.asked.send_replace(asked.clone());
        let known = self.stores.credentials.known(asked.difference(&before));
        known.into_iter().for_each(|source| self.inbox.push(Change::Credential(source)));
    }
}

/// The first changes and those that follow closely.
async fn burst(inbox: &Inbox<Change>, pace: Pace, first: Vec<Change>, since: Instant) -> HashSet<Change> {
    let mut batch: HashSet<Change> = first.into_iter().collect();
    let end = since + pace.max;
    while let Ok(more) = timeout_at(end.min(Instant::now() + pace.quiet), inbox.drain()).await {
        batch.extend(more);
    }
    batch
}

/// Whether namespaces may have come into the mesh or left it.
fn changes_scope(batch: &HashSet<Change>) -> bool {
    batch.iter().any(|change| matches!(change, Change::Namespace(_) | Change::Settings))
}

#[cfg(test)]
mod tests {
    use lateen_cluster::store::Key;
    use lateen_rt::tasks::Tasks;

    use super::*;

    /// However many changes come, and however often the same object changes: a batch each half second, with each object
    /// once. The clock is the test's.
    #[tokio::test(start_paused = true)]
    async fn a_storm_of_changes_is_a_batch_each_half_second() {
        const CHANGES: u32 = 1_000;
        let (inbox, tasks) = (Inbox::new(), Tasks::new());
        let storm = inbox.clone();
        tasks.spawn("storm", async move {
            for turn in 0..CHANGES {
                storm.push(Change::Pod(Key::new("shop", &format!("p{}", turn % 10))));
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
        let (began, mut batches) = (Instant::now(), Vec::new());
        while let Ok(first) = timeout_at(Instant::now() + Duration::from_secs(1), inbox.drain()).await {
            batches.push(burst(&inbox, Pace::default(), first, Instant::now()).await);
        }
        let lasted = began.elapsed().as_millis() / Pace::default().max.as_millis();
        assert!(batches.len() as u128 <= lasted + 1, "{} batches in {lasted} half seconds", batches.len());
        assert!(batches.iter().all(|batch| batch.len() <= 10));
    }

    #[tokio::test(start_paused = true)]
    async fn a_single_change_waits_for_quiet_only() {
        let inbox = Inbox::new();
        let since = Instant::now();
        let batch = burst(&inbox, Pace::default(), vec![Change::Settings], since).await;
        assert_eq!((batch.len(), since.elapsed()), (1, Pace::default().quiet));
    }
}
