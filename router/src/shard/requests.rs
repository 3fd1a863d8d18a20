//! Events with which a device asks the cloud for something: its name, its address, randomness, an owner (docs/protocol.md).
//!
//! None of them is shown to anybody, and the answer goes to that device alone.

use std::time::Duration;

use firmware_protocol::coap::{Code, format};
use firmware_protocol::id::DeviceId;
use firmware_protocol::session::Receipt;
use firmware_protocol::session::publish::{Delivery, Publish};
use firmware_protocol::session::request::Request;
use firmware_protocol::session::stored::Floor;
use firmware_protocol::time::Now;

use crate::device::Link;
use crate::errand::{Claim, Errand, Outcome, Task, Verdict};
use crate::journal::Record;
use crate::rate::Rate;
use crate::shard::calls::Purpose;
use crate::shard::subscribers::DELIVERY_SPAN;
use crate::shard::{Output, Shard, Then};

/// How often a device is answered: five at once, then one in two seconds.
const ANSWERS: Rate = Rate { interval_us: 2_000_000, burst: 5 };
/// How long an errand may take: a device does not wait longer than 40 seconds for an acknowledgement.
const ERRAND_SPAN: Duration = Duration::from_secs(20);
/// With this name a device presents a claim code.
const CLAIM_CODE: &str = "spark/device/claim/code";
/// With this name a device is told to forget its claim code.
const CLAIM_RESPONSE: &str = "spark/device/claim/response";

/// What a device can ask for by an event.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Wish {
    Name,
    Address,
    Random,
    Owner,
}

impl Wish {
    /// What an event of this name asks for.
    pub(super) fn of(name: &str) -> Option<Self> {
        let rest = name.strip_prefix("particle/device/").or_else(|| name.strip_prefix("spark/device/"))?;
        match rest {
            "name" => Some(Self::Name),
            "ip" => Some(Self::Address),
            "random" => Some(Self::Random),
            _ => (name == CLAIM_CODE).then_some(Self::Owner),
        }
    }
}

impl<R> Shard<R> {
    /// A device asks for something.
    #[expect(clippy::too_many_arguments, reason = "what came in, and where it goes on")]
    pub(super) fn wished(
        &mut self,
        now: Now,
        id: DeviceId,
        link: Link,
        receipt: Receipt,
        floor: Floor,
        wish: Wish,
        publish: Publish,
        out: &mut Vec<Output<R>>,
    ) {
        let Some(device) = self.devices.get_mut(&id) else { return };
        if !device.wishes.take(now.at, ANSWERS) || wish == Wish::Owner && device.claiming {
            self.counts.wishes_refused += 1;
            return out.push(Output::Acknowledge { link, receipt, code: Code::TOO_MANY });
        }
        let errand = |task| Output::Errand(Errand { device: id, link, deadline: now.at + ERRAND_SPAN, task });
        if wish == Wish::Owner {
            device.claiming = true;
            // Acknowledged when the registry has it.
            return out.push(errand(Task::Claim(Claim { code: publish.data.unwrap_or_default(), receipt, floor })));
        }
        out.push(Output::Append { record: Record::Seen { floor }, then: Then::Acknowledge { link, receipt } });
        match wish {
            Wish::Name => out.push(errand(Task::Name { event: publish.name })),
            Wish::Random => out.push(errand(Task::Random { event: publish.name })),
            Wish::Address => {
                let address = device.last_ip.get().map(|address| address.to_string());
                self.tell_device(now, id, link, &publish.name, address.as_deref(), out);
            }
            Wish::Owner => {}
        }
    }

    /// An errand was run.
    pub(super) fn errand_done(&mut self, now: Now, id: DeviceId, link: Link, outcome: Outcome, out: &mut Vec<Output<R>>) {
        let Some(device) = self.current(id, link) else { return };
        match outcome {
            Outcome::Nothing => {}
            Outcome::Text { event, text } => self.tell_device(now, id, link, &event, Some(&text), out),
            Outcome::Claimed(claim, verdict) => {
                device.claiming = false;
                self.claimed(now, id, link, &claim, verdict, out);
            }
        }
    }

    fn claimed(&mut self, now: Now, id: DeviceId, link: Link, claim: &Claim, verdict: Verdict, out: &mut Vec<Output<R>>) {
        let Claim { receipt, floor, .. } = *claim;
        if verdict == Verdict::Failed {
            return out.push(Output::Acknowledge { link, receipt, code: Code::UNAVAILABLE });
        }
        if let Verdict::Owned(identity) = verdict {
            let is_new = self.devices.get(&id).is_some_and(|device| device.owner() != identity.owner);
            self.identity_changed(now, identity, out);
            self.tell_device(now, id, link, CLAIM_RESPONSE, None, out);
            if is_new {
                self.publish_status(now, id, "online", out);
            }
        }
        out.push(Output::Append { record: Record::Seen { floor }, then: Then::Acknowledge { link, receipt } });
    }

    /// Sends an event to one device, past all subscriptions.
    fn tell_device(&mut self, now: Now, id: DeviceId, link: Link, name: &str, text: Option<&str>, out: &mut Vec<Output<R>>) {
        let Ok(delivery) = Delivery::new(name, format::TEXT, text.map(str::as_bytes)) else { return };
        let deadline = now.at + DELIVERY_SPAN;
        let request = self.calls.open(id, Purpose::Told);
        self.timers.end_call(deadline + Duration::from_secs(1), request);
        out.push(Output::Request { link, id: request, request: Request::Deliver(delivery), deadline });
    }
}
