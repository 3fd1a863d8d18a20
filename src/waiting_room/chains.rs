//! Slots for guests, and the two chains that each is part of: everybody by age, and those of its prefix. Links are indices, so that a guest takes a
//! place out of the middle in no time and little memory.

use std::net::SocketAddr;

use firmware_protocol::time::Millis;

use super::Guest;

/// No slot.
const NONE: u32 = u32::MAX;
/// Most slots.
pub(super) const SLOTS_MAX: usize = 1 << 24;

/// Which of the chains.
#[derive(Clone, Copy, Debug)]
pub(super) enum By {
    Age,
    Prefix,
}

#[derive(Clone, Copy, Debug)]
struct Links {
    before: u32,
    after: u32,
}

/// Room for one guest.
#[derive(Debug)]
pub(super) struct Slot<T> {
    /// `None` if it is free.
    guest: Option<T>,
    since: Millis,
    age: Links,
    /// Of a free slot, `after` is the next free one.
    prefix: Links,
}

/// All slots.
#[derive(Debug)]
pub(super) struct Slots<T> {
    slots: Vec<Slot<T>>,
    free: u32,
}

/// The ends of a chain.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chain {
    first: u32,
    last: u32,
    len: u32,
}

impl Default for Chain {
    fn default() -> Self {
        Self { first: NONE, last: NONE, len: 0 }
    }
}

impl Chain {
    pub(super) fn first(&self) -> Option<u32> {
        Some(self.first).filter(|first| *first != NONE)
    }

    pub(super) fn len(&self) -> usize {
        self.len as usize
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Self { slots: Vec::new(), free: NONE }
    }
}

impl<T: Guest> Slots<T> {
    /// A slot with this guest in it, in no chain.
    pub(super) fn take(&mut self, now: Millis, guest: T) -> u32 {
        let alone = Links { before: NONE, after: NONE };
        let slot = Slot { guest: Some(guest), since: now, age: alone, prefix: alone };
        let index = self.free;
        if let Some(free) = self.slots.get_mut(index as usize) {
            self.free = free.prefix.after;
            *free = slot;
            return index;
        }
        self.slots.push(slot);
        u32::try_from(self.slots.len() - 1).expect("there are no more slots than SLOTS_MAX")
    }

    /// Puts another guest into a slot.
    pub(super) fn put(&mut self, now: Millis, index: u32, guest: T) {
        let slot = self.slot(index);
        (slot.guest, slot.since) = (Some(guest), now);
    }

    /// Frees a slot that is in no chain any more.
    pub(super) fn free(&mut self, index: u32) -> Option<T> {
        let next = std::mem::replace(&mut self.free, index);
        let slot = self.slot(index);
        slot.prefix.after = next;
        slot.guest.take()
    }

    pub(super) fn capacity(&self) -> usize {
        self.slots.capacity()
    }

    pub(super) fn guest(&self, index: u32) -> Option<&T> {
        self.slots.get(index as usize)?.guest.as_ref()
    }

    pub(super) fn peer(&self, index: u32) -> Option<SocketAddr> {
        self.guest(index).map(T::peer)
    }

    pub(super) fn since(&self, index: u32) -> Millis {
        self.slots.get(index as usize).map_or(Millis(0), |slot| slot.since)
    }

    /// Puts a slot at the end of a chain.
    pub(super) fn append(&mut self, chain: &mut Chain, by: By, index: u32) {
        let before = std::mem::replace(&mut chain.last, index);
        *self.links(by, index) = Links { before, after: NONE };
        match before {
            NONE => chain.first = index,
            before => self.links(by, before).after = index,
        }
        chain.len += 1;
    }

    /// Takes a slot out of a chain.
    pub(super) fn unlink(&mut self, chain: &mut Chain, by: By, index: u32) {
        let Links { before, after } = *self.links(by, index);
        match before {
            NONE => chain.first = after,
            before => self.links(by, before).after = after,
        }
        match after {
            NONE => chain.last = before,
            after => self.links(by, after).before = before,
        }
        chain.len -= 1;
    }

    fn links(&mut self, by: By, index: u32) -> &mut Links {
        let slot = self.slot(index);
        match by {
            By::Age => &mut slot.age,
            By::Prefix => &mut slot.prefix,
        }
    }

    fn slot(&mut self, index: u32) -> &mut Slot<T> {
        &mut self.slots[index as usize]
    }
}
