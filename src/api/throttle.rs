//! Against guessing passwords, and whatever else one address may do so often only: an address with too many failures has to wait. Those who log in rightly are never held up by others who share
//! their address, as a class behind one router does, until that address has failed too often.

use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

use super::tally::Tally;
use crate::config::Limit;

/// How long failures count.
const WINDOW: Duration = Duration::from_secs(300);

/// Failures by address.
pub(super) struct Throttle {
    failures: Tally<IpAddr>,
}

impl Throttle {
    pub(super) fn new(limit: Limit) -> Self {
        Self { failures: Tally::new(limit, WINDOW) }
    }

    /// Whether `address` may try now; if not, how long it has to wait.
    pub(super) fn admit(&self, now: Instant, address: IpAddr) -> Result<(), Duration> {
        self.failures.admit(now, &network_of(address))
    }

    /// Counts a failure.
    pub(super) fn failed(&self, now: Instant, address: IpAddr) {
        self.failures.count(now, network_of(address));
    }

    /// Counts a request, if one more is allowed; if not, says how long its address has to wait.
    pub(super) fn take(&self, now: Instant, address: IpAddr) -> Result<(), Duration> {
        self.admit(now, address)?;
        self.failed(now, address);
        Ok(())
    }
}

/// An IPv6 caller has a whole /64 to call from.
pub(super) fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::tally::KEYS_MAX;

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
        for number in 0..2 * u32::try_from(KEYS_MAX).unwrap() {
            throttle.failed(now, IpAddr::V4((0x0a00_0000 + number).into()));
        }
        assert!(throttle.failures.len() <= KEYS_MAX);
        assert!(throttle.admit(now, worst).is_err());
    }
}
