//! The keys of all devices, as the terminators see them: in memory, read without waiting, from any thread.
//!
//! The registry writes here after its database has the change. Whoever holds sessions learns of changes through a bounded queue of its own;
//! one that is not emptied loses changes and is told so, and never holds up the writer or anybody else.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use firmware_protocol::id::{DeviceId, Identity, KeyHash};

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
    identities: DigestMap<Identity>,
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
        self.identities.get(&key.0)
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.identities.len()
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

    /// Puts in many identities that were not there, and tells nobody: for the start, before anybody listens.
    pub fn fill(&self, identities: impl IntoIterator<Item = Identity>) {
        self.identities.insert_all(identities.into_iter().map(|identity| (identity.key.0, identity)));
    }

    /// Replaces what is known about one device, `before` by `after`, and tells the listeners what that was.
    ///
    /// There is no moment at which a device that has a key before and after is without one.
    pub fn replace(&self, before: Option<Identity>, after: Option<Identity>) {
        let change = match (before, after) {
            (None, None) => return,
            (Some(before), Some(after)) if before == after => return,
            (None, Some(after)) => KeyChange::Added(after.device),
            (Some(_), Some(after)) => KeyChange::Changed(after.device),
            (Some(before), None) => KeyChange::Removed(before.device),
        };
        if let Some(after) = after {
            self.identities.insert(after.key.0, after);
        }
        if let Some(before) = before.filter(|before| Some(before.key) != after.map(|after| after.key)) {
            self.identities.remove(&before.key.0);
        }
        self.tell(change);
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

    use super::*;

    fn identity(device: u8, key: u8, owner: Option<u64>) -> Identity {
        Identity { device: DeviceId([device; 12]), key: KeyHash([key; 32]), owner: owner.map(OwnerId), product: None }
    }

    #[test]
    fn listeners_hear_what_changed_for_which_device() {
        let ring = KeyRing::new();
        let mut changes = ring.subscribe();
        let (first, claimed, rekeyed) = (identity(1, 1, None), identity(1, 1, Some(7)), identity(1, 2, Some(7)));
        let device = first.device;

        ring.replace(None, Some(first));
        assert_eq!(ring.identity(&first.key), Some(first));
        ring.replace(Some(first), Some(claimed));
        assert_eq!(ring.identity(&first.key), Some(claimed));
        ring.replace(Some(claimed), Some(claimed));
        ring.replace(Some(claimed), Some(rekeyed));
        assert_eq!((ring.identity(&claimed.key), ring.identity(&rekeyed.key)), (None, Some(rekeyed)));
        ring.replace(Some(rekeyed), None);
        assert!(ring.is_empty());

        let heard: Vec<KeyChange> = std::iter::from_fn(|| changes.next_change()).collect();
        assert_eq!(heard, [KeyChange::Added(device), KeyChange::Changed(device), KeyChange::Changed(device), KeyChange::Removed(device)]);
    }

    #[test]
    fn a_listener_that_does_not_listen_is_told_that_it_missed_some() {
        let ring = KeyRing::new();
        let (mut idle, mut awake) = (ring.subscribe(), ring.subscribe());
        let one = identity(1, 1, None);
        for _ in 0..CHANGES_MAX {
            ring.replace(None, Some(one));
            ring.replace(Some(one), None);
            assert_eq!(awake.next_change(), Some(KeyChange::Added(one.device)));
            assert_eq!(awake.next_change(), Some(KeyChange::Removed(one.device)));
        }
        assert_eq!(idle.next_change(), Some(KeyChange::Missed));
        assert_eq!(idle.next_change(), None);
        ring.replace(None, Some(one));
        assert_eq!(idle.next_change(), Some(KeyChange::Added(one.device)));
    }

    #[test]
    fn a_listener_that_left_is_forgotten() {
        let ring = KeyRing::new();
        drop(ring.subscribe());
        ring.replace(None, Some(identity(1, 1, None)));
        assert!(ring.listeners.lock().expect("nobody panicked").is_empty());
    }
}
