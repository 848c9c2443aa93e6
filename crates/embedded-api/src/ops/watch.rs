//! Watching: the events of one resource as a client with selectors sees them.
//!
//! In: a query. Out: batches of events to send, then a wait for more. A watcher holds no queue: it reads the store's history,
//! and one that falls too far behind is told 410 and ends.

use serde_json::{Value, json};

use crate::{
    api::{Api, Target},
    object,
    ops::read::parse_version,
    selector::{FieldSelector, LabelSelector},
    status::ApiError,
    store::Event,
};

/// What to watch.
#[derive(Debug, Clone, Default)]
pub struct WatchQuery {
    /// Labels.
    pub labels: LabelSelector,
    /// Fields.
    pub fields: FieldSelector,
    /// `resourceVersion`, empty where absent.
    pub version: String,
    /// Whether the client takes bookmarks.
    pub bookmarks: bool,
    /// `sendInitialEvents`: begin with what is there, and say when that was all.
    pub send_initial: Option<bool>,
}

/// One event as sent.
#[derive(Debug, Clone, PartialEq)]
pub struct Sent {
    /// `ADDED`, `MODIFIED`, `DELETED`, `BOOKMARK`, `ERROR`.
    pub kind: &'static str,
    /// Object or Status.
    pub object: Value,
}

/// A running watch.
#[derive(Debug)]
pub struct Watch {
    target: Target,
    query: WatchQuery,
    /// Everything up to here has been sent.
    seen: u64,
    first: Vec<Sent>,
}

impl Watch {
    /// Begins; the first batch is what is already there, if the query asks for that.
    pub fn start(api: &Api, target: Target, query: WatchQuery) -> Result<Self, ApiError> {
        let asked = parse_version(&query.version)?;
        let mut watch = Self { target, query, seen: asked, first: Vec::new() };
        let initial = watch.query.send_initial.unwrap_or(asked == 0);
        if initial {
            watch.begin_with_present(api);
        } else if asked == 0 {
            watch.seen = api.store.revision();
        } else if asked > api.store.revision() {
            // Only another server can have given such a version.
            watch.first.push(expired(asked, api.store.revision()));
        }
        Ok(watch)
    }

    fn begin_with_present(&mut self, api: &Api) {
        let namespace = (!self.target.namespace.is_empty()).then_some(self.target.namespace.as_str());
        let snapshot = api.store.list(&self.target.resource.stored_as, namespace);
        let chosen = snapshot.objects.iter().filter(|object| self.selects(object));
        self.first = chosen.map(|object| Sent { kind: "ADDED", object: self.target.shown(object) }).collect();
        self.seen = snapshot.revision;
        if self.query.send_initial == Some(true) && self.query.bookmarks {
            let mut mark = self.bookmark();
            object::set(&mut mark.object, &["metadata", "annotations", "k8s.io/initial-events-end"], "true");
            self.first.push(mark);
        }
    }

    /// The next batch, empty where nothing happened. An `ERROR` in it is the last event of the watch.
    pub fn next_batch(&mut self, api: &Api) -> Vec<Sent> {
        let mut batch = std::mem::take(&mut self.first);
        if batch.last().is_some_and(|sent| sent.kind == "ERROR") {
            return batch;
        }
        match api.store.since(&self.target.resource.stored_as, self.seen) {
            Ok((events, revision)) => {
                batch.extend(events.iter().filter_map(|event| self.translate(event)));
                self.seen = revision.max(self.seen);
            }
            Err(too_old) => batch.push(expired(too_old.asked, too_old.oldest)),
        }
        batch
    }

    /// A bookmark of how far the watch has come.
    pub fn bookmark(&self) -> Sent {
        let object = json!({
            "kind": self.target.resource.kind, "apiVersion": self.target.api_version(),
            "metadata": { "resourceVersion": self.seen.to_string(), "creationTimestamp": null },
        });
        Sent { kind: "BOOKMARK", object }
    }

    /// Whether the client takes bookmarks.
    pub fn takes_bookmarks(&self) -> bool {
        self.query.bookmarks
    }

    /// What is watched.
    pub fn target(&self) -> &Target {
        &self.target
    }

    fn selects(&self, object: &Value) -> bool {
        let namespace = &self.target.namespace;
        (namespace.is_empty() || object::namespace(object) == namespace)
            && self.query.labels.matches(object)
            && self.query.fields.matches(object)
    }

    /// An object that comes into the selection is added, one that leaves it is deleted.
    fn translate(&self, event: &Event) -> Option<Sent> {
        let before = event.previous.as_deref().filter(|object| self.selects(object));
        let after = Some(&*event.object).filter(|object| !event.removed && self.selects(object));
        let (kind, object) = match (before, after) {
            (None, None) => return None,
            (None, Some(after)) => ("ADDED", self.target.shown(after)),
            (Some(_), Some(after)) => ("MODIFIED", self.target.shown(after)),
            (Some(before), None) => {
                let last = if event.removed { &*event.object } else { before };
                let mut last = self.target.shown(last);
                object::set(&mut last, &["metadata", "resourceVersion"], event.revision.to_string());
                ("DELETED", last)
            }
        };
        Some(Sent { kind, object })
    }
}

fn expired(asked: u64, oldest: u64) -> Sent {
    let error = ApiError::expired(format!("too old resource version: {asked} ({oldest})"));
    Sent { kind: "ERROR", object: error.to_status() }
}
