//! Who of a cluster is ejected, for how long, and who returns.
//!
//! ```text
//!           cause, gate open                    sweep, time over
//! healthy ───────────────────► ejected (m+1) ───────────────────► healthy, its counters forgiven
//!    ▲                                                               │ each interval: m-1
//!    └───────────────────────────────────────────────────────────────┘
//! ```
//! In: causes, sweeps, the time. Out: ejections and returns. Absent on purpose: a clock; the time is what has passed since
//! any fixed moment.

use std::{collections::HashMap, sync::Arc, time::Duration};

use lateen_types::name::WorkloadUid;

use super::{EndpointHealth, OutlierDetection};

/// The history of a cluster's endpoints, as far as they have one.
#[derive(Debug, Default)]
pub struct Ejections {
    histories: HashMap<WorkloadUid, History>,
    ejected: u32,
}

#[derive(Debug)]
struct History {
    health: Arc<EndpointHealth>,
    /// How many times the base the next ejection but one less lasts.
    multiplier: u32,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Ejected { at: Duration },
    Returned { at: Duration },
}

/// An endpoint that there is cause to eject.
#[derive(Debug, Clone, Copy)]
pub struct Suspect<'a> {
    /// Its name.
    pub uid: &'a WorkloadUid,
    /// Its counters.
    pub health: &'a Arc<EndpointHealth>,
    /// How many endpoints its cluster has.
    pub total: u32,
}

/// Too many are ejected already. To be counted and told: with the default of 10 % no endpoint of fewer than ten is ever
/// ejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "{ejected} of {total} endpoints are ejected, and no more than {max_percent} % may be; raise maxEjectionPercent"
)]
pub struct GateClosed {
    /// So many are.
    pub ejected: u32,
    /// Of so many.
    pub total: u32,
    /// The limit.
    pub max_percent: u32,
}

impl Ejections {
    /// Ejects an endpoint, if the gate is open. One that is ejected already stays so.
    pub fn eject(
        &mut self,
        suspect: Suspect<'_>,
        detection: &OutlierDetection,
        now: Duration,
    ) -> Result<(), GateClosed> {
        let Suspect { uid, health, total } = suspect;
        if health.is_ejected() {
            return Ok(());
        }
        let max_percent = detection.max_ejection_percent;
        if 100 * u64::from(self.ejected + 1) > u64::from(max_percent) * u64::from(total) {
            return Err(GateClosed { ejected: self.ejected, total, max_percent });
        }
        let new = || History { health: health.clone(), multiplier: 0, state: State::Returned { at: now } };
        let history = self.histories.entry(uid.clone()).or_insert_with(new);
        let (base, max) = (detection.base_ejection_time, detection.ejection_time_max());
        if base.saturating_mul(history.multiplier) < max + base {
            history.multiplier += 1;
        }
        history.health = health.clone();
        history.state = State::Ejected { at: now };
        self.ejected += 1;
        health.set_ejected(true);
        Ok(())
    }

    /// To be called every interval: returns who has been ejected long enough, and forgets a little of what was. Whether
    /// any returned.
    pub fn sweep(&mut self, detection: &OutlierDetection, now: Duration) -> bool {
        let before = self.ejected;
        self.histories.retain(|_, history| {
            match history.state {
                State::Ejected { at } if now.saturating_sub(at) >= history.time(detection) => {
                    history.state = State::Returned { at: now };
                    history.health.forgive();
                    self.ejected -= 1;
                }
                State::Returned { at } if now.saturating_sub(at) >= detection.interval => {
                    history.multiplier = history.multiplier.saturating_sub(1);
                }
                State::Ejected { .. } | State::Returned { .. } => {}
            }
            history.multiplier > 0
        });
        self.ejected != before
    }

    /// Keeps the histories of those endpoints only that `exists` knows. Whether an ejected one went.
    pub fn keep(&mut self, exists: impl Fn(&WorkloadUid) -> bool) -> bool {
        let before = self.ejected;
        self.histories.retain(|uid, history| {
            let keep = exists(uid);
            if !keep && matches!(history.state, State::Ejected { .. }) {
                self.ejected -= 1;
            }
            keep
        });
        self.ejected != before
    }

    /// All return at once: there is no outlier detection any more. Whether any was ejected.
    pub fn clear(&mut self) -> bool {
        self.histories.drain().for_each(|(_, history)| history.health.forgive());
        std::mem::take(&mut self.ejected) > 0
    }

    /// How many are ejected.
    pub fn count(&self) -> u32 {
        self.ejected
    }
}

impl History {
    /// How long the ejection lasts.
    fn time(&self, detection: &OutlierDetection) -> Duration {
        detection.base_ejection_time.saturating_mul(self.multiplier).min(detection.ejection_time_max())
    }
}
