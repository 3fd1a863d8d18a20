//! Which devices and accounts are refused most, in a table of a few lines: whoever looks for a cause wants a name, and metrics have none.
//!
//! It counts as in "space saving" (Metwally et al., 2005): whoever comes when there is no room takes the place of the one that was refused least, and its
//! count. So a loud one is never missed, and among many that are alike nobody stands out. No terminator waits for another here, or for whoever looks: what
//! finds the table taken is not counted.

use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread;
use std::time::Duration;

use firmware_protocol::id::{DeviceId, OwnerId};
use firmware_protocol::time::Millis;

/// Lines of the table.
const PLACES: usize = 16;
/// After so long counting begins anew; what was counted before is seen for as long again.
const TURN: Duration = Duration::from_secs(30);
/// How often, and how soon, whoever looks tries again if the table is taken.
const TRIES: usize = 20;
const TRY_AGAIN: Duration = Duration::from_millis(1);

/// Who is refused.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Who {
    /// A device, for its own limits.
    Device(DeviceId),
    /// An account, for what all its devices send together.
    Account(OwnerId),
}

/// One who was refused, and how often.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Refusals {
    /// Who.
    pub who: Who,
    /// How often in the last half minute to minute; more than it was if many others were, too.
    pub count: u64,
}

/// The table.
#[derive(Debug, Default)]
pub struct Noisy(Mutex<Turns>);

#[derive(Debug, Default)]
struct Turns {
    began: Millis,
    now: Vec<Refusals>,
    before: Vec<Refusals>,
}

impl Noisy {
    /// Somebody was refused.
    pub fn refused(&self, now: Millis, who: Who) {
        if let Some(mut turns) = self.try_lock() {
            turns.turn(now);
            turns.count(who);
        }
    }

    /// Who was refused most, the loudest first; nobody if the table cannot be seen.
    pub fn loudest(&self, now: Millis) -> Vec<Refusals> {
        for _ in 0..TRIES {
            if let Some(mut turns) = self.try_lock() {
                turns.turn(now);
                return turns.sum();
            }
            thread::sleep(TRY_AGAIN);
        }
        Vec::new()
    }

    fn try_lock(&self) -> Option<MutexGuard<'_, Turns>> {
        match self.0.try_lock() {
            Ok(turns) => Some(turns),
            Err(TryLockError::Poisoned(poisoned)) => Some(PoisonError::into_inner(poisoned)),
            Err(TryLockError::WouldBlock) => None,
        }
    }
}

impl Turns {
    fn turn(&mut self, now: Millis) {
        let since = now.since(self.began);
        if since >= TURN {
            let last = std::mem::take(&mut self.now);
            self.before = if since < 2 * TURN { last } else { Vec::new() };
            self.began = now;
        }
    }

    fn count(&mut self, who: Who) {
        if let Some(line) = self.now.iter_mut().find(|line| line.who == who) {
            line.count += 1;
        } else if self.now.len() < PLACES {
            self.now.push(Refusals { who, count: 1 });
        } else if let Some(least) = self.now.iter_mut().min_by_key(|line| line.count) {
            *least = Refusals { who, count: least.count + 1 };
        }
    }

    fn sum(&self) -> Vec<Refusals> {
        let mut all = self.now.clone();
        for line in &self.before {
            match all.iter_mut().find(|other| other.who == line.who) {
                Some(other) => other.count += line.count,
                None => all.push(*line),
            }
        }
        all.sort_by_key(|line| (std::cmp::Reverse(line.count), line.who));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(n: u64) -> Who {
        let mut id = [0; 12];
        id[4..].copy_from_slice(&n.to_be_bytes());
        Who::Device(DeviceId(id))
    }

    #[test]
    fn a_loud_one_is_found_among_many_and_among_equals_nobody_is() {
        let noisy = Noisy::default();
        for n in 0..10_000 {
            noisy.refused(Millis(5), device(n % 500));
            noisy.refused(Millis(5), Who::Account(OwnerId(1)));
        }
        let loudest = noisy.loudest(Millis(5));
        assert_eq!(loudest[0].who, Who::Account(OwnerId(1)));
        let all: u64 = loudest.iter().map(|line| line.count).sum();
        assert!((loudest.len(), all) == (PLACES, 20_000) && loudest[0].count >= 10_000, "{loudest:?}");
        assert!(loudest[1..].iter().all(|line| line.count < all / 10), "{loudest:?}");
    }

    #[test]
    fn what_was_a_minute_ago_is_forgotten() {
        let noisy = Noisy::default();
        noisy.refused(Millis(1_000), device(1));
        noisy.refused(Millis(31_000), device(2));
        noisy.refused(Millis(31_000), device(1));
        assert_eq!(noisy.loudest(Millis(59_000)), [Refusals { who: device(1), count: 2 }, Refusals { who: device(2), count: 1 }]);
        assert_eq!(noisy.loudest(Millis(61_000)).len(), 2);
        assert!(noisy.loudest(Millis(121_001)).is_empty());
    }

    #[test]
    fn nobody_waits_for_a_table_that_is_taken() {
        let noisy = Noisy::default();
        let held = noisy.0.lock().unwrap();
        noisy.refused(Millis(0), device(1));
        assert!(noisy.loudest(Millis(0)).is_empty());
        drop(held);
        assert!(noisy.loudest(Millis(0)).is_empty(), "it was not counted");
    }
}
