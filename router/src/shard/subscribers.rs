//! Devices that want to hear events of their owner, and what becomes of an event for them.

use std::time::Duration;

use firmware_protocol::id::{DeviceId, OwnerId};
use firmware_protocol::session::request::Request;
use firmware_protocol::time::Now;

use super::calls::Purpose;
use super::{Output, Shard};
use crate::delivery::delivery;
use crate::event::Event;

/// How long an event is offered to a subscribed device.
pub(super) const DELIVERY_SPAN: Duration = Duration::from_secs(45);

impl<R> Shard<R> {
    /// Keeps the index of subscribers true of one device.
    pub(super) fn index(&mut self, id: DeviceId) {
        let Some(slot) = self.devices.slot(&id) else { return };
        let Some(device) = self.devices.at(slot) else { return };
        let Some(owner) = device.owner() else { return };
        if !device.subscribes_to_applications() {
            self.unindex(Some(owner), id);
        } else if self.subscribers.entry(owner).or_default().insert(slot) {
            self.new_subscribers.push(owner);
        }
    }

    /// Takes one device out of the index. To be called while its place is still its own.
    pub(super) fn unindex(&mut self, owner: Option<OwnerId>, id: DeviceId) {
        let Some((owner, slot)) = owner.zip(self.devices.slot(&id)) else { return };
        let Some(of_owner) = self.subscribers.get_mut(&owner) else { return };
        of_owner.remove(&slot);
        if of_owner.is_empty() {
            self.subscribers.remove(&owner);
        }
    }

    /// Owners of devices that have begun to subscribe since the last call. Only their events need to come back by [`Input::Committed`](super::Input::Committed).
    pub fn take_new_subscribers(&mut self) -> Vec<OwnerId> {
        std::mem::take(&mut self.new_subscribers)
    }

    pub(super) fn fan_out(&mut self, now: Now, event: &Event, out: &mut Vec<Output<R>>) {
        let Some(subscribers) = self.subscribers.get(&event.owner) else { return };
        for slot in subscribers {
            let Some(device) = self.devices.at(*slot).filter(|device| device.presence.is_online(now.at)) else { continue };
            let delivery = delivery(event, &device.subscriptions, device.takes_typed_events());
            let (Some(link), Some(delivery)) = (device.link, delivery) else { continue };
            let deadline = now.at + DELIVERY_SPAN;
            let request = self.calls.open(device.id(), Purpose::Delivery);
            self.timers.end_call(deadline + Duration::from_secs(1), request);
            self.counts.deliveries += 1;
            out.push(Output::Request { link, id: request, request: Request::Deliver(delivery), deadline });
        }
    }
}
