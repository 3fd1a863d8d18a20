//! Sessions that are new to this process, whose records come after those of all others. A device that was let in says a dozen things at once, and so
//! does one that comes back after a restart; when a whole fleet does, whoever was there before waits for none of it.

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use firmware_protocol::dtls::cid::ConnectionId;
use firmware_protocol::dtls::demux::{Datagram, demux};
use firmware_protocol::path::Path;
use firmware_protocol::time::Millis;

/// For how long a session is new: what its device says by itself after a handshake, and repeats once, is said by then.
const NEW: Duration = Duration::from_secs(10);
/// Most of them: more are like all others.
const SESSIONS_MAX: usize = 65_536;
/// Memory for datagrams that wait. More are taken as they come.
const WAITING_MAX: usize = 8 << 20;
/// What a datagram takes besides its bytes.
const OVERHEAD: usize = size_of::<(Vec<u8>, Path)>() + 16;

/// Those of one terminator.
#[derive(Debug, Default)]
pub(super) struct Newcomers {
    sessions: HashSet<ConnectionId>,
    /// In the order in which they came.
    came: VecDeque<(Millis, ConnectionId)>,
    waiting: VecDeque<(Vec<u8>, Path)>,
    /// What those take.
    memory: usize,
}

impl Newcomers {
    /// The device of a session was heard for the first time.
    pub(super) fn came(&mut self, now: Millis, connection: ConnectionId) {
        if self.sessions.len() < SESSIONS_MAX && self.sessions.insert(connection) {
            self.came.push_back((now, connection));
        }
    }

    /// Those that came a while ago are new no more.
    pub(super) fn settle(&mut self, now: Millis) {
        while let Some((_, connection)) = self.came.front().filter(|(since, _)| now.since(*since) >= NEW) {
            self.sessions.remove(connection);
            self.came.pop_front();
        }
        if self.sessions.is_empty() && self.waiting.is_empty() && self.sessions.capacity() > 0 {
            // Its room was for a fleet.
            *self = Self::default();
        }
    }

    /// Keeps a datagram for later if it is of one of them and there is room; gives it back otherwise.
    pub(super) fn keep(&mut self, datagram: Vec<u8>, path: Path) -> Option<(Vec<u8>, Path)> {
        let is_new =
            !self.sessions.is_empty() && matches!(demux(&datagram), Datagram::Record { connection } if self.sessions.contains(&connection));
        let more = datagram.capacity() + OVERHEAD;
        if !is_new || self.memory + more > WAITING_MAX {
            return Some((datagram, path));
        }
        self.memory += more;
        self.waiting.push_back((datagram, path));
        None
    }

    /// The datagram that waits longest.
    pub(super) fn next(&mut self) -> Option<(Vec<u8>, Path)> {
        let next = self.waiting.pop_front()?;
        self.memory -= next.0.capacity() + OVERHEAD;
        Some(next)
    }

    /// Whether datagrams wait.
    pub(super) fn are_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: ConnectionId = ConnectionId([0x10, 1, 3, 1, 2, 3, 4, 5]);
    const OTHER: ConnectionId = ConnectionId([0x10, 1, 3, 9, 2, 3, 4, 5]);

    fn record(connection: ConnectionId, payload: u8) -> Vec<u8> {
        let head = [25, 0xfe, 0xfd, 0, 1, 0, 0, 0, 0, 0, 1];
        [&head[..], &connection.0, &[0, payload], &vec![0; usize::from(payload)]].concat()
    }

    fn path() -> Path {
        Path { peer: ([192, 0, 2, 1], 5684).into(), local: None }
    }

    #[test]
    fn only_what_new_sessions_send_waits_and_in_its_order() {
        let mut newcomers = Newcomers::default();
        assert!(newcomers.keep(record(ONE, 40), path()).is_some(), "none is new");
        newcomers.came(Millis(0), ONE);
        assert!(newcomers.keep(record(OTHER, 40), path()).is_some());
        assert!(newcomers.keep(record(ONE, 40), path()).is_none() && newcomers.keep(record(ONE, 41), path()).is_none());
        newcomers.settle(Millis(10_000));
        assert!(newcomers.keep(record(ONE, 42), path()).is_some(), "it is new no more");
        assert!(newcomers.are_waiting());
        assert_eq!(newcomers.next().map(|(datagram, _)| datagram), Some(record(ONE, 40)));
        assert_eq!(newcomers.next().map(|(datagram, _)| datagram), Some(record(ONE, 41)));
        assert!(newcomers.next().is_none() && !newcomers.are_waiting() && newcomers.memory == 0);
    }

    #[test]
    fn what_waits_has_only_so_much_room() {
        let mut newcomers = Newcomers::default();
        newcomers.came(Millis(0), ONE);
        let kept = (0..100_000).take_while(|_| newcomers.keep(record(ONE, 250), path()).is_none()).count();
        assert!(kept * 250 < WAITING_MAX && kept * 500 > WAITING_MAX, "{kept}");
        while newcomers.next().is_some() {}
        assert!(newcomers.keep(record(ONE, 250), path()).is_none());
    }
}
