//! Where the sessions are whose devices know no connection ids (firmware before 3.1): by address, and by device.
//!
//! The kernel may give such a device's datagram to any terminator, and nothing in it names the owner, so all terminators share this table. It is
//! locked in small parts and only for a look-up. Only proved sessions are in it: a datagram from nowhere costs a look-up and no cryptography.
//!
//! Two sessions can be found at an address: the one whose device was proved to be there last, and one whose device claims to have moved there, or
//! was there before. So who replays a record from another device's address takes that device's place only if he answers a ping there.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hash};
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use firmware_protocol::dtls::cid::ConnectionId;
use firmware_protocol::id::DeviceId;

/// Parts of each half of the table.
const PARTS: usize = 64;

/// The table. It grows with the sessions in it: each has at most two addresses and one device.
#[derive(Debug, Default)]
pub struct Unlabelled {
    addresses: Parts<SocketAddr, At>,
    devices: Parts<DeviceId, ConnectionId>,
}

/// Sessions that a datagram may belong to, likeliest first.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Candidates {
    first: Option<ConnectionId>,
    second: Option<ConnectionId>,
}

/// The sessions at one address.
#[derive(Clone, Copy, Debug, Default)]
struct At {
    proved: Option<ConnectionId>,
    other: Option<ConnectionId>,
}

impl Unlabelled {
    /// Which sessions a datagram from `peer` may belong to.
    pub(super) fn at(&self, peer: SocketAddr) -> Candidates {
        let at = self.addresses.part(&peer).get(&peer).copied().unwrap_or_default();
        Candidates { first: at.proved, second: at.other }
    }

    /// The newest session of `device`.
    pub(super) fn of(&self, device: DeviceId) -> Candidates {
        Candidates { first: self.devices.part(&device).get(&device).copied(), second: None }
    }

    /// `device` has this session now.
    pub(super) fn hold(&self, device: DeviceId, connection: ConnectionId) {
        self.devices.part(&device).insert(device, connection);
    }

    /// The session's device was proved to be at `peer`.
    pub(super) fn prove(&self, peer: SocketAddr, connection: ConnectionId) {
        let mut part = self.addresses.part(&peer);
        let at = part.entry(peer).or_default();
        at.other = at.other.filter(|other| *other != connection);
        if let Some(displaced) = at.proved.replace(connection).filter(|displaced| *displaced != connection) {
            at.other.get_or_insert(displaced);
        }
    }

    /// The session's device sent something from `peer`, and has not been proved to be there.
    pub(super) fn claim(&self, peer: SocketAddr, connection: ConnectionId) {
        self.addresses.part(&peer).entry(peer).or_default().other = Some(connection);
    }

    /// A session that is over, found by late comers where no other is.
    pub(super) fn bury(&self, peer: SocketAddr, device: DeviceId, connection: ConnectionId) {
        self.devices.part(&device).entry(device).or_insert(connection);
        self.addresses.part(&peer).entry(peer).or_default().proved.get_or_insert(connection);
    }

    /// The session is no longer at `peer`.
    pub(super) fn leave(&self, peer: SocketAddr, connection: ConnectionId) {
        let mut part = self.addresses.part(&peer);
        let Some(at) = part.get_mut(&peer) else { return };
        at.proved = at.proved.filter(|proved| *proved != connection);
        at.other = at.other.filter(|other| *other != connection);
        if at.proved.is_none() && at.other.is_none() {
            part.remove(&peer);
        }
    }

    /// The session is gone, and `device` has none unless it has a newer one.
    pub(super) fn release(&self, device: DeviceId, connection: ConnectionId) {
        let mut part = self.devices.part(&device);
        if part.get(&device) == Some(&connection) {
            part.remove(&device);
        }
    }
}

impl Iterator for Candidates {
    type Item = ConnectionId;

    fn next(&mut self) -> Option<ConnectionId> {
        let next = self.first.take().or_else(|| self.second.take());
        self.first = self.first.or_else(|| self.second.take());
        next
    }
}

#[derive(Debug)]
struct Parts<K, V> {
    hasher: RandomState,
    parts: Vec<Mutex<HashMap<K, V>>>,
}

impl<K: Hash + Eq, V> Parts<K, V> {
    fn part(&self, key: &K) -> MutexGuard<'_, HashMap<K, V>> {
        let place = self.hasher.hash_one(key) % PARTS as u64;
        self.parts[usize::try_from(place).unwrap_or_default()].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K, V> Default for Parts<K, V> {
    fn default() -> Self {
        Self { hasher: RandomState::new(), parts: (0..PARTS).map(|_| Mutex::default()).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: ConnectionId = ConnectionId([1; 8]);
    const TWO: ConnectionId = ConnectionId([2; 8]);
    const DEVICE: DeviceId = DeviceId([7; 12]);

    fn peer(port: u16) -> SocketAddr {
        ([192, 0, 2, 1], port).into()
    }

    fn found(candidates: Candidates) -> Vec<ConnectionId> {
        candidates.collect()
    }

    #[test]
    fn a_claim_takes_nobodys_place_until_it_is_proved() {
        let table = Unlabelled::default();
        table.prove(peer(1), ONE);
        table.prove(peer(2), TWO);
        table.claim(peer(1), TWO);
        assert_eq!(found(table.at(peer(1))), [ONE, TWO]);
        table.prove(peer(1), TWO);
        table.leave(peer(2), TWO);
        assert_eq!((found(table.at(peer(1))), found(table.at(peer(2)))), (vec![TWO, ONE], vec![]), "who was there is asked second");
        table.leave(peer(1), ONE);
        assert_eq!(found(table.at(peer(1))), [TWO], "who was displaced takes nothing along");
    }

    #[test]
    fn late_comers_are_found_where_no_living_session_is() {
        let table = Unlabelled::default();
        table.bury(peer(1), DEVICE, ONE);
        assert_eq!((found(table.at(peer(1))), found(table.of(DEVICE))), (vec![ONE], vec![ONE]));
        table.prove(peer(1), TWO);
        table.hold(DEVICE, TWO);
        table.bury(peer(1), DEVICE, ONE);
        assert_eq!((found(table.at(peer(1))), found(table.of(DEVICE))), (vec![TWO, ONE], vec![TWO]));
    }

    #[test]
    fn nothing_is_left_of_sessions_that_are_gone() {
        let table = Unlabelled::default();
        for port in 0..1000 {
            table.prove(peer(port), ONE);
            table.claim(peer(port + 1), ONE);
            table.prove(peer(port), TWO);
            table.leave(peer(port), TWO);
            table.hold(DEVICE, ONE);
            table.release(DEVICE, TWO);
            assert_eq!(found(table.of(DEVICE)), [ONE]);
            table.leave(peer(port), ONE);
            table.leave(peer(port + 1), ONE);
            table.release(DEVICE, ONE);
        }
        assert!(table.addresses.parts.iter().all(|part| part.lock().unwrap().is_empty()));
        assert!(table.devices.parts.iter().all(|part| part.lock().unwrap().is_empty()));
    }
}
