//! The data path's threads: each runs its own connections from the first byte to the last.
//!
//! In: how many. Out: a handle for each, to start work there. Nothing moves between them: a connection, the tunnels it uses
//! and their HTTP/2 connections belong to the thread that accepted it, so that no byte waits for another thread's lock or
//! wake-up. The kernel spreads new connections over the threads' listeners. Absent on purpose: what runs there.

use std::{convert::Infallible, io, sync::Arc, thread, time::Duration};

use tokio::{
    runtime::{Builder, Handle, Runtime},
    sync::oneshot,
};

/// Running threads. Dropped without [`Threads::end`], they end without being waited for.
pub struct Threads {
    running: Vec<Running>,
    lanes: Lanes,
}

struct Running {
    thread: thread::JoinHandle<()>,
    /// Ends the thread by being dropped.
    _stop: oneshot::Sender<Infallible>,
}

/// Where work can be started: one handle for each thread, and always at least one.
#[derive(Debug, Clone)]
pub struct Lanes(Arc<[Handle]>);

impl Lanes {
    /// Only the current runtime. Panics outside one, which is a programming error.
    pub fn current() -> Self {
        Self(Arc::new([Handle::current()]))
    }

    /// One handle for each thread.
    pub fn all(&self) -> &[Handle] {
        &self.0
    }

    /// The thread for work of which there is one.
    pub fn first(&self) -> &Handle {
        &self.0[0]
    }
}

impl Threads {
    /// Starts `count` threads, at least one, called `name-0` and so on. What still runs there `grace` after [`Threads::end`] is dropped.
    pub fn start(name: &str, count: usize, grace: Duration) -> io::Result<Self> {
        let started: Vec<(Running, Handle)> =
            (0..count.max(1)).map(|number| start(format!("{name}-{number}"), grace)).collect::<io::Result<_>>()?;
        let (running, handles): (Vec<_>, Vec<_>) = started.into_iter().unzip();
        Ok(Self { running, lanes: Lanes(handles.into()) })
    }

    /// Where to start work.
    pub fn lanes(&self) -> &Lanes {
        &self.lanes
    }

    /// Ends all threads and waits for them.
    pub fn end(self) {
        let threads: Vec<_> = self.running.into_iter().map(|running| running.thread).collect();
        for thread in threads {
            if thread.join().is_err() {
                tracing::error!("a thread of the data path panicked; this is a bug, please report it");
            }
        }
    }
}

fn start(name: String, grace: Duration) -> io::Result<(Running, Handle)> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let handle = runtime.handle().clone();
    let (stop, stopped) = oneshot::channel();
    let thread = thread::Builder::new().name(name).spawn(move || run(runtime, stopped, grace))?;
    Ok((Running { thread, _stop: stop }, handle))
}

fn run(runtime: Runtime, stopped: oneshot::Receiver<Infallible>, grace: Duration) {
    // No word is ever sent: the sender is dropped.
    runtime.block_on(stopped).ok();
    runtime.shutdown_timeout(grace);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_lane_is_a_thread_of_its_own_and_ends() {
        let threads = Threads::start("lane", 3, Duration::ZERO).expect("threads");
        let names = threads.lanes().all().iter().map(|lane| {
            let (tell, told) = std::sync::mpsc::sync_channel(1);
            lane.spawn(async move { tell.send(thread::current().name().map(str::to_owned)) });
            told.recv_timeout(Duration::from_secs(10)).expect("it runs").expect("named")
        });
        assert_eq!(names.collect::<Vec<_>>(), ["lane-0", "lane-1", "lane-2"]);
        threads.end();
    }
}
