//! Which endpoints share which part of the load, now that health counts.
//!
//! In: ranks, and who is ejected. Out: for each tier its load, its groups and their members. Absent on purpose: choosing.

use super::{
    chooser::Member,
    load::{Count, Load, availability, loads},
    ring::Weighted,
    tier::{Rank, Ranks},
};

/// One tier.
pub(super) struct TierPlan {
    pub(super) load: Load,
    pub(super) groups: Vec<GroupPlan>,
}

/// Members that share a part of their tier's load.
pub(super) struct GroupPlan {
    /// Beside those of the tier's other groups.
    pub(super) share: u64,
    /// Their weights together are 1.
    pub(super) members: Vec<Weighted>,
}

/// All tiers, near ones first.
pub(super) fn plans<E>(ranks: &Ranks, members: &[Member<E>], min_health_percent: u32) -> Vec<TierPlan> {
    let tiers = ranks.ranks.iter().flatten().map(|rank| rank.tier + 1).max().unwrap_or_default();
    let among = |is_meant: &dyn Fn(Rank) -> bool| {
        let meant = members.iter().zip(&ranks.ranks).filter(|(_, rank)| rank.is_some_and(is_meant));
        let health: Vec<bool> = meant.map(|(member, _)| !member.health.is_ejected()).collect();
        let count = |all: usize| u32::try_from(all).unwrap_or(u32::MAX);
        Count { healthy: count(health.iter().filter(|healthy| **healthy).count()), all: count(health.len()) }
    };
    let counts: Vec<Count> = (0..tiers).map(|tier| among(&|rank| rank.tier == tier)).collect();
    let group = |tier: u32, load: Load, group: u32| {
        let wanted = Rank { tier, group };
        let all = (0..).zip(members.iter().zip(&ranks.ranks)).filter(|(_, (_, rank))| **rank == Some(wanted));
        let usable = all.filter(|(_, (member, _))| load.panics || !member.health.is_ejected());
        let members = weighted(usable.map(|(number, (member, _))| (number, member)));
        let share = ranks.shares.get(group as usize).copied().unwrap_or_default();
        let count = among(&|rank| rank == wanted);
        let available = if load.panics { 100 } else { availability(&count) };
        GroupPlan { share: u64::from(share) * u64::from(available), members }
    };
    let tier = |(tier, load): (u32, Load)| {
        let groups = (0..).take(ranks.shares.len()).map(|number| group(tier, load, number));
        TierPlan { load, groups: groups.filter(|group| group.share > 0 && !group.members.is_empty()).collect() }
    };
    (0..).zip(loads(&counts, min_health_percent)).map(tier).collect()
}

fn weighted<'m, E: 'm>(members: impl Iterator<Item = (u32, &'m Member<E>)> + Clone) -> Vec<Weighted> {
    let total: f64 = members.clone().map(|(_, member)| f64::from(member.weight)).sum();
    let one = |(number, member): (u32, &Member<E>)| Weighted {
        member: number,
        name: member.address.to_string(),
        weight: f64::from(member.weight) / total,
    };
    members.map(one).collect()
}

/// All groups as one, in which each keeps its share.
pub(super) fn joined(groups: Vec<GroupPlan>) -> Vec<GroupPlan> {
    #[allow(clippy::cast_precision_loss, reason = "shares are percents of percents")]
    let share = |share: u64| share as f64;
    let total: f64 = groups.iter().map(|group| share(group.share)).sum();
    let scaled = groups.into_iter().flat_map(|group| {
        let factor = share(group.share) / total;
        group.members.into_iter().map(move |one| Weighted { weight: one.weight * factor, ..one })
    });
    let members: Vec<Weighted> = scaled.collect();
    if members.is_empty() { Vec::new() } else { vec![GroupPlan { share: 1, members }] }
}
