//! Which shards want to see whose events.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use firmware_protocol::id::OwnerId;
use firmware_protocol::session::publish::is_system_name;

use super::fnv1a;

/// Places in the table, of eight bytes each.
const PLACES: usize = 1 << 16;
/// Bytes of a prefix that are told apart.
const HEAD_MAX: usize = 16;

/// Which shards have devices that want which events of which owners, as far as the first bytes of their names tell. Shards write it; the journal's
/// writer reads it to wake the fan-out only for what somebody may want, and the fan-out to skip what a shard does not want. A bit may stand for
/// several owners, prefixes and shards and is never cleared: it errs towards looking.
#[derive(Debug)]
pub struct SubscribedOwners {
    /// By a hash of the owner, alone and with the first bytes of a prefix: the shards, 64 at most apart.
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

    /// The shard with this number has a device that wants the events of `owner` whose names begin with `prefix`.
    pub fn add(&self, shard: usize, owner: OwnerId, prefix: &str) {
        let head = &prefix.as_bytes()[..prefix.len().min(HEAD_MAX)];
        for place in [self.place(owner, None), self.place(owner, Some(head))] {
            place.fetch_or(bit(shard), Ordering::Release);
        }
    }

    /// Which shards may have a device that wants any event of `owner`.
    pub fn wanting(&self, owner: OwnerId) -> Wanting {
        Wanting(self.place(owner, None).load(Ordering::Acquire))
    }

    /// Which shards may have a device that wants the events of `owner` with this name. No device gets system events: a fleet that comes back must not
    /// wake anybody with each.
    pub fn wanting_named(&self, owner: OwnerId, name: &str) -> Wanting {
        if is_system_name(name) {
            return Wanting(0);
        }
        let heads = (0..=name.len().min(HEAD_MAX)).map(|len| &name.as_bytes()[..len]);
        let wanting = heads.map(|head| self.place(owner, Some(head)).load(Ordering::Acquire)).fold(0, |all, shards| all | shards);
        Wanting(wanting)
    }

    /// One more shard has entered the devices that it took over from a former process.
    pub fn note_restored(&self) {
        self.restored.fetch_add(1, Ordering::AcqRel);
    }

    /// How many have.
    pub fn restored(&self) -> usize {
        self.restored.load(Ordering::Acquire)
    }

    /// Of an owner alone, or of the events whose names begin so.
    fn place(&self, owner: OwnerId, head: Option<&[u8]>) -> &AtomicU64 {
        // The number of bytes comes first; 0 stands for the owner alone.
        let head = head.map_or(0, |head| fnv1a(u8::try_from(head.len()).into_iter().chain(head.iter().copied())));
        let mixed = (owner.0.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ head).wrapping_mul(0xd6e8_feb8_6659_fd93) >> 40;
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
        (0..50).for_each(|owner| owners.add(3, OwnerId(owner), "news/"));
        owners.add(65, OwnerId(7), "a");
        assert!((0..50).all(|owner| owners.wanting(OwnerId(owner)).contains(3)));
        let wanting = owners.wanting(OwnerId(7));
        assert!(wanting.contains(65) && wanting.contains(1) && !wanting.contains(2), "beyond 64 shards some share a bit");
        let disturbed = (50..1_050).filter(|owner| owners.wanting(OwnerId(*owner)).any()).count();
        assert!(disturbed < 100, "{disturbed} of 1000 owners that nobody asked for");
    }

    #[test]
    fn an_event_is_wanted_by_the_beginning_of_its_name() {
        let owners = SubscribedOwners::new();
        let (owner, wanted) = (OwnerId(1), |name: &str| owners.wanting_named(OwnerId(1), name).contains(3));
        owners.add(3, owner, "n");
        owners.add(3, owner, "weather/today/here/and/there");
        let all = ["n", "news", "weather/today/here/and", "weather/today/here", "weather/today", "", "m", "weat"].map(wanted);
        assert_eq!(all, [true, true, true, true, false, false, false, false], "longer prefixes are told apart by their first bytes");
        owners.add(3, OwnerId(2), "");
        assert!(owners.wanting_named(OwnerId(2), "anything").contains(3) && owners.wanting_named(OwnerId(2), "").contains(3));
        assert!(!owners.wanting_named(OwnerId(2), "spark/status").any(), "no device hears of what the system says");
    }
}
