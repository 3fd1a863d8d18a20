//! Latencies in a fixed amount of memory, and medians of a few runs.

use std::time::Duration;

use serde::{Serialize, Serializer};

/// Buckets per doubling: a percentile is at most a sixteenth too high.
const STEPS: u64 = 16;
/// Longest latency told apart from longer ones: 2^36 µs, 19 hours.
const EXPONENT_MAX: u64 = 36;
const BUCKETS: usize = bucket(1 << EXPONENT_MAX) + 1;

/// How long things took. Two of them can be added up.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Latencies {
    counts: Vec<u64>,
    max_us: u64,
}

/// Percentiles in milliseconds.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct Percentiles {
    /// Half took no longer.
    pub p50: f64,
    /// 90 of 100 took no longer.
    pub p90: f64,
    /// 99 of 100 took no longer.
    pub p99: f64,
    /// 999 of 1000 took no longer.
    pub p999: f64,
    /// The longest.
    pub max: f64,
}

impl Default for Latencies {
    fn default() -> Self {
        Self { counts: vec![0; BUCKETS], max_us: 0 }
    }
}

impl Latencies {
    /// Counts one.
    pub fn record(&mut self, latency: Duration) {
        let us = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        self.counts[bucket(us.min(1 << EXPONENT_MAX))] += 1;
        self.max_us = self.max_us.max(us);
    }

    /// Counts all of `other`.
    pub fn merge(&mut self, other: &Self) {
        self.counts.iter_mut().zip(&other.counts).for_each(|(own, others)| *own += others);
        self.max_us = self.max_us.max(other.max_us);
    }

    /// How many were counted.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The usual percentiles, if anything was counted.
    pub fn percentiles(&self) -> Option<Percentiles> {
        let at = |share| self.percentile_us(share).map(ms);
        Some(Percentiles { p50: at(0.5)?, p90: at(0.9)?, p99: at(0.99)?, p999: at(0.999)?, max: ms(self.max_us) })
    }

    /// 99 of 100 took no longer than so many whole milliseconds, if anything was counted.
    pub fn p99_whole_ms(&self) -> Option<u64> {
        Some(self.percentile_us(0.99)?.div_ceil(1000))
    }

    /// What `share` (0 to 1) of all did not exceed, in microseconds: the upper edge of its bucket.
    fn percentile_us(&self, share: f64) -> Option<u64> {
        let total = self.count();
        let mut below = 0;
        let index = self.counts.iter().position(|count| {
            below += count;
            below > 0 && below as f64 >= share * total as f64
        })?;
        Some(upper_edge(index as u64).min(self.max_us))
    }
}

impl Serialize for Latencies {
    /// As [`Percentiles`], or null if there are none.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.percentiles().serialize(serializer)
    }
}

/// Exact below two times [`STEPS`], then [`STEPS`] buckets for each doubling.
#[expect(clippy::cast_possible_truncation, reason = "at most a few hundred")]
const fn bucket(us: u64) -> usize {
    if us < 2 * STEPS {
        return us as usize;
    }
    let exponent = 63 - us.leading_zeros() as u64;
    let step = (us >> (exponent - 4)) - STEPS;
    (2 * STEPS + (exponent - 5) * STEPS + step) as usize
}

/// The largest value in bucket `index`.
fn upper_edge(index: u64) -> u64 {
    if index < 2 * STEPS {
        return index;
    }
    let (exponent, step) = ((index - 2 * STEPS) / STEPS + 5, index % STEPS);
    ((STEPS + step + 1) << (exponent - 4)) - 1
}

fn ms(us: u64) -> f64 {
    us as f64 / 1000.0
}

/// The middle value, or the mean of the two in the middle. `None` of nothing.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        len if len % 2 == 1 => Some(sorted[middle]),
        _ => Some(f64::midpoint(sorted[middle - 1], sorted[middle])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn latencies(us: impl IntoIterator<Item = u64>) -> Latencies {
        let mut latencies = Latencies::default();
        us.into_iter().for_each(|us| latencies.record(Duration::from_micros(us)));
        latencies
    }

    #[test]
    fn buckets_are_in_order_and_hold_what_falls_into_them() {
        let mut last = 0;
        for us in (0..5000).chain((13..37).map(|exponent| 1 << exponent)).chain([(1 << 36) - 1]) {
            let index = bucket(us) as u64;
            assert!(upper_edge(index) >= us, "{us}");
            assert!(index == 0 || upper_edge(index - 1) < us, "{us}");
            if us < 5000 {
                assert!(index == last || index == last + 1, "{us}");
                last = index;
            }
        }
    }

    #[test]
    fn percentiles_are_at_most_a_sixteenth_too_high() {
        let percentiles = latencies(1..=100_000).percentiles().expect("not empty");
        for (value, exact) in [(percentiles.p50, 50.0), (percentiles.p90, 90.0), (percentiles.p99, 99.0), (percentiles.p999, 99.9)] {
            assert!(value >= exact && value <= exact * 17.0 / 16.0, "{value} for {exact}");
        }
        assert_eq!(percentiles.max, 100.0);
    }

    #[test]
    fn of_nothing_there_is_no_percentile() {
        assert_eq!(Latencies::default().percentiles(), None);
        let one = latencies([7]).percentiles().expect("not empty");
        assert_eq!((one.p50, one.p999, one.max), (0.007, 0.007, 0.007));
        assert_eq!(latencies([u64::MAX]).count(), 1, "what is longer than the last bucket counts in it");
    }

    #[test]
    fn a_part_of_a_millisecond_counts_as_a_whole_one() {
        assert_eq!([latencies([1_000]), latencies([25_001])].map(|one| one.p99_whole_ms()), [Some(1), Some(26)]);
        assert_eq!(Latencies::default().p99_whole_ms(), None);
    }

    #[test]
    fn adding_up_is_the_same_as_counting_together() {
        let mut sum = latencies([1, 500, 70_000]);
        sum.merge(&latencies([3, 9_000_000]));
        assert_eq!(sum, latencies([1, 3, 500, 70_000, 9_000_000]));
    }

    #[test]
    fn medians() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
    }
}
