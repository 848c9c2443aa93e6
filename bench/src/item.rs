//! Everything that can be measured, by name and in order. Pure.
//!
//! In: what was asked for. Out: items, each with how often and how long it is taken.

use std::time::Duration;

use crate::{
    apart,
    config::{self, NONE, PASSTHROUGH},
    measure::{self, Job, Measure},
    memory,
};

/// What a measurement takes besides its window: starting load, warming up, ending.
const AROUND: Duration = Duration::from_millis(500);

/// One thing to measure.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Item {
    /// Memory of proxies that have seen no traffic.
    Idle,
    /// What keys cost.
    Handshake,
    /// A start.
    Start,
    /// Traffic.
    Load(Measure),
    /// Memory of connections that wait.
    Held,
    /// A big mesh.
    Worlds,
}

/// How often and how long.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Extent {
    /// How often.
    pub rounds: usize,
    /// How long an ordinary measurement takes.
    pub window: Duration,
    /// Whether everything is shorter.
    pub quick: bool,
}

/// All items; those that need proxies without a past come first.
pub(crate) fn all() -> Vec<Item> {
    let load = measure::all().into_iter().map(Item::Load);
    [Item::Idle, Item::Handshake, Item::Start].into_iter().chain(load).chain([Item::Held, Item::Worlds]).collect()
}

/// What `asked` wants.
pub(crate) fn wanted(asked: &config::Run) -> Vec<Item> {
    let wanted = |item: &Item| {
        if asked.only.is_empty() {
            return !asked.quick || item.quick();
        }
        asked.only.iter().any(|word| item.name().contains(word.as_str()))
    };
    all().into_iter().filter(wanted).collect()
}

impl Extent {
    /// As asked, or as usual.
    pub fn of(asked: &config::Run) -> Self {
        let (rounds, seconds) = if asked.quick { (3, 0.4) } else { (5, 1.5) };
        Self {
            rounds: asked.rounds.unwrap_or(rounds).clamp(1, 1000),
            window: Duration::from_secs_f64(asked.seconds.unwrap_or(seconds).clamp(0.1, 600.0)),
            quick: asked.quick,
        }
    }
}

impl Item {
    /// As on the command line.
    pub fn name(&self) -> String {
        match self {
            Self::Idle => memory::IDLE.to_owned(),
            Self::Handshake => apart::HANDSHAKE.to_owned(),
            Self::Start => apart::START.to_owned(),
            Self::Load(measure) => measure.name(),
            Self::Held => memory::HELD.to_owned(),
            Self::Worlds => apart::WORLDS.to_owned(),
        }
    }

    /// Whether it needs labs.
    pub fn in_lab(&self) -> bool {
        matches!(self, Self::Idle | Self::Load(_) | Self::Held)
    }

    fn quick(&self) -> bool {
        match self {
            Self::Idle | Self::Handshake | Self::Start => true,
            Self::Load(measure) => measure.quick,
            Self::Held | Self::Worlds => false,
        }
    }

    /// How often it is taken.
    pub fn rounds(&self, extent: Extent) -> usize {
        match self {
            // Each proxy is a run of its own.
            Self::Idle | Self::Held => 1,
            Self::Worlds => extent.rounds.min(3),
            // Minutes of a steady rate are their own repetition.
            Self::Load(Measure { job: Job::ConnectsPaced(_), .. }) => 1,
            Self::Handshake | Self::Start | Self::Load(_) => extent.rounds,
        }
    }

    /// Whether it is taken in a column that is no program of its own.
    pub fn in_column(&self, name: &str, extent: Extent) -> bool {
        let Self::Load(measure) = self else { return false };
        match (name, measure.job) {
            (NONE, Job::ConnectsPaced(_)) => !extent.quick,
            (NONE, _) => true,
            (PASSTHROUGH, Job::ConnectsPaced(_) | Job::Paced(..)) => false,
            (PASSTHROUGH, job) => !extent.quick || job == Job::Up(1),
            _ => false,
        }
    }

    /// About how long all of it takes with so many columns.
    pub fn length(&self, extent: Extent, columns: usize) -> Duration {
        let once = match self {
            Self::Idle => Duration::ZERO,
            Self::Handshake | Self::Start => Duration::from_secs(1),
            Self::Load(measure) => measure.window(extent.window, extent.quick) + AROUND,
            Self::Held => Duration::from_secs(15),
            Self::Worlds => Duration::from_secs(35),
        };
        once * u32::try_from(self.rounds(extent) * columns).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extent(quick: bool) -> Extent {
        Extent {
            rounds: if quick { 3 } else { 5 },
            window: Duration::from_millis(if quick { 400 } else { 1500 }),
            quick,
        }
    }

    fn whole(quick: bool) -> Duration {
        let extent = extent(quick);
        let items = all().into_iter().filter(|item| !quick || item.quick());
        let one = |item: Item| {
            let besides = [NONE, PASSTHROUGH].into_iter().filter(|name| item.in_column(name, extent)).count();
            item.length(extent, 2 + besides)
        };
        items.map(one).sum()
    }

    #[test]
    fn names_are_unique() {
        let names: std::collections::BTreeSet<String> = all().iter().map(Item::name).collect();
        assert_eq!(names.len(), all().len());
    }

    #[test]
    fn a_quick_run_is_planned_for_two_minutes_and_a_whole_one_for_less_than_its_bound() {
        let (quick, whole) = (whole(true), whole(false));
        assert!(quick <= Duration::from_secs(120), "{quick:?}");
        assert!(whole <= Duration::from_secs(27 * 60), "{whole:?}");
    }
}
