//! Who may begin a handshake, and when: one count and one pace for both kinds, because they cost the same processors and the same journal.
//!
//! Handshakes keep the pace of what comes behind them: while too many sessions wait for the journal, or a terminator has more records of sessions than it
//! reads in one turn, none begins. A device that was let in sends a dozen messages at once, and they come after what others send, not before.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use firmware_protocol::time::Millis;
use router::rate::{Rate, microseconds};

use crate::config::Limit;

/// Sessions that were proved and are not durable yet, beyond which no handshake begins: a tenth of a second at full speed.
pub const SETTLING_MAX: usize = 512;
/// How long to wait then, and where all half-open handshakes are taken, before another look.
const LOOK_AGAIN: Duration = Duration::from_millis(2);
/// Of the handshakes of a second, this part may begin at once.
const BURSTS_PER_S: u64 = 50;

/// How much of a handshake may be under way.
#[derive(Clone, Copy, Debug)]
pub struct HandshakeLimits {
    /// Half-open handshakes of one address.
    pub per_address: usize,
    /// Half-open handshakes of all.
    pub total: usize,
    /// Handshakes that begin in a second.
    pub per_second: Limit,
}

/// Terminators that have more to do for sessions than they do in one turn.
#[derive(Debug, Default)]
pub struct Backlog(AtomicUsize);

impl Backlog {
    /// One more terminator is behind, or one less.
    pub fn change(&self, behind: bool) {
        match behind {
            true => self.0.fetch_add(1, Ordering::Relaxed),
            false => self.0.fetch_sub(1, Ordering::Relaxed),
        };
    }

    fn is_empty(&self) -> bool {
        self.0.load(Ordering::Relaxed) == 0
    }
}

/// The count.
#[derive(Debug)]
pub struct Admission {
    limits: HandshakeLimits,
    backlog: Arc<Backlog>,
    /// `None` is as fast as it goes.
    rate: Option<Rate>,
    entered: Mutex<Entered>,
    settling: AtomicUsize,
}

#[derive(Debug, Default)]
struct Entered {
    by_ip: HashMap<IpAddr, usize>,
    total: usize,
    /// When the bucket of the rate will be full again, in microseconds.
    full_at_us: u64,
}

/// The place of one handshake; free again when this is dropped.
#[derive(Debug)]
pub struct Place {
    admission: Arc<Admission>,
    ip: IpAddr,
}

/// A session that was proved and is not durable yet; it is, or is given up, when this is dropped.
#[derive(Debug)]
pub struct Settling {
    admission: Arc<Admission>,
}

/// Why there is no place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Full {
    /// This address has too many handshakes under way.
    Address,
    /// There are too many in all.
    Total,
}

impl Full {
    /// What it is called in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Address => "address_limit",
            Self::Total => "total_limit",
        }
    }
}

impl Admission {
    /// With nobody in it.
    pub fn new(limits: HandshakeLimits, backlog: Arc<Backlog>) -> Arc<Self> {
        let rate = match limits.per_second {
            Limit::Unlimited => None,
            Limit::AtMost(count) => Some(Rate { interval_us: 1_000_000 / count.max(1), burst: (count / BURSTS_PER_S).max(1) }),
        };
        Arc::new(Self { limits, backlog, rate, entered: Mutex::default(), settling: AtomicUsize::new(0) })
    }

    /// For how long no handshake may begin. Zero if one may.
    pub fn pause(&self, now: Millis) -> Duration {
        if self.settling.load(Ordering::Relaxed) >= SETTLING_MAX || !self.backlog.is_empty() {
            return LOOK_AGAIN;
        }
        let Some(rate) = self.rate else { return Duration::ZERO };
        let ready_at = self.with(|entered| entered.full_at_us).saturating_sub(rate.interval_us.saturating_mul(rate.burst - 1));
        // The clock counts whole milliseconds.
        Duration::from_millis(ready_at.saturating_sub(microseconds(now)).div_ceil(1_000))
    }

    /// The same for one that needs a place, too.
    pub fn pause_for_place(&self, now: Millis) -> Duration {
        match self.len() >= self.limits.total {
            true => LOOK_AGAIN,
            false => self.pause(now),
        }
    }

    /// A handshake began.
    pub fn began(&self, now: Millis) {
        let Some(rate) = self.rate else { return };
        self.with(|entered| entered.full_at_us = entered.full_at_us.max(microseconds(now)).saturating_add(rate.interval_us));
    }

    /// A handshake was proved, and its session is on its way to the disk.
    pub fn settle(self: &Arc<Self>) -> Settling {
        self.settling.fetch_add(1, Ordering::Relaxed);
        Settling { admission: Arc::clone(self) }
    }

    /// A place for a handshake of `ip`.
    ///
    /// # Errors
    /// There is none.
    pub fn enter(self: &Arc<Self>, ip: IpAddr) -> Result<Place, Full> {
        self.with(|entered| {
            if entered.total >= self.limits.total {
                return Err(Full::Total);
            }
            let of_address = entered.by_ip.entry(ip).or_default();
            if *of_address >= self.limits.per_address {
                return Err(Full::Address);
            }
            *of_address += 1;
            entered.total += 1;
            Ok(Place { admission: Arc::clone(self), ip })
        })
    }

    /// Handshakes under way.
    pub fn len(&self) -> usize {
        self.with(|entered| entered.total)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn with<T>(&self, action: impl FnOnce(&mut Entered) -> T) -> T {
        action(&mut self.entered.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.admission.with(|entered| {
            entered.total -= 1;
            if let Some(count) = entered.by_ip.get_mut(&self.ip) {
                *count -= 1;
                if *count == 0 {
                    entered.by_ip.remove(&self.ip);
                }
            }
        });
    }
}

impl Drop for Settling {
    fn drop(&mut self) {
        self.admission.settling.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admission(total: usize, per_second: Limit) -> Arc<Admission> {
        Admission::new(HandshakeLimits { per_address: 2, total, per_second }, Arc::default())
    }

    #[test]
    fn places_are_counted_by_address_and_in_all_and_become_free_again() {
        let admission = admission(3, Limit::Unlimited);
        let ip = |last: u8| IpAddr::from([192, 0, 2, last]);
        let first = admission.enter(ip(1)).unwrap();
        let second = admission.enter(ip(1)).unwrap();
        assert_eq!(admission.enter(ip(1)).err(), Some(Full::Address));
        let third = admission.enter(ip(2)).unwrap();
        assert_eq!(admission.enter(ip(3)).err(), Some(Full::Total));
        drop(first);
        let fourth = admission.enter(ip(1)).unwrap();
        assert_eq!(admission.len(), 3);
        drop((second, third, fourth));
        assert!(admission.is_empty() && admission.with(|entered| entered.by_ip.is_empty()));
    }

    /// How many begin within this time, if one begins whenever it may.
    fn begun(admission: &Admission, for_ms: u64) -> u64 {
        let (mut now, mut count) = (Millis(1_000), 0);
        while now < Millis(1_000 + for_ms) {
            match admission.pause(now) {
                Duration::ZERO => {
                    admission.began(now);
                    count += 1;
                }
                pause => now = now + pause,
            }
        }
        count
    }

    #[test]
    fn as_many_begin_in_a_second_as_may() {
        for per_second in [1, 7, 400, 5_000, 100_000] {
            let count = begun(&admission(3, Limit::AtMost(per_second)), 10_000);
            let expected = per_second * 10 + (per_second / BURSTS_PER_S).max(1);
            assert!(count <= expected && count >= per_second * 10, "{count} at {per_second}/s");
        }
    }

    #[test]
    fn nothing_begins_while_too_many_sessions_are_on_their_way_to_the_disk() {
        let admission = admission(3, Limit::Unlimited);
        let mut settling: Vec<_> = (0..SETTLING_MAX).map(|_| admission.settle()).collect();
        assert!(!admission.pause(Millis(0)).is_zero());
        settling.pop();
        assert!(admission.pause(Millis(0)).is_zero());
    }

    #[test]
    fn nothing_begins_while_a_terminator_is_behind() {
        let admission = admission(3, Limit::Unlimited);
        admission.backlog.change(true);
        assert!(!admission.pause(Millis(0)).is_zero());
        admission.backlog.change(false);
        assert!(admission.pause(Millis(0)).is_zero());
    }

    #[test]
    fn whoever_needs_a_place_waits_for_one() {
        let admission = admission(1, Limit::Unlimited);
        let place = admission.enter(IpAddr::from([192, 0, 2, 1]));
        assert!(admission.pause(Millis(0)).is_zero() && !admission.pause_for_place(Millis(0)).is_zero());
        drop(place);
        assert!(admission.pause_for_place(Millis(0)).is_zero());
    }
}
