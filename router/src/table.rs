//! A hash table of things that know their key: it holds references or boxes and repeats no key beside them.

use std::hash::{BuildHasher, Hash, RandomState};
use std::mem;
use std::ops::{Deref, DerefMut};

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

/// Something that is found by a part of it.
pub trait Keyed {
    /// What it is found by.
    type Key: Copy + Eq + Hash;

    /// It never changes while the thing is in a table.
    fn key(&self) -> Self::Key;
}

/// The table, of pointers `P`. An entry takes nine bytes, and room for half as many again.
#[derive(Debug)]
pub struct Table<P> {
    entries: HashTable<P>,
    hasher: RandomState,
}

impl<P: Deref<Target: Keyed>> Table<P> {
    /// The entry with this key.
    pub fn get(&self, key: &Key<P>) -> Option<&P> {
        self.entries.find(self.hasher.hash_one(key), |entry| entry.key() == *key)
    }

    /// Whether there is one.
    pub fn contains(&self, key: &Key<P>) -> bool {
        self.get(key).is_some()
    }

    /// Puts an entry in and gives back the one that had its key.
    pub fn insert(&mut self, entry: P) -> Option<P> {
        let (key, hasher) = (entry.key(), &self.hasher);
        match self.entries.entry(hasher.hash_one(key), |other| other.key() == key, |other| hasher.hash_one(other.key())) {
            Entry::Occupied(mut present) => Some(mem::replace(present.get_mut(), entry)),
            Entry::Vacant(place) => {
                place.insert(entry);
                None
            }
        }
    }

    /// Takes the entry with this key out.
    pub fn remove(&mut self, key: &Key<P>) -> Option<P> {
        let found = self.entries.find_entry(self.hasher.hash_one(key), |entry| entry.key() == *key).ok()?;
        Some(found.remove().0)
    }

    /// Makes room for that many more.
    pub fn reserve(&mut self, more: usize) {
        self.entries.reserve(more, |entry| self.hasher.hash_one(entry.key()));
    }

    /// All entries, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &P> {
        self.entries.iter()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

impl<P: DerefMut<Target: Keyed>> Table<P> {
    /// The thing with this key, to be changed.
    pub fn get_mut(&mut self, key: &Key<P>) -> Option<&mut P::Target> {
        self.entries.find_mut(self.hasher.hash_one(key), |entry| entry.key() == *key).map(P::deref_mut)
    }
}

impl<T: Keyed> Table<Box<T>> {
    /// The thing with this key, made if there is none.
    pub fn get_or_insert_with(&mut self, key: T::Key, make: impl FnOnce() -> T) -> &mut T {
        let hasher = &self.hasher;
        let entry = self.entries.entry(hasher.hash_one(key), |entry| entry.key() == key, |other| hasher.hash_one(other.key()));
        entry.or_insert_with(|| Box::new(make())).into_mut()
    }
}

impl<P> Default for Table<P> {
    fn default() -> Self {
        Self { entries: HashTable::new(), hasher: RandomState::new() }
    }
}

type Key<P> = <<P as Deref>::Target as Keyed>::Key;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    #[derive(Clone, PartialEq, Debug)]
    struct Thing(u8, u32);

    impl Keyed for Thing {
        type Key = u8;

        fn key(&self) -> u8 {
            self.0
        }
    }

    proptest! {
        #[test]
        fn it_behaves_like_a_map(steps in prop::collection::vec((0..4u8, any::<u8>(), any::<u32>()), 0..300)) {
            let (mut table, mut model) = (Table::default(), HashMap::new());
            for (what, key, value) in steps {
                match what {
                    0 => prop_assert_eq!(table.insert(Box::new(Thing(key, value))).map(|old| old.1), model.insert(key, value)),
                    1 => prop_assert_eq!(table.get_or_insert_with(key, || Thing(key, value)).1, *model.entry(key).or_insert(value)),
                    2 => prop_assert_eq!(table.remove(&key).map(|old| old.1), model.remove(&key)),
                    _ => {
                        table.get_mut(&key).into_iter().for_each(|thing| thing.1 = value);
                        model.get_mut(&key).into_iter().for_each(|present| *present = value);
                    }
                }
                prop_assert_eq!(table.get(&key).map(|thing| thing.1), model.get(&key).copied());
                prop_assert_eq!((table.len(), table.contains(&key)), (model.len(), model.contains_key(&key)));
            }
            prop_assert_eq!(table.iter().map(|thing| (thing.0, thing.1)).collect::<HashMap<_, _>>(), model);
        }
    }
}
