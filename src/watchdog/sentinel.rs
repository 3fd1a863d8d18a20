//! Watches the watchdog. Every terminator does, by the way: if it sees again and again, over seconds in which it was running itself, that the watchdog has
//! not judged anything, it ends the process.

use std::time::Duration;

use firmware_protocol::time::Millis;

use super::{Bulletin, last_words};

/// The watchdog judges ten times a second.
const LIMIT: Duration = Duration::from_millis(2_500);
/// A terminator looks at least once a second. One that did not was not running, and cannot tell.
const OWN_PAUSE: Duration = Duration::from_millis(1_500);

/// One terminator's eye on it.
#[derive(Debug)]
pub struct Sentinel {
    bulletin: Bulletin,
    judged_at: Millis,
    looked_at: Millis,
    unchanged: Duration,
}

impl Sentinel {
    /// On whoever posts on `bulletin`.
    pub fn new(bulletin: Bulletin) -> Self {
        Self { bulletin, judged_at: Millis(0), looked_at: Millis(0), unchanged: Duration::ZERO }
    }

    /// Looks once. Does not return if the watchdog has stopped.
    pub fn look(&mut self, now: Millis) {
        if self.has_stopped(now) && self.bulletin.is_armed() {
            last_words::end_for_watchdog();
        }
    }

    fn has_stopped(&mut self, now: Millis) -> bool {
        let (judged_at, since) = (self.bulletin.judged_at(), now.since(self.looked_at));
        self.looked_at = now;
        if judged_at != self.judged_at {
            (self.judged_at, self.unchanged) = (judged_at, Duration::ZERO);
        } else if since < OWN_PAUSE {
            self.unchanged += since;
        }
        self.unchanged >= LIMIT
    }
}

#[cfg(test)]
mod tests {
    use router::verdict::Judgement;

    use super::*;

    fn seen(bulletin: &Bulletin, looks: impl IntoIterator<Item = u64>) -> Option<u64> {
        let mut sentinel = Sentinel::new(bulletin.clone());
        looks.into_iter().find(|at| sentinel.has_stopped(Millis(*at)))
    }

    #[test]
    fn a_watchdog_that_stopped_is_missed_within_three_seconds() {
        let bulletin = Bulletin::new();
        bulletin.post(Millis(10_000), Judgement::default());
        let at = seen(&bulletin, (10_000..20_000).step_by(250)).unwrap();
        assert!(at <= 13_000, "{at}");
    }

    #[test]
    fn a_pause_of_the_whole_process_is_no_stop_of_the_watchdog() {
        let bulletin = Bulletin::new();
        bulletin.post(Millis(10_000), Judgement::default());
        assert_eq!(seen(&bulletin, [10_000, 10_250, 70_000, 70_001, 70_002, 130_000]), None);
    }

    #[test]
    fn one_that_judges_is_not_missed() {
        let bulletin = Bulletin::new();
        let mut sentinel = Sentinel::new(bulletin.clone());
        for at in (0..60_000).step_by(100) {
            bulletin.post(Millis(at), Judgement::default());
            assert!(!sentinel.has_stopped(Millis(at)));
        }
    }
}
