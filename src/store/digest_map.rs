//! A map from SHA-256 digests that is read without waiting, whoever else is stuck.
//!
//! Digests are evenly spread, so their first bits choose one of a fixed number of buckets. A bucket is a sorted list that never changes: a
//! writer copies it, changes the copy and swaps it in. A reader takes whichever list is there. So a thread that is frozen in the middle of a
//! read or a write stops no reader, and a million entries cost no more than their own bytes.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;

/// 256 bits, as SHA-256 makes them.
pub(super) type Digest = [u8; 32];

type Bucket<V> = Vec<(Digest, V)>;

const BUCKET_BITS: u32 = 10;

/// The map. Values are copied out, so they should be small or shared.
pub(super) struct DigestMap<V> {
    buckets: Box<[ArcSwap<Bucket<V>>]>,
    /// Held by whoever writes; readers never look at it.
    writing: Mutex<()>,
}

impl<V: Clone> DigestMap<V> {
    /// The value under `digest`. Never waits.
    pub(super) fn get(&self, digest: &Digest) -> Option<V> {
        let bucket = self.bucket(digest).load();
        let place = find(&bucket, digest).ok()?;
        Some(bucket[place].1.clone())
    }

    /// Puts `value` under `digest` and gives back what was there.
    pub(super) fn insert(&self, digest: Digest, value: V) -> Option<V> {
        self.change(&digest, |bucket| match find(bucket, &digest) {
            Ok(place) => Some(std::mem::replace(&mut bucket[place].1, value)),
            Err(place) => {
                bucket.reserve_exact(1);
                bucket.insert(place, (digest, value));
                None
            }
        })
    }

    /// Takes `digest` out and gives back what was there.
    pub(super) fn remove(&self, digest: &Digest) -> Option<V> {
        self.change(digest, |bucket| find(bucket, digest).ok().map(|place| bucket.remove(place).1))
    }

    /// Puts many values in at once, each bucket being copied once.
    pub(super) fn insert_all(&self, entries: impl IntoIterator<Item = (Digest, V)>) {
        let mut sorted: Vec<Vec<(Digest, V)>> = (0..self.buckets.len()).map(|_| Vec::new()).collect();
        for entry in entries {
            sorted[place_of(&entry.0)].push(entry);
        }
        let _writing = self.lock();
        for (cell, new) in self.buckets.iter().zip(sorted).filter(|(_, new)| !new.is_empty()) {
            let mut bucket = new;
            // Newest first, so that of equal digests the newest is the one that stays.
            bucket.reverse();
            bucket.extend(cell.load().iter().cloned());
            bucket.sort_by_key(|entry| entry.0);
            bucket.dedup_by_key(|entry| entry.0);
            bucket.shrink_to_fit();
            cell.store(Arc::new(bucket));
        }
    }

    /// How many digests are in it.
    pub(super) fn len(&self) -> usize {
        self.buckets.iter().map(|bucket| bucket.load().len()).sum()
    }

    fn change<T>(&self, digest: &Digest, change: impl FnOnce(&mut Bucket<V>) -> T) -> T {
        let _writing = self.lock();
        let cell = self.bucket(digest);
        let mut bucket = Bucket::clone(&cell.load());
        let result = change(&mut bucket);
        cell.store(Arc::new(bucket));
        result
    }

    fn lock(&self) -> MutexGuard<'_, ()> {
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn bucket(&self, digest: &Digest) -> &ArcSwap<Bucket<V>> {
        &self.buckets[place_of(digest)]
    }
}

impl<V> Default for DigestMap<V> {
    fn default() -> Self {
        Self { buckets: (0..1 << BUCKET_BITS).map(|_| ArcSwap::from_pointee(Vec::new())).collect(), writing: Mutex::new(()) }
    }
}

fn place_of(digest: &Digest) -> usize {
    usize::from(u16::from_be_bytes([digest[0], digest[1]]) >> (u16::BITS - BUCKET_BITS))
}

fn find<V>(bucket: &Bucket<V>, digest: &Digest) -> Result<usize, usize> {
    bucket.binary_search_by(|(present, _)| present.cmp(digest))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Insert(u16, u8),
        InsertAll(Vec<(u16, u8)>),
        Remove(u16),
    }

    /// Few digests, some of which share a bucket, so that steps meet.
    fn digest(number: u16) -> Digest {
        let mut digest = [0; 32];
        digest[1] = (number % 3) as u8;
        digest[0] = (number % 2) as u8;
        digest[31] = (number % 23) as u8;
        digest
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (any::<u16>(), any::<u8>()).prop_map(|(key, value)| Step::Insert(key, value)),
            prop::collection::vec((any::<u16>(), any::<u8>()), 0..9).prop_map(Step::InsertAll),
            any::<u16>().prop_map(Step::Remove),
        ]
    }

    proptest! {
        #[test]
        fn it_behaves_like_a_sorted_map(steps in prop::collection::vec(step(), 0..60)) {
            let map = DigestMap::default();
            let mut model = BTreeMap::new();
            for step in steps {
                match step {
                    Step::Insert(key, value) => prop_assert_eq!(map.insert(digest(key), value), model.insert(digest(key), value)),
                    Step::InsertAll(entries) => {
                        map.insert_all(entries.iter().map(|(key, value)| (digest(*key), *value)));
                        model.extend(entries.iter().map(|(key, value)| (digest(*key), *value)));
                    }
                    Step::Remove(key) => prop_assert_eq!(map.remove(&digest(key)), model.remove(&digest(key))),
                }
                prop_assert_eq!(map.len(), model.len());
                for number in 0..138 {
                    prop_assert_eq!(map.get(&digest(number)), model.get(&digest(number)).copied());
                }
            }
        }
    }
}
