//! Which shards want to see whose events.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use firmware_protocol::id::OwnerId;

/// Places in the table.
const PLACES: usize = 1_024;

/// Which shards have subscribed devices of which owners. Shards write it; the journal's writer reads it to wake the fan-out only for what somebody
/// may want, and the fan-out to skip what a shard does not want. A bit may stand for several owners and several shards and is never cleared: it errs
/// towards looking.
#[derive(Debug)]
pub struct SubscribedOwners {
    /// By a hash of the owner: the shards, 64 at most apart.
    places: Box<[AtomicU64]>,
    /// Shards that have entered what they knew from before.
    restored: AtomicUsize,
}

/// Shards that may want an event.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Wanting(u64);

impl SubscribedOwners {
    /// Nobody wants anything.
    pub fn new() -> Self {
        Self { places: (0..PLACES).map(|_| AtomicU64::new(0)).collect(), restored: AtomicUsize::new(0) }
    }

    /// The shard with this number has a subscribed device of `owner`.
    pub fn add(&self, shard: usize, owner: OwnerId) {
        self.place(owner).fetch_or(bit(shard), Ordering::Release);
    }

    /// Which shards may have a subscribed device of `owner`.
    pub fn wanting(&self, owner: OwnerId) -> Wanting {
        Wanting(self.place(owner).load(Ordering::Acquire))
    }

    /// One more shard has entered the devices that it took over from a former process.
    pub fn note_restored(&self) {
        self.restored.fetch_add(1, Ordering::AcqRel);
    }

    /// How many have.
    pub fn restored(&self) -> usize {
        self.restored.load(Ordering::Acquire)
    }

    fn place(&self, owner: OwnerId) -> &AtomicU64 {
        let mixed = owner.0.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        &self.places[usize::try_from(mixed).unwrap_or_default() % PLACES]
    }
}

impl Default for SubscribedOwners {
    fn default() -> Self {
        Self::new()
    }
}

impl Wanting {
    /// Whether any shard may want it.
    pub fn any(self) -> bool {
        self.0 != 0
    }

    /// Whether the shard with this number may.
    pub fn contains(self, shard: usize) -> bool {
        self.0 & bit(shard) != 0
    }
}

fn bit(shard: usize) -> u64 {
    1 << (shard % 64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_wants_what_it_asked_for_and_others_hardly_ever_do() {
        let owners = SubscribedOwners::new();
        assert!(!owners.wanting(OwnerId(1)).any());
        (0..50).for_each(|owner| owners.add(3, OwnerId(owner)));
        owners.add(65, OwnerId(7));
        assert!((0..50).all(|owner| owners.wanting(OwnerId(owner)).contains(3)));
        let wanting = owners.wanting(OwnerId(7));
        assert!(wanting.contains(65) && wanting.contains(1) && !wanting.contains(2), "beyond 64 shards some share a bit");
        let disturbed = (50..1_050).filter(|owner| owners.wanting(OwnerId(*owner)).any()).count();
        assert!(disturbed < 100, "{disturbed} of 1000 owners that nobody asked for");
    }
}
