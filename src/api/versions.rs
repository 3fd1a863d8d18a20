//! Which version of their firmware devices run whose events go over streams of products: their shards are asked, and the answer is remembered for a
//! little while.
//!
//! All streams remember it together, so that neither many readers nor a busy device make many questions. It is what runs now: an event that is
//! read late may be of an older version.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use firmware_protocol::id::DeviceId;
use tokio::time::timeout;

use super::gateway::{Later, Presence};

/// Devices of which it was asked lately; as many again of which it was asked before.
const DEVICES_MAX: usize = 32_768;
/// After this long an answer is an old one, and after twice as long it is forgotten.
const FRESH: Duration = Duration::from_secs(15);
/// How long a reader waits for an answer.
const PATIENCE: Duration = Duration::from_millis(500);
/// How long nobody is asked after that was in vain: a shard that stands still must not hold up a stream with each event.
const PAUSE: Duration = Duration::from_secs(2);

/// The versions.
#[derive(Debug, Default)]
pub(super) struct Versions {
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    fresh: HashMap<DeviceId, u16>,
    old: HashMap<DeviceId, u16>,
    /// Since when answers are fresh.
    since: Option<Instant>,
    paused_until: Option<Instant>,
}

impl Versions {
    /// That of one device, 0 if it has none or nobody can tell. With `news` of a device that may have started anew, what was known is forgotten, and
    /// what is learned is not kept: it may not have introduced itself yet.
    pub(super) async fn of<'a>(&self, device: DeviceId, news: bool, ask: impl FnOnce() -> Later<'a, Vec<Presence>>) -> u16 {
        let now = Instant::now();
        if news {
            self.with(|known| known.forget(device));
        }
        if let Some(version) = self.with(|known| known.find(now, device)) {
            return version;
        }
        let Ok(mut presences) = timeout(PATIENCE, ask()).await else {
            self.with(|known| known.paused_until = Some(Instant::now() + PAUSE));
            return 0;
        };
        let version = presences.pop().and_then(|presence| presence.firmware_version).unwrap_or(0);
        if !news {
            self.with(|known| known.note(now, device, version));
        }
        version
    }

    fn with<T>(&self, action: impl FnOnce(&mut Known) -> T) -> T {
        action(&mut self.known.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Known {
    /// What need not be asked.
    fn find(&mut self, now: Instant, device: DeviceId) -> Option<u16> {
        if self.since.is_some_and(|since| now.saturating_duration_since(since) >= FRESH) {
            self.turn_over(now);
        }
        let known = self.fresh.get(&device).or_else(|| self.old.get(&device)).copied();
        known.or_else(|| self.paused_until.filter(|until| now < *until).map(|_| 0))
    }

    fn note(&mut self, now: Instant, device: DeviceId, version: u16) {
        if self.fresh.len() >= DEVICES_MAX {
            self.turn_over(now);
        }
        self.since.get_or_insert(now);
        self.fresh.insert(device, version);
    }

    fn forget(&mut self, device: DeviceId) {
        self.fresh.remove(&device);
        self.old.remove(&device);
    }

    /// What was fresh is old, and what was old is forgotten.
    fn turn_over(&mut self, now: Instant) {
        self.old = std::mem::take(&mut self.fresh);
        self.since = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    const DEVICE: DeviceId = DeviceId([1; 12]);

    fn runs(version: u16) -> Later<'static, Vec<Presence>> {
        Box::pin(ready(vec![Presence { firmware_version: Some(version), ..Presence::default() }]))
    }

    fn nobody_asks() -> Later<'static, Vec<Presence>> {
        panic!("it is known")
    }

    #[tokio::test]
    async fn a_version_is_asked_for_once_and_again_when_the_device_may_have_started_anew() {
        let versions = Versions::default();
        assert_eq!(versions.of(DEVICE, false, || runs(3)).await, 3);
        assert_eq!(versions.of(DEVICE, false, nobody_asks).await, 3);
        assert_eq!(versions.of(DEVICE, true, || runs(3)).await, 3, "it has not said Hello yet");
        assert_eq!(versions.of(DEVICE, false, || runs(4)).await, 4);
        assert_eq!(versions.of(DeviceId([2; 12]), false, || Box::pin(ready(Vec::new()))).await, 0);
    }

    #[tokio::test]
    async fn a_shard_that_does_not_answer_holds_up_a_stream_once() {
        let versions = Versions::default();
        assert_eq!(versions.of(DEVICE, false, || Box::pin(pending())).await, 0);
        assert_eq!(versions.of(DeviceId([2; 12]), false, nobody_asks).await, 0);
    }

    #[test]
    fn what_is_known_grows_old_and_takes_a_limited_room() {
        let (mut known, now) = (Known::default(), Instant::now());
        known.note(now, DEVICE, 7);
        assert_eq!(known.find(now + FRESH, DEVICE), Some(7));
        assert_eq!(known.find(now + 2 * FRESH, DEVICE), None);
        for number in 0..100_000_u32 {
            let mut id = [0; 12];
            id[..4].copy_from_slice(&number.to_be_bytes());
            known.note(now, DeviceId(id), 1);
        }
        assert!(known.fresh.len() + known.old.len() <= 2 * DEVICES_MAX);
    }
}
