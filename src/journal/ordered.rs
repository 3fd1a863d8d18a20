//! A map most of which is read at once and in order: a million entries lie side by side, because that many single allocations, or a tree of them, would
//! cost more than reading them.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Index;

/// A map, ordered by key.
#[derive(Clone)]
pub struct Ordered<K, V> {
    first: First<K, V>,
    later: BTreeMap<K, V>,
}

/// An [`Ordered`] map that does not change any more: every entry has a number.
#[derive(Debug)]
pub struct Settled<K, V> {
    first: First<K, V>,
    later: Vec<(K, V)>,
}

/// What came first, in order. Nobody closes the gap that a removed one leaves. Keys lie apart from values, so that looking for one touches little else.
#[derive(Clone, Debug)]
struct First<K, V> {
    keys: Vec<K>,
    values: Vec<Option<V>>,
    gone: usize,
}

impl<K: Ord, V> First<K, V> {
    fn place(&self, key: &K) -> Option<usize> {
        self.keys.binary_search(key).ok()
    }

    fn iter(&self) -> impl Iterator<Item = (usize, &K, &V)> {
        let all = self.keys.iter().zip(&self.values).enumerate();
        all.filter_map(|(number, (key, value))| Some((number, key, value.as_ref()?)))
    }
}

impl<K: Ord + Copy, V> Ordered<K, V> {
    /// A map of these, all of which are there, each with the key in its place; `None` if they are not in order or two have the same key.
    pub(super) fn from_first(keys: Vec<K>, values: Vec<Option<V>>) -> Option<Self> {
        let sound = keys.len() == values.len() && keys.is_sorted_by(|one, next| one < next);
        sound.then_some(Self { first: First { keys, values, gone: 0 }, later: BTreeMap::new() })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.first.keys.len() - self.first.gone + self.later.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The value of a key.
    pub fn get(&self, key: &K) -> Option<&V> {
        match self.first.place(key) {
            Some(at) => self.first.values[at].as_ref(),
            None => self.later.get(key),
        }
    }

    pub(super) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        match self.first.place(key) {
            Some(at) => self.first.values[at].as_mut(),
            None => self.later.get_mut(key),
        }
    }

    pub(super) fn insert(&mut self, key: K, value: V) {
        match self.first.place(&key) {
            Some(at) => self.first.gone -= usize::from(self.first.values[at].replace(value).is_none()),
            None => _ = self.later.insert(key, value),
        }
    }

    pub(super) fn remove(&mut self, key: &K) -> Option<V> {
        match self.first.place(key) {
            Some(at) => {
                let removed = self.first.values[at].take();
                self.first.gone += usize::from(removed.is_some());
                removed
            }
            None => self.later.remove(key),
        }
    }

    /// The value of a key, made if there is none.
    pub(super) fn get_or_default(&mut self, key: K) -> &mut V
    where
        V: Default,
    {
        match self.first.place(&key) {
            Some(at) => {
                self.first.gone -= usize::from(self.first.values[at].is_none());
                self.first.values[at].get_or_insert_default()
            }
            None => self.later.entry(key).or_default(),
        }
    }

    /// All entries, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        merged(self.first.iter().map(|(_, key, value)| (key, value)), self.later.iter(), |(key, _)| *key)
    }

    /// All values, in the order of their keys.
    pub fn values(&self) -> impl Iterator<Item = &V> {
        self.iter().map(|(_, value)| value)
    }

    /// The map as it is from now on.
    pub fn settle(self) -> Settled<K, V> {
        Settled { first: self.first, later: self.later.into_iter().collect() }
    }
}

impl<K: Ord + Copy, V> Settled<K, V> {
    /// All entries in order, each with its number.
    pub fn iter(&self) -> impl Iterator<Item = (usize, &K, &V)> {
        let count = self.first.keys.len();
        let later = self.later.iter().enumerate().map(move |(index, (key, value))| (count + index, key, value));
        merged(self.first.iter(), later, |(_, key, _)| *key)
    }

    /// One more than the highest number.
    pub fn numbers(&self) -> usize {
        self.first.keys.len() + self.later.len()
    }

    /// The entry with a number.
    pub fn at(&self, number: usize) -> Option<(&K, &V)> {
        match number.checked_sub(self.first.keys.len()) {
            None => self.first.values[number].as_ref().map(|value| (&self.first.keys[number], value)),
            Some(index) => self.later.get(index).map(|(key, value)| (key, value)),
        }
    }

    /// The value of a key.
    pub fn get(&self, key: &K) -> Option<&V> {
        match self.first.place(key) {
            Some(at) => self.first.values[at].as_ref(),
            None => self.later.binary_search_by_key(key, |(own, _)| *own).ok().map(|at| &self.later[at].1),
        }
    }
}

/// Both in one order.
fn merged<T, K: Ord>(one: impl Iterator<Item = T>, other: impl Iterator<Item = T>, key: impl Fn(&T) -> K) -> impl Iterator<Item = T> {
    let (mut one, mut other) = (one.peekable(), other.peekable());
    std::iter::from_fn(move || match (one.peek(), other.peek()) {
        (Some(first), Some(second)) if key(second) < key(first) => other.next(),
        (None, _) => other.next(),
        _ => one.next(),
    })
}

impl<K, V> Default for Ordered<K, V> {
    fn default() -> Self {
        Self { first: First { keys: Vec::new(), values: Vec::new(), gone: 0 }, later: BTreeMap::new() }
    }
}

impl<K: Ord + Copy, V: PartialEq> PartialEq for Ordered<K, V> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl<K: Ord + Copy, V: Eq> Eq for Ordered<K, V> {}

impl<K: Ord + Copy + fmt::Debug, V: fmt::Debug> fmt::Debug for Ordered<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl<K: Ord + Copy, V> Index<&K> for Ordered<K, V> {
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
