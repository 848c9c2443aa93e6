//! The owner of the current [`Book`].
//!
//! In: batches of changes. Out: the book, and a word to whoever waits for a newer one. Absent on purpose: where changes
//! come from.

use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};
use parking_lot::Mutex;
use tokio::sync::watch;

use super::{Book, names::Change};

/// Holds the current book; clones share it.
#[derive(Debug, Clone, Default)]
pub struct BookStore {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    current: ArcSwap<Book>,
    /// One writer at a time, so that no batch is built on a book that another batch replaces.
    writer: Mutex<()>,
    changed: watch::Sender<u64>,
    parted: watch::Sender<u64>,
}

impl Default for Shared {
    fn default() -> Self {
        Self {
            current: ArcSwap::default(),
            writer: Mutex::default(),
            changed: watch::Sender::new(0),
            parted: watch::Sender::new(0),
        }
    }
}

impl BookStore {
    /// The book as it is now, for keeping.
    pub fn load(&self) -> Arc<Book> {
        self.shared.current.load_full()
    }

    /// The book as it is now, for a look that does not last: it costs no count of references.
    pub fn peek(&self) -> Guard<Arc<Book>> {
        self.shared.current.load()
    }

    /// Applies a batch: all of it becomes visible at once, then waiters wake.
    pub fn apply(&self, changes: impl IntoIterator<Item = Change>) {
        self.swap(|next| {
            changes.into_iter().for_each(|change| next.change(change));
            next.settle();
        });
    }

    /// Forgets what is no more and stayed for a while; to be called once a second.
    pub fn look(&self) {
        if self.peek().has_leaving() {
            self.swap(Book::look);
        }
    }

    fn swap(&self, change: impl FnOnce(&mut Book)) {
        let writing = self.shared.writer.lock();
        let mut next = Book::clone(&self.shared.current.load());
        let before = next.parted();
        change(&mut next);
        let has_parted = next.parted() != before;
        self.shared.current.store(Arc::new(next));
        drop(writing);
        self.shared.changed.send_modify(|count| *count += 1);
        if has_parted {
            self.shared.parted.send_modify(|count| *count += 1);
        }
    }

    /// Hears after this call of swaps by which services are no longer served here: they concern who is here already.
    pub fn parted(&self) -> watch::Receiver<u64> {
        self.shared.parted.subscribe()
    }

    /// Hears of every swap after this call. Several swaps may be heard as one.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.shared.changed.subscribe()
    }
}
