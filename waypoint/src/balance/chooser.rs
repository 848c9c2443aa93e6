//! All endpoints of one cluster, ready to be chosen from.
//!
//! In: candidates and the policy, once; what a request asks, often. Out: an endpoint. Absent on purpose: noticing that
//! the policy, the endpoints or the ejections have changed.

use std::{collections::HashMap, net::SocketAddr, sync::Arc, time::Duration};

use lateen_types::name::WorkloadUid;
use rand::{Rng, RngExt as _};
use smallvec::SmallVec;

use super::{
    load::{Load, spilled},
    plan::{GroupPlan, TierPlan, joined, plans},
    policy::Balancing,
    pool::{Born, Manner, Pool, Wish},
    tier::{Candidate, Spot, ranks},
};
use crate::{book::TrafficPolicy, retry::CHOICES_MAX, upstream::health::EndpointHealth};

/// Endpoints, prepared. Made anew whenever the policy, the endpoints or the ejections change.
#[derive(Debug)]
pub struct Chooser<E> {
    members: Box<[Member<E>]>,
    by_address: HashMap<SocketAddr, u32>,
    /// Near ones first.
    tiers: Box<[Tier]>,
    manner: Manner,
}

/// An endpoint.
#[derive(Debug)]
pub struct Member<E> {
    /// What the candidate brought.
    pub endpoint: E,
    /// Its name.
    pub uid: WorkloadUid,
    /// Its address.
    pub address: SocketAddr,
    /// Its weight.
    pub weight: u32,
    /// Its health.
    pub health: Arc<EndpointHealth>,
    /// Since when it is there.
    pub(super) since: Duration,
    /// Its weight within its pool; all together 1.
    pub(super) share: f64,
}

/// Endpoints that are equally near.
#[derive(Debug)]
struct Tier {
    load: Load,
    groups: Box<[Group]>,
}

/// Endpoints that share a part of their tier's load.
#[derive(Debug)]
struct Group {
    /// The shares of this and all before it.
    until: u64,
    pool: Pool,
}

/// What one request asks.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ask<'a> {
    /// The hash of its key.
    pub hash: Option<u64>,
    /// The endpoint its session names.
    pub session: Option<SocketAddr>,
    /// Those that will not do, if there are others: they were tried before.
    pub tried: &'a [SocketAddr],
    /// Tiers to leave out, if there are others: one bit for each (see [`Chosen::tier`]).
    pub without_tiers: u64,
    /// The time, of the same clock as the candidates' `since`.
    pub now: Duration,
}

/// A choice.
#[derive(Debug)]
pub struct Chosen<'c, E> {
    /// The endpoint.
    pub member: &'c Member<E>,
    /// Its place among [`Chooser::members`].
    pub at: usize,
    /// Its tier, as a bit of [`Ask::without_tiers`].
    pub tier: u64,
    /// Whether the session chose it; else the session is to be told.
    pub by_session: bool,
}

impl<E> Chooser<E> {
    /// Of these candidates, whose ejections count as they are now; `seed` decides where turns begin.
    pub fn new(policy: &TrafficPolicy, here: &Spot, candidates: Vec<Candidate<E>>, now: Duration, seed: u64) -> Self {
        let candidates: Vec<Candidate<E>> = candidates.into_iter().filter(|one| one.weight > 0).collect();
        let ranks = ranks(&policy.locality, here, candidates.iter().map(|one| &one.spot));
        let manner = Manner { balancing: policy.balancing.clone(), warmup: policy.warmup };
        let mut members: Box<[Member<E>]> = candidates.into_iter().map(Member::of).collect();
        let min_health = policy.outlier.as_ref().map_or(0, |outlier| outlier.min_health_percent);
        let plans = plans(&ranks, &members, min_health);
        let born = Born { now, seed };
        let tiers = plans.into_iter().map(|plan| Tier::new(plan, &mut members, &manner, born)).collect();
        let by_address = (0..).zip(&members).map(|(number, one)| (one.address, number)).collect();
        Self { members, by_address, tiers, manner }
    }

    /// An endpoint; `None`: there is none that may be chosen (503, flag UH).
    pub fn choose(&self, ask: &Ask<'_>, dice: &mut impl Rng) -> Option<Chosen<'_, E>> {
        if let Some(chosen) = ask.session.and_then(|address| self.by_session(address, ask)) {
            return Some(chosen);
        }
        let number = self.tier(ask.without_tiers, dice)?;
        let pool = self.tiers[number].pool(dice)?;
        let mut wish = Wish { hash: ask.hash, attempt: 0, now: ask.now };
        let mut member = pool.choose(&self.members, &self.manner, wish, dice)?;
        let avoids = |member: u32| ask.tried.contains(&self.members[member as usize].address);
        while avoids(member) && wish.attempt < CHOICES_MAX as usize {
            wish.attempt += 1;
            member = pool.choose(&self.members, &self.manner, wish, dice)?;
        }
        if avoids(member) {
            // Chance has not found another one; looking does, if there is one.
            member = pool.members.iter().copied().find(|other| !avoids(*other)).unwrap_or(member);
        }
        let at = member as usize;
        Some(Chosen { member: &self.members[at], at, tier: bit(number), by_session: false })
    }

    /// The endpoint of a session, if it is healthy and was not tried in vain.
    fn by_session(&self, address: SocketAddr, ask: &Ask<'_>) -> Option<Chosen<'_, E>> {
        let at = *self.by_address.get(&address)? as usize;
        let member = &self.members[at];
        let fits = !member.health.is_ejected() && !ask.tried.contains(&address);
        fits.then_some(Chosen { member, at, tier: 0, by_session: true })
    }

    fn tier(&self, without: u64, dice: &mut impl Rng) -> Option<usize> {
        if let [only] = &*self.tiers {
            return (only.load.percent > 0).then_some(0);
        }
        let mut loads: SmallVec<[u32; 8]> = self.tiers.iter().map(|tier| tier.load.percent).collect();
        if without != 0 {
            let left =
                |(number, tier): (usize, &Tier)| if without & bit(number) == 0 { tier.load.available } else { 0 };
            let spilled = spilled(&self.tiers.iter().enumerate().map(left).collect::<SmallVec<[u32; 8]>>());
            // Where nothing would be left, nothing is left out.
            loads = if spilled.iter().sum::<u32>() > 0 { spilled } else { loads };
        }
        let total: u32 = loads.iter().sum();
        let mut point = if total > 0 { dice.random_range(0..total) } else { return None };
        loads.iter().position(|load| match point.checked_sub(*load) {
            Some(left) => {
                point = left;
                false
            }
            None => true,
        })
    }

    /// How many endpoints there are, ejected ones included.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether there is none at all.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// All endpoints.
    pub fn members(&self) -> &[Member<E>] {
        &self.members
    }

    /// Whether requests go to the address the client dialled.
    pub fn is_passthrough(&self) -> bool {
        self.manner.balancing == Balancing::Passthrough
    }
}

/// Of a tier; there are never as many as bits.
fn bit(tier: usize) -> u64 {
    u32::try_from(tier).ok().and_then(|tier| 1_u64.checked_shl(tier)).unwrap_or(0)
}

impl<E> Member<E> {
    fn of(candidate: Candidate<E>) -> Self {
        let Candidate { endpoint, uid, address, weight, since, health, spot: _ } = candidate;
        Self { endpoint, uid, address, weight, health, since, share: 0.0 }
    }
}

impl Tier {
    fn new<E>(plan: TierPlan, members: &mut [Member<E>], manner: &Manner, born: Born) -> Self {
        // A table knows no groups: their shares become weights.
        let groups = if matches!(manner.balancing, Balancing::Hash(_)) { joined(plan.groups) } else { plan.groups };
        let mut until = 0;
        let mut make = |group: GroupPlan| {
            until += group.share;
            group.members.iter().for_each(|one| members[one.member as usize].share = one.weight);
            Group { until, pool: Pool::new(members, group.members, manner, born) }
        };
        Self { load: plan.load, groups: groups.into_iter().map(&mut make).collect() }
    }

    fn pool(&self, dice: &mut impl Rng) -> Option<&Pool> {
        match &*self.groups {
            [] => None,
            [only] => Some(&only.pool),
            [.., last] => {
                let point = dice.random_range(0..last.until.max(1));
                let at = self.groups.partition_point(|group| group.until <= point);
                self.groups.get(at).map(|group| &group.pool)
            }
        }
    }
}
