//! A shard: the single owner of a set of devices. Inputs in, outputs out; no I/O, no clock, no lock.

mod calls;
mod deliveries;
mod life;
mod requests;
mod subscribers;
mod timers;
mod uplink;
mod vitals;

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

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
use crate::device::{AwaitedDevice, Device, DeviceView, Link};
use crate::epoch::Epoch;
use crate::errand::{self, Errand};
use crate::event::{Event, NewEvent, Position, Source};
use crate::fate::{Fate, Fates};
use crate::in_common::InCommon;
use crate::journal::{Record, RetireReason};
use crate::presence::STATUS_EVENT;
use crate::progress::Heartbeat;
use crate::table::Table;

use self::calls::Calls;
use self::deliveries::Deliveries;
use self::subscribers::Subscribers;
use self::timers::{Due, Look, Timers};

/// Something a shard is told. `R` is how the caller of the API is answered; the shard only carries it.
#[derive(Debug)]
pub enum Input<R> {
    /// Passed on behind everything that came before it.
    Heartbeat(Heartbeat),
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
    /// An event is durable and goes out to subscribed devices. Answered by [`Output::Fate`].
    Committed {
        /// Its position.
        position: Position,
        /// The event.
        event: Arc<Event>,
    },
    /// An errand was run.
    ErrandDone {
        /// For which device.
        device: DeviceId,
        /// Over which session it had asked.
        link: Link,
        /// What came of it.
        outcome: errand::Outcome,
    },
    /// A device that was online when the former process ended, and has no session that outlived that.
    Expect(AwaitedDevice),
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
    /// Goes to the journal and to the terminators.
    Heartbeat(Heartbeat),
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
    /// All devices that want a committed event have answered, or none will.
    Fate {
        /// The event's position.
        position: Position,
        /// What became of it.
        fate: Fate,
    },
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

/// A shard.
pub struct Shard<R> {
    devices: Table<Device>,
    common: InCommon,
    /// Devices with subscriptions of their own, by owner.
    subscribers: BTreeMap<OwnerId, Subscribers>,
    /// Owners that were not among them before.
    newly_wanted: Vec<(OwnerId, String)>,
    calls: Calls<R>,
    deliveries: Deliveries,
    timers: Timers,
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
        Self::of_epoch(Epoch::FIRST, entropy)
    }

    /// The same for a thread that takes the place of others.
    pub fn of_epoch(epoch: Epoch, entropy: Box<dyn Entropy + Send>) -> Self {
        Self {
            devices: Table::default(),
            common: InCommon::default(),
            subscribers: BTreeMap::new(),
            newly_wanted: Vec::new(),
            calls: Calls::of_epoch(epoch),
            deliveries: Deliveries::default(),
            timers: Timers::default(),
            entropy,
            counts: Counts::default(),
        }
    }

    /// What it did so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// What became of deliveries to single devices since the last call.
    pub fn take_delivery_fates(&mut self) -> Fates {
        self.deliveries.take_fates()
    }

    /// Number of devices that are online.
    pub fn online(&self, now: Millis) -> usize {
        self.devices.iter().filter(|device| device.link.is_some() && device.presence.is_online(now)).count()
    }

    /// When [`Shard::handle_timeout`] wants to be called.
    pub fn timeout_at(&self) -> Option<Millis> {
        self.timers.timeout_at()
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Now, out: &mut Vec<Output<R>>) {
        while let Some(due) = self.timers.pop(now.at) {
            match due {
                Due::Call(id) => self.call_ended(now, id, Ok(Outcome::TimedOut { received: false }), out),
                Due::Device(device, Look::Lease) => self.lease_due(now, device, out),
                Due::Device(device, Look::Missing) => self.missing_due(now, device, out),
                Due::Device(device, Look::Poll) => self.ask_missing_describes(now, device, out),
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
                    device.last_ip = ip.into();
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
            Input::Heartbeat(heartbeat) => out.push(Output::Heartbeat(heartbeat)),
            Input::Publish { event, reply } => self.append_event(now, None, event, Then::Tell(reply), out),
            Input::Committed { position, event } => self.fan_out(now, position, &event, out),
            Input::ErrandDone { device, link, outcome } => self.errand_done(now, device, link, outcome, out),
            Input::Expect(awaited) => self.expect(now, awaited),
            Input::IdentityChanged(identity) => self.identity_changed(now, identity, out),
            Input::Registered(identities) => {
                let known: Vec<DeviceId> = self.devices.iter().map(Device::id).collect();
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

    fn publish_status(&mut self, now: Now, id: DeviceId, status: &str, out: &mut Vec<Output<R>>) {
        let Some(device) = self.devices.get(&id) else { return };
        let Some(owner) = device.owner() else { return };
        let event = NewEvent {
            owner,
            product: device.product(),
            source: Source::Device(id),
            name: STATUS_EVENT.to_owned(),
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

#[cfg(test)]
mod tests;
