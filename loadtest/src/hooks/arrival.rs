//! A delivery as its receiver sees it: which event of which device it is, under what name it came, and when.

use std::fmt;

use firmware_protocol::time::UnixMillis;
use router::dates;
use serde::Deserialize;
use webhooks::sign::{Signed, WEBHOOK_ATTEMPT, WEBHOOK_REPLAY};

use super::Post;
use crate::fleet::text::EventText;

/// The name of a message: 16 bytes of an event and 12 of a hook, which is shorter than the text by half.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct MessageId([u8; 28]);

/// One.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Arrival {
    /// Which event, in the words of its device.
    pub(crate) event: EventText,
    /// Under what name.
    pub(crate) id: MessageId,
    /// When the server accepted the event.
    pub(crate) accepted: UnixMillis,
    /// When the request came.
    pub(crate) at: UnixMillis,
    /// Which attempt it says that it is.
    pub(crate) attempt: u32,
    /// Whether it belongs to a replay.
    pub(crate) is_replay: bool,
}

/// The fields that every request of a hook has, as far as they matter.
#[derive(Deserialize)]
struct Fields {
    data: String,
    published_at: String,
}

impl Arrival {
    /// Reads a request whose body is JSON. `None` if it is not of an event of a fleet.
    pub(crate) fn read(post: &Post) -> Option<Self> {
        let fields: Fields = serde_json::from_slice(&post.body).ok()?;
        let attempt = post.headers.get(WEBHOOK_ATTEMPT)?.to_str().ok()?.parse().ok()?;
        Some(Self {
            event: fields.data.parse().ok()?,
            id: MessageId::parse(Signed::read(&post.headers).ok()?.id)?,
            accepted: dates::parse(&fields.published_at)?,
            at: post.at,
            attempt,
            is_replay: post.headers.contains_key(WEBHOOK_REPLAY),
        })
    }
}

impl MessageId {
    /// Reads `<event>_<hook>`: the event's id with dashes, and the hook's 24 digits.
    fn parse(text: &str) -> Option<Self> {
        let (mut id, digits) = ([0; 28], text.replace(['-', '_'], ""));
        hex::decode_to_slice(digits, &mut id).ok()?;
        Some(Self(id))
    }

    /// Another one for each pair of numbers.
    #[cfg(test)]
    pub(crate) fn of(device: u8, count: u32) -> Self {
        let mut id = [device; 28];
        id[..4].copy_from_slice(&count.to_be_bytes());
        Self(id)
    }
}

impl fmt::Debug for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use firmware_protocol::id::DeviceId;
    use hyper::HeaderMap;
    use router::event::EventId;
    use webhooks::hook::HookId;
    use webhooks::sign::{Envelope, Scheme, SigningKey, SigningKeys, message_id};

    fn post(replay: Option<&str>, body: &str) -> Post {
        let (mut headers, keys) = (HeaderMap::new(), SigningKeys::new(SigningKey::generate(Scheme::Hmac).unwrap()));
        let id = message_id(EventId([7; 16]), HookId([9; 12]));
        let envelope = Envelope { id: &id, timestamp_s: 5, attempt: 3, replay };
        envelope.write(&mut headers, body.as_bytes(), Some(&keys)).unwrap();
        Post { path: "/".into(), headers, body: Bytes::copy_from_slice(body.as_bytes()), at: UnixMillis(9) }
    }

    #[test]
    fn a_request_says_which_event_it_is_of() {
        let event = EventText { device: DeviceId([0xa5; 12]), run: 1, count: 42 };
        let body = format!("{{\"data\":\"{event}\",\"published_at\":\"1970-01-01T00:00:01.500Z\",\"coreid\":\"x\"}}");
        let arrival = Arrival::read(&post(None, &body)).unwrap();
        let id = MessageId([[7; 16].as_slice(), &[9; 12]].concat().try_into().unwrap());
        let expected = Arrival { event, id, accepted: UnixMillis(1_500), at: UnixMillis(9), attempt: 3, is_replay: false };
        assert_eq!(arrival, expected);
        assert!(Arrival::read(&post(Some("job"), &body)).unwrap().is_replay);
        for bad in ["", "[]", "{\"data\":\"21.5\",\"published_at\":\"1970-01-01T00:00:01Z\"}"] {
            assert_eq!(Arrival::read(&post(None, bad)), None, "{bad}");
        }
    }
}
