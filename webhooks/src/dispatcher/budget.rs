//! How many attempts of a destination may be retries: twice as many as there are first attempts, and a trickle when there are none.

use firmware_protocol::time::Millis;

/// Retries for each first attempt.
pub const RETRIES_PER_FRESH: u32 = 2;
/// Retries that can be saved up.
pub const SAVED_MAX: u32 = 256;
/// Without new events, one retry each so many milliseconds, so that the last events of a hook are not forgotten.
pub const TRICKLE_MS: u64 = 1_000;
/// Retries that the trickle saves up, and what a destination begins with.
pub const TRICKLE_MAX: u32 = 10;

/// What a destination may still retry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Budget {
    saved: u32,
    filled: Millis,
}

impl Budget {
    /// That of a destination which has just begun.
    pub fn new(now: Millis) -> Self {
        Self { saved: TRICKLE_MAX, filled: now }
    }

    /// Notes a first attempt.
    pub fn earn(&mut self) {
        self.saved = (self.saved + RETRIES_PER_FRESH).min(SAVED_MAX);
    }

    /// Whether there is a retry to spend.
    pub fn has(&self, now: Millis) -> bool {
        self.saved > 0 || now.since(self.filled).as_millis() >= u128::from(TRICKLE_MS)
    }

    /// Spends a retry. `false` if there is none.
    pub fn spend(&mut self, now: Millis) -> bool {
        self.trickle(now);
        let is_there = self.saved > 0;
        self.saved = self.saved.saturating_sub(1);
        is_there
    }

    /// When there will be one.
    pub fn wake_at(&self) -> Millis {
        Millis(self.filled.0.saturating_add(TRICKLE_MS))
    }

    fn trickle(&mut self, now: Millis) {
        let drops = now.0.saturating_sub(self.filled.0) / TRICKLE_MS;
        self.filled.0 += drops * TRICKLE_MS;
        if self.saved < TRICKLE_MAX {
            self.saved = u32::try_from(drops).unwrap_or(TRICKLE_MAX).saturating_add(self.saved).min(TRICKLE_MAX);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spend_all(budget: &mut Budget, now: u64) -> usize {
        (0..10_000).take_while(|_| budget.spend(Millis(now))).count()
    }

    #[test]
    fn twice_as_many_retries_as_first_attempts() {
        let mut budget = Budget::new(Millis(0));
        assert_eq!(spend_all(&mut budget, 0), 10);
        (0..50).for_each(|_| budget.earn());
        assert_eq!(spend_all(&mut budget, 500), 100);
        assert!(!budget.has(Millis(999)) && budget.has(budget.wake_at()));
    }

    #[test]
    fn what_is_saved_is_bounded() {
        let mut budget = Budget::new(Millis(0));
        (0..5_000).for_each(|_| budget.earn());
        assert_eq!(spend_all(&mut budget, 0), 256);
        assert_eq!(spend_all(&mut budget, u64::MAX), 10, "a long silence saves no more than a burst");
    }

    #[test]
    fn one_trickles_in_each_second() {
        let mut budget = Budget::new(Millis(0));
        spend_all(&mut budget, 0);
        let spent: usize = (1..=60).map(|second| spend_all(&mut budget, second * 1_000 + 1)).sum();
        assert_eq!(spent, 60);
    }
}
