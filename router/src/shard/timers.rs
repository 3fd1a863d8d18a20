//! What a shard looks after later: its devices, and calls that nobody ended.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use firmware_protocol::id::DeviceId;
use firmware_protocol::session::request::RequestId;
use firmware_protocol::time::Millis;

use crate::short::Short;

/// Why to look after a device.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Look {
    /// Its lease may have run out.
    Lease,
    /// A resumed session has had time to bring what was missing.
    Missing,
    /// It may be asked for its describes.
    Poll,
}

/// What is due.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Due {
    Device(DeviceId, Look),
    Call(RequestId),
}

/// All timers of a shard. Apart, because there is one for each device: they are half as long by themselves.
#[derive(Default, Debug)]
pub(super) struct Timers {
    devices: BinaryHeap<Reverse<(Short, DeviceId, Look)>>,
    calls: BinaryHeap<Reverse<(Millis, RequestId)>>,
}

impl Timers {
    /// Makes room for so many more devices, and no more than that.
    pub(super) fn reserve(&mut self, devices: usize) {
        self.devices.reserve_exact(devices);
    }

    pub(super) fn look(&mut self, at: Millis, device: DeviceId, look: Look) {
        self.devices.push(Reverse((Short::new(at.0), device, look)));
    }

    /// For a call that ends by itself as a rule.
    pub(super) fn end_call(&mut self, at: Millis, request: RequestId) {
        self.calls.push(Reverse((at, request)));
    }

    pub(super) fn timeout_at(&self) -> Option<Millis> {
        let (device, call) = self.next();
        device.into_iter().chain(call).min()
    }

    /// The next that is due, in the order of time.
    pub(super) fn pop(&mut self, now: Millis) -> Option<Due> {
        let (device, call) = self.next();
        match (device, call) {
            (Some(device), call) if device <= now && call.is_none_or(|call| device <= call) => {
                self.devices.pop().map(|Reverse((_, device, look))| Due::Device(device, look))
            }
            (_, Some(call)) if call <= now => self.calls.pop().map(|Reverse((_, request))| Due::Call(request)),
            _ => None,
        }
    }

    fn next(&self) -> (Option<Millis>, Option<Millis>) {
        (self.devices.peek().map(|Reverse((at, ..))| Millis(at.get())), self.calls.peek().map(|Reverse((at, _))| *at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_come_in_the_order_of_time() {
        let (mut timers, device) = (Timers::default(), DeviceId([1; 12]));
        timers.look(Millis(20), device, Look::Lease);
        timers.end_call(Millis(10), RequestId(7));
        timers.end_call(Millis(30), RequestId(8));
        assert_eq!((timers.timeout_at(), timers.pop(Millis(9))), (Some(Millis(10)), None));
        let due: Vec<_> = std::iter::from_fn(|| timers.pop(Millis(29))).collect();
        assert_eq!(due, [Due::Call(RequestId(7)), Due::Device(device, Look::Lease)]);
        assert_eq!(timers.timeout_at(), Some(Millis(30)));
    }
}
