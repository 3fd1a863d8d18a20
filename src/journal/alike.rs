//! What devices say alike is held once: a fleet has few kinds of firmware.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use router::journal::Subscription;

use super::record;
use super::state::Kept;
use super::wire::{Malformed, Take};

/// How many payloads, and how many sets of subscriptions, are looked for among those of other devices.
const ALIKE_MAX: usize = 1 << 14;

/// What was met before, and may be that of a device that comes later.
#[derive(Default, Debug)]
pub(super) struct Alike {
    payloads: HashSet<Arc<[u8]>>,
    subscriptions: HashSet<Arc<BTreeSet<Subscription>>>,
    /// The same, by how they are written.
    written: HashMap<Box<[u8]>, Arc<BTreeSet<Subscription>>>,
}

impl Alike {
    /// `payload`, or the same one that others hold.
    pub(super) fn payload(&mut self, payload: &[u8]) -> Arc<[u8]> {
        if let Some(known) = self.payloads.get(payload) {
            return Arc::clone(known);
        }
        let new: Arc<[u8]> = payload.into();
        if self.payloads.len() < ALIKE_MAX {
            self.payloads.insert(Arc::clone(&new));
        }
        new
    }

    /// Lets `kept` hold what others hold.
    pub(super) fn share(&mut self, kept: &mut Kept) {
        kept.payload = self.payload(&kept.payload);
    }

    /// Lets a device hold the subscriptions that others hold.
    pub(super) fn share_subscriptions(&mut self, own: &mut Arc<BTreeSet<Subscription>>) {
        if let Some(known) = self.subscriptions.get(own) {
            *own = Arc::clone(known);
        } else if self.subscriptions.len() < ALIKE_MAX {
            self.subscriptions.insert(Arc::clone(own));
        }
    }

    /// The subscriptions of a device, which are all that is left of its entry in a snapshot.
    pub(super) fn take_subscriptions(&mut self, from: &mut Take<'_>) -> Result<Arc<BTreeSet<Subscription>>, Malformed> {
        let bytes = from.0;
        if let Some(known) = self.written.get(bytes) {
            from.0 = &[];
            return Ok(Arc::clone(known));
        }
        let mut taken = BTreeSet::new();
        for _ in 0..from.u16()? {
            taken.insert(record::take_subscription(from)?);
        }
        let mut taken = Arc::new(taken);
        self.share_subscriptions(&mut taken);
        if from.is_empty() && self.written.len() < ALIKE_MAX {
            self.written.insert(bytes.into(), Arc::clone(&taken));
        }
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use router::journal::HandlerKind;

    use super::*;

    #[test]
    fn what_is_alike_is_held_once() {
        let mut alike = Alike::default();
        let one = alike.payload(b"describe");
        assert!(Arc::ptr_eq(&one, &alike.payload(b"describe")) && !Arc::ptr_eq(&one, &alike.payload(b"other")));
        let set = |prefix: &str| Arc::new(BTreeSet::from([Subscription::new(prefix, HandlerKind::Text)]));
        let (first, mut second, mut third) = (set("a"), set("a"), set("b"));
        alike.share_subscriptions(&mut first.clone());
        alike.share_subscriptions(&mut second);
        alike.share_subscriptions(&mut third);
        assert!(Arc::ptr_eq(&first, &second) && !Arc::ptr_eq(&first, &third));
        let mut written = vec![1, 0];
        record::put_subscription(&mut written, first.first().unwrap()).unwrap();
        for _ in 0..2 {
            let mut take = Take(&written);
            assert!(Arc::ptr_eq(&first, &alike.take_subscriptions(&mut take).unwrap()) && take.is_empty());
        }
    }
}
