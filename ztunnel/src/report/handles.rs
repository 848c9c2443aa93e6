//! The counters of a connection, found without naming them again.
//!
//! In: who speaks to whom. Out: the four counters that every connection of the same two parties adds to.
//!
//! Naming a counter takes 27 labels and a look into the registry, for each of four counters; a connection between two
//! known workloads finds them by the identity of the world's own objects. The entries belong to one thread (no lock, no
//! shared cache line), hold their objects weakly (an address is not given to another object while a weak reference
//! stands, so it cannot be mistaken; the strings are freed when the world lets go), and are bounded.
//! Absent on purpose: parties known by their own words only (baggage); they name their counters each time.

use std::{
    cell::RefCell,
    collections::HashMap,
    hash::{BuildHasherDefault, Hash, Hasher},
    sync::{Arc, Weak},
};

use lateen_state::{service::Service, workload::Workload};
use lateen_types::id::SpiffeId;
use metrics::Counter;

use super::{
    Flag, Security,
    labels::Labelled,
    party::{Party, Who},
};

/// Pairs one thread remembers. At the bound those whose objects are gone are forgotten, and if that is not enough, all.
const REMEMBERED_MAX: usize = 2_048;

/// The counters.
#[derive(Debug)]
pub(super) struct Handles {
    pub(super) opened: Counter,
    pub(super) closed: Counter,
    pub(super) received: Counter,
    pub(super) sent: Counter,
}

impl Handles {
    /// Those of `labelled`, remembered where that is possible.
    pub(super) fn of(labelled: &Labelled<'_>) -> Arc<Self> {
        match Key::of(labelled) {
            Some(key) => REMEMBERED.with_borrow_mut(|remembered| remembered.get(key, labelled)),
            None => Arc::new(Self::named(labelled)),
        }
    }

    fn named(labelled: &Labelled<'_>) -> Self {
        let labels = labelled.labels(Flag::None);
        Self {
            opened: metrics::counter!("istio_tcp_connections_opened", labels.clone()),
            closed: metrics::counter!("istio_tcp_connections_closed", labels.clone()),
            received: metrics::counter!("istio_tcp_received_bytes", labels.clone()),
            sent: metrics::counter!("istio_tcp_sent_bytes", labels),
        }
    }
}

thread_local! {
    static REMEMBERED: RefCell<Remembered> = RefCell::default();
}

#[derive(Default)]
struct Remembered {
    // What is hashed are our own addresses, which nobody outside chooses.
    handles: HashMap<Key, Arc<Handles>, BuildHasherDefault<Mix>>,
}

impl Remembered {
    fn get(&mut self, key: Key, labelled: &Labelled<'_>) -> Arc<Handles> {
        if let Some(handles) = self.handles.get(&key) {
            return handles.clone();
        }
        if self.handles.len() >= REMEMBERED_MAX {
            self.handles.retain(|key, _| key.is_alive());
            // Half of the room must be free, or the next few new pairs would look through all of them again.
            if self.handles.len() > REMEMBERED_MAX / 2 {
                self.handles.clear();
            }
        }
        let handles = Arc::new(Handles::named(labelled));
        self.handles.insert(key, handles.clone());
        handles
    }
}

/// Everything the labels are made of.
#[derive(Debug, PartialEq, Eq)]
struct Key {
    reporter: &'static str,
    security: Security,
    source: Side,
    destination: Side,
    service: Option<Same<Service>>,
}

#[derive(Debug, PartialEq, Eq)]
struct Side {
    workload: Option<Same<Workload>>,
    principal: Option<SpiffeId>,
}

/// An object by identity, which its owner may let go of.
#[derive(Debug)]
struct Same<T>(Weak<T>);

impl<T> PartialEq for Same<T> {
    fn eq(&self, other: &Self) -> bool {
        self.0.ptr_eq(&other.0)
    }
}

impl<T> Eq for Same<T> {}

impl<T> Same<T> {
    fn of(object: &Arc<T>) -> Self {
        Self(Arc::downgrade(object))
    }

    fn is_alive(&self) -> bool {
        self.0.strong_count() > 0
    }
}

impl Key {
    fn of(labelled: &Labelled<'_>) -> Option<Self> {
        Some(Self {
            reporter: labelled.reporter,
            security: labelled.security,
            source: Side::of(labelled.source)?,
            destination: Side::of(labelled.destination)?,
            service: labelled.service.map(Same::of),
        })
    }

    fn is_alive(&self) -> bool {
        let workloads = [&self.source.workload, &self.destination.workload];
        workloads.into_iter().flatten().all(Same::is_alive) && self.service.as_ref().is_none_or(Same::is_alive)
    }
}

impl Side {
    fn of(party: &Party) -> Option<Self> {
        let workload = match party.who() {
            Who::Unknown => None,
            Who::Workload(workload) => Some(Same::of(workload)),
            Who::Baggage(_) => return None,
        };
        Some(Self { workload, principal: party.principal().cloned() })
    }
}

impl Hash for Key {
    /// Of the addresses alone; what they leave open is left to `Eq`.
    fn hash<H: Hasher>(&self, state: &mut H) {
        let workload = |side: &Side| side.workload.as_ref().map_or(0, |same| same.0.as_ptr().addr());
        state.write_usize(workload(&self.source));
        state.write_usize(workload(&self.destination));
        state.write_usize(self.service.as_ref().map_or(0, |same| same.0.as_ptr().addr()));
        state.write_usize(self.reporter.len());
    }
}

/// Mixes a few addresses by Fibonacci hashing: the odd constant is 2^64 divided by the golden ratio.
#[derive(Default)]
struct Mix(u64);

impl Hasher for Mix {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_usize(usize::from(*byte));
        }
    }

    fn write_usize(&mut self, word: usize) {
        self.0 = (self.0.rotate_left(23) ^ word as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn finish(&self) -> u64 {
        // The map chooses by the lowest and the highest bits; a product's low bits are poor.
        self.0 ^ (self.0 >> 32)
    }
}

#[cfg(test)]
pub(super) fn remembered() -> usize {
    REMEMBERED.with_borrow(|remembered| remembered.handles.len())
}
