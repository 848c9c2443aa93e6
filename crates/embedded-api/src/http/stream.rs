//! Watches as streamed bodies: one JSON event per line.
//!
//! A client that reads slowly holds nothing here but its place in the history.

use std::{convert::Infallible, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use http::Response;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use rt::drain::Drain;
use serde_json::json;
use tokio::{sync::watch, time::Instant};

use crate::{
    api::Api,
    http::answer::{self, Body},
    ops::watch::{Sent, Watch},
    table::Tables,
};

/// How often a quiet watch says how far it has come.
const BOOKMARK_INTERVAL: Duration = Duration::from_secs(20);
/// Longest watch where the client names no time: the reference's 30 minutes to an hour.
const WATCH_SECONDS: u64 = 1800;

struct Running {
    api: Arc<Api>,
    watch: Watch,
    changes: watch::Receiver<u64>,
    end: Instant,
    drain: Drain,
    tables: Option<Tables>,
    over: bool,
}

/// The answer to a watch request. `seconds` is the client's own limit; `tables` asks for rows instead of objects.
pub fn watch(
    api: Arc<Api>,
    watch: Watch,
    seconds: Option<u64>,
    tables: Option<Tables>,
    drain: Drain,
) -> Response<Body> {
    let seconds =
        seconds.filter(|seconds| *seconds > 0).unwrap_or(WATCH_SECONDS + rand::random::<u64>() % WATCH_SECONDS);
    let changes = api.store.changes(&watch.target().resource.stored_as);
    let end = Instant::now() + Duration::from_secs(seconds.min(WATCH_SECONDS * 4));
    let running = Running { api, watch, changes, end, drain, tables, over: false };
    let chunks = stream::unfold(running, |mut running| async move {
        let chunk = running.next_chunk().await?;
        Some((chunk, running))
    });
    let frames = chunks.map(|chunk| Ok::<_, Infallible>(Frame::data(chunk)));
    let mut response = answer::json(200, &json!(null));
    *response.body_mut() = StreamBody::new(frames).boxed_unsync();
    response
}

impl Running {
    /// Bytes to send next; none at the end. Dropping it loses nothing but the wait.
    async fn next_chunk(&mut self) -> Option<Bytes> {
        if self.over {
            return None;
        }
        loop {
            self.changes.mark_unchanged();
            let batch = self.watch.next_batch(&self.api);
            if !batch.is_empty() {
                self.over = batch.last().is_some_and(|sent| sent.kind == "ERROR");
                return Some(self.lines(&batch));
            }
            let quiet = Instant::now() + BOOKMARK_INTERVAL;
            tokio::select! {
                changed = self.changes.changed() => {
                    // The sender lives in the store, which lives as long as the server.
                    if changed.is_err() {
                        return None;
                    }
                }
                () = tokio::time::sleep_until(quiet.min(self.end)) => {
                    self.over = Instant::now() >= self.end;
                    if self.watch.takes_bookmarks() {
                        let mark = self.watch.bookmark();
                        return Some(self.lines(&[mark]));
                    }
                    if self.over {
                        return None;
                    }
                }
                () = self.drain.draining() => return None,
            }
        }
    }

    fn lines(&mut self, batch: &[Sent]) -> Bytes {
        let mut text = String::new();
        for sent in batch {
            let object = match &mut self.tables {
                Some(tables) if sent.kind != "ERROR" => tables.row(self.watch.target(), &sent.object),
                _ => sent.object.clone(),
            };
            text.push_str(&json!({ "type": sent.kind, "object": object }).to_string());
            text.push('\n');
        }
        text.into()
    }
}
