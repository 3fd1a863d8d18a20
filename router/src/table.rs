//! A hash table of things that know their key. It holds each once, in pieces of memory that never move, and finds it by a number of four bytes.

use std::hash::{BuildHasher, Hash};
use std::mem;
use std::sync::Arc;

use hashbrown::hash_table::Entry;
use hashbrown::{DefaultHashBuilder, HashTable};

/// About how large a piece is. Small enough for a table of few things, large enough that an allocator adds nothing to speak of.
const PIECE_BYTES: usize = 16 << 10;

/// Something that is found by a part of it.
pub trait Keyed {
    /// What it is found by.
    type Key: Copy + Eq + Hash;

    /// It never changes while the thing is in a table.
    fn key(&self) -> Self::Key;
}

impl<T: Keyed> Keyed for Arc<T> {
    type Key = T::Key;

    fn key(&self) -> T::Key {
        (**self).key()
    }
}

/// The place of a thing in its table: the same for as long as the thing is in it, and another's afterwards.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[cfg_attr(test, derive(Default))]
pub struct Slot(u32);

/// The table. Beside itself, a thing takes five bytes, and room for half as many again.
#[derive(Debug)]
pub struct Table<T> {
    slots: HashTable<Slot>,
    hasher: DefaultHashBuilder,
    things: Pieces<T>,
}

impl<T: Keyed> Table<T> {
    /// Where the thing with this key is.
    pub fn slot(&self, key: &T::Key) -> Option<Slot> {
        self.slots.find(self.hasher.hash_one(key), |slot| self.things.has(*slot, *key)).copied()
    }

    /// The thing in this place.
    pub fn at(&self, slot: Slot) -> Option<&T> {
        self.things.get(slot)
    }

    /// The thing with this key.
    pub fn get(&self, key: &T::Key) -> Option<&T> {
        self.at(self.slot(key)?)
    }

    /// The thing with this key, to be changed.
    pub fn get_mut(&mut self, key: &T::Key) -> Option<&mut T> {
        let slot = self.slot(key)?;
        self.things.get_mut(slot)
    }

    /// Whether there is one.
    pub fn contains(&self, key: &T::Key) -> bool {
        self.slot(key).is_some()
    }

    /// Puts a thing in and gives back the one that had its key.
    pub fn insert(&mut self, thing: T) -> Option<T> {
        let key = thing.key();
        match self.get_mut(&key) {
            Some(present) => Some(mem::replace(present, thing)),
            None => {
                self.put(key, thing);
                None
            }
        }
    }

    /// The thing with this key, made if there is none. `None` if the table can hold no more, which takes four billion.
    pub fn get_or_insert_with(&mut self, key: T::Key, make: impl FnOnce() -> T) -> Option<&mut T> {
        let slot = match self.slot(&key) {
            Some(slot) => slot,
            None => self.put(key, make())?,
        };
        self.things.get_mut(slot)
    }

    /// Takes the thing with this key out.
    pub fn remove(&mut self, key: &T::Key) -> Option<T> {
        let found = self.slots.find_entry(self.hasher.hash_one(key), |slot| self.things.has(*slot, *key)).ok()?;
        let (slot, _) = found.remove();
        self.things.take(slot)
    }

    /// Makes room for that many more.
    pub fn reserve(&mut self, more: usize) {
        let (things, hasher) = (&self.things, &self.hasher);
        self.slots.reserve(more, |slot| things.hash(*slot, hasher));
    }

    /// All of them, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.things.iter()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Puts in a thing whose key is not there.
    fn put(&mut self, key: T::Key, thing: T) -> Option<Slot> {
        let slot = self.things.put(thing)?;
        let (things, hasher) = (&self.things, &self.hasher);
        if let Entry::Vacant(place) = self.slots.entry(hasher.hash_one(key), |_| false, |other| things.hash(*other, hasher)) {
            place.insert(slot);
        }
        Some(slot)
    }
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self { slots: HashTable::new(), hasher: DefaultHashBuilder::default(), things: Pieces::default() }
    }
}

/// Where the things are. A piece that was made stays, and its free slots are used again.
#[derive(Debug)]
struct Pieces<T> {
    pieces: Vec<Vec<Option<T>>>,
    free: Vec<Slot>,
}

impl<T> Pieces<T> {
    /// How many things are in a piece.
    const LEN: usize = if size_of::<Option<T>>() < PIECE_BYTES { PIECE_BYTES / size_of::<Option<T>>() } else { 1 };

    fn get(&self, slot: Slot) -> Option<&T> {
        let slot = slot.0 as usize;
        self.pieces.get(slot / Self::LEN)?.get(slot % Self::LEN)?.as_ref()
    }

    fn get_mut(&mut self, slot: Slot) -> Option<&mut T> {
        self.place(slot)?.as_mut()
    }

    /// Puts a thing into a free slot.
    fn put(&mut self, thing: T) -> Option<Slot> {
        if let Some(slot) = self.free.pop() {
            *self.place(slot)? = Some(thing);
            return Some(slot);
        }
        if self.pieces.last().is_none_or(|piece| piece.len() == Self::LEN) {
            self.pieces.push(Vec::with_capacity(Self::LEN));
        }
        let before = (self.pieces.len() - 1) * Self::LEN;
        let piece = self.pieces.last_mut()?;
        let slot = Slot(u32::try_from(before + piece.len()).ok()?);
        piece.push(Some(thing));
        Some(slot)
    }

    fn take(&mut self, slot: Slot) -> Option<T> {
        let thing = self.place(slot)?.take()?;
        self.free.push(slot);
        Some(thing)
    }

    fn iter(&self) -> impl Iterator<Item = &T> {
        self.pieces.iter().flatten().flatten()
    }

    fn place(&mut self, slot: Slot) -> Option<&mut Option<T>> {
        let slot = slot.0 as usize;
        self.pieces.get_mut(slot / Self::LEN)?.get_mut(slot % Self::LEN)
    }
}

impl<T: Keyed> Pieces<T> {
    fn has(&self, slot: Slot, key: T::Key) -> bool {
        self.get(slot).is_some_and(|thing| thing.key() == key)
    }

    /// Slots in a table are those of things; the hash of another would be that of nothing.
    fn hash(&self, slot: Slot, hasher: &DefaultHashBuilder) -> u64 {
        self.get(slot).map_or(0, |thing| hasher.hash_one(thing.key()))
    }
}

impl<T> Default for Pieces<T> {
    fn default() -> Self {
        Self { pieces: Vec::new(), free: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    /// So large that a table of few has several pieces.
    #[derive(Clone, PartialEq, Debug)]
    struct Thing(u8, u32, [u64; 700]);

    impl Thing {
        fn new(key: u8, value: u32) -> Self {
            Self(key, value, [u64::from(value); 700])
        }
    }

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
                let slot = table.slot(&key);
                match what {
                    0 => prop_assert_eq!(table.insert(Thing::new(key, value)).map(|old| old.1), model.insert(key, value)),
                    1 => {
                        let present = table.get_or_insert_with(key, || Thing::new(key, value)).map(|thing| thing.1);
                        prop_assert_eq!(present, Some(*model.entry(key).or_insert(value)));
                    }
                    2 => prop_assert_eq!(table.remove(&key).map(|old| old.1), model.remove(&key)),
                    _ => {
                        table.get_mut(&key).into_iter().for_each(|thing| thing.1 = value);
                        model.get_mut(&key).into_iter().for_each(|present| *present = value);
                    }
                }
                prop_assert_eq!(table.get(&key).map(|thing| thing.1), model.get(&key).copied());
                prop_assert_eq!((table.len(), table.contains(&key)), (model.len(), model.contains_key(&key)));
                if let (Some(before), Some(now)) = (slot, table.slot(&key)) {
                    prop_assert_eq!(before, now, "a thing stays where it is");
                    prop_assert_eq!(table.at(now).map(Keyed::key), Some(key));
                }
            }
            prop_assert_eq!(table.iter().map(|thing| (thing.0, thing.1)).collect::<HashMap<_, _>>(), model);
            prop_assert!(table.things.pieces.len() * Pieces::<Thing>::LEN <= 256 + Pieces::<Thing>::LEN, "slots are used again");
        }
    }
}
