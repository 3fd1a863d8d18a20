//! Subscriptions of devices (docs/protocol.md).
//!
//! Firmware before 6.2 says of each subscription whether it wants events of its owner's devices only (`?u`) or of all the world (no query). Here
//! both mean the owner's: no account hears another's events.

use crate::coap::{Message, option};
use crate::id::DeviceId;

/// Longest prefix a device may ask for, and longest event name, in bytes.
pub const NAME_MAX: usize = 64;

/// What a subscriber's handler takes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub enum HandlerKind {
    /// Text only.
    Text,
    /// Anything (`?b`).
    Binary,
    /// CBOR only (`?c`).
    Cbor,
}

/// A name prefix that a device has subscribed to.
#[derive(Clone, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct Subscription {
    /// Events whose name starts with this match.
    pub prefix: String,
    /// What may be delivered.
    pub handler: HandlerKind,
    /// Only events that this device published. Firmware before 6.2 can ask for that.
    pub publisher: Option<DeviceId>,
}

impl Subscription {
    /// To events of any device.
    pub fn new(prefix: impl Into<String>, handler: HandlerKind) -> Self {
        Self { prefix: prefix.into(), handler, publisher: None }
    }

    /// The subscription in `GET /e/<prefix>`; several path options are joined, because either form may come.
    pub(crate) fn of(message: &Message, segments: &[&[u8]]) -> Option<Self> {
        // No filter asks for everything; one that no event name can start with must not come to mean the same.
        let prefix = String::from_utf8(segments.join(&b'/')).ok().filter(|prefix| prefix.len() <= NAME_MAX)?;
        let handler = match message.values(option::URI_QUERY).next() {
            Some(b"c") => HandlerKind::Cbor,
            Some(b"b") => HandlerKind::Binary,
            _ => HandlerKind::Text,
        };
        let publisher = match &message.payload[..] {
            [] => None,
            text => Some(std::str::from_utf8(text).ok()?.parse().ok()?),
        };
        Some(Self { prefix, handler, publisher })
    }

    /// The query byte of its request.
    pub(crate) fn query(&self) -> Option<&'static str> {
        match self.handler {
            HandlerKind::Text => None,
            HandlerKind::Binary => Some("b"),
            HandlerKind::Cbor => Some("c"),
        }
    }
}

/// A name of one or more path options, joined with slashes; `None` if empty, too long or not UTF-8.
pub(crate) fn joined_name(segments: &[&[u8]]) -> Option<String> {
    let name = String::from_utf8(segments.join(&b'/')).ok()?;
    (1..=NAME_MAX).contains(&name.len()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coap::{Code, Kind};

    fn prefix_of(segments: &[&[u8]]) -> Option<String> {
        let message = Message::new(Kind::Confirmable, Code::GET, 1, &[]);
        Subscription::of(&message, segments).map(|subscription| subscription.prefix)
    }

    #[test]
    fn a_filter_is_taken_whole_or_not_at_all() {
        assert_eq!(prefix_of(&[b"my", b"evt"]).as_deref(), Some("my/evt"));
        assert_eq!(prefix_of(&[]).as_deref(), Some(""));
        assert_eq!(prefix_of(&[&[b'n'; 64]]), Some("n".repeat(64)));
        assert_eq!(prefix_of(&[&[b'n'; 65]]), None, "cut or emptied it would match what was not asked for");
        assert_eq!(prefix_of(&[&[0xff]]), None);
    }

    #[test]
    fn a_payload_restricts_to_one_device_or_is_refused() {
        let of = |payload: &[u8], query: &str| {
            let message = Message::new(Kind::Confirmable, Code::GET, 1, &[]).with(option::URI_QUERY, query).payload(payload);
            Subscription::of(&message, &[b"evt"]).map(|subscription| (subscription.handler, subscription.publisher))
        };
        assert_eq!(of(b"", "u"), Some((HandlerKind::Text, None)), "the owner's devices");
        assert_eq!(of(b"e00fce680102030405060708", ""), of(b"E00FCE680102030405060708", "u"));
        assert_eq!(of(b"e00fce680102030405060708", ""), Some((HandlerKind::Text, "e00fce680102030405060708".parse().ok())));
        for payload in [&b"e00fce6801020304050607"[..], b"e00fce680102030405060708\0", &[0xff; 24], b"*"] {
            assert_eq!(of(payload, "u"), None, "taken for nothing it would match what was not asked for");
        }
    }
}
