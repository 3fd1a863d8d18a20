//! Devices that want to hear events of their owner, and what becomes of an event for them.

use std::collections::BTreeSet;
use std::time::Duration;

use firmware_protocol::id::{DeviceId, OwnerId};
use firmware_protocol::session::publish::{Delivery, is_system_name};
use firmware_protocol::session::request::Request;
use firmware_protocol::session::subscribe::Subscription;
use firmware_protocol::time::Now;

use super::calls::Purpose;
use super::deliveries::Admitted;
use super::{Output, Shard};
use crate::delivery::delivery;
use crate::device::Link;
use crate::event::{Event, Position};
use crate::fate::Fate;
use crate::table::Slot;

/// How long an event is offered to a subscribed device.
pub(super) const DELIVERY_SPAN: Duration = Duration::from_secs(45);
/// Prefixes that are kept of one owner's subscriptions; where there are more, every event is looked at.
const PREFIXES_MAX: usize = 32;

/// The devices of one owner that subscribe.
#[derive(Default, Debug)]
pub(super) struct Subscribers {
    devices: BTreeSet<Slot>,
    /// All that any of them has asked for. When a fleet comes back, each device makes events that no other wants: they must not cost a look at each.
    prefixes: Vec<String>,
}

impl Subscribers {
    /// Adds a device, and tells what nobody has asked for before it: everything, where there is too much to tell apart.
    fn add(&mut self, slot: Slot, subscriptions: &[Subscription], mut is_new: impl FnMut(&str)) {
        for Subscription { prefix, .. } in subscriptions {
            if self.prefixes.len() <= PREFIXES_MAX && !self.prefixes.contains(prefix) {
                self.prefixes.push(prefix.clone());
                is_new(if self.prefixes.len() > PREFIXES_MAX { "" } else { prefix });
            }
        }
        self.devices.insert(slot);
    }

    /// Whether any device may want the event. System events go to none.
    fn may_want(&self, event: &Event) -> bool {
        let asked_for = || self.prefixes.iter().any(|prefix| event.name.starts_with(prefix));
        !is_system_name(&event.name) && (self.prefixes.len() > PREFIXES_MAX || asked_for())
    }
}

impl<R> Shard<R> {
    /// Keeps the index of subscribers true of one device.
    pub(super) fn index(&mut self, id: DeviceId) {
        let Some(slot) = self.devices.slot(&id) else { return };
        let Some(device) = self.devices.at(slot) else { return };
        let Some(owner) = device.owner() else { return };
        if !device.subscribes_to_applications() {
            self.unindex(Some(owner), id);
        } else {
            let is_new = |prefix: &str| self.newly_wanted.push((owner, prefix.to_owned()));
            self.subscribers.entry(owner).or_default().add(slot, &device.subscriptions, is_new);
        }
    }

    /// Takes one device out of the index. To be called while its place is still its own.
    pub(super) fn unindex(&mut self, owner: Option<OwnerId>, id: DeviceId) {
        let Some((owner, slot)) = owner.zip(self.devices.slot(&id)) else { return };
        let Some(of_owner) = self.subscribers.get_mut(&owner) else { return };
        of_owner.devices.remove(&slot);
        if of_owner.devices.is_empty() {
            self.subscribers.remove(&owner);
        }
    }

    /// What devices of which owners have begun to want since the last call: events whose names begin so. Only these need to come by
    /// [`Input::Committed`](super::Input::Committed).
    pub fn take_newly_wanted(&mut self) -> Vec<(OwnerId, String)> {
        std::mem::take(&mut self.newly_wanted)
    }

    pub(super) fn fan_out(&mut self, now: Now, position: Position, event: &Event, out: &mut Vec<Output<R>>) {
        let (mut asked, mut refused, mut offline) = (0, 0, 0);
        let mut sent = Vec::new();
        let subscribers = self.subscribers.get(&event.owner).filter(|subscribers| subscribers.may_want(event));
        for slot in subscribers.iter().flat_map(|subscribers| &subscribers.devices) {
            let Some(device) = self.devices.at(*slot) else { continue };
            let Some(delivery) = delivery(event, &device.subscriptions, device.takes_typed_events()) else { continue };
            let Some(link) = device.link.filter(|_| device.presence.is_online(now.at)) else {
                offline += 1;
                continue;
            };
            asked += 1;
            match self.deliveries.admit(device.id(), position, delivery) {
                Admitted::Now(delivery) => sent.push((link, device.id(), delivery)),
                Admitted::Later => {}
                Admitted::Refused => refused += 1,
            }
        }
        self.deliveries.note(Fate::Offline, offline);
        match (asked, offline) {
            (0, 0) => out.push(Output::Fate { position, fate: Fate::Unwanted }),
            (0, _) => out.push(Output::Fate { position, fate: Fate::Offline }),
            _ => self.deliveries.begin(position, asked),
        }
        (0..refused).for_each(|_| self.met(position, Fate::Busy, out));
        sent.into_iter().for_each(|(link, id, delivery)| self.send(now, link, id, position, delivery, out));
    }

    /// An event was acknowledged by a device, or was not. The next one goes to it.
    pub(super) fn delivery_ended(&mut self, now: Now, id: DeviceId, position: Position, fate: Fate, out: &mut Vec<Output<R>>) {
        self.met(position, fate, out);
        while let Some((position, delivery)) = self.deliveries.next(id) {
            let device = self.devices.get(&id).filter(|device| device.presence.is_online(now.at));
            match device.and_then(|device| device.link) {
                // Nobody waits for a silent device again and again.
                _ if fate == Fate::Unanswered => self.met(position, Fate::Unanswered, out),
                None => self.met(position, Fate::Offline, out),
                Some(link) => return self.send(now, link, id, position, delivery, out),
            }
        }
    }

    fn send(&mut self, now: Now, link: Link, id: DeviceId, position: Position, delivery: Delivery, out: &mut Vec<Output<R>>) {
        let deadline = now.at + DELIVERY_SPAN;
        let request = self.calls.open(id, Purpose::Delivery(position));
        self.timers.end_call(deadline + Duration::from_secs(1), request);
        out.push(Output::Request { link, id: request, request: Request::Deliver(delivery), deadline });
    }

    /// That is what became of an event for one device.
    fn met(&mut self, position: Position, fate: Fate, out: &mut Vec<Output<R>>) {
        out.extend(self.deliveries.end(position, fate).map(|fate| Output::Fate { position, fate }));
    }
}

#[cfg(test)]
mod tests {
    use firmware_protocol::session::subscribe::HandlerKind;
    use firmware_protocol::time::UnixMillis;

    use super::*;
    use crate::event::{NewEvent, Source};

    fn event(name: &str) -> Event {
        let owner = OwnerId(1);
        let new = NewEvent { owner, product: None, source: Source::Api, name: name.into(), content_format: 0, data: None, ttl_s: 60 };
        new.accept(UnixMillis(0), [0; 10])
    }

    #[test]
    fn only_events_that_somebody_asked_for_are_looked_at() {
        let mut subscribers = Subscribers::default();
        let mut told = Vec::new();
        subscribers.add(Slot::default(), &["spark", "news"].map(|prefix| Subscription::new(prefix, HandlerKind::Text)), |new| {
            told.push(new.to_owned())
        });
        assert_eq!(told, ["spark", "news"]);
        let wanted = |subscribers: &Subscribers| ["news/today", "spark/status", "weather"].map(|name| subscribers.may_want(&event(name)));
        assert_eq!(wanted(&subscribers), [true, false, false]);
        let many: Vec<_> = (0..99).map(|n| Subscription::new(format!("x{n}"), HandlerKind::Text)).collect();
        let mut last = String::new();
        subscribers.add(Slot::default(), &many, |new| new.clone_into(&mut last));
        assert_eq!(last, "", "everything");
        assert_eq!(wanted(&subscribers), [true, false, true], "beyond a number of prefixes, everything that is not the system's");
        assert!(subscribers.prefixes.len() <= PREFIXES_MAX + 1);
    }
}
