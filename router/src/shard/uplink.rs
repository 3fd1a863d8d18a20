//! What a shard does with each message of a device.

use std::time::Duration;

use firmware_protocol::coap::Code;
use firmware_protocol::id::DeviceId;
use firmware_protocol::session::describe::DescribeKind;
use firmware_protocol::session::publish::Publish;
use firmware_protocol::session::stored::Floor;
use firmware_protocol::session::{Receipt, Uplink};
use firmware_protocol::time::Now;

use crate::device::{Left, Link, SAFE_MODE};
use crate::event::{NewEvent, Source};
use crate::journal::{Record, RetireReason};
use crate::shard::requests::Wish;
use crate::shard::timers::Look;
use crate::shard::{Output, Shard, Then};

/// How long after its Hello a device that posts no describes is asked for them: until the acknowledgement is there it drops what comes.
const POLL_AFTER: Duration = Duration::from_secs(1);

/// System events of a device that its owner gets to see (docs/protocol.md). Others are taken and led nowhere.
const SHOWN: [&str; 5] =
    ["spark/device/last_reset", SAFE_MODE, "spark/device/key/error", "particle/device/updates/enabled", "particle/device/updates/forced"];

impl<R> Shard<R> {
    pub(super) fn received(
        &mut self,
        now: Now,
        link: Link,
        id: DeviceId,
        receipt: Receipt,
        floor: Floor,
        uplink: Uplink,
        out: &mut Vec<Output<R>>,
    ) {
        // A message of a session that is no longer the device's: not acknowledged, because it has no effect.
        if self.current(id, link).is_none() {
            return;
        }
        let impostor = matches!(&uplink, Uplink::Hello { hello, .. } if hello.device.is_some_and(|claimed| claimed != id));
        if impostor {
            return self.end_session(now, id, link, RetireReason::WrongDevice, out);
        }
        self.alive(now, id, now.unix, out);
        let then = Then::Acknowledge { link, receipt };
        let Some(device) = self.devices.get_mut(&id) else { return };
        let record = match uplink {
            Uplink::Hello { hello, payload } => {
                device.introduce(&hello);
                if !hello.posts_describes() {
                    self.timers.look(now.at + POLL_AFTER, id, Look::Poll);
                }
                Record::Hello { floor, device: id, payload, at: now.unix }
            }
            Uplink::Describe { kind: DescribeKind::Metrics, payload } => return self.vitals(now, id, Some(floor), &payload, then, out),
            Uplink::Describe { kind, payload } => {
                device.describe(kind, &payload, &mut self.common);
                Record::Describe { floor: Some(floor), device: id, kind, payload, at: now.unix }
            }
            Uplink::Subscribe(subscription) => {
                if !device.subscribe(subscription.clone(), &mut self.common) {
                    self.counts.subscriptions_refused += 1;
                    return out.push(Output::Acknowledge { link, receipt, code: Code::FORBIDDEN });
                }
                Record::Subscribed { floor, device: id, subscription }
            }
            Uplink::Goodbye { goodbye, payload } => {
                let was_online = device.presence.end(now.at);
                device.left = Some(Box::new(Left { at: now.unix, goodbye }));
                if was_online {
                    self.publish_status(now, id, "offline", out);
                }
                Record::Goodbye { floor, device: id, payload, at: now.unix }
            }
            Uplink::Publish(publish) => match Wish::of(&publish.name) {
                Some(wish) => return self.wished(now, id, link, receipt, floor, wish, publish, out),
                None => return self.published(now, id, floor, publish, then, out),
            },
        };
        self.index(id);
        out.push(Output::Append { record, then });
    }

    fn published(&mut self, now: Now, id: DeviceId, floor: Floor, publish: Publish, then: Then<R>, out: &mut Vec<Output<R>>) {
        let Some(device) = self.devices.get_mut(&id) else { return };
        device.note_mode(&publish.name);
        let shown = !publish.is_system() || SHOWN.contains(&publish.name.as_str());
        let Some(owner) = device.owner().filter(|_| shown) else {
            self.counts.unrouted += 1;
            return out.push(Output::Append { record: Record::Seen { floor }, then });
        };
        self.counts.events += 1;
        device.published = device.published.saturating_add(1);
        let event = NewEvent {
            owner,
            product: device.product(),
            source: Source::Device(id),
            name: publish.name,
            content_format: publish.content_format,
            data: publish.data,
            ttl_s: publish.ttl_s,
        };
        self.append_event(now, Some(floor), event, then, out);
    }
}
