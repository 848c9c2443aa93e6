//! The log without its thread: an event becomes text at once, on the thread it happened on.
//!
//! In: events. Out: the text, for whoever takes it. What a line costs is counted with it, and tests look at lines.
//! Absent on purpose: files, levels, other threads' patience; programs use [`super::init`].

use std::sync::Arc;

use parking_lot::Mutex;
use tracing::Subscriber;
use tracing_subscriber::layer::SubscriberExt as _;

use super::{
    format::{Format, Line},
    layer::{Lines, TakeLine},
};

/// Most text that waits to be taken; lines beyond it are dropped.
const TEXT_MAX: usize = 1024 * 1024;

/// Lines that were not taken yet; clones share them.
#[derive(Debug, Clone)]
pub struct Collected {
    format: Format,
    text: Arc<Mutex<String>>,
}

/// A subscriber that sees every level, and what it has seen, in the form of `format`.
pub fn collect(format: Format) -> (impl Subscriber + Send + Sync, Collected) {
    let collected = Collected { format, text: Arc::default() };
    (tracing_subscriber::registry().with(Lines(collected.clone())), collected)
}

impl Collected {
    /// Puts all lines into `into`, in place of what it holds, and begins anew.
    pub fn take(&self, into: &mut String) {
        into.clear();
        std::mem::swap(&mut *self.text.lock(), into);
    }
}

impl TakeLine for Collected {
    fn take(&self, line: Line) {
        let mut text = self.text.lock();
        if text.len() < TEXT_MAX {
            line.write(self.format, &mut text);
        }
    }
}
