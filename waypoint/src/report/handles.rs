//! The counters of a label set, found without naming them again.
//!
//! In: who speaks to whom, and how it ended. Out: the counters that every such request adds to.
//!
//! Naming a counter takes its 26 labels and a look into the registry, for each of four. Here they are found by the identity
//! of the party, the workload and the service. The entries belong to one thread (no lock, no shared cache line). Each holds
//! what it is named by, so that an address cannot come to mean something else; entries that nobody used for a while go,
//! and with the last of them the registry may forget the series.

use std::{
    cell::RefCell,
    collections::HashMap,
    hash::{BuildHasherDefault, Hash, Hasher},
    rc::Rc,
    sync::{Arc, Weak},
    time::Duration,
};

use lateen_state::{service::Service, workload::Workload};
use metrics::{Counter, Histogram};
use tokio::time::Instant;

use super::{
    Reporter, catalogue, flags,
    labels::{Asked, Labelled},
    party::Party,
};

/// Label sets one thread remembers.
const REMEMBERED_MAX: usize = 8_192;
/// An entry that was not used for so long goes.
const IDLE_MAX: Duration = Duration::from_secs(600);

/// The counters of requests.
pub(super) struct Handles {
    pub(super) requests: Counter,
    pub(super) duration: Histogram,
    pub(super) request_bytes: Histogram,
    pub(super) response_bytes: Histogram,
}

/// What a request is counted by.
pub(super) struct Counted<'a> {
    pub(super) reporter: Reporter,
    pub(super) is_mutual: bool,
    pub(super) source: &'a Arc<Party>,
    pub(super) destination: Option<&'a Arc<Workload>>,
    pub(super) service: Option<&'a Arc<Service>>,
    pub(super) flags: &'a [&'static str],
    pub(super) asked: Asked,
}

impl Counted<'_> {
    fn key(&self) -> Key {
        Key {
            source: Arc::as_ptr(self.source).addr(),
            destination: self.destination.map_or(0, |one| Arc::as_ptr(one).addr()),
            service: self.service.map_or(0, |one| Arc::as_ptr(one).addr()),
            asked: self.asked,
            flags: flags::bits(self.flags),
            reporter: self.reporter,
            is_mutual: self.is_mutual,
        }
    }

    fn named(&self) -> Handles {
        let labelled = Labelled {
            reporter: self.reporter,
            is_mutual: self.is_mutual,
            source: self.source,
            destination: self.destination.map(|one| &**one),
            service: self.service.map(|one| &**one),
            flags: self.flags,
            request: Some(self.asked),
        };
        let labels = labelled.labels();
        Handles {
            requests: metrics::counter!(catalogue::REQUESTS, labels.clone()),
            duration: metrics::histogram!(catalogue::DURATION, labels.clone()),
            request_bytes: metrics::histogram!(catalogue::REQUEST_BYTES, labels.clone()),
            response_bytes: metrics::histogram!(catalogue::RESPONSE_BYTES, labels),
        }
    }
}

/// Who and how, by addresses that stay what they are as long as the entry holds them.
#[derive(PartialEq, Eq)]
struct Key {
    source: usize,
    destination: usize,
    service: usize,
    asked: Asked,
    flags: u32,
    reporter: Reporter,
    is_mutual: bool,
}

impl Hash for Key {
    /// Of what differs most; the rest is left to `Eq`.
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_usize(self.source);
        state.write_usize(self.destination);
        state.write_usize(self.service);
        state.write_usize(usize::from(self.asked.status) << 32 | self.flags as usize);
    }
}

/// Mixes a few words by Fibonacci hashing: the odd constant is 2^64 divided by the golden ratio. What is hashed are our own
/// addresses, which nobody outside chooses.
#[derive(Default)]
struct Mix(u64);

impl Hasher for Mix {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_usize(usize::from(*byte)));
    }

    fn write_usize(&mut self, word: usize) {
        self.0 = (self.0.rotate_left(23) ^ word as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn finish(&self) -> u64 {
        // The map chooses by the lowest and the highest bits; a product's low bits are poor.
        self.0 ^ (self.0 >> 32)
    }
}

struct Kept {
    handles: Rc<Handles>,
    used: Instant,
    _source: Arc<Party>,
    /// A weak reference keeps an address from being given away, and lets the words be freed.
    _destination: Option<Weak<Workload>>,
    _service: Option<Weak<Service>>,
}

#[derive(Default)]
struct Remembered {
    all: HashMap<Key, Kept, BuildHasherDefault<Mix>>,
    swept: Option<Instant>,
}

thread_local! {
    static REMEMBERED: RefCell<Remembered> = RefCell::default();
}

/// The counters of a request that ends now.
pub(super) fn of(counted: &Counted<'_>, now: Instant) -> Rc<Handles> {
    REMEMBERED.with_borrow_mut(|remembered| remembered.get(counted, now))
}

impl Remembered {
    fn get(&mut self, counted: &Counted<'_>, now: Instant) -> Rc<Handles> {
        self.sweep(now);
        let key = counted.key();
        if let Some(kept) = self.all.get_mut(&key) {
            kept.used = now;
            return kept.handles.clone();
        }
        if self.all.len() >= REMEMBERED_MAX {
            self.all.clear();
        }
        let handles = Rc::new(counted.named());
        let kept = Kept {
            handles: handles.clone(),
            used: now,
            _source: counted.source.clone(),
            _destination: counted.destination.map(Arc::downgrade),
            _service: counted.service.map(Arc::downgrade),
        };
        self.all.insert(key, kept);
        handles
    }

    fn sweep(&mut self, now: Instant) {
        if self.swept.is_some_and(|swept| now.saturating_duration_since(swept) < IDLE_MAX) {
            return;
        }
        self.all.retain(|_, kept| now.saturating_duration_since(kept.used) < IDLE_MAX);
        self.swept = Some(now);
    }
}

#[cfg(test)]
pub(super) fn remembered() -> usize {
    REMEMBERED.with_borrow(|remembered| remembered.all.len())
}
