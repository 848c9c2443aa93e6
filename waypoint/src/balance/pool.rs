//! One of several endpoints that are equally near.
//!
//! In: members with weights, the way to choose; per request a hash, dice. Out: a member. Absent on purpose: nearness.

use std::{
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    time::Duration,
};

use parking_lot::Mutex;
use rand::{Rng, RngExt as _};

use super::{
    chooser::Member,
    edf::Edf,
    maglev::Maglev,
    policy::{Balancing, HashTable, Warmup},
    ring::{Ring, Weighted},
};

/// The members and the way to choose.
#[derive(Debug)]
pub(super) struct Pool {
    pub(super) members: Box<[u32]>,
    way: Way,
}

#[derive(Debug)]
enum Way {
    /// The one of two with fewer requests under way.
    LeastOfTwo,
    RoundRobin(AtomicUsize),
    Random,
    /// Weights until each member, for choosing at random.
    WeightedRandom(Box<[u64]>),
    /// By turns. The lock is held for a few comparisons, and only where weights differ.
    Turns(Mutex<Edf>),
    Ring(Ring),
    Maglev(Maglev),
}

/// What all pools of a chooser have in common.
#[derive(Debug)]
pub(super) struct Manner {
    pub(super) balancing: Balancing,
    pub(super) warmup: Option<Warmup>,
}

/// What one request brings.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wish {
    pub(super) hash: Option<u64>,
    /// How often something was chosen already that would not do.
    pub(super) attempt: usize,
    pub(super) now: Duration,
}

impl Pool {
    /// A pool of these members, of which each has so much weight.
    pub(super) fn new<E>(all: &[Member<E>], members: Vec<Weighted>, manner: &Manner, born: Born) -> Self {
        let numbers: Box<[u32]> = members.iter().map(|one| one.member).collect();
        let warms = |number: &u32| manner.warming(&all[*number as usize], born.now) < 1.0;
        let even = members.windows(2).all(|pair| pair[0].weight.total_cmp(&pair[1].weight).is_eq());
        let by_turns = !even || numbers.iter().any(warms);
        let way = match &manner.balancing {
            Balancing::Hash(hash) => match hash.table {
                HashTable::Ring { points_min } => Way::Ring(Ring::new(&members, points_min)),
                HashTable::Maglev { size } => Way::Maglev(Maglev::new(&members, size)),
            },
            Balancing::LeastRequest | Balancing::RoundRobin if by_turns => {
                let weight = |number: u32| manner.weight(&all[number as usize], born.now);
                Way::Turns(Mutex::new(Edf::new(&numbers, born.seed, weight)))
            }
            Balancing::LeastRequest => Way::LeastOfTwo,
            #[allow(clippy::cast_possible_truncation, reason = "where it begins does not matter")]
            Balancing::RoundRobin => Way::RoundRobin(AtomicUsize::new(born.seed as usize)),
            Balancing::Random | Balancing::Passthrough if even => Way::Random,
            Balancing::Random | Balancing::Passthrough => {
                let mut until = 0;
                let add = |number: &u32| {
                    until += u64::from(all[*number as usize].weight);
                    until
                };
                Way::WeightedRandom(numbers.iter().map(add).collect())
            }
        };
        Self { members: numbers, way }
    }

    /// A member.
    pub(super) fn choose<E>(&self, all: &[Member<E>], manner: &Manner, wish: Wish, dice: &mut impl Rng) -> Option<u32> {
        let count = self.members.len();
        if count == 0 {
            return None;
        }
        match &self.way {
            Way::LeastOfTwo => Some(self.least_of_two(all, dice)),
            Way::RoundRobin(next) => Some(self.members[next.fetch_add(1, Relaxed) % count]),
            Way::Random => Some(self.members[dice.random_range(0..count)]),
            Way::WeightedRandom(until) => {
                let point = dice.random_range(0..until.last().copied().unwrap_or(1));
                self.members.get(until.partition_point(|until| *until <= point)).copied()
            }
            Way::Turns(edf) => edf.lock().pick(|number| manner.weight(&all[number as usize], wish.now)),
            // Without a key any point of the table will do: they are spread by weight.
            Way::Ring(ring) => ring.find(wish.hash.unwrap_or_else(|| dice.random()), wish.attempt),
            Way::Maglev(table) => table.find(wish.hash.unwrap_or_else(|| dice.random()), wish.attempt),
        }
    }

    fn least_of_two<E>(&self, all: &[Member<E>], dice: &mut impl Rng) -> u32 {
        let count = self.members.len();
        let first = dice.random_range(0..count);
        if count == 1 {
            return self.members[first];
        }
        // Two different ones.
        let second = (first + dice.random_range(1..count)) % count;
        let (first, second) = (self.members[first], self.members[second]);
        let active = |number: u32| all[number as usize].health.active();
        if active(second) < active(first) { second } else { first }
    }
}

/// When and how a chooser was made.
#[derive(Debug, Clone, Copy)]
pub(super) struct Born {
    pub(super) now: Duration,
    pub(super) seed: u64,
}

impl Manner {
    /// The weight of a member's next turn.
    fn weight<E>(&self, member: &Member<E>, now: Duration) -> f64 {
        let weight = member.share * self.warming(member, now);
        match self.balancing {
            Balancing::LeastRequest => weight / f64::from(member.health.active().saturating_add(1)),
            Balancing::RoundRobin | Balancing::Random | Balancing::Passthrough | Balancing::Hash(_) => weight,
        }
    }

    /// The part of its weight that a member has already; 1 once it is warm.
    fn warming<E>(&self, member: &Member<E>, now: Duration) -> f64 {
        let Some(warmup) = &self.warmup else { return 1.0 };
        let age = now.saturating_sub(member.since);
        if age >= warmup.duration {
            return 1.0;
        }
        let part = age.as_secs_f64() / warmup.duration.as_secs_f64();
        part.powf(1.0 / warmup.aggression).max(warmup.minimum)
    }
}
