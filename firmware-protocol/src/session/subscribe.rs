//! Subscriptions of devices (device-os.md §3.5).

use crate::coap::{Message, option};

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
}

impl Subscription {
    /// The subscription in `GET /e/<prefix>`; several path options are joined, because either form may come.
    pub(crate) fn of(message: &Message, segments: &[&[u8]]) -> Option<Self> {
        let prefix = joined_name(segments).unwrap_or_default();
        let handler = match message.values(option::URI_QUERY).next() {
            Some(b"c") => HandlerKind::Cbor,
            Some(b"b") => HandlerKind::Binary,
            _ => HandlerKind::Text,
        };
        (prefix.len() <= NAME_MAX).then_some(Self { prefix, handler })
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
