//! Sessions of a device and its lease: how it comes, goes on, is taken over and goes.

use std::net::IpAddr;
use std::time::Duration;

use firmware_protocol::id::{DeviceId, Identity};
use firmware_protocol::session::describe::DescribeKind;
use firmware_protocol::session::request::Request;
use firmware_protocol::time::{Now, UnixMillis};

use super::calls::Purpose;
use super::timers::Look;
use super::{Output, Shard, Then};
use crate::device::{AwaitedDevice, Device, Link, Moment, RestoredDevice};
use crate::journal::{Record, RetireReason};

/// How long a device may take to answer a describe that the shard itself asks for.
const DESCRIBE_SPAN: Duration = Duration::from_secs(45);
/// How long a resumed session has to bring what is missing before it is asked for.
const PATIENCE: Duration = Duration::from_secs(15);

impl<R> Shard<R> {
    /// Takes over devices that a former process served.
    pub fn restore<'a>(&mut self, now: Now, devices: impl Iterator<Item = RestoredDevice<'a>>) {
        let most = devices.size_hint().1.unwrap_or_default();
        self.devices.reserve(most);
        self.timers.reserve(most);
        devices.for_each(|device| self.restore_one(now, device));
        self.common.end_restoring();
    }

    /// One that was online counts as online for one lease, because it does not know that anything happened, unless it sleeps. Its owner is told only
    /// what is news.
    fn restore_one(&mut self, now: Now, restored: RestoredDevice<'_>) {
        let online = restored.online;
        let device = Device::restored(restored, &mut self.common);
        let (id, asleep) = (device.id(), device.asleep_until(now.unix).is_some());
        self.devices.insert(device);
        if online && !asleep {
            self.renew(now, id);
        }
        self.index(id);
    }

    /// Ends a session that the thread before this one left behind, and that is no device's any more.
    pub fn bury(&mut self, now: Now, device: DeviceId, link: Link, reason: RetireReason, out: &mut Vec<Output<R>>) {
        retire(now, device, link, reason, out);
    }

    /// Gives a device that was online under a former process, and has lost its session with that, one lease to come back in. Only if it
    /// does not, its owner is told that it went.
    pub(super) fn expect(&mut self, now: Now, awaited: AwaitedDevice) {
        if self.devices.contains(&awaited.identity.device) {
            // It was quicker.
            return;
        }
        let mut device = Device::new(awaited.identity);
        awaited.hello.iter().for_each(|hello| device.introduce(hello));
        self.devices.insert(device);
        self.renew(now, awaited.identity.device);
    }

    pub(super) fn opened(&mut self, now: Now, link: Link, identity: Identity, ip: IpAddr, out: &mut Vec<Output<R>>) {
        let Some(device) = self.devices.get_or_insert_with(identity.device, || Device::new(identity)) else { return };
        device.identify(identity);
        device.last_handshake = Moment::at(now.unix);
        device.last_ip = ip.into();
        (device.restored, device.claiming) = (false, false);
        if let Some(old) = device.link.replace(link).filter(|old| *old != link) {
            self.counts.replaced += 1;
            retire(now, identity.device, old, RetireReason::Replaced, out);
        }
        self.index(identity.device);
        self.alive(now, identity.device, now.unix, out);
    }

    pub(super) fn heard(&mut self, now: Now, id: DeviceId, link: Link, at: UnixMillis, out: &mut Vec<Output<R>>) {
        if self.current(id, link).is_some_and(|device| !device.is_leaving(at)) {
            self.alive(now, id, at, out);
        }
    }

    /// The device, if `link` is its session.
    pub(super) fn current(&mut self, id: DeviceId, link: Link) -> Option<&mut Device> {
        let current = self.devices.get_mut(&id).filter(|device| device.link == Some(link));
        if current.is_none() {
            self.counts.stale += 1;
        }
        current
    }

    pub(super) fn alive(&mut self, now: Now, id: DeviceId, at: UnixMillis, out: &mut Vec<Output<R>>) {
        let Some(device) = self.devices.get_mut(&id) else { return };
        device.last_heard = device.last_heard.max(Moment::at(at));
        device.left = None;
        if std::mem::take(&mut device.restored) && !device.is_complete() {
            self.timers.look(now.at + PATIENCE, id, Look::Missing);
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
            (device.online_since, device.published) = (Moment::at(now.unix), 0);
        }
        if let Some(until) = device.presence.until().filter(|_| !device.lease_timer) {
            device.lease_timer = true;
            self.timers.look(until, id, Look::Lease);
        }
        came
    }

    pub(super) fn lease_due(&mut self, now: Now, id: DeviceId, out: &mut Vec<Output<R>>) {
        let Some(device) = self.devices.get_mut(&id) else { return };
        let Some(until) = device.presence.until() else {
            device.lease_timer = false;
            return;
        };
        if until > now.at {
            return self.timers.look(until, id, Look::Lease);
        }
        device.lease_timer = false;
        device.presence.lapse();
        self.publish_status(now, id, "offline", out);
    }

    /// A resumed session has had time to bring what was missing. Describes can be asked for; subscriptions can only be had from a new session.
    pub(super) fn missing_due(&mut self, now: Now, id: DeviceId, out: &mut Vec<Output<R>>) {
        let Some(device) = self.devices.get_mut(&id) else { return };
        let Some(link) = device.link else { return };
        if device.firmware.is_none() || device.subscriptions.is_empty() {
            return self.end_session(now, id, link, RetireReason::StateLost, out);
        }
        self.ask_missing_describes(now, id, out);
    }

    pub(super) fn ask_missing_describes(&mut self, now: Now, id: DeviceId, out: &mut Vec<Output<R>>) {
        let missing: Vec<DescribeKind> = self.devices.get(&id).into_iter().flat_map(|device| device.missing_describes()).collect();
        missing.into_iter().for_each(|kind| self.ask_describe(now, id, kind, out));
    }

    pub(super) fn ask_describe(&mut self, now: Now, id: DeviceId, kind: DescribeKind, out: &mut Vec<Output<R>>) {
        let Some(link) = self.devices.get(&id).and_then(|device| device.link) else { return };
        let deadline = now.at + DESCRIBE_SPAN;
        let request = self.calls.open(id, Purpose::Describe);
        self.timers.end_call(deadline + Duration::from_secs(1), request);
        out.push(Output::Request { link, id: request, request: Request::Describe(kind), deadline });
    }

    pub(super) fn closed(&mut self, now: Now, id: DeviceId, link: Link, out: &mut Vec<Output<R>>) {
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
    pub(super) fn end_session(&mut self, now: Now, id: DeviceId, link: Link, reason: RetireReason, out: &mut Vec<Output<R>>) {
        let Some(device) = self.devices.get_mut(&id) else { return };
        device.link = None;
        let was_online = device.presence.end(now.at);
        retire(now, id, link, reason, out);
        if was_online {
            self.publish_status(now, id, "offline", out);
        }
    }

    pub(super) fn identity_changed(&mut self, now: Now, identity: Identity, out: &mut Vec<Output<R>>) {
        let Some(device) = self.devices.get_mut(&identity.device) else { return };
        if !device.has_key(identity.key) {
            // Its session was made with a key that is no longer the device's.
            return self.revoked(now, identity.device, out);
        }
        let (owner, link) = (device.owner(), device.link);
        if !device.identify(identity) {
            return;
        }
        self.unindex(owner, identity.device);
        if let Some(link) = link {
            out.push(Output::Identify { link, identity });
        }
        self.index(identity.device);
    }

    pub(super) fn revoked(&mut self, now: Now, id: DeviceId, out: &mut Vec<Output<R>>) {
        if let Some(link) = self.devices.get(&id).and_then(|device| device.link) {
            self.end_session(now, id, link, RetireReason::Revoked, out);
        }
        let owner = self.devices.get(&id).and_then(Device::owner);
        self.unindex(owner, id);
        self.devices.remove(&id);
    }
}

fn retire<R>(now: Now, device: DeviceId, link: Link, reason: RetireReason, out: &mut Vec<Output<R>>) {
    let record = Record::SessionRetired { connection: link.connection, device, reason, at: now.unix };
    out.push(Output::Append { record, then: Then::Nothing });
    out.push(Output::Retire { link, reason });
}
