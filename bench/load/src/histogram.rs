//! Durations counted in buckets whose width follows their size: at most 1 % wrong, from a nanosecond to hours.
//!
//! In: nanoseconds. Out: counts by bucket, percentiles. Pure.
//!
//! ```text
//! value:   0 … 127 | 128, 129 … 255 | 256, 258 … 510 | 512, 516 …
//! buckets:  one each         128              128            128       per power of two
//! ```

use serde::{Deserialize, Serialize};

/// Buckets per power of two.
const FINE: u64 = 128;
const FINE_BITS: u32 = FINE.trailing_zeros();

/// How often each duration was seen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Histogram {
    counts: Vec<u64>,
    total: u64,
}

/// A histogram as it is sent: the buckets that hold something.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Buckets(pub Vec<(u32, u64)>);

impl Histogram {
    /// Counts one duration.
    pub fn record(&mut self, nanoseconds: u64) {
        self.add(index(nanoseconds), 1);
    }

    /// Adds another histogram's counts.
    pub fn merge(&mut self, buckets: &Buckets) {
        for (index, count) in &buckets.0 {
            self.add(*index as usize, *count);
        }
    }

    /// The buckets that hold something; nothing is kept.
    pub fn take(&mut self) -> Buckets {
        let taken = std::mem::take(self);
        let held = taken.counts.iter().enumerate().filter(|(_, count)| **count > 0);
        Buckets(held.map(|(index, count)| (u32::try_from(index).unwrap_or(u32::MAX), *count)).collect())
    }

    /// How many durations were counted.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// The duration that `share` (0 to 1) of all do not exceed, in nanoseconds; 0 where nothing was counted.
    pub fn percentile(&self, share: f64) -> u64 {
        let wanted = ((self.total as f64 * share).ceil() as u64).clamp(1, self.total.max(1));
        let mut seen = 0;
        for (index, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return middle(index);
            }
        }
        0
    }

    /// Pairs of a duration in nanoseconds and the share of all that do not exceed it.
    pub fn curve(&self) -> Vec<(u64, f64)> {
        let mut seen = 0;
        let held = self.counts.iter().enumerate().filter(|(_, count)| **count > 0);
        held.map(|(index, count)| {
            seen += count;
            (middle(index), seen as f64 / self.total as f64)
        })
        .collect()
    }

    fn add(&mut self, index: usize, count: u64) {
        // Sixty-four powers of two at most; what claims more comes from nobody who counted with us.
        if index >= 64 * FINE as usize {
            return;
        }
        if self.counts.len() <= index {
            self.counts.resize(index + 1, 0);
        }
        self.counts[index] += count;
        self.total += count;
    }
}

fn index(value: u64) -> usize {
    if value < FINE {
        return value as usize;
    }
    let shift = value.ilog2() - FINE_BITS;
    (u64::from(shift) * FINE + (value >> shift)) as usize
}

/// The middle of a bucket.
fn middle(index: usize) -> u64 {
    let index = index as u64;
    if index < 2 * FINE {
        return index;
    }
    let shift = index / FINE - 1;
    let low = (index % FINE + FINE) << shift;
    low + (1 << shift) / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_falls_near_its_buckets_middle() {
        let mut value: u64 = 1;
        while value < 1 << 50 {
            for near in [value - 1, value, value + 1] {
                let off = middle(index(near)).abs_diff(near);
                assert!(off as f64 <= near as f64 / 100.0, "{near}: {off}");
            }
            value = value * 3 / 2 + 1;
        }
    }

    #[test]
    fn buckets_follow_each_other() {
        let mut last = index(0);
        for value in 1..100_000 {
            let this = index(value);
            assert!(this == last || this == last + 1, "{value}");
            last = this;
        }
    }

    #[test]
    fn percentiles_count_from_below() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.percentile(0.5), 0);
        for value in 1..=100 {
            histogram.record(value);
        }
        assert_eq!([0.0, 0.5, 0.99, 0.999, 1.0].map(|share| histogram.percentile(share)), [1, 50, 99, 100, 100]);
    }

    #[test]
    fn what_is_sent_adds_up_again() {
        let mut one = Histogram::default();
        [3, 3, 5_000, 1 << 40].into_iter().for_each(|value| one.record(value));
        let whole = one.clone();
        let sent = one.take();
        assert_eq!((one.total(), sent.0.len()), (0, 3));
        let mut other = Histogram::default();
        other.merge(&sent);
        assert_eq!(other, whole);
        other.merge(&Buckets(vec![(u32::MAX, 1)]));
        assert_eq!(other, whole, "a bucket that cannot be is ignored");
    }
}
