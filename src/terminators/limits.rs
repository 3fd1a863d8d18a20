//! How much one device, and all devices of one account, may send: decided where it comes in, so that one that sends too much costs its neighbours
//! nothing.
//!
//! Events are refused with 4.29, which a device tells its application. Records beyond a device's budget are dropped before they are opened. What a
//! device has used up stays used up in its next session.

mod buckets;

use std::sync::Arc;

use firmware_protocol::crypto::digest64;
use firmware_protocol::id::{DeviceId, OwnerId};
use firmware_protocol::session::Uplink;
use firmware_protocol::session::describe::DescribeKind;
use firmware_protocol::time::Millis;
use router::rate::{Bucket, Rate};

use self::buckets::Buckets;
use crate::config::{self, Limit};

/// The limits, as all terminators share them.
#[derive(Clone, Debug)]
pub struct Limits {
    device_events: Option<Rate>,
    owner_events: Option<(Rate, Arc<Buckets>)>,
    device_records: Option<Rate>,
    /// What sessions that have ended had used up.
    left: Arc<Buckets>,
}

/// What one session has left. A device has one session.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Allowance {
    events: Bucket,
    records: Bucket,
}

/// Which limit an event was over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Over {
    /// The device's.
    Device,
    /// That of its owner.
    Owner,
}

impl Limits {
    /// The limits that are configured. `salt` keeps accounts and devices from choosing their places.
    pub fn new(config: &config::Limits, salt: u64) -> Self {
        let rate = |limit: Limit| match limit {
            Limit::Unlimited => None,
            Limit::AtMost(count) => Some(Rate::per_second(count)),
        };
        Self {
            device_events: rate(config.device_events_per_s),
            owner_events: rate(config.owner_events_per_s).map(|rate| (rate, Arc::new(Buckets::new(salt)))),
            device_records: rate(config.device_records_per_s),
            left: Arc::new(Buckets::new(salt)),
        }
    }

    /// What `device` has left as it begins a session.
    pub(super) fn resume(&self, now: Millis, device: DeviceId) -> Allowance {
        let [events, records] = keys(device).map(|key| self.left.kept(key, now));
        Allowance { events, records }
    }

    /// Keeps what `device` has left as a session of it ends.
    pub(super) fn suspend(&self, now: Millis, device: DeviceId, allowance: Allowance) {
        let [events, records] = keys(device);
        self.left.keep(events, now, allowance.events);
        self.left.keep(records, now, allowance.records);
    }
}

/// Under which its two buckets are kept.
fn keys(device: DeviceId) -> [u64; 2] {
    let key = digest64(&device.0);
    [key, !key]
}

/// Whether a message counts as an event: vitals become one.
pub(super) fn is_event(uplink: &Uplink) -> bool {
    matches!(uplink, Uplink::Publish(_) | Uplink::Describe { kind: DescribeKind::Metrics, .. })
}

impl Allowance {
    /// Takes one event; what it is over, if it is.
    pub(super) fn take_event(&mut self, now: Millis, owner: Option<OwnerId>, limits: &Limits) -> Result<(), Over> {
        if limits.device_events.is_some_and(|rate| !self.events.take(now, rate)) {
            return Err(Over::Device);
        }
        match (&limits.owner_events, owner) {
            (Some((rate, buckets)), Some(owner)) if !buckets.take(owner.0, now, *rate) => Err(Over::Owner),
            _ => Ok(()),
        }
    }

    /// Whether records may be opened at all now.
    pub(super) fn has_records(&self, now: Millis, limits: &Limits) -> bool {
        limits.device_records.is_none_or(|rate| !self.records.is_empty(now, rate))
    }

    /// Takes records that were authentic. Only they count: what others send in a device's name must not use up what it may send.
    pub(super) fn take_records(&mut self, now: Millis, count: u64, limits: &Limits) {
        if let Some(rate) = limits.device_records {
            self.records.owe(now, count, rate);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Millis = Millis(5_000);

    fn limits(device: Limit, owner: Limit, records: Limit) -> Limits {
        Limits::new(&config::Limits { device_events_per_s: device, owner_events_per_s: owner, device_records_per_s: records }, 7)
    }

    fn taken(allowance: &mut Allowance, now: Millis, limits: &Limits, tries: usize) -> usize {
        (0..tries).filter(|_| allowance.take_event(now, Some(OwnerId(1)), limits).is_ok()).count()
    }

    #[test]
    fn a_device_has_its_own_limit_and_shares_its_owners() {
        let limits = limits(Limit::AtMost(10), Limit::AtMost(15), Limit::Unlimited);
        let (mut one, mut two) = (Allowance::default(), Allowance::default());
        assert_eq!(taken(&mut one, NOW, &limits, 50), 20);
        assert_eq!(one.take_event(NOW, Some(OwnerId(1)), &limits), Err(Over::Device));
        assert_eq!(taken(&mut two, NOW, &limits, 15), 10);
        assert_eq!(two.take_event(NOW, Some(OwnerId(1)), &limits), Err(Over::Owner));
        assert_eq!(two.take_event(NOW, Some(OwnerId(2)), &limits), Ok(()));
        assert_eq!(two.take_event(NOW, None, &limits), Ok(()), "a device of nobody has its own limit only");
        assert_eq!(taken(&mut one, Millis(6_000), &limits, 50), 10);
    }

    #[test]
    fn no_limit_is_none() {
        let limits = limits(Limit::Unlimited, Limit::Unlimited, Limit::Unlimited);
        let mut allowance = Allowance::default();
        assert_eq!(taken(&mut allowance, NOW, &limits, 100_000), 100_000);
        allowance.take_records(NOW, 100_000, &limits);
        assert!(allowance.has_records(NOW, &limits));
    }

    #[test]
    fn records_are_used_up_and_come_back() {
        let limits = limits(Limit::Unlimited, Limit::Unlimited, Limit::AtMost(100));
        let mut allowance = Allowance::default();
        allowance.take_records(NOW, 199, &limits);
        assert!(allowance.has_records(NOW, &limits));
        allowance.take_records(NOW, 40, &limits);
        assert!(!allowance.has_records(NOW, &limits));
        assert!(!allowance.has_records(Millis(5_399), &limits), "a datagram may hold many");
        assert!(allowance.has_records(Millis(5_400), &limits));
    }

    #[test]
    fn a_new_session_has_what_the_last_one_left() {
        let limits = limits(Limit::AtMost(10), Limit::Unlimited, Limit::AtMost(100));
        let (device, other) = (DeviceId([1; 12]), DeviceId([2; 12]));
        let mut allowance = limits.resume(NOW, device);
        assert_eq!(taken(&mut allowance, NOW, &limits, 50), 20);
        allowance.take_records(NOW, 200, &limits);
        limits.suspend(NOW, device, allowance);
        let mut next = limits.resume(NOW, device);
        assert_eq!((taken(&mut next, NOW, &limits, 50), next.has_records(NOW, &limits)), (0, false));
        let mut neighbour = limits.resume(NOW, other);
        assert_eq!((taken(&mut neighbour, NOW, &limits, 50), neighbour.has_records(NOW, &limits)), (20, true));
        let mut later = limits.resume(Millis(6_000), device);
        assert_eq!((taken(&mut later, Millis(6_000), &limits, 50), later.has_records(Millis(6_000), &limits)), (10, true));
    }
}
