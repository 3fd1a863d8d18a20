//! Which events a subscribed device gets, and in which form (device-os.md §3.9).

use firmware_protocol::coap::format;
use firmware_protocol::session::publish::{Delivery, is_system_name};
use firmware_protocol::session::subscribe::{HandlerKind, Subscription};

use crate::event::Event;

/// Structured data reaches handlers as plain CBOR only.
fn delivered_format(content_format: u16) -> u16 {
    match content_format {
        format::JSON_CBOR => format::CBOR,
        other => other,
    }
}

fn takes(handler: HandlerKind, content_format: u16) -> bool {
    match handler {
        HandlerKind::Text => matches!(content_format, format::TEXT | 40 | 41 | 50),
        HandlerKind::Binary => true,
        HandlerKind::Cbor => content_format == format::CBOR,
    }
}

/// The message for a device with these subscriptions, or `None` if no handler of it would take the event.
///
/// System events stay away from devices: their own handler would act upon them.
pub fn delivery(event: &Event, subscriptions: &[Subscription]) -> Option<Delivery> {
    if is_system_name(&event.name) {
        return None;
    }
    let content_format = delivered_format(event.content_format);
    let wanted = |own: &&Subscription| event.name.starts_with(&own.prefix) && takes(own.handler, content_format);
    subscriptions.iter().find(wanted)?;
    Delivery::new(&event.name, content_format, event.data.as_deref()).ok()
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
        let own = |handler| [Subscription { prefix: "te".into(), handler }];
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
            assert_eq!(delivery(&event("temp", content_format), &own(handler)).is_some(), wanted, "{handler:?} {content_format}");
        }
        assert_eq!(delivery(&event("temp", 65001), &own(HandlerKind::Cbor)), delivery(&event("temp", 60), &own(HandlerKind::Cbor)));
        assert!(delivery(&event("xtemp", 0), &own(HandlerKind::Text)).is_none(), "a prefix, not a part");
    }

    #[test]
    fn system_events_are_kept_from_devices() {
        let all = [Subscription { prefix: String::new(), handler: HandlerKind::Binary }];
        for name in ["spark/status", "particle/device/updates/pending", "Spark/x"] {
            assert!(delivery(&event(name, 0), &all).is_none(), "{name}");
        }
        assert!(delivery(&event("anything", 0), &all).is_some());
    }
}
