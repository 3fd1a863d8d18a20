//! A shard: the single owner of a set of devices. Inputs in, outputs out; no I/O, no clock, no lock.

mod calls;
mod requests;
mod uplink;
mod vitals;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use firmware_protocol::coap::Code;
use firmware_protocol::entropy::Entropy;
use firmware_protocol::error::RequestError;
use firmware_protocol::id::{DeviceId, Identity, OwnerId};
use firmware_protocol::session::describe::DescribeKind;
use firmware_protocol::session::request::{Outcome, Request, RequestId};
use firmware_protocol::session::stored::Floor;
use firmware_protocol::session::{Receipt, Uplink};
use firmware_protocol::time::{Millis, Now, UnixMillis};

use crate::ask::{Answer, Ask, AskError};
use crate::delivery::delivery;
use crate::device::{Device, DeviceView, InCommon, Link, RestoredDevice};
use crate::errand::{self, Errand};
use crate::event::{CommittedEvents, Event, NewEvent, Source};
use crate::journal::{Record, RetireReason};

use self::calls::{Calls, Purpose};

/// How long an event is offered to a subscribed device.
const DELIVERY_SPAN: Duration = Duration::from_secs(45);
/// How long a device may take to answer a describe that the shard itself asks for.
const DESCRIBE_SPAN: Duration = Duration::from_secs(45);
/// How long a resumed session has to bring what is missing before it is asked for.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long after its Hello a device that posts no describes is asked for them: until the acknowledgement is there it drops what comes.
const POLL_AFTER: Duration = Duration::from_secs(1);

/// Something a shard is told. `R` is how the caller of the API is answered; the shard only carries it.
#[derive(Debug)]
pub enum Input<R> {
    /// A new session is durable.
    Opened {
        /// Where it lives.
        link: Link,
        /// Whose it is.
        identity: Identity,
        /// Where the device is.
        ip: IpAddr,
    },
    /// A message of a device.
    Received {
        /// Where it came in.
        link: Link,
        /// From whom.
        device: DeviceId,
        /// To acknowledge it with.
        receipt: Receipt,
        /// What identifies it.
        floor: Floor,
        /// What it says.
        uplink: Uplink,
    },
    /// The device was heard: a proof of life.
    Heard {
        /// Which.
        device: DeviceId,
        /// Where.
        link: Link,
        /// When.
        at: UnixMillis,
    },
    /// It proved to be at another address.
    Moved {
        /// Which.
        device: DeviceId,
        /// Where.
        ip: IpAddr,
    },
    /// It lost a describe half-way.
    DescribeLost {
        /// Which.
        device: DeviceId,
        /// Of which kind.
        kind: DescribeKind,
    },
    /// It ended its session.
    Closed {
        /// Which.
        device: DeviceId,
        /// Which session.
        link: Link,
    },
    /// A request to it is over, or could not be sent.
    Settled {
        /// Which.
        request: RequestId,
        /// How.
        outcome: Result<Outcome, RequestError>,
    },
    /// An API caller asks something of a device.
    Ask {
        /// Which.
        device: DeviceId,
        /// What.
        ask: Ask,
        /// When the caller gives up.
        deadline: Millis,
        /// How it is answered.
        reply: R,
    },
    /// An API caller wants to know about devices.
    View {
        /// Which.
        devices: Vec<DeviceId>,
        /// How it is answered.
        reply: R,
    },
    /// An API caller or the server itself publishes.
    Publish {
        /// What.
        event: NewEvent,
        /// How it is answered, when the event is durable.
        reply: R,
    },
    /// Events are durable and go out to subscribed devices.
    Committed(CommittedEvents),
    /// An errand was run.
    ErrandDone {
        /// For which device.
        device: DeviceId,
        /// Over which session it had asked.
        link: Link,
        /// What came of it.
        outcome: errand::Outcome,
    },
    /// The registry says something else of a device now.
    IdentityChanged(Identity),
    /// All that the registry says, after changes were missed: whoever is not in it may no longer be here.
    Registered(Arc<HashMap<DeviceId, Identity>>),
    /// The device may no longer be here.
    Revoked(DeviceId),
}

/// Something a shard wants done.
#[derive(Debug)]
pub enum Output<R> {
    /// Write this down, and then do that.
    Append {
        /// What.
        record: Record,
        /// And then.
        then: Then<R>,
    },
    /// Send a request to a device.
    Request {
        /// Over which session.
        link: Link,
        /// Under which name.
        id: RequestId,
        /// What.
        request: Request,
        /// Until when.
        deadline: Millis,
    },
    /// Answer a message now, without writing anything down.
    Acknowledge {
        /// Over which session.
        link: Link,
        /// Which message.
        receipt: Receipt,
        /// With what.
        code: Code,
    },
    /// The session is over on our side.
    Retire {
        /// Which.
        link: Link,
        /// Why.
        reason: RetireReason,
    },
    /// The registry's new word about the holder of a session.
    Identify {
        /// Which session.
        link: Link,
        /// Who holds it.
        identity: Identity,
    },
    /// Run an errand.
    Errand(Errand),
    /// Answer a caller.
    Answer {
        /// Whom.
        reply: R,
        /// With what.
        answer: Result<Answer, AskError>,
    },
    /// Show a caller devices.
    Views {
        /// Whom.
        reply: R,
        /// Those of the asked devices that this shard knows.
        views: Vec<DeviceView>,
    },
}

/// What follows a commit.
#[derive(Debug)]
pub enum Then<R> {
    /// Nothing.
    Nothing,
    /// The device is told that its message was taken.
    Acknowledge {
        /// Over which session.
        link: Link,
        /// Which message.
        receipt: Receipt,
    },
    /// A caller is told the position.
    Tell(R),
}

/// Counts of what a shard did. Read by its thread, never reset.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Events accepted from devices.
    pub events: u64,
    /// Messages that were acknowledged and led to nothing, because the device has no owner or the name is the system's.
    pub unrouted: u64,
    /// Deliveries begun to subscribed devices.
    pub deliveries: u64,
    /// Deliveries that a device acknowledged.
    pub delivered: u64,
    /// Inputs about sessions that are no longer the device's.
    pub stale: u64,
    /// Requests of devices for names and the like that came too often.
    pub wishes_refused: u64,
    /// Subscriptions beyond what is kept.
    pub subscriptions_refused: u64,
    /// Pages of vitals that became events.
    pub vitals: u64,
    /// Pages of vitals that were none.
    pub vitals_malformed: u64,
    /// Sessions that were replaced by a newer one of the same device.
    pub replaced: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Timer {
    Lease(DeviceId),
    Missing(DeviceId),
    Poll(DeviceId),
    Call(RequestId),
}

/// A shard.
pub struct Shard<R> {
    /// In boxes: a table has room for twice as many as it holds, and moves them all when it grows.
    devices: HashMap<DeviceId, Box<Device>>,
    common: InCommon,
    /// Devices with subscriptions of their own, by owner.
    subscribers: BTreeMap<OwnerId, BTreeSet<DeviceId>>,
    /// Owners that were not among them before.
    new_subscribers: Vec<OwnerId>,
    calls: Calls<R>,
    timers: BinaryHeap<Reverse<(Millis, Timer)>>,
    entropy: Box<dyn Entropy + Send>,
    counts: Counts,
}

impl<R> std::fmt::Debug for Shard<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shard").field("devices", &self.devices.len()).field("counts", &self.counts).finish_non_exhaustive()
    }
}

impl<R> Shard<R> {
    /// An empty shard. `entropy` names events.
    pub fn new(entropy: Box<dyn Entropy + Send>) -> Self {
        Self {
            devices: HashMap::new(),
            common: InCommon::default(),
            subscribers: BTreeMap::new(),
            new_subscribers: Vec::new(),
            calls: Calls::default(),
            timers: BinaryHeap::new(),
            entropy,
            counts: Counts::default(),
        }
    }

    /// Takes over a device that a former process served. It counts as online for one lease, because it does not know that anything happened,
    /// unless it sleeps.
    pub fn restore(&mut self, now: Now, restored: RestoredDevice) {
        let device = Device::restored(restored, &mut self.common);
        let (id, asleep) = (device.identity.device, device.asleep_until(now.unix).is_some());
        self.devices.insert(id, Box::new(device));
        if !asleep {
            self.renew(now, id);
        }
        self.index(id);
    }

    /// What it did so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Number of devices that are online.
    pub fn online(&self, now: Millis) -> usize {
        self.devices.values().filter(|device| device.link.is_some() && device.presence.is_online(now)).count()
    }

    /// When [`Shard::handle_timeout`] wants to be called.
    pub fn timeout_at(&self) -> Option<Millis> {
        self.timers.peek().map(|Reverse((at, _))| *at)
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Now, out: &mut Vec<Output<R>>) {
        while let Some(Reverse((_, timer))) = self.timers.peek().copied().filter(|Reverse((at, _))| *at <= now.at) {
            self.timers.pop();
            match timer {
                Timer::Call(id) => self.call_ended(now, id, Ok(Outcome::TimedOut { received: false }), out),
                Timer::Lease(device) => self.lease_due(now, device, out),
                Timer::Missing(device) => self.missing_due(now, device, out),
                Timer::Poll(device) => self.ask_missing_describes(now, device, out),
            }
        }
    }

    /// Decides.
    pub fn apply(&mut self, now: Now, input: Input<R>, out: &mut Vec<Output<R>>) {
        match input {
            Input::Opened { link, identity, ip } => self.opened(now, link, identity, ip, out),
            Input::Received { link, device, receipt, floor, uplink } => self.received(now, link, device, receipt, floor, uplink, out),
            Input::Heard { device, link, at } => self.heard(now, device, link, at, out),
            Input::Moved { device, ip } => {
                if let Some(device) = self.devices.get_mut(&device) {
                    device.last_ip = Some(ip);
                }
            }
            Input::DescribeLost { device, kind } => self.ask_describe(now, device, kind, out),
            Input::Closed { device, link } => self.closed(now, device, link, out),
            Input::Settled { request, outcome } => self.call_ended(now, request, outcome, out),
            Input::Ask { device, ask, deadline, reply } => self.ask(now, device, &ask, deadline, reply, out),
            Input::View { devices, reply } => {
                let views = devices.iter().filter_map(|id| self.devices.get(id)).map(|device| device.view(now)).collect();
                out.push(Output::Views { reply, views });
            }
            Input::Publish { event, reply } => self.append_event(now, None, event, Then::Tell(reply), out),
            Input::Committed(events) => events.iter().for_each(|(_, event)| self.fan_out(now, event, out)),
            Input::ErrandDone { device, link, outcome } => self.errand_done(now, device, link, outcome, out),
            Input::IdentityChanged(identity) => self.identity_changed(now, identity, out),
            Input::Registered(identities) => {
                let known: Vec<DeviceId> = self.devices.keys().copied().collect();
                for id in known {
                    match identities.get(&id) {
                        Some(identity) => self.identity_changed(now, *identity, out),
                        None => self.revoked(now, id, out),
                    }
                }
            }
            Input::Revoked(device) => self.revoked(now, device, out),
        }
    }

    fn opened(&mut self, now: Now, link: Link, identity: Identity, ip: IpAddr, out: &mut Vec<Output<R>>) {
        let device = self.devices.entry(identity.device).or_insert_with(|| Box::new(Device::new(identity)));
        device.identity = identity;
        device.last_handshake = Some(now.unix);
        device.last_ip = Some(ip);
        (device.restored, device.claiming) = (false, false);
        if let Some(old) = device.link.replace(link).filter(|old| *old != link) {
            self.counts.replaced += 1;
            retire(now, identity.device, old, RetireReason::Replaced, out);
        }
        self.index(identity.device);
        self.alive(now, identity.device, now.unix, out);
    }

    fn heard(&mut self, now: Now, id: DeviceId, link: Link, at: UnixMillis, out: &mut Vec<Output<R>>) {
        if self.current(id, link).is_some_and(|device| !device.is_leaving(at)) {
            self.alive(now, id, at, out);
        }
    }

    /// The device, if `link` is its session.
    fn current(&mut self, id: DeviceId, link: Link) -> Option<&mut Device> {
        let current = self.devices.get_mut(&id).map(Box::as_mut).filter(|device| device.link == Some(link));
        if current.is_none() {
            self.counts.stale += 1;
        }
        current
    }

    fn alive(&mut self, now: Now, id: DeviceId, at: UnixMillis, out: &mut Vec<Output<R>>) {
        let Some(device) = self.devices.get_mut(&id) else { return };
        device.last_heard = device.last_heard.max(Some(at));
        device.left = None;
        if std::mem::take(&mut device.restored) && !device.is_complete() {
            self.timers.push(Reverse((now.at + PATIENCE, Timer::Missing(id))));
        }
        if self.renew(now, id) {
            self.publish_status(now, id, "online", out);
        }
    }

    /// Renews a lease and sees to its end. `true` if the device was offline.
    fn renew(&mut self, now: Now, id: DeviceId) -> bool {
        let Some(device) = self.devices.get_mut(&id) else { return false };
        let came = device.presence.renew(now.at, device.platform());
        if came {
            (device.online_since, device.published) = (Some(now.unix), 0);
        }
        if let Some(until) = device.presence.until().filter(|_| !device.lease_timer) {
            device.lease_timer = true;
            self.timers.push(Reverse((until, Timer::Lease(id))));
        }
        came
    }

    fn lease_due(&mut self, now: Now, id: DeviceId, out: &mut Vec<Output<R>>) {
        let Some(device) = self.devices.get_mut(&id) else { return };
        let Some(until) = device.presence.until() else {
            device.lease_timer = false;
            return;
        };
        if until > now.at {
            return self.timers.push(Reverse((until, Timer::Lease(id))));
        }
        device.lease_timer = false;
        device.presence.lapse();
        self.publish_status(now, id, "offline", out);
    }

    /// A resumed session has had time to bring what was missing. Describes can be asked for; subscriptions can only be had from a new session.
    fn missing_due(&mut self, now: Now, id: DeviceId, out: &mut Vec<Output<R>>) {
        let Some(device) = self.devices.get_mut(&id) else { return };
        let Some(link) = device.link else { return };
        if device.hello.is_none() || device.subscriptions.is_empty() {
            return self.end_session(now, id, link, RetireReason::StateLost, out);
        }
        self.ask_missing_describes(now, id, out);
    }

    fn ask_missing_describes(&mut self, now: Now, id: DeviceId, out: &mut Vec<Output<R>>) {
        let missing: Vec<DescribeKind> = self.devices.get(&id).into_iter().flat_map(|device| device.missing_describes()).collect();
        missing.into_iter().for_each(|kind| self.ask_describe(now, id, kind, out));
    }

    fn ask_describe(&mut self, now: Now, id: DeviceId, kind: DescribeKind, out: &mut Vec<Output<R>>) {
        let Some(link) = self.devices.get(&id).and_then(|device| device.link) else { return };
        let deadline = now.at + DESCRIBE_SPAN;
        let request = self.calls.open(id, Purpose::Describe);
        self.timers.push(Reverse((deadline + Duration::from_secs(1), Timer::Call(request))));
        out.push(Output::Request { link, id: request, request: Request::Describe(kind), deadline });
    }

    fn closed(&mut self, now: Now, id: DeviceId, link: Link, out: &mut Vec<Output<R>>) {
        let Some(device) = self.current(id, link) else { return };
        device.link = None;
        let was_online = device.presence.end(now.at);
        let record = Record::SessionRetired { connection: link.connection, device: id, reason: RetireReason::ClosedByDevice, at: now.unix };
        out.push(Output::Append { record, then: Then::Nothing });
        if was_online {
            self.publish_status(now, id, "offline", out);
        }
    }

    /// Ends a device's session on our side; who watches the device is told that it went.
    fn end_session(&mut self, now: Now, id: DeviceId, link: Link, reason: RetireReason, out: &mut Vec<Output<R>>) {
        let Some(device) = self.devices.get_mut(&id) else { return };
        device.link = None;
        let was_online = device.presence.end(now.at);
        retire(now, id, link, reason, out);
        if was_online {
            self.publish_status(now, id, "offline", out);
        }
    }

    fn identity_changed(&mut self, now: Now, identity: Identity, out: &mut Vec<Output<R>>) {
        let Some(device) = self.devices.get_mut(&identity.device) else { return };
        if device.identity.key != identity.key {
            // Its session was made with a key that is no longer the device's.
            return self.revoked(now, identity.device, out);
        }
        if device.identity == identity {
            return;
        }
        if let Some(owner) = device.identity.owner {
            self.subscribers.entry(owner).or_default().remove(&identity.device);
        }
        device.identity = identity;
        if let Some(link) = device.link {
            out.push(Output::Identify { link, identity });
        }
        self.index(identity.device);
    }

    fn revoked(&mut self, now: Now, id: DeviceId, out: &mut Vec<Output<R>>) {
        if let Some(link) = self.devices.get(&id).and_then(|device| device.link) {
            self.end_session(now, id, link, RetireReason::Revoked, out);
        }
        let Some(device) = self.devices.remove(&id) else { return };
        if let Some(owner) = device.identity.owner {
            self.subscribers.entry(owner).or_default().remove(&id);
        }
    }

    /// Keeps the index of subscribers true of one device.
    fn index(&mut self, id: DeviceId) {
        let Some(device) = self.devices.get(&id) else { return };
        let Some(owner) = device.identity.owner else { return };
        let wants_events = device.subscribes_to_applications();
        let of_owner = self.subscribers.entry(owner).or_default();
        if !wants_events {
            of_owner.remove(&id);
        } else if of_owner.insert(id) {
            self.new_subscribers.push(owner);
        }
    }

    /// Owners of devices that have begun to subscribe since the last call. Only their events need to come back by [`Input::Committed`].
    pub fn take_new_subscribers(&mut self) -> Vec<OwnerId> {
        std::mem::take(&mut self.new_subscribers)
    }

    fn fan_out(&mut self, now: Now, event: &Event, out: &mut Vec<Output<R>>) {
        let Some(subscribers) = self.subscribers.get(&event.owner) else { return };
        for id in subscribers {
            let Some(device) = self.devices.get(id).filter(|device| device.presence.is_online(now.at)) else { continue };
            let delivery = delivery(event, &device.subscriptions, device.takes_typed_events());
            let (Some(link), Some(delivery)) = (device.link, delivery) else { continue };
            let deadline = now.at + DELIVERY_SPAN;
            let request = self.calls.open(*id, Purpose::Delivery);
            self.timers.push(Reverse((deadline + Duration::from_secs(1), Timer::Call(request))));
            self.counts.deliveries += 1;
            out.push(Output::Request { link, id: request, request: Request::Deliver(delivery), deadline });
        }
    }

    fn publish_status(&mut self, now: Now, id: DeviceId, status: &str, out: &mut Vec<Output<R>>) {
        let Some(identity) = self.devices.get(&id).map(|device| device.identity) else { return };
        let Some(owner) = identity.owner else { return };
        let event = NewEvent {
            owner,
            product: identity.product,
            source: Source::Device(id),
            name: "spark/status".to_owned(),
            content_format: 0,
            data: Some(status.as_bytes().to_vec()),
            ttl_s: 60,
        };
        self.append_event(now, None, event, Then::Nothing, out);
    }

    fn append_event(&mut self, now: Now, floor: Option<Floor>, event: NewEvent, then: Then<R>, out: &mut Vec<Output<R>>) {
        let mut random = [0; 10];
        self.entropy.fill(&mut random);
        let event = event.accept(now.unix, random).into();
        out.push(Output::Append { record: Record::Event { floor, event }, then });
    }
}

fn retire<R>(now: Now, device: DeviceId, link: Link, reason: RetireReason, out: &mut Vec<Output<R>>) {
    let record = Record::SessionRetired { connection: link.connection, device, reason, at: now.unix };
    out.push(Output::Append { record, then: Then::Nothing });
    out.push(Output::Retire { link, reason });
}

#[cfg(test)]
mod tests;
