//! When each change was made, and when each proxy it concerns acknowledged it.
//!
//! In: marks from the churn and from the proxies, from any thread. Out: counts and durations.
//! A change is a pod that leaves or comes; both have a row of slots by the pods' numbers.

use std::{
    ops::Range,
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
    time::Duration,
};

use lateen_load::histogram::Histogram;
use tokio::time::Instant;

/// Which way a pod goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Left,
    Came,
}

/// The changes of one run.
#[derive(Debug)]
pub(crate) struct Deliveries {
    began: Instant,
    left: Row,
    came: Row,
    heard: AtomicU64,
    expected: u64,
}

#[derive(Debug)]
struct Row {
    first: usize,
    slots: Vec<Slot>,
}

/// Nanoseconds since the beginning; 0 is not yet.
#[derive(Debug, Default)]
struct Slot {
    made: AtomicU64,
    last: AtomicU64,
    heard: AtomicU32,
    concerned: u32,
}

/// What one proxy has heard, and how long each took.
#[derive(Debug)]
pub(crate) struct Heard {
    left: Vec<bool>,
    came: Vec<bool>,
    /// Of changes to their acknowledgement by this proxy.
    pub times: Histogram,
}

impl Deliveries {
    /// Pods `left` will leave and `came` will come; so many proxies are concerned by each, in that order.
    pub fn new((left, came): (Range<usize>, Range<usize>), concerned: impl Fn(usize) -> u32) -> Self {
        let row = |pods: Range<usize>| Row {
            first: pods.start,
            slots: pods.map(|pod| Slot { concerned: concerned(pod), ..Slot::default() }).collect(),
        };
        let (left, came) = (row(left), row(came));
        let expected = left.slots.iter().chain(&came.slots).map(|slot| u64::from(slot.concerned)).sum();
        Self { began: Instant::now(), left, came, heard: AtomicU64::new(0), expected }
    }

    /// The change is being made now.
    pub fn made(&self, way: Way, pod: usize) {
        if let Some((_, slot)) = self.slot(way, pod) {
            slot.made.store(self.now(), Ordering::Release);
        }
    }

    /// A proxy acknowledges the change now. What it heard before, or what was never made, does not count.
    pub fn heard(&self, way: Way, pod: usize, heard: &mut Heard) {
        let Some((at, slot)) = self.slot(way, pod) else { return };
        let before = match way {
            Way::Left => &mut heard.left[at],
            Way::Came => &mut heard.came[at],
        };
        let (made, now) = (slot.made.load(Ordering::Acquire), self.now());
        if made == 0 || std::mem::replace(before, true) {
            return;
        }
        heard.times.record(now.saturating_sub(made));
        slot.last.fetch_max(now, Ordering::AcqRel);
        slot.heard.fetch_add(1, Ordering::AcqRel);
        self.heard.fetch_add(1, Ordering::AcqRel);
    }

    /// A proxy that has heard nothing.
    pub fn nothing(&self) -> Heard {
        let none = |row: &Row| vec![false; row.slots.len()];
        Heard { left: none(&self.left), came: none(&self.came), times: Histogram::default() }
    }

    /// Acknowledgements so far, and how many there must be once every change was made.
    pub fn progress(&self) -> (u64, u64) {
        (self.heard.load(Ordering::Acquire), self.expected)
    }

    /// From each change to the last proxy's acknowledgement, of those that all concerned have heard.
    pub fn to_the_last(&self) -> Histogram {
        let mut times = Histogram::default();
        let all = self.left.slots.iter().chain(&self.came.slots);
        for slot in all.filter(|slot| slot.heard.load(Ordering::Acquire) >= slot.concerned) {
            let made = slot.made.load(Ordering::Acquire);
            times.record(slot.last.load(Ordering::Acquire).saturating_sub(made));
        }
        times
    }

    fn slot(&self, way: Way, pod: usize) -> Option<(usize, &Slot)> {
        let row = match way {
            Way::Left => &self.left,
            Way::Came => &self.came,
        };
        let at = pod.checked_sub(row.first)?;
        row.slots.get(at).map(|slot| (at, slot))
    }

    /// Never 0.
    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().max(Duration::from_nanos(1)).as_nanos()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_change_counts_once_for_each_proxy() {
        let deliveries = Deliveries::new((0..2, 10..12), |_| 2);
        let (mut one, mut other) = (deliveries.nothing(), deliveries.nothing());
        assert_eq!(deliveries.progress(), (0, 8));
        deliveries.heard(Way::Came, 10, &mut one);
        assert_eq!(deliveries.progress().0, 0, "nobody can hear what was not made");
        deliveries.made(Way::Came, 10);
        tokio::time::advance(Duration::from_millis(5)).await;
        deliveries.heard(Way::Came, 10, &mut one);
        deliveries.heard(Way::Came, 10, &mut one);
        assert_eq!((deliveries.progress().0, deliveries.to_the_last().total()), (1, 0));
        tokio::time::advance(Duration::from_millis(5)).await;
        deliveries.heard(Way::Came, 10, &mut other);
        deliveries.heard(Way::Left, 10, &mut other);
        deliveries.heard(Way::Left, 5, &mut other);
        assert_eq!(deliveries.progress(), (2, 8));
        let last = deliveries.to_the_last();
        assert_eq!(last.total(), 1);
        assert!((9_900_000..10_100_000).contains(&last.percentile(1.0)));
        assert!((4_900_000..5_100_000).contains(&one.times.percentile(1.0)));
    }
}
