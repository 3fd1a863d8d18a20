//! How much one device, and all devices of one account, may send: decided where it comes in, so that one that sends too much costs its neighbours
//! nothing.
//!
//! Events are refused with 4.29, which a device tells its application. Records beyond a device's budget are dropped before they are opened.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use firmware_protocol::id::OwnerId;
use firmware_protocol::session::Uplink;
use firmware_protocol::session::describe::DescribeKind;
use firmware_protocol::time::Millis;
use router::rate::{Bucket, Rate, microseconds};

use crate::config::{self, Limit};

/// Places for accounts that sent something a moment ago.
const OWNERS: usize = 1 << 14;
/// Places that are looked at for one account.
const PROBES: usize = 8;
/// Bits of a place that tell when its bucket is full again; the rest tells whose it is.
const TIME_BITS: u32 = 48;
const TIME: u64 = (1 << TIME_BITS) - 1;

/// The limits, as all terminators share them.
#[derive(Clone, Debug)]
pub struct Limits {
    device_events: Option<Rate>,
    owner_events: Option<(Rate, Arc<OwnerBuckets>)>,
    device_records: Option<Rate>,
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
    /// The limits that are configured. `salt` keeps accounts from choosing their places.
    pub fn new(config: &config::Limits, salt: u64) -> Self {
        let rate = |limit: Limit| match limit {
            Limit::Unlimited => None,
            Limit::AtMost(count) => Some(Rate::per_second(count)),
        };
        Self {
            device_events: rate(config.device_events_per_s),
            owner_events: rate(config.owner_events_per_s).map(|rate| (rate, Arc::new(OwnerBuckets::new(salt)))),
            device_records: rate(config.device_records_per_s),
        }
    }
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
            (Some((rate, buckets)), Some(owner)) if !buckets.take(owner, now, *rate) => Err(Over::Owner),
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

/// Buckets of accounts, in a table that never grows. A bucket that is full again needs no place, so places free themselves. If none of the places
/// of an account is free it is let through: its devices have limits of their own.
#[derive(Debug)]
pub(super) struct OwnerBuckets {
    places: Box<[AtomicU64]>,
    salt: u64,
}

impl OwnerBuckets {
    fn new(salt: u64) -> Self {
        Self { places: (0..OWNERS).map(|_| AtomicU64::new(0)).collect(), salt }
    }

    fn take(&self, owner: OwnerId, now: Millis, rate: Rate) -> bool {
        let now = microseconds(now) & TIME;
        let hash = (owner.0 ^ self.salt).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let hash = (hash ^ hash >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let tag = hash >> TIME_BITS;
        let first = usize::try_from(hash & TIME).unwrap_or_default();
        let places = (0..PROBES).map(|probe| &self.places[(first + probe) % OWNERS]);
        let own = places.clone().find(|place| is_of(place.load(Ordering::Relaxed), tag, now));
        let free = || places.clone().find(|place| place.load(Ordering::Relaxed) & TIME <= now);
        let Some(place) = own.or_else(free) else { return true };
        let mut present = place.load(Ordering::Relaxed);
        loop {
            let full_at = if is_of(present, tag, now) { present & TIME } else { 0 };
            let Some(full_at) = rate.take(now, full_at) else { return false };
            match place.compare_exchange_weak(present, tag << TIME_BITS | full_at & TIME, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(other) => present = other,
            }
        }
    }
}

/// Whether a place holds a bucket of this tag that is not full again.
fn is_of(place: u64, tag: u64, now: u64) -> bool {
    place >> TIME_BITS == tag && place & TIME > now
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
    fn many_owners_are_kept_apart_and_too_many_are_let_through() {
        let (buckets, rate) = (OwnerBuckets::new(3), Rate::per_second(1));
        let burst = |owner| (0..5).filter(|_| buckets.take(OwnerId(owner), NOW, rate)).count();
        assert!((1..=1_000).all(|owner| burst(owner) == 2));
        assert!((1..=1_000).all(|owner| burst(owner) == 0), "each is remembered");
        let through = (1_001..=100_000).filter(|owner| burst(*owner) == 5).count();
        assert!(through > 80_000, "{through}");
        assert!((1..=1_000).all(|owner| burst(owner) == 0));
        assert_eq!((0..5).filter(|_| buckets.take(OwnerId(1), Millis(60_000), rate)).count(), 2);
    }
}
