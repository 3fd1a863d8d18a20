//! Buckets of whoever sent something a moment ago, shared by all terminators without a lock, in a table that never grows.
//!
//! A bucket that is full again needs no place, so places free themselves. Who finds none of its places free is let through: nobody is refused because of
//! others.

use std::sync::atomic::{AtomicU64, Ordering};

use firmware_protocol::time::Millis;
use router::rate::{Bucket, Rate, microseconds};

const PLACES: usize = 1 << 14;
/// Places that are looked at for one key.
const PROBES: usize = 8;
/// Bits of a place that tell when its bucket is full again; the rest tells whose it is.
const TIME_BITS: u32 = 48;
const TIME: u64 = (1 << TIME_BITS) - 1;

/// The table.
#[derive(Debug)]
pub(super) struct Buckets {
    places: Box<[AtomicU64]>,
    salt: u64,
}

impl Buckets {
    pub(super) fn new(salt: u64) -> Self {
        Self { places: (0..PLACES).map(|_| AtomicU64::new(0)).collect(), salt }
    }

    /// Takes one from the bucket of `key`. `false` if there is none.
    pub(super) fn take(&self, key: u64, now: Millis, rate: Rate) -> bool {
        let mut taken = true;
        self.update(key, now, |now, full_at| {
            let after = rate.take(now, full_at);
            taken = after.is_some();
            after
        });
        taken
    }

    /// Keeps a bucket, unless one that is emptier is there.
    pub(super) fn keep(&self, key: u64, now: Millis, bucket: Bucket) {
        let full_at = bucket.full_at_us() & TIME;
        self.update(key, now, |now, present| (full_at > present.max(now)).then_some(full_at));
    }

    /// The bucket of `key`: a full one if there is none.
    pub(super) fn kept(&self, key: u64, now: Millis) -> Bucket {
        let (tag, places) = self.places_of(key);
        let now = microseconds(now) & TIME;
        let own = places.map(|place| place.load(Ordering::Relaxed)).find(|place| is_of(*place, tag, now));
        own.map_or_else(Bucket::default, |place| Bucket::full_at(place & TIME))
    }

    /// Replaces the moment at which the bucket of `key` is full again, 0 if it is, by what `change` makes of it and of the moment now.
    fn update(&self, key: u64, now: Millis, mut change: impl FnMut(u64, u64) -> Option<u64>) {
        let ((tag, places), now) = (self.places_of(key), microseconds(now) & TIME);
        let own = places.clone().find(|place| is_of(place.load(Ordering::Relaxed), tag, now));
        let free = || places.clone().find(|place| place.load(Ordering::Relaxed) & TIME <= now);
        let Some(place) = own.or_else(free) else { return };
        let mut present = place.load(Ordering::Relaxed);
        loop {
            let full_at = if is_of(present, tag, now) { present & TIME } else { 0 };
            let Some(after) = change(now, full_at) else { return };
            match place.compare_exchange_weak(present, tag << TIME_BITS | after & TIME, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return,
                Err(other) => present = other,
            }
        }
    }

    fn places_of(&self, key: u64) -> (u64, impl Iterator<Item = &AtomicU64> + Clone) {
        let hash = (key ^ self.salt).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let hash = (hash ^ hash >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let first = usize::try_from(hash & TIME).unwrap_or_default();
        (hash >> TIME_BITS, (0..PROBES).map(move |probe| &self.places[(first + probe) % PLACES]))
    }
}

/// Whether a place holds a bucket of this tag that is not full again.
fn is_of(place: u64, tag: u64, now: u64) -> bool {
    place >> TIME_BITS == tag && place & TIME > now
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Millis = Millis(5_000);

    #[test]
    fn many_keys_are_kept_apart_and_too_many_are_let_through() {
        let (buckets, rate) = (Buckets::new(3), Rate::per_second(1));
        let burst = |key| (0..5).filter(|_| buckets.take(key, NOW, rate)).count();
        assert!((1..=1_000).all(|key| burst(key) == 2));
        assert!((1..=1_000).all(|key| burst(key) == 0), "each is remembered");
        let through = (1_001..=100_000).filter(|key| burst(*key) == 5).count();
        assert!(through > 80_000, "{through}");
        assert!((1..=1_000).all(|key| burst(key) == 0));
        assert_eq!((0..5).filter(|_| buckets.take(1, Millis(60_000), rate)).count(), 2);
    }

    #[test]
    fn the_emptier_bucket_is_kept_until_it_is_full_again() {
        let (buckets, bucket) = (Buckets::new(3), Bucket::full_at);
        for full_at in [5_200_000, 5_300_000, 5_100_000] {
            buckets.keep(7, NOW, bucket(full_at));
        }
        assert_eq!((buckets.kept(7, NOW), buckets.kept(8, NOW)), (bucket(5_300_000), Bucket::default()));
        assert_eq!(buckets.kept(7, Millis(5_300)), Bucket::default());
    }
}
