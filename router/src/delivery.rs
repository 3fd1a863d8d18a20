//! Which events a subscribed device gets, and in which form (docs/protocol.md).

use firmware_protocol::coap::format;
use firmware_protocol::id::DeviceId;
use firmware_protocol::session::publish::{Delivery, is_system_name};
use firmware_protocol::session::subscribe::{HandlerKind, Subscription};

use crate::event::{Event, Source};

/// Structured data reaches handlers as plain CBOR only.
fn delivered_format(content_format: u16) -> u16 {
    match content_format {
        format::JSON_CBOR => format::CBOR,
        other => other,
    }
}

fn is_text(content_format: u16) -> bool {
    matches!(content_format, format::TEXT | 40 | 41 | 50)
}

fn takes(handler: HandlerKind, content_format: u16) -> bool {
    match handler {
        HandlerKind::Text => is_text(content_format),
        HandlerKind::Binary => true,
        HandlerKind::Cbor => content_format == format::CBOR,
    }
}

fn is_from(publisher: Option<DeviceId>, source: Source) -> bool {
    publisher.is_none_or(|device| source == Source::Device(device))
}

/// The message for a device with these subscriptions, or `None` if no handler of it would take the event. To a device that does not take
/// `typed` events only text goes, without saying that it is text.
///
/// System events stay away from devices: their own handler would act upon them.
pub fn delivery(event: &Event, subscriptions: &[Subscription], typed: bool) -> Option<Delivery> {
    let content_format = delivered_format(event.content_format);
    if is_system_name(&event.name) || !typed && !is_text(content_format) {
        return None;
    }
    let wanted = |own: &&Subscription| {
        event.name.starts_with(&own.prefix) && is_from(own.publisher, event.source) && takes(own.handler, content_format)
    };
    subscriptions.iter().find(wanted)?;
    let told = if typed { content_format } else { format::TEXT };
    Delivery::new(&event.name, told, event.data.as_deref()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{NewEvent, Source};
    use firmware_protocol::id::OwnerId;
    use firmware_protocol::time::UnixMillis;

    fn event(name: &str, content_format: u16) -> Event {
        let new = NewEvent {
            owner: OwnerId(1),
            product: None,
            source: Source::Api,
            name: name.into(),
            content_format,
            data: Some(vec![1]),
            ttl_s: 60,
        };
        new.accept(UnixMillis(0), [0; 10])
    }

    #[test]
    fn each_handler_gets_what_it_takes() {
        let own = |handler| [Subscription::new("te", handler)];
        for (handler, content_format, wanted) in [
            (HandlerKind::Text, 0, true),
            (HandlerKind::Text, 50, true),
            (HandlerKind::Text, 42, false),
            (HandlerKind::Text, 65001, false),
            (HandlerKind::Binary, 42, true),
            (HandlerKind::Binary, 65001, true),
            (HandlerKind::Cbor, 65001, true),
            (HandlerKind::Cbor, 60, true),
            (HandlerKind::Cbor, 0, false),
        ] {
            assert_eq!(delivery(&event("temp", content_format), &own(handler), true).is_some(), wanted, "{handler:?} {content_format}");
        }
        let cbor = own(HandlerKind::Cbor);
        assert_eq!(delivery(&event("temp", 65001), &cbor, true), delivery(&event("temp", 60), &cbor, true));
        assert!(delivery(&event("xtemp", 0), &own(HandlerKind::Text), true).is_none(), "a prefix, not a part");
    }

    #[test]
    fn old_firmware_gets_text_only_and_is_not_told_so() {
        let all = [Subscription::new("", HandlerKind::Binary)];
        for text in [0, 40, 41, 50] {
            assert_eq!(delivery(&event("temp", text), &all, false), Delivery::new("temp", 0, Some(&[1])).ok());
        }
        for other in [22, 42, 60, 65001] {
            assert_eq!(delivery(&event("temp", other), &all, false), None);
        }
    }

    #[test]
    fn a_subscription_to_one_device_hears_no_other() {
        let (wanted, other) = (DeviceId([1; 12]), DeviceId([2; 12]));
        let own = [Subscription { publisher: Some(wanted), ..Subscription::new("te", HandlerKind::Text) }];
        let heard = |source| delivery(&Event { source, ..event("temp", 0) }, &own, false).is_some();
        assert!(heard(Source::Device(wanted)));
        assert!(!heard(Source::Device(other)) && !heard(Source::Api) && !heard(Source::Cloud));
    }

    #[test]
    fn system_events_are_kept_from_devices() {
        let all = [Subscription::new("", HandlerKind::Binary)];
        for name in ["spark/status", "particle/device/updates/pending", "Spark/x"] {
            assert!(delivery(&event(name, 0), &all, true).is_none(), "{name}");
        }
        assert!(delivery(&event("anything", 0), &all, true).is_some());
    }
}
