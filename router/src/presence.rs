//! Presence is a lease: a device counts as online until its last proof of life is too old. The server is not told how often a device pings, so
//! the platform says it (docs/protocol.md).

use std::time::Duration;

use firmware_protocol::id::DeviceId;
use firmware_protocol::time::Millis;

use crate::event::{Event, Source};
use crate::short::Short;

/// Name of the event by which an owner is told that a device comes or goes.
pub const STATUS_EVENT: &str = "spark/status";

/// Platforms that ping every 23 minutes because each byte is paid for.
const CELLULAR: [u16; 9] = [10, 13, 15, 23, 25, 26, 28, 35, 37];

/// Whether devices of this platform have a cellular modem.
pub fn is_cellular(platform: u16) -> bool {
    CELLULAR.contains(&platform)
}

/// How long a proof of life is good for: the silence a device allows itself, the time it waits for an answer, and its repetitions.
pub fn lease(platform: Option<u16>) -> Duration {
    match platform {
        Some(platform) if is_cellular(platform) => Duration::from_secs(2 * 23 * 60),
        _ => Duration::from_secs(25 + 30 + 30),
    }
}

/// Which device's owner an event tells that it came (`true`) or went; `None` for any other event.
pub fn announced(event: &Event) -> Option<(DeviceId, bool)> {
    match (event.source, event.data.as_deref()) {
        (Source::Device(device), Some(b"online")) if event.name == STATUS_EVENT => Some((device, true)),
        (Source::Device(device), Some(b"offline")) if event.name == STATUS_EVENT => Some((device, false)),
        _ => None,
    }
}

/// Whether a device is online, and until when that holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Presence {
    /// 0 if there is no lease.
    until: Short,
}

impl Presence {
    /// Renews the lease. `true` if the device was offline.
    pub fn renew(&mut self, now: Millis, platform: Option<u16>) -> bool {
        let was_online = self.is_online(now);
        self.until = Short::new((now + lease(platform)).0);
        !was_online
    }

    /// The device left, or its session ended. `true` if it was online.
    pub fn end(&mut self, now: Millis) -> bool {
        let was_online = self.is_online(now);
        self.until = Short::default();
        was_online
    }

    /// The lease ran out.
    pub(crate) fn lapse(&mut self) {
        self.until = Short::default();
    }

    /// Whether the lease holds.
    pub fn is_online(&self, now: Millis) -> bool {
        now.0 < self.until.get()
    }

    /// When the lease ends by itself.
    pub fn until(&self) -> Option<Millis> {
        Some(Millis(self.until.get())).filter(|until| *until != Millis(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_renewed_and_ends() {
        let mut presence = Presence::default();
        assert!(!presence.is_online(Millis(0)));
        assert!(presence.renew(Millis(0), Some(32)), "it came online");
        assert!(!presence.renew(Millis(84_999), Some(32)));
        assert!(presence.is_online(Millis(169_998)) && !presence.is_online(Millis(169_999)));
        assert!(presence.renew(Millis(200_000), Some(13)));
        assert!(presence.is_online(Millis(200_000 + 45 * 60_000)), "cellular devices are silent for long");
        assert!(presence.end(Millis(200_001)) && !presence.end(Millis(200_002)));
    }
}
