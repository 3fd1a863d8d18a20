//! The table of sessions: a million of them load in one go, and they are gone through by id.

use std::collections::BTreeMap;
use std::fmt;

use firmware_protocol::dtls::cid::ConnectionId;

use super::state::Session;

/// Sessions by connection id. They lie side by side, because that many single allocations would cost more than reading them.
#[derive(Clone, Default)]
pub struct Sessions {
    entries: Vec<Session>,
    /// Where in `entries` each one is.
    index: BTreeMap<ConnectionId, usize>,
}

impl Sessions {
    /// A table of sessions with different ids. Fastest if they are ordered by id.
    pub(super) fn from_entries(entries: Vec<Session>) -> Option<Sessions> {
        let index: BTreeMap<_, _> = entries.iter().enumerate().map(|(at, session)| (session.stored.connection, at)).collect();
        (index.len() == entries.len()).then_some(Sessions { entries, index })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The session with this id.
    pub fn get(&self, connection: &ConnectionId) -> Option<&Session> {
        self.index.get(connection).map(|at| &self.entries[*at])
    }

    /// All sessions, ordered by id.
    pub fn iter(&self) -> impl Iterator<Item = &Session> {
        self.index.values().map(|at| &self.entries[*at])
    }

    /// All sessions, in no particular order.
    pub fn into_entries(self) -> Vec<Session> {
        self.entries
    }

    pub(super) fn get_mut(&mut self, connection: &ConnectionId) -> Option<&mut Session> {
        self.index.get(connection).map(|at| &mut self.entries[*at])
    }

    pub(super) fn insert(&mut self, session: Session) {
        match self.index.get(&session.stored.connection) {
            Some(at) => self.entries[*at] = session,
            None => {
                self.index.insert(session.stored.connection, self.entries.len());
                self.entries.push(session);
            }
        }
    }

    pub(super) fn remove(&mut self, connection: &ConnectionId) -> Option<Session> {
        let at = self.index.remove(connection)?;
        let removed = self.entries.swap_remove(at);
        if let Some(moved) = self.entries.get(at) {
            self.index.insert(moved.stored.connection, at);
        }
        Some(removed)
    }
}

impl PartialEq for Sessions {
    fn eq(&self, other: &Sessions) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Sessions {}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::journal::test_records::session;

    fn entry(number: u8) -> Session {
        Session { stored: session(number), highest: None, recent: Vec::new() }
    }

    proptest! {
        #[test]
        fn a_table_is_a_map(changes in proptest::collection::vec((any::<bool>(), 0u8..12), 0..60)) {
            let (mut table, mut map) = (Sessions::default(), BTreeMap::new());
            for (insert, number) in changes {
                let id = entry(number).stored.connection;
                if insert {
                    table.insert(entry(number));
                    map.insert(id, entry(number));
                } else {
                    prop_assert_eq!(table.remove(&id), map.remove(&id));
                }
                prop_assert_eq!(table.get(&id), map.get(&id));
                prop_assert!(table.iter().eq(map.values()));
                prop_assert_eq!(table.len(), map.len());
            }
            let entries = table.clone().into_entries();
            prop_assert_eq!(Sessions::from_entries(entries), Some(table));
        }
    }

    #[test]
    fn an_id_has_one_session() {
        assert_eq!(Sessions::from_entries(vec![entry(1), entry(2), entry(1)]), None);
    }
}
