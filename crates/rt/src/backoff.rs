//! How long to wait before the next try.
//!
//! In: a start, a ceiling and, where many clients could march in step, jitter. Out: growing waits.
//! Absent on purpose: sleeping, and deciding whether to try again.

use std::time::Duration;

use rand::RngExt as _;

/// Waits that double from `start` up to `max`.
#[derive(Debug, Clone)]
pub struct Backoff {
    start: Duration,
    max: Duration,
    /// The part of a wait that is random: 0.2 gives 80 % to 120 %.
    jitter: f64,
    next: Duration,
}

impl Backoff {
    /// A pace without jitter.
    pub fn new(start: Duration, max: Duration) -> Self {
        Self { start, max, jitter: 0.0, next: start }
    }

    /// The same pace with each wait spread by `part` either way (0.0 to 1.0).
    pub fn with_jitter(mut self, part: f64) -> Self {
        self.jitter = part.clamp(0.0, 1.0);
        self
    }

    /// The wait before the next try; the one after is twice as long.
    pub fn next_wait(&mut self) -> Duration {
        let wait = self.next;
        self.next = (self.next * 2).min(self.max);
        if self.jitter == 0.0 {
            return wait;
        }
        wait.mul_f64(rand::rng().random_range(1.0 - self.jitter..=1.0 + self.jitter))
    }

    /// Begins again at `start`, after a success.
    pub fn reset(&mut self) {
        self.next = self.start;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_ceiling_and_start_again() {
        let mut pace = Backoff::new(Duration::from_millis(10), Duration::from_millis(35));
        let waits: Vec<u128> = (0..4).map(|_| pace.next_wait().as_millis()).collect();
        assert_eq!(waits, [10, 20, 35, 35]);
        pace.reset();
        assert_eq!(pace.next_wait().as_millis(), 10);
    }

    #[test]
    fn jitter_stays_within_its_part() {
        let mut pace = Backoff::new(Duration::from_secs(1), Duration::from_secs(1)).with_jitter(0.2);
        for _ in 0..1000 {
            let wait = pace.next_wait().as_secs_f64();
            assert!((0.8..=1.2).contains(&wait), "{wait}");
        }
    }
}
