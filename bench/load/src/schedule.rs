//! When requests are due, independent of how the ones before fare. Pure.
//!
//! In: a rate, and what time it is. Out: due times. Latency counted from them shows what a queue of waiting users would
//! see, where counting from the sending would hide every stall.

use std::time::Duration;

use tokio::time::Instant;

/// A steady rate.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Schedule {
    start: Instant,
    interval: Duration,
    given: u32,
}

impl Schedule {
    /// `rate` a second from `start` on; none for a rate that is no rate.
    pub fn new(start: Instant, rate: f64) -> Option<Self> {
        let usable = rate.is_finite() && (0.001..=1_000_000.0).contains(&rate);
        usable.then(|| Self { start, interval: Duration::from_secs_f64(1.0 / rate), given: 0 })
    }

    /// When the next one is due.
    pub fn next(&self) -> Instant {
        self.start + self.interval * self.given
    }

    /// The next due time that has come.
    pub fn due(&mut self, now: Instant) -> Option<Instant> {
        let next = self.next();
        (next <= now).then(|| {
            // Four billion requests are weeks at any rate we use; then the schedule starts over.
            match self.given.checked_add(1) {
                Some(given) => self.given = given,
                None => (self.start, self.given) = (next, 1),
            }
            next
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn due_times_are_even_and_none_is_lost() {
        let start = Instant::now();
        let mut schedule = Schedule::new(start, 500.0).expect("a rate");
        let mut due = Vec::new();
        // Looked at late, as after a stall.
        while let Some(at) = schedule.due(start + Duration::from_millis(9)) {
            due.push(at - start);
        }
        assert_eq!(due, [0, 2, 4, 6, 8].map(Duration::from_millis));
        assert_eq!(schedule.next() - start, Duration::from_millis(10));
    }

    #[test]
    fn nonsense_is_no_rate() {
        for rate in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(Schedule::new(Instant::now(), rate).is_none());
        }
    }
}
