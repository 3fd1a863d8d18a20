//! How often a shard hears that a device was heard: a device that talks all the time is no more alive than one that talks now and then.

use std::time::Duration;

use firmware_protocol::time::Millis;

/// From one report about a session to the next.
const REPORT_EVERY: Duration = Duration::from_secs(10);

/// What the shard of one session was told.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Liveness {
    /// When the next report is due.
    due_at: Millis,
}

impl Liveness {
    /// Whether to report that the device was heard just now; it counts as reported.
    pub(super) fn report_due(&mut self, now: Millis) -> bool {
        let due = now >= self.due_at;
        if due {
            self.due_at = now + REPORT_EVERY;
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_that_is_heard_all_the_time_is_reported_every_ten_seconds() {
        let mut liveness = Liveness::default();
        let reports = (0..=30_000).step_by(500).filter(|at| liveness.report_due(Millis(*at))).count();
        assert_eq!(reports, 4);
    }
}
