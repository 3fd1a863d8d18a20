//! How often something may happen: a token bucket that is one number.

use firmware_protocol::time::Millis;

use crate::short::Short;

/// A rate with a burst: so many at once, then one for each interval.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rate {
    /// Time between two, in microseconds.
    pub interval_us: u64,
    /// How many may come at once; at least 1.
    pub burst: u64,
}

/// A bucket, as the moment at which it will be full again, in microseconds: in six bytes, enough for nine years from the start of the clock. One that is
/// full is no different from a new one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Bucket(Short);

impl Rate {
    /// So many a second, and twice as many at once.
    pub const fn per_second(count: u64) -> Self {
        let count = if count == 0 { 1 } else { count };
        Self { interval_us: 1_000_000 / count, burst: count.saturating_mul(2) }
    }

    /// Takes one at `now` from a bucket that will be full at `full_at`, both in microseconds: when it will be full then, or `None` if it is empty.
    pub fn take(self, now: u64, full_at: u64) -> Option<u64> {
        let full_at = full_at.max(now);
        let used = full_at - now;
        (used <= self.interval_us.saturating_mul(self.burst - 1)).then(|| full_at.saturating_add(self.interval_us))
    }
}

impl Bucket {
    /// One that will be full at this moment, in microseconds.
    pub fn full_at(us: u64) -> Self {
        Self(Short::new(us))
    }

    /// When it will be full, in microseconds.
    pub fn full_at_us(self) -> u64 {
        self.0.get()
    }

    /// Takes one. `false` if there is none.
    pub fn take(&mut self, now: Millis, rate: Rate) -> bool {
        let taken = rate.take(microseconds(now), self.full_at_us());
        taken.into_iter().for_each(|full_at| *self = Self::full_at(full_at));
        taken.is_some()
    }

    /// Takes as many as were used already, even if there are not as many: what is owed comes off what comes back.
    pub fn owe(&mut self, now: Millis, count: u64, rate: Rate) {
        let owed = rate.interval_us.saturating_mul(count);
        *self = Self::full_at(self.full_at_us().max(microseconds(now)).saturating_add(owed));
    }

    /// Whether there is none to take, without taking one.
    pub fn is_empty(&self, now: Millis, rate: Rate) -> bool {
        rate.take(microseconds(now), self.full_at_us()).is_none()
    }
}

/// The moment in microseconds.
pub fn microseconds(at: Millis) -> u64 {
    at.0.saturating_mul(1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_taken_at_once_and_then_one_for_each_interval() {
        let (mut bucket, rate) = (Bucket::default(), Rate { interval_us: 500_000, burst: 3 });
        let taken = |bucket: &mut Bucket, at| (0..10).filter(|_| bucket.take(Millis(at), rate)).count();
        assert_eq!((taken(&mut bucket, 1_000), taken(&mut bucket, 1_499), taken(&mut bucket, 1_500)), (3, 0, 1));
        assert!(bucket.is_empty(Millis(1_500), rate) && !bucket.is_empty(Millis(2_000), rate));
        assert_eq!(taken(&mut bucket, 60_000), 3, "what is full stays full");
    }

    #[test]
    fn what_is_owed_is_paid_back_first() {
        let (mut bucket, rate) = (Bucket::default(), Rate { interval_us: 10_000, burst: 5 });
        bucket.owe(Millis(1_000), 40, rate);
        assert!(bucket.is_empty(Millis(1_359), rate) && !bucket.is_empty(Millis(1_360), rate));
    }

    #[test]
    fn rates_of_every_size_are_kept() {
        for count in [1, 4, 1_000, 1_000_000] {
            let (mut bucket, rate) = (Bucket::default(), Rate::per_second(count));
            let taken = (0..count * 5).filter(|_| bucket.take(Millis(1_000), rate)).count() as u64;
            assert_eq!(taken, count * 2);
        }
        assert_eq!(Rate::per_second(0), Rate::per_second(1));
    }
}
