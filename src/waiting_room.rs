//! A waiting room: who cannot be served at once waits here, a limited number for a limited time. It decides who is next and reads no clock.
//!
//! It is fair by prefix: the networks that guests come from take turns, whoever has how many waiting, and within a network it is first come, first
//! served. Each guest costs the same to serve, so that turns need no weights. A network may have no more waiting than there are places free: alone it
//! takes half the room, and others still find places.
//!
//! An address has one place. Who repeats what it came with keeps its place and takes no second; who comes with something new takes its own place over.

mod chains;
mod prefix;

use std::collections::hash_map::RandomState;
use std::collections::{HashMap, VecDeque};
use std::hash::BuildHasher;
use std::net::SocketAddr;
use std::time::Duration;

use firmware_protocol::time::Millis;
use hashbrown::HashTable;

use self::chains::{By, Chain, Slot, Slots};
use self::prefix::Prefix;

/// How many prefixes are asked in one look for the next guest.
const TRIES: usize = 8;
/// Room that is kept for the next storm when the last guest has gone.
const KEPT: usize = 1_024;

/// Who waits.
pub trait Guest {
    /// Where it came from.
    fn peer(&self) -> SocketAddr;

    /// Whether it came with the same as the one that waits, which is from the same address.
    fn repeats(&self, waiting: &Self) -> bool;
}

/// How a guest came in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Entered {
    /// It waits now.
    New,
    /// It waited already.
    Repeated,
    /// It waits in the place of another from its address, which is forgotten.
    Instead,
}

/// Why a guest cannot wait.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refused {
    /// No place is free.
    Full,
    /// Its network has as many waiting as there are places free.
    PrefixFull,
}

/// The room.
#[derive(Debug)]
pub struct WaitingRoom<T> {
    places: usize,
    patience: Duration,
    slots: Slots<T>,
    by_peer: HashTable<u32>,
    hasher: RandomState,
    /// Everybody, in the order of their coming.
    all: Chain,
    by_prefix: HashMap<Prefix, Chain>,
    /// The prefixes with guests, the one whose turn it is first.
    turns: VecDeque<Prefix>,
}

impl<T: Guest> WaitingRoom<T> {
    /// Bytes that each guest takes besides what it points to: its slot, and its entry in the table of addresses with the byte that the table keeps of its hash.
    pub const BYTES_EACH: usize = size_of::<Slot<T>>() + size_of::<u32>() + 1;

    /// With so many places, and `patience` to wait in each.
    pub fn new(places: usize, patience: Duration) -> Self {
        Self {
            places: places.min(chains::SLOTS_MAX),
            patience,
            slots: Slots::default(),
            by_peer: HashTable::new(),
            hasher: RandomState::new(),
            all: Chain::default(),
            by_prefix: HashMap::new(),
            turns: VecDeque::new(),
        }
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Lets a guest in.
    ///
    /// # Errors
    /// There is no place for it.
    pub fn enter(&mut self, now: Millis, guest: T) -> Result<Entered, Refused> {
        if let Some(index) = self.find(guest.peer()) {
            return Ok(self.come_again(now, index, guest));
        }
        let free = self.places - self.len();
        if free == 0 {
            return Err(Refused::Full);
        }
        let (peer, prefix) = (guest.peer(), Prefix::of(guest.peer().ip()));
        let of_prefix = self.by_prefix.entry(prefix).or_default();
        if of_prefix.len() >= free {
            return Err(Refused::PrefixFull);
        }
        if of_prefix.is_empty() {
            self.turns.push_back(prefix);
        }
        let index = self.slots.take(now, guest);
        self.slots.append(of_prefix, By::Prefix, index);
        self.slots.append(&mut self.all, By::Age, index);
        let (hasher, slots) = (&self.hasher, &self.slots);
        self.by_peer.insert_unique(hasher.hash_one(peer), index, |index| slots.peer(*index).map_or(0, |peer| hasher.hash_one(peer)));
        Ok(Entered::New)
    }

    /// The next guest that `admit` lets in, for how long it waited and what `admit` gave it. Who is not let in goes behind the others of its prefix.
    pub fn next<P>(&mut self, now: Millis, mut admit: impl FnMut(&T) -> Option<P>) -> Option<(T, Duration, P)> {
        for _ in 0..TRIES.min(self.turns.len()) {
            let prefix = self.turns.pop_front()?;
            let of_prefix = self.by_prefix.get_mut(&prefix)?;
            let index = of_prefix.first()?;
            let Some(pass) = self.slots.guest(index).and_then(&mut admit) else {
                self.slots.unlink(of_prefix, By::Prefix, index);
                self.slots.append(of_prefix, By::Prefix, index);
                self.turns.push_back(prefix);
                continue;
            };
            let since = self.slots.since(index);
            let guest = self.leave(index)?;
            if self.by_prefix.contains_key(&prefix) {
                self.turns.push_back(prefix);
            }
            return Some((guest, now.since(since), pass));
        }
        None
    }

    /// The next guest whose patience is at an end.
    pub fn pop_expired(&mut self, now: Millis) -> Option<T> {
        let oldest = self.all.first().filter(|oldest| now.since(self.slots.since(*oldest)) >= self.patience)?;
        let guest = self.leave(oldest)?;
        let prefix = Prefix::of(guest.peer().ip());
        if !self.by_prefix.contains_key(&prefix) {
            // Where nobody was served, it is the first.
            let turn = self.turns.iter().position(|other| *other == prefix);
            turn.and_then(|turn| self.turns.remove(turn));
        }
        Some(guest)
    }

    fn find(&self, peer: SocketAddr) -> Option<u32> {
        self.by_peer.find(self.hasher.hash_one(peer), |index| self.slots.peer(*index) == Some(peer)).copied()
    }

    fn come_again(&mut self, now: Millis, index: u32, guest: T) -> Entered {
        if self.slots.guest(index).is_some_and(|waiting| guest.repeats(waiting)) {
            return Entered::Repeated;
        }
        self.slots.put(now, index, guest);
        self.slots.unlink(&mut self.all, By::Age, index);
        self.slots.append(&mut self.all, By::Age, index);
        Entered::Instead
    }

    /// Takes a guest out, but not its prefix out of the turns.
    fn leave(&mut self, index: u32) -> Option<T> {
        let peer = self.slots.peer(index)?;
        let slots = &self.slots;
        if let Ok(found) = self.by_peer.find_entry(self.hasher.hash_one(peer), |index| slots.peer(*index) == Some(peer)) {
            found.remove();
        }
        let prefix = Prefix::of(peer.ip());
        if let Some(of_prefix) = self.by_prefix.get_mut(&prefix) {
            self.slots.unlink(of_prefix, By::Prefix, index);
            if of_prefix.is_empty() {
                self.by_prefix.remove(&prefix);
            }
        }
        self.slots.unlink(&mut self.all, By::Age, index);
        let guest = self.slots.free(index);
        if self.is_empty() && self.slots.capacity() > KEPT {
            self.shrink();
        }
        guest
    }

    fn shrink(&mut self) {
        self.slots = Slots::default();
        self.by_peer = HashTable::new();
        self.by_prefix.shrink_to_fit();
        self.turns.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests;
