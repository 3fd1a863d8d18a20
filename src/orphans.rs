//! Devices that talk with keys we no longer hold: of sessions that were made after the backup that was restored, for example. What they send cannot be
//! opened and so not be answered; a device notices within minutes, one that sleeps much later. Whoever looks shall see which they are.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};

use firmware_protocol::dtls::cid::ConnectionId;
use firmware_protocol::id::DeviceId;
use firmware_protocol::time::UnixMillis;

/// Most orphans on the list. Beyond that they are only counted.
const LISTED_MAX: usize = 1_000;
/// One that was silent for so long is forgotten: it is dead or has a new session.
const LISTED_FOR_MS: u64 = 24 * 3_600_000;

/// What a datagram says of its sender. Nobody has proved it: a connection id was given out by us, a device id anybody may write.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Trace {
    /// The id of its session.
    Session(ConnectionId),
    /// Its own id: firmware before 3.1 puts it behind the first record after a restart.
    Device(DeviceId),
}

/// One line of the list.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Orphan {
    /// How it is known.
    pub trace: Trace,
    /// Where it spoke from last.
    pub peer: SocketAddr,
    /// When it was heard first.
    pub first: UnixMillis,
    /// When it was heard last.
    pub last: UnixMillis,
    /// How many datagrams came.
    pub datagrams: u64,
}

/// The list.
#[derive(Debug, Default)]
pub struct Orphans {
    listed: Mutex<BTreeMap<Trace, Orphan>>,
}

impl Orphans {
    /// A datagram that nobody can open came from `peer`.
    pub fn heard(&self, trace: Trace, peer: SocketAddr, now: UnixMillis) {
        self.with(|listed| {
            if listed.len() >= LISTED_MAX {
                listed.retain(|_, orphan| orphan.is_listed(now));
            }
            let full = listed.len() >= LISTED_MAX;
            match listed.get_mut(&trace) {
                Some(orphan) => *orphan = Orphan { peer, last: now, datagrams: orphan.datagrams.saturating_add(1), ..*orphan },
                None if full => {}
                None => _ = listed.insert(trace, Orphan { trace, peer, first: now, last: now, datagrams: 1 }),
            }
        });
    }

    /// All that were heard in the last day.
    pub fn list(&self, now: UnixMillis) -> Vec<Orphan> {
        self.with(|listed| listed.values().filter(|orphan| orphan.is_listed(now)).copied().collect())
    }

    fn with<T>(&self, action: impl FnOnce(&mut BTreeMap<Trace, Orphan>) -> T) -> T {
        action(&mut self.listed.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Orphan {
    fn is_listed(&self, now: UnixMillis) -> bool {
        now.0.saturating_sub(self.last.0) < LISTED_FOR_MS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(n: u64) -> Trace {
        Trace::Session(ConnectionId(n.to_be_bytes()))
    }

    #[test]
    fn each_is_listed_once_for_a_day_and_no_more_than_there_is_room_for() {
        let (orphans, peer) = (Orphans::default(), "192.0.2.1:5".parse().unwrap());
        for n in 0..2 * LISTED_MAX as u64 {
            orphans.heard(session(n), peer, UnixMillis(10));
        }
        let elsewhere = "192.0.2.2:6".parse().unwrap();
        orphans.heard(session(0), elsewhere, UnixMillis(20));
        let listed = orphans.list(UnixMillis(30));
        let expected = Orphan { trace: session(0), peer: elsewhere, first: UnixMillis(10), last: UnixMillis(20), datagrams: 2 };
        assert_eq!((listed.len(), listed[0]), (LISTED_MAX, expected));
        assert_eq!(orphans.list(UnixMillis(10 + LISTED_FOR_MS)), [expected]);
        orphans.heard(Trace::Device(DeviceId([1; 12])), peer, UnixMillis(10 + LISTED_FOR_MS));
        assert_eq!(orphans.list(UnixMillis(10 + LISTED_FOR_MS)).len(), 2, "the old make room");
    }
}
