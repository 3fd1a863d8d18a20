//! Against guessing passwords: an address with too many failures has to wait. Those who log in rightly are never held up by others who share
//! their address, as a class behind one router does, until that address has failed too often.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::config::Limit;

/// How long failures count.
const WINDOW: Duration = Duration::from_secs(300);
/// Addresses that are remembered.
const ADDRESSES_MAX: usize = 16_384;

/// Failures by address.
pub(super) struct Throttle {
    limit: Limit,
    failures: Mutex<HashMap<IpAddr, Failures>>,
}

struct Failures {
    since: Instant,
    count: u64,
}

impl Throttle {
    pub(super) fn new(limit: Limit) -> Self {
        Self { limit, failures: Mutex::default() }
    }

    /// Whether `address` may try now; if not, how long it has to wait.
    pub(super) fn admit(&self, now: Instant, address: IpAddr) -> Result<(), Duration> {
        let failures = self.lock();
        let Some(failed) = failures.get(&network_of(address)) else {
            return Ok(());
        };
        let left = WINDOW.saturating_sub(now.saturating_duration_since(failed.since));
        if left.is_zero() || self.limit.admits_beside(failed.count) { Ok(()) } else { Err(left) }
    }

    /// Counts a failure.
    pub(super) fn failed(&self, now: Instant, address: IpAddr) {
        let mut failures = self.lock();
        if failures.len() >= ADDRESSES_MAX {
            make_room(&mut failures, now);
        }
        let failed = failures.entry(network_of(address)).or_insert(Failures { since: now, count: 0 });
        if is_over(failed, now) {
            *failed = Failures { since: now, count: 0 };
        }
        failed.count += 1;
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, Failures>> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_over(failures: &Failures, now: Instant) -> bool {
    now.saturating_duration_since(failures.since) >= WINDOW
}

/// Forgets what no longer counts and, if that is not enough, those who failed least.
fn make_room(failures: &mut HashMap<IpAddr, Failures>, now: Instant) {
    failures.retain(|_, failed| !is_over(failed, now));
    let mut least = 1;
    while failures.len() >= ADDRESSES_MAX {
        failures.retain(|_, failed| failed.count > least);
        least *= 2;
    }
}

/// An IPv6 caller has a whole /64 to call from.
fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn an_address_waits_after_too_many_failures_and_is_forgiven() {
        let throttle = Throttle::new(Limit::AtMost(3));
        let (start, caller) = (Instant::now(), address("192.0.2.1"));
        for _ in 0..3 {
            assert_eq!(throttle.admit(start, caller), Ok(()));
            throttle.failed(start, caller);
        }
        assert_eq!(throttle.admit(start + Duration::from_secs(100), caller), Err(Duration::from_secs(200)));
        assert_eq!(throttle.admit(start, address("192.0.2.2")), Ok(()));
        assert_eq!(throttle.admit(start + WINDOW, caller), Ok(()));
        throttle.failed(start + WINDOW, caller);
        assert_eq!(throttle.admit(start + WINDOW, caller), Ok(()));
    }

    #[test]
    fn a_v6_caller_cannot_change_address_within_its_network() {
        let throttle = Throttle::new(Limit::AtMost(1));
        let now = Instant::now();
        throttle.failed(now, address("2001:db8::1"));
        assert!(throttle.admit(now, address("2001:db8::2")).is_err());
        assert!(throttle.admit(now, address("2001:db8:0:1::1")).is_ok());
        throttle.failed(now, address("::ffff:192.0.2.1"));
        assert!(throttle.admit(now, address("192.0.2.1")).is_err());
        assert!(throttle.admit(now, address("192.0.2.2")).is_ok());
    }

    #[test]
    fn memory_is_bounded_and_keeps_the_worst() {
        let throttle = Throttle::new(Limit::AtMost(2));
        let (now, worst) = (Instant::now(), address("192.0.2.1"));
        throttle.failed(now, worst);
        throttle.failed(now, worst);
        for number in 0..2 * u32::try_from(ADDRESSES_MAX).unwrap() {
            throttle.failed(now, IpAddr::V4((0x0a00_0000 + number).into()));
        }
        assert!(throttle.lock().len() <= ADDRESSES_MAX);
        assert!(throttle.admit(now, worst).is_err());
    }
}
