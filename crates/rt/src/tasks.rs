//! Every task has an owner that can wait for it and hears of its panic.
//!
//! In: named futures. Out: an owner that can be closed and joined under a deadline.

use std::{any::Any, future::Future, panic::AssertUnwindSafe, time::Duration};

use futures::FutureExt as _;
use tokio::{
    runtime::{EnterGuard, Handle},
    task::AbortHandle,
};
use tokio_util::task::TaskTracker;

use crate::deadline::{Elapsed, within};

/// The owner of tasks; clones own the same ones.
#[derive(Debug, Clone)]
pub struct Tasks {
    tracker: TaskTracker,
    runtime: Handle,
}

impl Tasks {
    /// An owner whose tasks run on the current runtime. Panics outside one, which is a programming error.
    pub fn new() -> Self {
        Self::on(Handle::current())
    }

    /// An owner whose tasks run on `runtime`.
    pub fn on(runtime: Handle) -> Self {
        Self { tracker: TaskTracker::new(), runtime }
    }

    /// The same owner, whose further tasks run on `runtime`.
    #[must_use]
    pub fn also_on(&self, runtime: Handle) -> Self {
        Self { tracker: self.tracker.clone(), runtime }
    }

    /// Enters the runtime of further tasks: sockets made meanwhile belong to it.
    pub fn enter(&self) -> EnterGuard<'_> {
        self.runtime.enter()
    }

    /// Starts `work`. `name` appears in the error log if it panics. The handle aborts it; dropping the handle does not.
    pub fn spawn(&self, name: &'static str, work: impl Future<Output = ()> + Send + 'static) -> AbortHandle {
        self.tracker.spawn_on(watched(name, work), &self.runtime).abort_handle()
    }

    /// How many tasks have not ended.
    pub fn len(&self) -> usize {
        self.tracker.len()
    }

    /// Whether every task has ended.
    pub fn is_empty(&self) -> bool {
        self.tracker.is_empty()
    }

    /// Waits until every task has ended, at most `timeout`.
    pub async fn join(&self, timeout: Duration) -> Result<(), Elapsed> {
        self.tracker.close();
        within("ending the remaining tasks", timeout, self.tracker.wait()).await
    }
}

/// Logs a panic of `work`. Not an async function: that would hold `work` twice, as argument and as awaited, for as long as
/// the task lives.
fn watched<F: Future<Output = ()>>(name: &'static str, work: F) -> impl Future<Output = ()> + use<F> {
    AssertUnwindSafe(work).catch_unwind().map(move |ended| {
        if let Err(panic) = ended {
            tracing::error!(task = name, panic = text_of(&*panic), "a task panicked; this is a bug, please report it");
        }
    })
}

/// What `panic!` was given, where it was text.
fn text_of(panic: &(dyn Any + Send)) -> &str {
    let owned = panic.downcast_ref::<String>().map(String::as_str);
    owned.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message")
}

impl Default for Tasks {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn tasks_are_joined_and_a_panic_is_contained() {
        let tasks = Tasks::new();
        tasks.spawn("fails", async { panic!("on purpose") });
        tasks.spawn("ends", async {});
        tasks.join(Duration::from_secs(5)).await.expect("both end");
        assert!(tasks.is_empty());
    }

    #[test]
    fn a_task_is_held_once() {
        let room = [0_u8; 10_000];
        let work = async move {
            tokio::task::yield_now().await;
            assert_eq!(room, [0; 10_000]);
        };
        let alone = size_of_val(&work);
        let watched = size_of_val(&watched("sized", work));
        assert!(watched <= alone + 64, "{watched} bytes for a future of {alone}");
    }

    #[tokio::test(start_paused = true)]
    async fn joining_gives_up_at_the_deadline() {
        let tasks = Tasks::new();
        tasks.spawn("waits", std::future::pending());
        assert!(tasks.join(Duration::from_secs(1)).await.is_err());
    }
}
