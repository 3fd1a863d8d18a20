//! From which addresses a second flight without connection id may come: those whose hello had a right cookie a moment ago. Others are dropped before
//! they take room in the lane to the handshake thread, as those with a connection id are by its tag.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use firmware_protocol::time::Millis;

/// A device gives a handshake up after 45 seconds, of which its hello may wait for 40.
const LIFE: Duration = Duration::from_secs(60);
/// A hello that comes again within this is of the same handshake: devices repeat it after 3, 9 and 21 seconds.
const SAME_HANDSHAKE: Duration = Duration::from_secs(30);
/// Most addresses that are remembered, as many as hellos may wait; the oldest makes room.
const ADDRESSES_MAX: usize = 65_536;

/// The addresses.
#[derive(Debug, Default)]
pub(super) struct Awaited {
    since: HashMap<SocketAddr, Millis>,
    /// In the order they came; an address that came again with another handshake is in it again.
    order: VecDeque<(Millis, SocketAddr)>,
}

impl Awaited {
    /// A hello without connection id and with a right cookie came from `peer`.
    pub(super) fn expect(&mut self, now: Millis, peer: SocketAddr) {
        if self.since.get(&peer).is_some_and(|since| now.since(*since) < SAME_HANDSHAKE) {
            return;
        }
        while self.order.front().is_some_and(|(since, _)| now.since(*since) >= LIFE || self.order.len() >= ADDRESSES_MAX) {
            let Some((since, peer)) = self.order.pop_front() else { break };
            if self.since.get(&peer) == Some(&since) {
                self.since.remove(&peer);
            }
        }
        self.since.insert(peer, now);
        self.order.push_back((now, peer));
    }

    /// Whether a flight may come from `peer`.
    pub(super) fn contains(&self, now: Millis, peer: SocketAddr) -> bool {
        self.since.get(&peer).is_some_and(|since| now.since(*since) < LIFE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(port: u16) -> SocketAddr {
        ([192, 0, 2, 1], port).into()
    }

    #[test]
    fn a_flight_is_awaited_for_a_minute_after_the_last_hello() {
        let mut awaited = Awaited::default();
        assert!(!awaited.contains(Millis(0), peer(1)));
        awaited.expect(Millis(0), peer(1));
        awaited.expect(Millis(30_000), peer(1));
        awaited.expect(Millis(60_000), peer(2));
        assert!(awaited.contains(Millis(89_999), peer(1)) && !awaited.contains(Millis(90_000), peer(1)));
        assert!(!awaited.contains(Millis(60_000), peer(3)));
    }

    #[test]
    fn many_addresses_and_many_hellos_take_no_more_than_their_room() {
        let mut awaited = Awaited::default();
        for port in 0..u16::MAX {
            awaited.expect(Millis(0), peer(port));
            awaited.expect(Millis(u64::from(port)), ([192, 0, 2, 2], port).into());
            awaited.expect(Millis(u64::from(port)), ([192, 0, 2, 2], 7).into());
        }
        assert!(awaited.order.len() <= ADDRESSES_MAX && awaited.since.len() <= ADDRESSES_MAX);
        assert!(awaited.contains(Millis(65_534), ([192, 0, 2, 2], 7).into()));
        assert!(awaited.contains(Millis(65_534), ([192, 0, 2, 2], u16::MAX - 1).into()));
    }
}
