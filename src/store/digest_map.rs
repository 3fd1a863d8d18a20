//! A map of what is found by a SHA-256 digest, read without waiting, whoever else is stuck.
//!
//! Digests are evenly spread, so their first bits choose one of a fixed number of buckets. A bucket is a sorted list that never changes: a
//! writer makes another from it and swaps that in. A reader takes whichever list is there. So a thread that is frozen in the middle of a
//! read or a write stops no reader, and a million entries cost no more than their own bytes.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::{mem, slice};

use arc_swap::ArcSwapOption;

/// 256 bits, as SHA-256 makes them.
pub(super) type Digest = [u8; 32];

/// What can be found by a digest, because it knows its own.
pub(super) trait Digested {
    /// The digest, always the same.
    fn digest(&self) -> &Digest;
}

impl<V> Digested for (Digest, V) {
    fn digest(&self) -> &Digest {
        &self.0
    }
}

/// A list without spare room; `None` is the empty one.
type Bucket<T> = Option<Arc<Box<[T]>>>;

/// Of a million entries a writer copies about 250.
const BUCKET_BITS: u32 = 12;

/// The map. Entries are copied with their bucket when a neighbour changes, so they should be small or shared.
pub(super) struct DigestMap<T> {
    buckets: Box<[ArcSwapOption<Box<[T]>>]>,
    /// Held by whoever writes; readers never look at it.
    writing: Mutex<()>,
}

impl<T: Digested + Clone> DigestMap<T> {
    /// What `look` sees in the entry with this digest. Never waits, and copies nothing.
    pub(super) fn find<R>(&self, digest: &Digest, look: impl FnOnce(&T) -> R) -> Option<R> {
        around(list(&self.cell(digest).load()), digest).1.map(look)
    }

    /// Puts `entry` in and gives back the one that had its digest.
    pub(super) fn insert(&self, entry: T) -> Option<T> {
        let _writing = self.lock();
        let cell = self.cell(entry.digest());
        let present = cell.load();
        let (before, found, after) = around(list(&present), entry.digest());
        cell.store(bucket([before, slice::from_ref(&entry), after].concat()));
        found.cloned()
    }

    /// Takes out the entry with this digest and gives it back.
    pub(super) fn remove(&self, digest: &Digest) -> Option<T> {
        let _writing = self.lock();
        let cell = self.cell(digest);
        let present = cell.load();
        let (before, found, after) = around(list(&present), digest);
        let found = found?;
        cell.store(bucket([before, after].concat()));
        Some(found.clone())
    }

    /// Puts many entries in at once, each bucket being copied once. Of those with equal digests the last one stays.
    pub(super) fn insert_all(&self, mut entries: Vec<T>) {
        // Entries may be anywhere in memory: each is looked at once for this, and buckets then find theirs almost in order.
        entries.sort_by_cached_key(|entry| first_bits(entry.digest()));
        let _writing = self.lock();
        for new in entries.chunk_by(|one, next| place_of(one.digest()) == place_of(next.digest())) {
            let cell = self.cell(new[0].digest());
            let mut all = [list(&cell.load()), new].concat();
            all.sort_by(|one, other| one.digest().cmp(other.digest()));
            all.dedup_by(|newer, kept| {
                let equal = newer.digest() == kept.digest();
                if equal {
                    mem::swap(newer, kept);
                }
                equal
            });
            cell.store(bucket(all));
        }
    }

    /// How many entries there are.
    pub(super) fn len(&self) -> usize {
        self.buckets.iter().map(|cell| list(&cell.load()).len()).sum()
    }

    fn lock(&self) -> MutexGuard<'_, ()> {
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn cell(&self, digest: &Digest) -> &ArcSwapOption<Box<[T]>> {
        &self.buckets[place_of(digest)]
    }
}

impl<T> Default for DigestMap<T> {
    fn default() -> Self {
        Self { buckets: (0..1 << BUCKET_BITS).map(|_| ArcSwapOption::empty()).collect(), writing: Mutex::new(()) }
    }
}

fn bucket<T>(entries: Vec<T>) -> Bucket<T> {
    (!entries.is_empty()).then(|| Arc::new(entries.into_boxed_slice()))
}

fn list<T>(bucket: &Bucket<T>) -> &[T] {
    match bucket {
        Some(entries) => entries,
        None => &[],
    }
}

/// A list taken apart at a digest: what is before it, the entry that has it, what is after it.
fn around<'a, T: Digested>(list: &'a [T], digest: &Digest) -> (&'a [T], Option<&'a T>, &'a [T]) {
    match list.binary_search_by(|entry| entry.digest().cmp(digest)) {
        Ok(place) => (&list[..place], Some(&list[place]), &list[place + 1..]),
        Err(place) => (&list[..place], None, &list[place..]),
    }
}

fn place_of(digest: &Digest) -> usize {
    usize::from(u16::from_be_bytes([digest[0], digest[1]]) >> (u16::BITS - BUCKET_BITS))
}

fn first_bits(digest: &Digest) -> u64 {
    digest.iter().take(8).fold(0, |bits, byte| bits << 8 | u64::from(*byte))
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
            let value = |entry: Option<(Digest, u8)>| entry.map(|(_, value)| value);
            for step in steps {
                match step {
                    Step::Insert(key, new) => prop_assert_eq!(value(map.insert((digest(key), new))), model.insert(digest(key), new)),
                    Step::InsertAll(entries) => {
                        map.insert_all(entries.iter().map(|(key, value)| (digest(*key), *value)).collect());
                        model.extend(entries.iter().map(|(key, value)| (digest(*key), *value)));
                    }
                    Step::Remove(key) => prop_assert_eq!(value(map.remove(&digest(key))), model.remove(&digest(key))),
                }
                prop_assert_eq!(map.len(), model.len());
                for number in 0..138 {
                    prop_assert_eq!(map.find(&digest(number), |(_, value)| *value), model.get(&digest(number)).copied());
                }
            }
        }
    }
}
