//! Earliest deadline first: each member comes as often as its weight says, evenly spread, also while weights change.
//!
//! In: members by number, and their weights whenever one is picked. Out: a number. Absent on purpose: what weights mean.

use std::{
    cmp::{Ordering, Reverse},
    collections::BinaryHeap,
};

/// The schedule.
#[derive(Debug)]
pub(super) struct Edf {
    next: BinaryHeap<Reverse<Turn>>,
    /// Of two turns at the same time the one that was given first comes first.
    given: u64,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Turn {
    at: f64,
    given: u64,
    member: u32,
}

impl Eq for Turn {}

impl PartialOrd for Turn {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Turn {
    fn cmp(&self, other: &Self) -> Ordering {
        self.at.total_cmp(&other.at).then(self.given.cmp(&other.given))
    }
}

/// A member without weight would never come again.
const WEIGHT_MIN: f64 = 1e-6;

impl Edf {
    /// A schedule of these members. It begins after `skipped` picks, so that several proxies do not all begin alike.
    pub(super) fn new(members: &[u32], skipped: u64, weight: impl Fn(u32) -> f64) -> Self {
        let mut edf = Self { next: BinaryHeap::with_capacity(members.len()), given: 0 };
        members.iter().for_each(|member| edf.give(*member, 0.0, weight(*member)));
        for _ in 0..skipped.checked_rem(members.len() as u64).unwrap_or_default() {
            edf.pick(&weight);
        }
        edf
    }

    /// The member whose turn it is.
    pub(super) fn pick(&mut self, weight: impl Fn(u32) -> f64) -> Option<u32> {
        let Reverse(turn) = self.next.pop()?;
        self.give(turn.member, turn.at, weight(turn.member));
        Some(turn.member)
    }

    fn give(&mut self, member: u32, now: f64, weight: f64) {
        self.given += 1;
        self.next.push(Reverse(Turn { at: now + 1.0 / weight.max(WEIGHT_MIN), given: self.given, member }));
    }
}
