//! A map most of which is read at once and in order: a million entries lie side by side, because that many single allocations, or a tree of them, would
//! cost more than reading them.

use std::fmt;
use std::hash::Hash;
use std::ops::Index;

use hashbrown::HashMap;

/// A map, ordered by key.
#[derive(Clone)]
pub struct Ordered<K, V> {
    entries: Entries<K, V>,
    present: usize,
    /// Where each key is. Empty until anything is to be changed: a map that is only read does not need it.
    places: HashMap<K, usize>,
}

/// An [`Ordered`] map that does not change any more: every entry has a number.
#[derive(Debug)]
pub struct Settled<K, V> {
    entries: Entries<K, V>,
    /// Numbers of what came later, by key.
    later: Vec<usize>,
}

/// Keys lie apart from values, so that looking for one touches little else. Nobody closes the gap that a removed one leaves.
#[derive(Clone, Debug)]
struct Entries<K, V> {
    keys: Vec<K>,
    values: Vec<Option<V>>,
    /// So many came first, in order.
    first: usize,
}

impl<K: Ord, V> Entries<K, V> {
    fn place_among_first(&self, key: &K) -> Option<usize> {
        self.keys[..self.first].binary_search(key).ok()
    }

    /// Numbers of what came later, by key.
    fn later(&self) -> Vec<usize> {
        let mut later: Vec<_> = (self.first..self.keys.len()).collect();
        later.sort_unstable_by(|one, other| self.keys[*one].cmp(&self.keys[*other]));
        later
    }

    /// All that are there, in order, if `later` is what came later.
    fn iter(&self, later: impl IntoIterator<Item = usize>) -> impl Iterator<Item = (usize, &K, &V)> {
        let (mut first, mut later) = ((0..self.first).peekable(), later.into_iter().peekable());
        let numbers = std::iter::from_fn(move || match (first.peek(), later.peek()) {
            (Some(one), Some(other)) if self.keys[*other] < self.keys[*one] => later.next(),
            (None, _) => later.next(),
            _ => first.next(),
        });
        numbers.filter_map(|number| Some((number, &self.keys[number], self.values[number].as_ref()?)))
    }
}

impl<K: Ord + Hash + Copy, V> Ordered<K, V> {
    /// A map of these, all of which are there, each with the key in its place; `None` if they are not in order or two have the same key.
    pub(super) fn from_first(keys: Vec<K>, values: Vec<Option<V>>) -> Option<Self> {
        let (sound, first) = (keys.len() == values.len() && keys.is_sorted_by(|one, next| one < next), keys.len());
        sound.then_some(Self { entries: Entries { keys, values, first }, present: first, places: HashMap::new() })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.present
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.present == 0
    }

    /// The value of a key.
    pub fn get(&self, key: &K) -> Option<&V> {
        let place = if self.places.is_empty() { self.entries.place_among_first(key) } else { self.places.get(key).copied() };
        self.entries.values[place?].as_ref()
    }

    fn place(&mut self, key: &K) -> Option<usize> {
        if self.places.is_empty() {
            self.places = self.entries.keys.iter().enumerate().map(|(number, key)| (*key, number)).collect();
        }
        self.places.get(key).copied()
    }

    /// Where the value of a key is or shall be.
    fn room(&mut self, key: K) -> &mut Option<V> {
        let place = self.place(&key).unwrap_or_else(|| {
            let place = self.entries.keys.len();
            self.entries.keys.push(key);
            self.entries.values.push(None);
            self.places.insert(key, place);
            place
        });
        let room = &mut self.entries.values[place];
        self.present += usize::from(room.is_none());
        room
    }

    pub(super) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        let place = self.place(key)?;
        self.entries.values[place].as_mut()
    }

    pub(super) fn insert(&mut self, key: K, value: V) {
        *self.room(key) = Some(value);
    }

    pub(super) fn remove(&mut self, key: &K) -> Option<V> {
        let place = self.place(key)?;
        let removed = self.entries.values[place].take();
        self.present -= usize::from(removed.is_some());
        removed
    }

    /// The value of a key, made if there is none.
    pub(super) fn get_or_default(&mut self, key: K) -> &mut V
    where
        V: Default,
    {
        self.room(key).get_or_insert_default()
    }

    /// All entries, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.entries.iter(self.entries.later()).map(|(_, key, value)| (key, value))
    }

    /// All values, in the order of their keys.
    pub fn values(&self) -> impl Iterator<Item = &V> {
        self.iter().map(|(_, value)| value)
    }

    /// The map as it is from now on.
    pub fn settle(self) -> Settled<K, V> {
        Settled { later: self.entries.later(), entries: self.entries }
    }
}

impl<K: Ord, V> Settled<K, V> {
    /// All entries in order, each with its number.
    pub fn iter(&self) -> impl Iterator<Item = (usize, &K, &V)> {
        self.entries.iter(self.later.iter().copied())
    }

    /// One more than the highest number.
    pub fn numbers(&self) -> usize {
        self.entries.keys.len()
    }

    /// The entry with a number.
    pub fn at(&self, number: usize) -> Option<(&K, &V)> {
        Some((self.entries.keys.get(number)?, self.entries.values[number].as_ref()?))
    }

    /// The value of a key.
    pub fn get(&self, key: &K) -> Option<&V> {
        let later = || self.later.binary_search_by(|number| self.entries.keys[*number].cmp(key)).ok().map(|at| self.later[at]);
        self.entries.values[self.entries.place_among_first(key).or_else(later)?].as_ref()
    }
}

impl<K, V> Default for Ordered<K, V> {
    fn default() -> Self {
        Self { entries: Entries { keys: Vec::new(), values: Vec::new(), first: 0 }, present: 0, places: HashMap::new() }
    }
}

impl<K: Ord + Hash + Copy, V: PartialEq> PartialEq for Ordered<K, V> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl<K: Ord + Hash + Copy, V: Eq> Eq for Ordered<K, V> {}

impl<K: Ord + Hash + Copy + fmt::Debug, V: fmt::Debug> fmt::Debug for Ordered<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl<K: Ord + Hash + Copy, V> Index<&K> for Ordered<K, V> {
    type Output = V;

    fn index(&self, key: &K) -> &V {
        self.get(key).expect("the key is in the map")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Change {
        Insert(u8, u16),
        Remove(u8),
        GetOrDefault(u8),
    }

    fn any_change() -> impl Strategy<Value = Change> {
        prop_oneof![
            (0u8..24, any::<u16>()).prop_map(|(key, value)| Change::Insert(key, value)),
            (0u8..24).prop_map(Change::Remove),
            (0u8..24).prop_map(Change::GetOrDefault),
        ]
    }

    proptest! {
        #[test]
        fn it_is_a_map(first in prop::collection::btree_map(0u8..24, any::<u16>(), 0..12), changes in prop::collection::vec(any_change(), 0..60)) {
            let mut ordered = Ordered::from_first(first.keys().copied().collect(), first.values().copied().map(Some).collect()).unwrap();
            let mut map = first;
            for change in changes {
                match change {
                    Change::Insert(key, value) => {
                        ordered.insert(key, value);
                        map.insert(key, value);
                    }
                    Change::Remove(key) => prop_assert_eq!(ordered.remove(&key), map.remove(&key)),
                    Change::GetOrDefault(key) => prop_assert_eq!(ordered.get_or_default(key), map.entry(key).or_default()),
                }
                prop_assert!(ordered.iter().eq(map.iter()));
                prop_assert_eq!((ordered.len(), ordered.is_empty()), (map.len(), map.is_empty()));
                for key in 0..24 {
                    prop_assert_eq!(ordered.get(&key), map.get(&key));
                    prop_assert_eq!(ordered.get_mut(&key), map.get_mut(&key));
                }
            }
            let settled = ordered.settle();
            for key in 0..24 {
                prop_assert_eq!(settled.get(&key), map.get(&key));
            }
            let all: Vec<_> = settled.iter().map(|(number, key, value)| {
                assert_eq!(settled.at(number), Some((key, value)));
                (*key, *value)
            }).collect();
            prop_assert_eq!(all, map.into_iter().collect::<Vec<_>>());
            let numbered = (0..settled.numbers()).filter(|number| settled.at(*number).is_some()).count();
            prop_assert_eq!((numbered, settled.at(settled.numbers())), (settled.iter().count(), None));
        }
    }

    #[test]
    fn entries_that_are_not_in_order_make_no_map() {
        let made = |keys: &[u8]| Ordered::from_first(keys.to_vec(), vec![Some(()); 3]).is_some();
        assert!(made(&[1, 2, 3]) && !made(&[1, 2, 2]) && !made(&[2, 1, 3]) && !made(&[1, 2]));
    }
}
