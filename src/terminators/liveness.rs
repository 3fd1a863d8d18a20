//! How often a shard hears that a device was heard: a device that talks all the time is no more alive than one that talks now and then.

use std::time::Duration;

use firmware_protocol::time::Millis;

/// From one report about a session to the next.
const REPORT_EVERY: Duration = Duration::from_secs(10);

/// What the shard of one session was told.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Liveness {
    /// When the next report is due, in seconds.
    due_at_s: u32,
}

impl Liveness {
    /// Whether the device was never heard by this process.
    pub(super) fn is_new(self) -> bool {
        self.due_at_s == 0
    }

    /// Whether to report that the device was heard just now; it counts as reported.
    pub(super) fn report_due(&mut self, now: Millis) -> bool {
        let due = now.0 / 1000 >= u64::from(self.due_at_s);
        if due {
            self.due_at_s = u32::try_from((now + REPORT_EVERY).0 / 1000).unwrap_or(u32::MAX);
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
        assert!(liveness.is_new() && liveness.report_due(Millis(0)) && !liveness.is_new());
        let mut liveness = Liveness::default();
        let reports = (0..=30_000).step_by(500).filter(|at| liveness.report_due(Millis(*at))).count();
        assert_eq!(reports, 4);
    }
}
