//! Whether the clocks go as they should: the wall clock beside the monotonic one, and the process beside both.

use std::time::Duration;

use firmware_protocol::time::{Millis, Now};

use crate::changes::What;

/// A difference of less than this is what time services do.
const STEP_MS: i64 = 1_000;
/// Whoever looks ten times a second and was so late did not run.
const PAUSE: Duration = Duration::from_secs(2);

/// Somebody who looks at the clocks now and then.
#[derive(Debug)]
pub(super) struct Clocks {
    looked_at: Millis,
    /// From the monotonic clock to the wall clock.
    offset_ms: i64,
    /// By how much the looks were late since that was asked.
    late: Duration,
}

impl Clocks {
    /// Looks for the first time.
    pub(super) fn new(now: Now) -> Self {
        Self { looked_at: now.at, offset_ms: offset(now), late: Duration::ZERO }
    }

    /// Looks again, which should have been after `pause`. What happened meanwhile.
    pub(super) fn look(&mut self, now: Now, pause: Duration) -> Vec<What> {
        let late = now.at.since(self.looked_at).saturating_sub(pause);
        let by_ms = offset(now).saturating_sub(self.offset_ms);
        self.late = self.late.max(late);
        self.looked_at = now.at;
        let mut happened = Vec::new();
        if late >= PAUSE {
            happened.push(What::Paused { for_ms: u64::try_from(late.as_millis()).unwrap_or(u64::MAX) });
        }
        if by_ms.abs() >= STEP_MS {
            happened.push(What::ClockStepped { by_ms });
            self.offset_ms = offset(now);
        } else if by_ms != 0 {
            // What is slewed is followed, so that it never adds up to a step.
            self.offset_ms += by_ms.signum();
        }
        happened
    }

    /// By how much the looks were late, at most, since this was asked last.
    pub(super) fn take_late(&mut self) -> Duration {
        std::mem::take(&mut self.late)
    }
}

fn offset(now: Now) -> i64 {
    let signed = |ms: u64| i64::try_from(ms).unwrap_or(i64::MAX);
    signed(now.unix.0).saturating_sub(signed(now.at.0))
}

#[cfg(test)]
mod tests {
    use firmware_protocol::time::UnixMillis;

    use super::*;

    const PAUSE_OF_LOOKS: Duration = Duration::from_millis(100);

    fn now(at: u64, unix: u64) -> Now {
        Now { at: Millis(at), unix: UnixMillis(1_800_000_000_000 + unix) }
    }

    #[test]
    fn steps_and_pauses_are_told_once_and_slewing_never() {
        let mut clocks = Clocks::new(now(0, 0));
        let mut look = |at, unix| clocks.look(now(at, unix), PAUSE_OF_LOOKS);
        assert_eq!(look(100, 100), []);
        assert_eq!(look(200, 3_600_200), [What::ClockStepped { by_ms: 3_600_000 }]);
        assert_eq!(look(300, 3_600_300), []);
        assert_eq!(look(400, 400), [What::ClockStepped { by_ms: -3_600_000 }]);
        assert_eq!(look(4_600, 4_600), [What::Paused { for_ms: 4_100 }]);
        assert_eq!(look(5_700, 5_700), [], "a second of lateness is none");
        // Half a millisecond in a hundred, over ten minutes: three seconds.
        let slewed = (1..6_000).flat_map(|n| look(5_700 + n * 100, 5_700 + n * 100 + n / 2)).collect::<Vec<_>>();
        assert_eq!(slewed, []);
        assert_eq!((clocks.take_late(), clocks.take_late()), (Duration::from_millis(4_100), Duration::ZERO));
    }
}
