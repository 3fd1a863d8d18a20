//! Events without acknowledgement at a steady pace: what a device sends that takes no notice of what becomes of it.

use std::time::Duration;

use firmware_protocol::device::tcp::TcpDevice;
use firmware_protocol::device::{Device, DeviceTools, Simulated};
use firmware_protocol::time::Millis;

/// What is sent at once by who is behind with more than that: the rest is left out.
const BEHIND_MAX: Duration = Duration::from_millis(20);

/// A device that can send without waiting for an answer.
pub(super) trait Shouts: Simulated {
    /// Sends an event once, if there is a connection.
    fn shout(&mut self, now: Millis, tools: &mut DeviceTools, name: &str, data: &[u8]);
}

impl Shouts for Device {
    fn shout(&mut self, _: Millis, tools: &mut DeviceTools, name: &str, data: &[u8]) {
        self.publish_unacknowledged(tools, name, 0, data);
    }
}

impl Shouts for TcpDevice {
    fn shout(&mut self, now: Millis, tools: &mut DeviceTools, name: &str, data: &[u8]) {
        self.publish_unacknowledged(now, tools, name, 0, data);
    }
}

/// How many events are due.
#[derive(Default, Debug)]
pub(super) struct Pace {
    since: Option<Millis>,
    sent: u64,
}

impl Pace {
    /// Nothing is due until the next call, which begins anew.
    pub(super) fn rest(&mut self) {
        *self = Self::default();
    }

    /// Takes what is due at `now`, at this rate.
    pub(super) fn due(&mut self, now: Millis, rate_per_s: u32) -> u64 {
        let rate = u64::from(rate_per_s);
        let wanted = now.since(*self.since.get_or_insert(now)).as_micros() * u128::from(rate) / 1_000_000;
        let due = u64::try_from(wanted).unwrap_or(u64::MAX).saturating_sub(self.sent);
        let most = (rate * u64::from(BEHIND_MAX.subsec_millis())).div_ceil(1000);
        if due > most {
            *self = Self { since: Some(now), sent: 0 };
            return most;
        }
        self.sent += due;
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is sent in these moments.
    fn sent(pace: &mut Pace, rate_per_s: u32, moments: impl IntoIterator<Item = u64>) -> u64 {
        moments.into_iter().map(|at| pace.due(Millis(at), rate_per_s)).sum()
    }

    #[test]
    fn a_second_holds_what_it_should_whatever_the_steps() {
        for rate in [1, 7, 999, 10_000] {
            for (step, last) in [(1, 1000), (3, 999), (20, 1000)] {
                let moments = (5000..=6000).step_by(step);
                assert_eq!(sent(&mut Pace::default(), rate, moments), u64::from(rate) * last / 1000, "{rate} a second, every {step} ms");
            }
        }
    }

    #[test]
    fn who_was_held_up_for_long_leaves_out_what_it_missed() {
        let mut pace = Pace::default();
        assert_eq!(sent(&mut pace, 10_000, [0, 10, 5000, 5001, 5011]), 100 + 200 + 10 + 100);
        assert_eq!(sent(&mut Pace::default(), 1, [0, 60_000, 60_999, 61_000]), 1 + 1, "at least one at a time");
    }

    #[test]
    fn after_a_rest_nothing_is_owed() {
        let mut pace = Pace::default();
        assert_eq!(sent(&mut pace, 10_000, [0, 1]), 10);
        pace.rest();
        assert_eq!(sent(&mut pace, 10_000, [15, 16]), 10);
    }
}
