//! Whether one number stands still that should move. Decides only.

use std::time::Duration;

use firmware_protocol::time::Millis;

/// Who did not look for so long was not running, and cannot tell.
const OWN_PAUSE: Duration = Duration::from_millis(1_000);
/// A number that has not moved since the start may take longer: what moves it may have a million sessions to take over first.
const START_LIMIT: Duration = Duration::from_secs(120);

/// What a number and its input are at one moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Sample {
    pub(super) output: u64,
    pub(super) input: u64,
}

/// What is known of one number.
#[derive(Clone, Copy, Debug)]
pub(super) struct Suspect {
    began: Millis,
    looked_at: Millis,
    /// As it was when the output moved last.
    moved: Option<Sample>,
    has_moved: bool,
    /// Since when the input has moved far enough after that.
    waits_since: Option<Millis>,
    is_stale: bool,
}

impl Suspect {
    pub(super) fn new(now: Millis) -> Self {
        Self { began: now, looked_at: now, moved: None, has_moved: false, waits_since: None, is_stale: false }
    }

    pub(super) fn is_stale(&self) -> bool {
        self.is_stale
    }

    /// Looks again. Whether it stands still.
    pub(super) fn look(&mut self, now: Millis, sample: Sample, patience: Duration, least: u64) -> bool {
        let was_away = now.since(self.looked_at) >= OWN_PAUSE;
        self.looked_at = now;
        let moved = *self.moved.get_or_insert(sample);
        if moved.output != sample.output || was_away {
            self.has_moved |= moved.output != sample.output;
            (self.moved, self.waits_since) = (Some(sample), None);
            self.is_stale &= moved.output == sample.output;
            return self.is_stale;
        }
        if sample.input.wrapping_sub(moved.input) >= least {
            let since = *self.waits_since.get_or_insert(now);
            let starts = !self.has_moved && now.since(self.began) < START_LIMIT.max(patience);
            self.is_stale = now.since(since) >= patience && !starts;
        }
        self.is_stale
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(5);

    /// Looks four times a second at a number that `numbers` tells of each moment. When it was first said to stand still.
    fn stale_at(for_ms: u64, numbers: impl Fn(u64) -> (u64, u64)) -> Option<u64> {
        let mut suspect = Suspect::new(Millis(0));
        (0..for_ms).step_by(250).find(|at| {
            let (output, input) = numbers(*at);
            suspect.look(Millis(*at), Sample { output, input }, PATIENCE, 10)
        })
    }

    #[test]
    fn what_moves_or_has_no_reason_to_is_not_stale() {
        assert_eq!(stale_at(600_000, |at| (at / 4_000, at)), None);
        assert_eq!(stale_at(600_000, |at| (at.min(2_000), at.min(2_005))), None, "half a message is none");
    }

    #[test]
    fn what_stands_still_while_its_input_moves_is_stale_in_time() {
        assert_eq!(stale_at(600_000, |at| (at.min(10_000), at)), Some(15_250));
        assert_eq!(stale_at(600_000, |at| (at.min(10_000), if at < 60_000 { 0 } else { at })), Some(65_000), "from then on it should");
        assert_eq!(stale_at(600_000, |at| (7, at)), Some(120_000), "it never began");
    }

    #[test]
    fn who_was_asleep_can_tell_nothing_of_that_time() {
        let mut suspect = Suspect::new(Millis(0));
        for at in [0, 250, 60_000, 60_250, 120_000] {
            assert!(!suspect.look(Millis(at), Sample { output: at.min(250), input: at }, PATIENCE, 1), "{at}");
        }
    }
}
