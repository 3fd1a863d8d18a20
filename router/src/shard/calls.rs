//! Requests that a shard has open with its devices.

use std::collections::HashMap;
use std::time::Duration;

use firmware_protocol::error::RequestError;
use firmware_protocol::id::DeviceId;
use firmware_protocol::session::describe::DescribeKind;
use firmware_protocol::session::request::{Outcome, RequestId};
use firmware_protocol::session::variable::VariableType;
use firmware_protocol::time::{Millis, Now};

use crate::ask::{Ask, AskError, answer};
use crate::epoch::Epoch;
use crate::event::Position;
use crate::journal::Record;
use crate::shard::deliveries::fate_of;
use crate::shard::{Output, Shard, Then};

/// How much longer than its deadline a call is held, so that its terminator can say how it ended.
const GRACE: Duration = Duration::from_secs(1);

/// Bits that count the requests of one epoch.
const NUMBER_BITS: u32 = 40;

/// What a request is for.
#[derive(Debug)]
pub(super) enum Purpose<R> {
    /// A caller waits; the type is that of the variable read.
    Caller(R, Option<VariableType>),
    /// The event at this position, for a subscribed device.
    Delivery(Position),
    /// A describe that was missing.
    Describe,
    /// Vitals that a caller wanted.
    Vitals,
    /// Something that the device alone is told.
    Told,
}

#[derive(Debug)]
struct Open<R> {
    device: DeviceId,
    purpose: Purpose<R>,
}

/// The open requests of a shard.
#[derive(Debug)]
pub(super) struct Calls<R> {
    open: HashMap<RequestId, Open<R>>,
    last: u64,
}

impl<R> Default for Calls<R> {
    fn default() -> Self {
        Self { open: HashMap::new(), last: 0 }
    }
}

impl<R> Calls<R> {
    /// None is open. The end of one that the shard had open in an earlier epoch is taken for that of no other.
    pub(super) fn of_epoch(Epoch(epoch): Epoch) -> Self {
        Self { last: epoch.saturating_sub(Epoch::FIRST.0) << NUMBER_BITS, ..Self::default() }
    }

    pub(super) fn open(&mut self, device: DeviceId, purpose: Purpose<R>) -> RequestId {
        self.last += 1;
        let id = RequestId(self.last);
        self.open.insert(id, Open { device, purpose });
        id
    }
}

impl<R> Shard<R> {
    /// A caller's question: answered at once where the device need not be asked.
    pub(super) fn ask(&mut self, now: Now, id: DeviceId, ask: &Ask, deadline: Millis, reply: R, out: &mut Vec<Output<R>>) {
        let device = self.devices.get(&id);
        let online = device.filter(|device| device.presence.is_online(now.at));
        let Some((device, link)) = online.and_then(|device| Some((device, device.link?))) else {
            let asleep = device.and_then(|device| device.asleep_until(now.unix));
            let error = asleep.map_or(AskError::Offline, AskError::AsleepUntil);
            return out.push(Output::Answer { reply, answer: Err(error) });
        };
        let variable = match (ask, &device.application) {
            (Ask::Vitals, _) => return self.ask_vitals(id, deadline, reply, out),
            (Ask::Ping | Ask::Signal { .. }, _) => Ok(None),
            (_, None) => Err(AskError::NotDescribed),
            (Ask::Call { function, .. }, Some(application)) if application.has_function(function) => Ok(None),
            (Ask::Call { .. }, Some(_)) => Err(AskError::NoSuchFunction),
            (Ask::Read { variable }, Some(application)) => application.variable(variable).map(Some).ok_or(AskError::NoSuchVariable),
        };
        match variable {
            Err(error) => out.push(Output::Answer { reply, answer: Err(error) }),
            Ok(variable) => {
                let request = self.calls.open(id, Purpose::Caller(reply, variable));
                self.timers.end_call(deadline + GRACE, request);
                out.push(Output::Request { link, id: request, request: ask.request(), deadline });
            }
        }
    }

    pub(super) fn call_ended(&mut self, now: Now, id: RequestId, outcome: Result<Outcome, RequestError>, out: &mut Vec<Output<R>>) {
        let Some(open) = self.calls.open.remove(&id) else { return };
        match (open.purpose, outcome) {
            (Purpose::Caller(reply, variable), Ok(outcome)) => {
                let answer = answer(outcome, |bytes| variable.and_then(|kind| kind.decode(bytes)));
                out.push(Output::Answer { reply, answer });
            }
            (Purpose::Caller(reply, _), Err(error)) => {
                let error = match error {
                    RequestError::Busy => AskError::Busy,
                    RequestError::TooLarge => AskError::TooLarge,
                };
                out.push(Output::Answer { reply, answer: Err(error) });
            }
            (Purpose::Delivery(position), outcome) => self.delivery_ended(now, open.device, position, fate_of(&outcome), out),
            (Purpose::Describe, Ok(Outcome::Described(kind, payload))) => self.described(now, open.device, kind, payload, out),
            (Purpose::Vitals, Ok(Outcome::Described(DescribeKind::Metrics, page))) => self.vitals_told(now, open.device, Some(page), out),
            (Purpose::Vitals, _) => self.vitals_told(now, open.device, None, out),
            (Purpose::Describe | Purpose::Told, _) => {}
        }
    }

    /// A describe that was asked for. It came as an answer, so it has no floor of its own.
    fn described(&mut self, now: Now, id: DeviceId, kind: DescribeKind, payload: Vec<u8>, out: &mut Vec<Output<R>>) {
        if kind == DescribeKind::Metrics {
            return self.vitals(now, id, None, &payload, Then::Nothing, out);
        }
        let Some(device) = self.devices.get_mut(&id) else { return };
        device.describe(kind, &payload, &mut self.common);
        let record = Record::Describe { floor: None, device: id, kind, payload, at: now.unix };
        out.push(Output::Append { record, then: Then::Nothing });
    }
}
