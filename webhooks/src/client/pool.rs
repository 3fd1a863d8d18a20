//! Connections that are kept for the next request of their hook.

use std::collections::BTreeMap;
use std::time::Instant;

use super::exchange::Live;
use crate::guard::Target;
use crate::hook::HookId;

/// The kept connections, at most so many. The one that has not been used for longest makes room.
#[derive(Debug)]
pub(super) struct Pool {
    max: usize,
    /// By hook, and then in the order in which they came.
    kept: BTreeMap<(HookId, u64), Kept>,
    /// In the order in which they came.
    order: BTreeMap<u64, HookId>,
    next: u64,
}

#[derive(Debug)]
struct Kept {
    live: Live,
    until: Instant,
}

impl Pool {
    pub(super) fn new(max: usize) -> Self {
        Self { max, kept: BTreeMap::new(), order: BTreeMap::new(), next: 0 }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.kept.len()
    }

    /// Takes the connection of a hook that was used last, of those that go there.
    pub(super) fn take(&mut self, hook: HookId, target: Target<'_>, verify_tls: bool, now: Instant) -> Option<Live> {
        let mut of_hook = self.kept.range((hook, 0)..=(hook, u64::MAX)).rev();
        let key = of_hook.find(|(_, kept)| kept.until > now && kept.live.origin().is(target, verify_tls)).map(|(key, _)| *key)?;
        self.remove(key)
    }

    /// Keeps a connection. If there is no room, what comes back is one that is not kept.
    pub(super) fn put(&mut self, hook: HookId, live: Live, until: Instant) -> Option<Live> {
        if self.max == 0 {
            return Some(live);
        }
        let evicted = if self.len() >= self.max { self.remove_oldest() } else { None };
        self.next += 1;
        self.kept.insert((hook, self.next), Kept { live, until });
        self.order.insert(self.next, hook);
        evicted
    }

    /// Takes out the one that has not been used for longest.
    pub(super) fn remove_oldest(&mut self) -> Option<Live> {
        let (serial, hook) = self.order.first_key_value().map(|(serial, hook)| (*serial, *hook))?;
        self.remove((hook, serial))
    }

    /// Takes out those of a hook.
    pub(super) fn remove_hook(&mut self, hook: HookId) -> Vec<Live> {
        let keys: Vec<_> = self.kept.range((hook, 0)..=(hook, u64::MAX)).map(|(key, _)| *key).collect();
        keys.into_iter().filter_map(|key| self.remove(key)).collect()
    }

    /// Takes out those whose time is over.
    pub(super) fn remove_expired(&mut self, now: Instant) -> Vec<Live> {
        let keys: Vec<_> = self.kept.iter().filter(|(_, kept)| kept.until <= now).map(|(key, _)| *key).collect();
        keys.into_iter().filter_map(|key| self.remove(key)).collect()
    }

    fn remove(&mut self, key: (HookId, u64)) -> Option<Live> {
        self.order.remove(&key.1);
        self.kept.remove(&key).map(|kept| kept.live)
    }
}
