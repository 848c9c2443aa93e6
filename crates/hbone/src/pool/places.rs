//! How many tunnels a connection carries, and since when it carries none.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;

/// The places of one connection.
#[derive(Debug)]
pub struct Places {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    taken: usize,
    /// When `taken` last became zero; meaningless while it is not.
    idle_since: Instant,
}

/// A taken place; dropping it gives it back.
#[derive(Debug)]
pub struct Occupied(Arc<Places>);

impl Places {
    /// The places of a new connection, the first of which is taken by who dialled it.
    pub fn with_one_taken() -> (Arc<Self>, Occupied) {
        let places = Arc::new(Self { state: Mutex::new(State { taken: 1, idle_since: Instant::now() }) });
        (places.clone(), Occupied(places))
    }

    /// Takes a place unless `room` are taken.
    pub fn take(self: &Arc<Self>, room: usize) -> Option<Occupied> {
        let mut state = self.state.lock();
        (state.taken < room).then(|| {
            state.taken += 1;
            Occupied(self.clone())
        })
    }

    /// Whether none has been taken for `time`.
    pub fn idle_for(&self, time: Duration) -> bool {
        let state = self.state.lock();
        state.taken == 0 && state.idle_since.elapsed() >= time
    }
}

impl Drop for Occupied {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.taken -= 1;
        state.idle_since = Instant::now();
    }
}
