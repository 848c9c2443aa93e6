//! Maglev's table: a key belongs to an entry; each member takes entries in an order of its own, by turns, so that few
//! keys move when endpoints come or go. Faster than a ring, and moves a little more.
//!
//! In: members with names and weights. Out: for a hash, a member. Absent on purpose: what is hashed.
//! <https://research.google/pubs/maglev-a-fast-and-reliable-software-network-load-balancer/>, 3.4.

use super::{hash::hash, ring::Weighted};

/// The table.
#[derive(Debug)]
pub(super) struct Maglev {
    entries: Box<[u32]>,
}

/// The order in which one member takes entries.
struct Taker {
    member: u32,
    weight: f64,
    next: u64,
    skip: u64,
    /// A lighter member takes part only in those rounds its weight has reached.
    reached: f64,
}

impl Maglev {
    /// A table of `size` entries, which is a prime.
    pub(super) fn new(members: &[Weighted], size: usize) -> Self {
        let modulus = size as u64;
        let mut takers: Vec<Taker> = members.iter().map(|one| Taker::new(one, modulus)).collect();
        let heaviest = members.iter().map(|one| one.weight).fold(0.0, f64::max);
        let mut entries = vec![u32::MAX; if members.is_empty() { 0 } else { size }];
        let (mut free, mut round) = (entries.len(), 0.0);
        while free > 0 {
            round += 1.0;
            for taker in &mut takers {
                if free == 0 || round * taker.weight < taker.reached {
                    continue;
                }
                taker.reached += heaviest;
                taker.take(&mut entries, modulus);
                free -= 1;
            }
        }
        Self { entries: entries.into() }
    }

    /// The member that `hash` belongs to, or, with `skipped`, another.
    pub(super) fn find(&self, hash: u64, skipped: usize) -> Option<u32> {
        let hash = hash ^ (skipped as u64).wrapping_neg();
        let at = usize::try_from(hash.checked_rem(self.entries.len() as u64)?).ok()?;
        self.entries.get(at).copied()
    }
}

impl Taker {
    fn new(one: &Weighted, modulus: u64) -> Self {
        let first = hash(one.name.as_bytes()) % modulus;
        let skip = hash(format!("{} skip", one.name).as_bytes()) % (modulus - 1).max(1) + 1;
        Self { member: one.member, weight: one.weight, next: first, skip, reached: 0.0 }
    }

    /// Takes the next free entry of its order. There is one: the order goes through all of them.
    fn take(&mut self, entries: &mut [u32], modulus: u64) {
        loop {
            let at = self.next;
            self.next = (self.next + self.skip) % modulus;
            let entry = usize::try_from(at).ok().and_then(|at| entries.get_mut(at));
            if let Some(entry) = entry.filter(|entry| **entry == u32::MAX) {
                *entry = self.member;
                return;
            }
        }
    }
}
