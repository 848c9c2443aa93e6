//! So many at once; who waits longest with the highest priority is next.

use std::{collections::VecDeque, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::oneshot;

/// How urgent a certificate is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// A connection waits for it.
    RealTime = 0,
    /// A pod will need it soon.
    Warmup = 1,
    /// What is held is still good.
    Background = 2,
}

/// The gate. Its queue is bounded by the number of keys, as each key enters once at a time.
#[derive(Debug)]
pub struct Gate<K> {
    state: Mutex<State<K>>,
}

#[derive(Debug)]
struct State<K> {
    free: usize,
    /// One queue per priority, most urgent first.
    waiting: [VecDeque<Waiter<K>>; 3],
}

#[derive(Debug)]
struct Waiter<K> {
    key: K,
    call: oneshot::Sender<Pass<K>>,
}

/// Being inside; dropping it lets the next one in.
#[derive(Debug)]
pub struct Pass<K> {
    /// Empty once the pass has been handed on.
    gate: Option<Arc<Gate<K>>>,
}

impl<K: Eq + Clone> Gate<K> {
    /// A gate that lets in `max` at once.
    pub fn new(max: usize) -> Arc<Self> {
        let waiting = [VecDeque::new(), VecDeque::new(), VecDeque::new()];
        Arc::new(Self { state: Mutex::new(State { free: max, waiting }) })
    }

    /// Waits for its turn. Safe to drop: a pass that comes too late goes to the next one.
    pub async fn enter(self: &Arc<Self>, key: &K, priority: Priority) -> Pass<K> {
        let called = {
            let mut state = self.state.lock();
            if state.free > 0 {
                state.free -= 1;
                return Pass { gate: Some(self.clone()) };
            }
            let (call, called) = oneshot::channel();
            let queue = &mut state.waiting[priority as usize];
            // Those who gave up waiting leave their entries behind.
            queue.retain(|waiter| !waiter.call.is_closed());
            queue.push_back(Waiter { key: key.clone(), call });
            called
        };
        match called.await {
            Ok(pass) => pass,
            // The gate outlives its waiters and always calls before it drops an entry.
            Err(_) => std::future::pending().await,
        }
    }

    /// Moves `key` to a more urgent queue, if it waits in a less urgent one.
    pub fn raise(&self, key: &K, to: Priority) {
        let mut state = self.state.lock();
        let (urgent, rest) = state.waiting.split_at_mut(to as usize + 1);
        for queue in rest {
            let Some(waiter) = queue.iter().position(|waiter| waiter.key == *key).and_then(|at| queue.remove(at))
            else {
                continue;
            };
            urgent[to as usize].push_back(waiter);
        }
    }
}

impl<K> Gate<K> {
    fn next(&self) -> Option<Waiter<K>> {
        let mut state = self.state.lock();
        let next = state.waiting.iter_mut().find_map(VecDeque::pop_front);
        if next.is_none() {
            state.free += 1;
        }
        next
    }
}

impl<K> Drop for Pass<K> {
    fn drop(&mut self) {
        let Some(gate) = self.gate.take() else { return };
        while let Some(waiter) = gate.next() {
            match waiter.call.send(Self { gate: Some(gate.clone()) }) {
                Ok(()) => return,
                // It no longer waits; emptied, so that dropping this one hands nothing on a second time.
                Err(mut unwanted) => unwanted.gate = None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt as _, pin_mut};

    use super::*;

    #[tokio::test]
    async fn urgent_ones_go_first_and_can_be_raised() {
        let gate = Gate::new(1);
        let inside = gate.enter(&"first", Priority::Background).await;
        let (later, soon) = (gate.enter(&"later", Priority::Background), gate.enter(&"soon", Priority::Warmup));
        let (gave_up, raised) =
            (gate.enter(&"gave up", Priority::RealTime), gate.enter(&"raised", Priority::Background));
        pin_mut!(later, soon, raised);
        {
            pin_mut!(gave_up);
            assert!(gave_up.as_mut().now_or_never().is_none());
        }
        assert!(later.as_mut().now_or_never().is_none());
        assert!(soon.as_mut().now_or_never().is_none());
        assert!(raised.as_mut().now_or_never().is_none());
        gate.raise(&"raised", Priority::RealTime);
        drop(inside);
        assert!(soon.as_mut().now_or_never().is_none());
        let pass = raised.as_mut().now_or_never().expect("it was raised");
        drop(pass);
        assert!(later.as_mut().now_or_never().is_none());
        let pass = soon.as_mut().now_or_never().expect("it is next");
        drop(pass);
        drop(later.as_mut().now_or_never().expect("it is last"));
        assert_eq!(gate.state.lock().free, 1);
    }

    #[tokio::test]
    async fn no_more_than_so_many_are_inside() {
        let gate = Gate::new(2);
        let one = gate.enter(&1, Priority::RealTime).await;
        let _two = gate.enter(&2, Priority::RealTime).await;
        assert!(gate.enter(&3, Priority::RealTime).now_or_never().is_none());
        drop(one);
        assert!(gate.enter(&4, Priority::RealTime).now_or_never().is_some());
    }
}
