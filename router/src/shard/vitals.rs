//! Vitals of devices: those that come, and those that are asked for.

use std::time::Duration;

use firmware_protocol::coap::format;
use firmware_protocol::id::DeviceId;
use firmware_protocol::session::describe::DescribeKind;
use firmware_protocol::session::request::Request;
use firmware_protocol::session::stored::Floor;
use firmware_protocol::session::vitals::Vitals;
use firmware_protocol::time::{Millis, Now};

use crate::ask::{Answer, AskError};
use crate::event::{NewEvent, Source};
use crate::journal::Record;
use crate::shard::calls::Purpose;
use crate::shard::{Output, Shard, Then};
use crate::vitals::{self, Service};

impl<R> Shard<R> {
    /// A page of vitals becomes an event for the owner. One that nobody may see, or that is none, is taken and led nowhere.
    pub(super) fn vitals(&mut self, now: Now, id: DeviceId, floor: Option<Floor>, page: &[u8], then: Then<R>, out: &mut Vec<Output<R>>) {
        let Some(device) = self.devices.get_mut(&id) else { return };
        let vitals = Vitals::parse(page);
        self.counts.vitals_malformed += u64::from(vitals.is_none());
        let (Some(vitals), Some(owner)) = (vitals, device.owner()) else {
            self.counts.unrouted += 1;
            out.extend(floor.map(|floor| Output::Append { record: Record::Seen { floor }, then }));
            return;
        };
        self.counts.vitals += 1;
        let since = device.online_since.get().map_or(0, |since| now.unix.0.saturating_sub(since.0));
        let service = Service { uptime_s: since / 1000, published: u64::from(device.published) };
        let event = NewEvent {
            owner,
            product: device.product(),
            source: Source::Device(id),
            name: vitals::EVENT.to_owned(),
            content_format: format::TEXT,
            data: Some(vitals::payload(&vitals, service).to_string().into_bytes()),
            ttl_s: 60,
        };
        self.append_event(now, floor, event, then, out);
    }

    /// Asks a device that is online for its vitals, once at a time. The caller is answered when the device is being asked.
    pub(super) fn ask_vitals(&mut self, id: DeviceId, deadline: Millis, reply: R, out: &mut Vec<Output<R>>) {
        let Some(device) = self.devices.get_mut(&id) else { return };
        let supported = device.firmware.is_some_and(|firmware| firmware.reports_vitals);
        let (Some(link), true) = (device.link, supported) else {
            return out.push(Output::Answer { reply, answer: Err(AskError::NotSupported) });
        };
        if !std::mem::replace(&mut device.vitals_asked, true) {
            let request = self.calls.open(id, Purpose::Vitals);
            self.timers.end_call(deadline + Duration::from_secs(1), request);
            out.push(Output::Request { link, id: request, request: Request::Describe(DescribeKind::Metrics), deadline });
        }
        out.push(Output::Answer { reply, answer: Ok(Answer::Done) });
    }

    /// The device said what it had to say to [`Shard::ask_vitals`], or nothing.
    pub(super) fn vitals_told(&mut self, now: Now, id: DeviceId, page: Option<Vec<u8>>, out: &mut Vec<Output<R>>) {
        if let Some(device) = self.devices.get_mut(&id) {
            device.vitals_asked = false;
        }
        if let Some(page) = page {
            self.vitals(now, id, None, &page, Then::Nothing, out);
        }
    }
}
