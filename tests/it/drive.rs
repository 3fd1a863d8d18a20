//! What tests do with a simulated device, whatever carries its messages.

use std::time::{Duration, Instant};

use firmware_protocol::device::DeviceEvent;

/// A device with its clock, its way to the server, and all that happened to it.
pub(crate) trait Drive {
    /// Does what is due, and takes what came within a few milliseconds.
    fn turn(&mut self);

    /// Everything that happened, in order.
    fn events(&self) -> &[DeviceEvent];

    fn is_connected(&self) -> bool;

    /// Runs until `done`; panics with what happened if that takes longer than `limit`.
    fn run_until(&mut self, limit: Duration, done: impl Fn(&Self) -> bool) {
        let end = Instant::now() + limit;
        while !done(self) {
            assert!(Instant::now() < end, "not in {limit:?}: {:?}", self.events());
            self.turn();
        }
    }

    fn run_for(&mut self, span: Duration) {
        let end = Instant::now() + span;
        while Instant::now() < end {
            self.turn();
        }
    }

    fn connect(&mut self) {
        self.run_until(Duration::from_secs(20), Self::is_connected);
    }

    /// Whether the server took a publish.
    fn published(&self, publish: u64) -> bool {
        self.events().contains(&DeviceEvent::Published { publish, accepted: true })
    }
}
