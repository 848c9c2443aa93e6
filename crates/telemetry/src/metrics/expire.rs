//! Series that nobody adds to any more are forgotten, so that labels with users' names do not fill the memory of a proxy
//! that runs for months.
//!
//! In: the registry, now and then. Out: fewer series. One goes when its value stayed the same for a number of looks and
//! nobody holds a handle to it; should it be needed again, it begins at zero, which scrapers understand as a restart.

use std::sync::{Arc, atomic::Ordering};

use super::registry::{Family, Registry, Series};

impl Registry {
    /// Looks once at the families whose names `concerns` picks, and forgets series seen unchanged `idle_looks` times.
    /// How many went.
    pub fn expire(&self, idle_looks: u8, concerns: impl Fn(&str) -> bool) -> usize {
        let mut families = self.shared.families.write();
        let concerned = families.iter_mut().filter(|(name, _)| concerns(name));
        concerned.map(|(_, family)| expire(family, idle_looks)).sum()
    }
}

fn expire(family: &mut Family, idle_looks: u8) -> usize {
    let before = family.series.len();
    family.series.retain(|_, kept| {
        let value = kept.series.fingerprint();
        if value != kept.seen {
            (kept.seen, kept.idle) = (value, 0);
            return true;
        }
        kept.idle = kept.idle.saturating_add(1);
        kept.idle < idle_looks || kept.series.is_held()
    });
    // The map keeps its room otherwise.
    family.series.shrink_to(2 * family.series.len());
    before - family.series.len()
}

impl Series {
    /// What differs when anything was counted.
    fn fingerprint(&self) -> u64 {
        match self {
            Self::Counter(cell) => cell.0.load(Ordering::Relaxed),
            Self::Gauge(cell) => cell.load(Ordering::Relaxed),
            Self::Histogram(cell) => cell.counts.iter().map(|count| count.load(Ordering::Relaxed)).sum(),
        }
    }

    /// Whether anybody but the registry has it. Under the registry's lock nobody can come to have it.
    fn is_held(&self) -> bool {
        let count = match self {
            Self::Counter(cell) => Arc::strong_count(cell),
            Self::Gauge(cell) => Arc::strong_count(cell),
            Self::Histogram(cell) => Arc::strong_count(cell),
        };
        count > 1
    }
}
