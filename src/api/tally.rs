//! How often somebody did something lately, for whoever may do it a limited number of times. Which times count is said by whoever asks.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::config::Limit;

/// Keys that are remembered.
pub(super) const KEYS_MAX: usize = 16_384;

/// Counts by key, each for a span of time that begins with the first.
pub(super) struct Tally<K> {
    limit: Limit,
    window: Duration,
    counts: Mutex<HashMap<K, Count>>,
}

struct Count {
    since: Instant,
    count: u64,
}

impl<K: Eq + Hash> Tally<K> {
    pub(super) fn new(limit: Limit, window: Duration) -> Self {
        Self { limit, window, counts: Mutex::default() }
    }

    /// Whether it may be done once more now; if not, how long to wait.
    pub(super) fn admit(&self, now: Instant, key: &K) -> Result<(), Duration> {
        let counts = self.lock();
        let Some(counted) = counts.get(key) else {
            return Ok(());
        };
        let left = self.window.saturating_sub(now.saturating_duration_since(counted.since));
        if left.is_zero() || self.limit.admits_beside(counted.count) { Ok(()) } else { Err(left) }
    }

    /// Counts once more.
    pub(super) fn count(&self, now: Instant, key: K) {
        let mut counts = self.lock();
        if counts.len() >= KEYS_MAX {
            self.make_room(&mut counts, now);
        }
        let counted = counts.entry(key).or_insert(Count { since: now, count: 0 });
        if self.is_over(counted, now) {
            *counted = Count { since: now, count: 0 };
        }
        counted.count += 1;
    }

    /// How many keys are remembered.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<K, Count>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_over(&self, counted: &Count, now: Instant) -> bool {
        now.saturating_duration_since(counted.since) >= self.window
    }

    /// Forgets what no longer counts and, if that is not enough, those with the lowest counts.
    fn make_room(&self, counts: &mut HashMap<K, Count>, now: Instant) {
        counts.retain(|_, counted| !self.is_over(counted, now));
        let mut least = 1;
        while counts.len() >= KEYS_MAX {
            counts.retain(|_, counted| counted.count > least);
            least *= 2;
        }
    }
}
