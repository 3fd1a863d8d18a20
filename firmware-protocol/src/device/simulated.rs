//! What devices on UDP and on TCP have in common for whoever drives them. How bytes come and go is each one's own.

use super::tcp::TcpDevice;
use super::{App, Device, DeviceEvent, DeviceTools};
use crate::id::DeviceId;
use crate::time::Millis;

/// A simulated device, whatever carries its messages. All methods are those of [`Device`] and [`TcpDevice`].
pub trait Simulated {
    /// Its id.
    fn id(&self) -> DeviceId;
    /// Its application, to change a variable.
    fn app_mut(&mut self) -> &mut App;
    /// Whether the LED breathes cyan.
    fn is_connected(&self) -> bool;
    /// Whether a handshake has left it with keys that it still has.
    fn has_session(&self) -> bool;
    /// When [`Simulated::handle_timeout`] wants to be called.
    fn timeout_at(&self) -> Option<Millis>;
    /// Does what is due.
    fn handle_timeout(&mut self, now: Millis, tools: &mut DeviceTools);
    /// The next thing that happened.
    fn poll_event(&mut self) -> Option<DeviceEvent>;
    /// Publishes an event with acknowledgement.
    fn publish(&mut self, now: Millis, tools: &mut DeviceTools, name: &str, content_format: u16, data: &[u8]) -> u64;
    /// Pings the server.
    fn ping(&mut self, now: Millis, tools: &mut DeviceTools);
    /// Power off, and nothing is left of a session.
    fn forget_session(&mut self);
    /// Power on again.
    fn power_on(&mut self, now: Millis);
    /// How many messages were sent once more since the last call. Over TCP none ever is.
    fn take_retransmissions(&mut self) -> u64;
}

/// The methods whose names are the same on both devices, and those that are not.
macro_rules! simulated {
    ($($device:ty { $($own:tt)* })*) => {
        $(impl Simulated for $device {
            fn id(&self) -> DeviceId {
                self.config().id
            }

            fn app_mut(&mut self) -> &mut App {
                self.app_mut()
            }

            fn is_connected(&self) -> bool {
                self.is_connected()
            }

            fn has_session(&self) -> bool {
                self.has_session()
            }

            fn timeout_at(&self) -> Option<Millis> {
                self.timeout_at()
            }

            fn handle_timeout(&mut self, now: Millis, tools: &mut DeviceTools) {
                self.handle_timeout(now, tools);
            }

            fn poll_event(&mut self) -> Option<DeviceEvent> {
                self.poll_event()
            }

            fn publish(&mut self, now: Millis, tools: &mut DeviceTools, name: &str, content_format: u16, data: &[u8]) -> u64 {
                self.publish(now, tools, name, content_format, data)
            }

            fn ping(&mut self, now: Millis, tools: &mut DeviceTools) {
                self.ping(now, tools);
            }

            fn power_on(&mut self, now: Millis) {
                self.power_on(now);
            }

            $($own)*
        })*
    };
}

simulated! {
    Device {
        fn forget_session(&mut self) {
            self.forget_session();
        }

        fn take_retransmissions(&mut self) -> u64 {
            self.take_retransmissions()
        }
    }
    TcpDevice {
        fn forget_session(&mut self) {
            self.power_off();
        }

        fn take_retransmissions(&mut self) -> u64 {
            0
        }
    }
}
