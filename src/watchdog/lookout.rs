//! Looks after the detector of numbers that stand still (`src/stale.rs`): whether it has looked, while the watchdog itself was running.

use std::time::Duration;

use firmware_protocol::time::Millis;
use router::verdict::OWN_PAUSE;

/// The detector looks four times a second.
const LIMIT: Duration = Duration::from_secs(5);

/// An eye on it.
#[derive(Debug)]
pub(super) struct Lookout {
    looked_at: Millis,
    seen: u64,
    unchanged: Duration,
    is_missed: bool,
}

impl Lookout {
    pub(super) fn new(now: Millis) -> Self {
        Self { looked_at: now, seen: 0, unchanged: Duration::ZERO, is_missed: false }
    }

    /// Looks once at when it looked last. Whether it looks, if that is news.
    pub(super) fn look(&mut self, now: Millis, seen: u64) -> Option<bool> {
        let since = now.since(self.looked_at);
        self.looked_at = now;
        match seen == self.seen {
            false => (self.seen, self.unchanged) = (seen, Duration::ZERO),
            true if since < OWN_PAUSE => self.unchanged += since,
            true => {}
        }
        let is_missed = self.unchanged >= LIMIT;
        (std::mem::replace(&mut self.is_missed, is_missed) != is_missed).then_some(!is_missed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_detector_that_looks_no_more_is_missed_once() {
        let mut lookout = Lookout::new(Millis(0));
        let news: Vec<_> = (0..300).filter_map(|tenth| Some((tenth, lookout.look(Millis(tenth * 100), tenth.min(100))?))).collect();
        assert_eq!(news, [(150, false)]);
        assert_eq!(lookout.look(Millis(30_000), 101), Some(true));
    }

    #[test]
    fn a_pause_of_the_whole_process_is_none_of_the_detector() {
        let mut lookout = Lookout::new(Millis(0));
        assert!((0..100).all(|minute| lookout.look(Millis(minute * 60_000), 7).is_none()));
    }
}
