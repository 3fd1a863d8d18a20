//! Connection ids that were drawn for handshakes which may not have begun yet. Of a fleet that comes back at once two would else draw the same before
//! either has a session, and one of them would be let in and then find its place taken.

use std::collections::HashSet;
use std::time::Duration;

use firmware_protocol::dtls::cid::ConnectionId;
use firmware_protocol::time::Millis;

/// A hello may wait for 40 s, and its device gives up after 45. An id is reserved for this long at least, and for twice that at most.
const LIFE: Duration = Duration::from_secs(60);
/// Ids of one half: as many as hellos may wait. Beyond it the oldest are not reserved any more.
const HALF_MAX: usize = 65_536;

/// The ids, the newer half and the older.
#[derive(Debug, Default)]
pub(super) struct Reserved {
    newer: HashSet<ConnectionId>,
    older: HashSet<ConnectionId>,
    since: Millis,
}

impl Reserved {
    /// Reserves an id. `false` if it was reserved already.
    pub(super) fn reserve(&mut self, now: Millis, connection: ConnectionId) -> bool {
        if now.since(self.since) >= LIFE || self.newer.len() >= HALF_MAX {
            (self.older, self.since) = (std::mem::take(&mut self.newer), now);
        }
        !self.older.contains(&connection) && self.newer.insert(connection)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u32) -> ConnectionId {
        let [a, b, c, d] = number.to_be_bytes();
        ConnectionId([0x10, 1, 3, 0, a, b, c, d])
    }

    #[test]
    fn an_id_is_reserved_once_until_its_handshake_must_be_over() {
        let mut reserved = Reserved::default();
        let at = |seconds: u64| Millis(1_000_000 + seconds * 1_000);
        assert!(reserved.reserve(at(0), id(1)) && !reserved.reserve(at(0), id(1)) && reserved.reserve(at(0), id(2)));
        assert!(!reserved.reserve(at(59), id(1)) && reserved.reserve(at(59), id(3)));
        assert!(!reserved.reserve(at(70), id(1)), "in the older half");
        assert!(reserved.reserve(at(130), id(1)));
    }

    #[test]
    fn no_flood_of_hellos_takes_more_than_its_room() {
        let mut reserved = Reserved::default();
        assert!((0..1_000_000).all(|number| reserved.reserve(Millis(5), id(number))));
        assert!(reserved.newer.len() + reserved.older.len() <= 2 * HALF_MAX);
        assert!(!reserved.reserve(Millis(5), id(999_999)));
    }
}
