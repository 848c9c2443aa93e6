//! The log's own thread: makes text of lines and writes it.
//!
//! In: lines from any thread, through a bounded queue. Out: text, many lines with one write. When the thread falls
//! [`QUEUED_MAX`] lines behind, writers wait and nothing is lost; the order of lines is that in which they were queued.
//!
//! ```text
//!   idle ──line──► gathering ──10 ms, or many lines──► writing ──► gathering (lines came meanwhile) or idle
//! ```
//! Only the first line after silence wakes the thread: a wake-up for each line costs more than the line.

use std::{
    io::{self, Write},
    sync::Arc,
    thread::JoinHandle,
    time::Duration,
};

use parking_lot::{Condvar, Mutex};

use super::{
    format::{Format, Line},
    layer::TakeLine,
};

/// Lines that may wait to be written.
const QUEUED_MAX: usize = 10_000;
/// So many are written without waiting for more.
const BATCH: usize = 1_000;
/// How long the first line of a batch waits for others.
const GATHER: Duration = Duration::from_millis(10);
/// Text handed to one write; what a pipe takes at once.
const WRITE_SIZE: usize = 64 * 1024;

/// The writers' end of the queue; clones share it.
#[derive(Clone, Default)]
pub(super) struct Queue(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// For the thread: there is something to do.
    work: Condvar,
    /// For writers: the queue has room again.
    room: Condvar,
}

#[derive(Default)]
struct State {
    lines: Vec<Line>,
    /// The thread waits for a first line.
    idle: bool,
    /// No more is taken; what is queued will be written.
    closed: bool,
}

/// The thread. Dropping it writes what is queued and ends it.
pub(super) struct Writer {
    queue: Queue,
    thread: Option<JoinHandle<()>>,
}

impl TakeLine for Queue {
    fn take(&self, line: Line) {
        let shared = &*self.0;
        let mut state = shared.state.lock();
        while state.lines.len() >= QUEUED_MAX && !state.closed {
            shared.room.wait(&mut state);
        }
        if state.closed {
            return;
        }
        state.lines.push(line);
        if std::mem::take(&mut state.idle) || state.lines.len() == BATCH {
            shared.work.notify_one();
        }
    }
}

impl Writer {
    /// Starts the thread.
    pub(super) fn start(format: Format, out: impl Write + Send + 'static) -> io::Result<Self> {
        let queue = Queue::default();
        let of = queue.clone();
        let work = move || {
            let closing = Closing(of);
            closing.0.write_all(format, out);
        };
        let thread = Some(std::thread::Builder::new().name("log".to_owned()).spawn(work)?);
        Ok(Self { queue, thread })
    }

    /// Where lines go in.
    pub(super) fn queue(&self) -> Queue {
        self.queue.clone()
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.queue.close();
        // A panic of the thread has been printed, and there is no log any more to say it again.
        let _ended = self.thread.take().map(JoinHandle::join);
    }
}

/// Closes the queue when the thread ends for whatever reason: nobody may wait for a thread that is gone.
struct Closing(Queue);

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl Queue {
    fn close(&self) {
        self.0.state.lock().closed = true;
        self.0.work.notify_all();
        self.0.room.notify_all();
    }

    fn write_all(&self, format: Format, mut out: impl Write) {
        let (mut lines, mut text) = (Vec::new(), String::new());
        while self.next(&mut lines) {
            for line in lines.drain(..) {
                line.write(format, &mut text);
                if text.len() >= WRITE_SIZE {
                    put(&mut out, &mut text);
                }
            }
            put(&mut out, &mut text);
            // Memory of a burst is given back.
            lines.shrink_to(BATCH);
            text.shrink_to(2 * WRITE_SIZE);
        }
    }

    /// Fills `lines`, which is empty, with the next batch. `false` once the queue is closed and empty.
    fn next(&self, lines: &mut Vec<Line>) -> bool {
        let shared = &*self.0;
        let mut state = shared.state.lock();
        while state.lines.is_empty() && !state.closed {
            state.idle = true;
            shared.work.wait(&mut state);
        }
        state.idle = false;
        if state.lines.len() < BATCH && !state.closed {
            // Whether it times out or is woken, what is there is written.
            let _woken = shared.work.wait_for(&mut state, GATHER);
        }
        if state.lines.len() >= QUEUED_MAX {
            shared.room.notify_all();
        }
        std::mem::swap(&mut state.lines, lines);
        !lines.is_empty()
    }
}

/// If the log itself cannot be written there is no place left to say so.
fn put(out: &mut impl Write, text: &mut String) {
    let _unreportable = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    text.clear();
}
