//! The thread that writes access records.
//!
//! In: records of any thread, through a bounded queue. Out: lines, many with one write, within a second. When the thread
//! falls behind, records are dropped and counted: a slow reader of the log must not slow requests down.

use std::{io::Write, sync::Arc, thread::JoinHandle, time::Duration};

use parking_lot::{Condvar, Mutex};

use super::{format::Format, record::Record};

/// Records that may wait.
const QUEUED_MAX: usize = 16_384;
/// So many are written without waiting for more.
const BATCH: usize = 256;
/// How long the first record of a batch waits for others.
const GATHER: Duration = Duration::from_millis(100);
/// Text handed to one write.
const WRITE_SIZE: usize = 64 * 1024;
/// Records that were dropped.
pub const DROPPED: &str = "lateen_access_log_dropped";

/// One record and how it is written.
pub(super) struct Entry {
    pub(super) format: Arc<Format>,
    pub(super) record: Box<Record>,
}

/// Where records go in; clones share it.
#[derive(Clone, Default)]
pub struct Log(Arc<Shared>);

impl std::fmt::Debug for Log {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Log").field("queued", &self.0.state.lock().entries.len()).finish()
    }
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    work: Condvar,
}

#[derive(Default)]
struct State {
    entries: Vec<Entry>,
    /// The thread waits for a first record.
    idle: bool,
    closed: bool,
}

/// The thread. Dropping it writes what is queued and ends it.
pub struct Writer {
    log: Log,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    /// Starts the thread.
    pub fn start(out: impl Write + Send + 'static) -> std::io::Result<Self> {
        let log = Log::default();
        let of = log.clone();
        let work = move || of.write_all(out);
        let thread = Some(std::thread::Builder::new().name("access-log".to_owned()).spawn(work)?);
        Ok(Self { log, thread })
    }

    /// Where records go in.
    pub fn log(&self) -> Log {
        self.log.clone()
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.log.0.state.lock().closed = true;
        self.log.0.work.notify_all();
        // A panic of the thread has been printed.
        let _ended = self.thread.take().map(JoinHandle::join);
    }
}

impl Log {
    pub(super) fn put(&self, entry: Entry) {
        let mut state = self.0.state.lock();
        if state.closed || state.entries.len() >= QUEUED_MAX {
            drop(state);
            metrics::counter!(DROPPED).increment(1);
            return;
        }
        state.entries.push(entry);
        if std::mem::take(&mut state.idle) || state.entries.len() == BATCH {
            self.0.work.notify_one();
        }
    }

    fn write_all(&self, mut out: impl Write) {
        let (mut entries, mut text) = (Vec::new(), String::new());
        while self.next(&mut entries) {
            for entry in entries.drain(..) {
                entry.format.write(&entry.record, &mut text);
                if text.len() >= WRITE_SIZE {
                    put(&mut out, &mut text);
                }
            }
            put(&mut out, &mut text);
            // Memory of a burst is given back.
            entries.shrink_to(BATCH);
            text.shrink_to(2 * WRITE_SIZE);
        }
    }

    /// Fills `entries`, which is empty. `false` once the queue is closed and empty.
    fn next(&self, entries: &mut Vec<Entry>) -> bool {
        let mut state = self.0.state.lock();
        while state.entries.is_empty() && !state.closed {
            state.idle = true;
            self.0.work.wait(&mut state);
        }
        state.idle = false;
        if state.entries.len() < BATCH && !state.closed {
            // Whether it times out or is woken, what is there is written.
            let _timed_out = self.0.work.wait_for(&mut state, GATHER);
        }
        std::mem::swap(&mut state.entries, entries);
        !entries.is_empty()
    }
}

/// Where nobody reads, there is nobody to tell either.
fn put(out: &mut impl Write, text: &mut String) {
    let _unheard = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    text.clear();
}
