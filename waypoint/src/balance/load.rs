//! How much of the load each tier gets, by how many of its endpoints are healthy.
//!
//! In: healthy and all endpoints of each tier, near ones first. Out: percentages. Absent on purpose: which endpoints.

use smallvec::SmallVec;

/// The endpoints of one tier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Count {
    pub(super) healthy: u32,
    pub(super) all: u32,
}

/// The load of one tier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Load {
    /// Of 100 requests.
    pub(super) percent: u32,
    /// What it could take.
    pub(super) available: u32,
    /// So few are healthy that health does not count.
    pub(super) panics: bool,
}

/// A tier is as good as whole while 100 of 140 of its endpoints are healthy, as the reference has it.
const OVERPROVISIONING: u32 = 140;

/// The load of each tier. All 0: there is nothing to choose.
pub(super) fn loads(counts: &[Count], min_health_percent: u32) -> Vec<Load> {
    let availability: Vec<u32> = counts.iter().map(availability).collect();
    let total = availability.iter().sum::<u32>().min(100);
    // Where tiers together are whole, the healthy ones carry everything, and no tier panics.
    let panics = |count: &Count| {
        total < 100
            && count.all > 0
            && 100 * u64::from(count.healthy) < u64::from(min_health_percent) * u64::from(count.all)
    };
    let mut loads: Vec<Load> =
        counts.iter().map(|count| Load { percent: 0, available: 0, panics: panics(count) }).collect();
    if total == 0 {
        by_count(counts, &mut loads);
        return loads;
    }
    for ((load, percent), available) in loads.iter_mut().zip(spilled(&availability)).zip(&availability) {
        (load.percent, load.available) = (percent, *available);
    }
    loads
}

/// What each tier of `available` percent takes of what those before it leave; more, where all together are not whole.
pub(super) fn spilled(available: &[u32]) -> SmallVec<[u32; 8]> {
    let total = available.iter().sum::<u32>().clamp(1, 100);
    let mut left = 100;
    let take = |available: &u32| {
        let taken = (available * 100 / total).min(left);
        left -= taken;
        taken
    };
    let mut taken: SmallVec<[u32; 8]> = available.iter().map(take).collect();
    // What rounding left.
    if let Some(first) = taken.iter_mut().find(|taken| **taken > 0) {
        *first += left;
    }
    taken
}

/// Of 100, at most.
pub(super) fn availability(count: &Count) -> u32 {
    let percent = u64::from(OVERPROVISIONING) * u64::from(count.healthy) / u64::from(count.all.max(1));
    u32::try_from(percent.min(100)).unwrap_or(100)
}

/// Nobody is healthy: those tiers that do not mind share by their size.
fn by_count(counts: &[Count], loads: &mut [Load]) {
    let all: u64 =
        counts.iter().zip(&*loads).filter(|(_, load)| load.panics).map(|(count, _)| u64::from(count.all)).sum();
    let mut left = 100;
    for (count, load) in counts.iter().zip(loads.iter_mut()).filter(|(_, load)| load.panics) {
        load.percent = u32::try_from(100 * u64::from(count.all) / all.max(1)).unwrap_or(0).min(left);
        left -= load.percent;
    }
    if let Some(first) = loads.iter_mut().find(|load| load.panics) {
        first.percent += left;
    }
}
