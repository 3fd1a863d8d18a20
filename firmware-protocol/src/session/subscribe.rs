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
        // No filter asks for everything; one that no event name can start with must not come to mean the same.
        let prefix = String::from_utf8(segments.join(&b'/')).ok().filter(|prefix| prefix.len() <= NAME_MAX)?;
        let handler = match message.values(option::URI_QUERY).next() {
            Some(b"c") => HandlerKind::Cbor,
            Some(b"b") => HandlerKind::Binary,
            _ => HandlerKind::Text,
        };
        Some(Self { prefix, handler })
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
}
