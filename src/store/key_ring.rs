//! The keys of all devices, as the terminators see them: in memory, read without waiting, from any thread. It holds the rows of the device book,
//! found by the hash of the key that stands in them.
//!
//! The registry writes here after its database has the change. Whoever holds sessions learns of changes through a bounded queue of its own;
//! one that is not emptied loses changes and is told so, and never holds up the writer or anybody else.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use firmware_protocol::id::{DeviceId, Identity, KeyHash};

use super::Device;
use super::digest_map::DigestMap;

/// Changes that wait for one listener before it is told that it missed some.
const CHANGES_MAX: usize = 4096;

/// What happened to a device's entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KeyChange {
    /// The device has a key now.
    Added(DeviceId),
    /// The device has another key, owner or product. A session under a key that the ring no longer knows is over.
    Changed(DeviceId),
    /// The device has no key any more. Its sessions are over.
    Removed(DeviceId),
    /// More changes came than the listener's queue holds: every session wants a look.
    Missed,
}

/// Who holds which key.
#[derive(Default)]
pub struct KeyRing {
    /// Only rows with a key.
    rows: DigestMap<Arc<Device>>,
    listeners: Mutex<Vec<Listener>>,
}

struct Listener {
    queue: rtrb::Producer<KeyChange>,
    missed: Arc<AtomicBool>,
}

/// One listener's end of its queue.
pub struct KeyChanges {
    queue: rtrb::Consumer<KeyChange>,
    missed: Arc<AtomicBool>,
}

impl KeyRing {
    /// An empty ring.
    pub fn new() -> Self {
        Self::default()
    }

    /// Who holds `key`. Never waits; for any thread, as often as it likes.
    pub fn identity(&self, key: &KeyHash) -> Option<Identity> {
        self.rows.find(&key.0, |row| row.identity()).flatten()
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is no key at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A queue of all changes from now on.
    pub fn subscribe(&self) -> KeyChanges {
        let (producer, consumer) = rtrb::RingBuffer::new(CHANGES_MAX);
        let missed = Arc::new(AtomicBool::new(false));
        let mut listeners = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        listeners.push(Listener { queue: producer, missed: missed.clone() });
        KeyChanges { queue: consumer, missed }
    }

    /// Puts in many rows. The listeners hear nothing of that: what they compare with may not be there yet.
    pub fn fill(&self, rows: &[Arc<Device>]) {
        self.rows.insert_all(rows.iter().filter(|row| row.key().is_some()).cloned().collect());
    }

    /// Tells the listeners to look at everything.
    pub fn tell_all(&self) {
        let listeners = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        listeners.iter().for_each(|listener| listener.missed.store(true, Ordering::Release));
    }

    /// Replaces the row of one device, `before` by `after`, and tells the listeners what that means to them: nothing, if only that has changed
    /// which the ring does not speak of.
    ///
    /// There is no moment at which a device that has a key before and after is without one.
    pub fn replace(&self, before: Option<&Device>, after: Option<&Arc<Device>>) {
        let (was, is) = (before.and_then(Device::identity), after.and_then(|after| after.identity()));
        if let Some(after) = after.filter(|_| is.is_some()) {
            self.rows.insert(Arc::clone(after));
        }
        if let Some(was) = was.filter(|was| Some(was.key) != is.map(|is| is.key)) {
            self.rows.remove(&was.key.0);
        }
        match (was, is) {
            (None, Some(is)) => self.tell(KeyChange::Added(is.device)),
            (Some(was), Some(is)) if was != is => self.tell(KeyChange::Changed(is.device)),
            (Some(was), None) => self.tell(KeyChange::Removed(was.device)),
            (Some(_), Some(_)) | (None, None) => {}
        }
    }

    fn tell(&self, change: KeyChange) {
        let mut listeners = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        listeners.retain(|listener| !listener.queue.is_abandoned());
        for listener in listeners.iter_mut() {
            if listener.queue.push(change).is_err() {
                listener.missed.store(true, Ordering::Release);
            }
        }
    }
}

impl KeyChanges {
    /// The next change, if there is one. Never waits.
    pub fn next_change(&mut self) -> Option<KeyChange> {
        if self.missed.swap(false, Ordering::Acquire) {
            // Whatever is queued is covered by the look at everything that must follow.
            while self.queue.pop().is_ok() {}
            return Some(KeyChange::Missed);
        }
        self.queue.pop().ok()
    }
}

#[cfg(test)]
mod tests {
    use firmware_protocol::id::OwnerId;
    use firmware_protocol::time::UnixMillis;

    use super::*;
    use crate::store::{DeviceRecord, Membership};

    fn record(device: u8, key: u8, owner: Option<u64>) -> DeviceRecord {
        DeviceRecord {
            id: DeviceId([device; 12]),
            owner: owner.map(OwnerId),
            product: None,
            platform_id: None,
            name: None,
            notes: None,
            key: Some(KeyHash([key; 32])),
            rsa_key: None,
            created_at: UnixMillis(0),
            serial_number: None,
            membership: Membership::default(),
            product_owner: None,
        }
    }

    fn row(device: u8, key: u8, owner: Option<u64>) -> Arc<Device> {
        Arc::new(record(device, key, owner).into())
    }

    fn holder(ring: &KeyRing, key: u8) -> Option<Identity> {
        ring.identity(&KeyHash([key; 32]))
    }

    #[test]
    fn listeners_hear_what_changed_for_which_device() {
        let ring = KeyRing::new();
        let mut changes = ring.subscribe();
        let (first, claimed, rekeyed) = (row(1, 1, None), row(1, 1, Some(7)), row(1, 2, Some(7)));
        let device = first.id();

        ring.replace(None, Some(&first));
        assert_eq!(holder(&ring, 1), first.identity());
        ring.replace(Some(&first), Some(&claimed));
        assert_eq!(holder(&ring, 1), claimed.identity());
        ring.replace(Some(&claimed), Some(&claimed));
        ring.replace(Some(&claimed), Some(&rekeyed));
        assert_eq!((holder(&ring, 1), holder(&ring, 2)), (None, rekeyed.identity()));
        ring.replace(Some(&rekeyed), None);
        assert!(ring.is_empty());

        let heard: Vec<KeyChange> = std::iter::from_fn(|| changes.next_change()).collect();
        assert_eq!(heard, [KeyChange::Added(device), KeyChange::Changed(device), KeyChange::Changed(device), KeyChange::Removed(device)]);
    }

    #[test]
    fn a_row_that_says_the_same_of_the_key_is_swapped_in_silently_and_the_old_one_let_go() {
        let ring = KeyRing::new();
        let (first, renamed) = (row(1, 1, None), Arc::new(DeviceRecord { name: Some("kitchen".into()), ..record(1, 1, None) }.into()));
        ring.fill(std::slice::from_ref(&first));
        let mut changes = ring.subscribe();
        ring.replace(Some(&first), Some(&renamed));
        assert_eq!((changes.next_change(), holder(&ring, 1)), (None, renamed.identity()));
        assert_eq!((Arc::strong_count(&first), Arc::strong_count(&renamed)), (1, 2));
    }

    #[test]
    fn a_device_without_a_key_is_not_in_the_ring() {
        let ring = KeyRing::new();
        let (keyless, keyed) = (Arc::new(DeviceRecord { key: None, ..record(1, 1, None) }.into()), row(1, 1, None));
        ring.fill(std::slice::from_ref(&keyless));
        let mut changes = ring.subscribe();
        ring.replace(None, Some(&keyless));
        assert!(ring.is_empty());
        ring.replace(Some(&keyless), Some(&keyed));
        ring.replace(Some(&keyed), Some(&keyless));
        assert!(ring.is_empty());
        let heard: Vec<KeyChange> = std::iter::from_fn(|| changes.next_change()).collect();
        assert_eq!(heard, [KeyChange::Added(keyed.id()), KeyChange::Removed(keyed.id())]);
    }

    #[test]
    fn a_listener_that_does_not_listen_is_told_that_it_missed_some() {
        let ring = KeyRing::new();
        let (mut idle, mut awake) = (ring.subscribe(), ring.subscribe());
        let one = row(1, 1, None);
        for _ in 0..CHANGES_MAX {
            ring.replace(None, Some(&one));
            ring.replace(Some(&one), None);
            assert_eq!(awake.next_change(), Some(KeyChange::Added(one.id())));
            assert_eq!(awake.next_change(), Some(KeyChange::Removed(one.id())));
        }
        assert_eq!(idle.next_change(), Some(KeyChange::Missed));
        assert_eq!(idle.next_change(), None);
        ring.replace(None, Some(&one));
        assert_eq!(idle.next_change(), Some(KeyChange::Added(one.id())));
    }

    #[test]
    fn whoever_listens_while_the_ring_is_filled_is_told_to_look_at_everything_when_that_is_there() {
        let ring = KeyRing::new();
        let mut changes = ring.subscribe();
        ring.fill(&[row(1, 1, None)]);
        assert_eq!(changes.next_change(), None);
        ring.tell_all();
        assert_eq!((changes.next_change(), changes.next_change()), (Some(KeyChange::Missed), None));
    }

    #[test]
    fn a_listener_that_left_is_forgotten() {
        let ring = KeyRing::new();
        drop(ring.subscribe());
        ring.replace(None, Some(&row(1, 1, None)));
        assert!(ring.listeners.lock().expect("nobody panicked").is_empty());
    }
}
