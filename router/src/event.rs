//! An event: something a device, an API caller or the cloud itself published, and who hears of it.

use std::fmt;

use firmware_protocol::id::{DeviceId, OwnerId, ProductId};
use firmware_protocol::time::UnixMillis;

/// The dense number the journal gives an event at commit. The first event of a journal is 1; no number is skipped or used twice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Position(pub u64);

impl Position {
    /// The position that follows.
    pub fn next(self) -> Position {
        Position(self.0 + 1)
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The name of an event (a UUIDv7). Only a name: order and replay use [`Position`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct EventId(pub [u8; 16]);

/// Who published an event.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Source {
    /// A device, over its session.
    Device(DeviceId),
    /// A caller of the REST API.
    Api,
    /// The cloud itself: presence and hook events.
    Cloud,
}

impl Source {
    /// Who it was, as clients read it in `coreid`: the id of a device, or one of the two words for others.
    pub fn origin(self) -> String {
        match self {
            Self::Device(device) => device.to_string(),
            Self::Api => "api".to_owned(),
            Self::Cloud => "particle-internal".to_owned(),
        }
    }
}

/// Whose an event is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Whose {
    /// The account it belongs to.
    pub owner: OwnerId,
    /// The product, if the device that published it was in one, or a caller published it to one.
    pub product: Option<ProductId>,
}

/// Who hears of events.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Audience {
    /// An account: of what is its own.
    Owner(OwnerId),
    /// Those who look after a product: of what its devices publish, whosever they are, and of what callers publish to it.
    Product(ProductId),
}

impl Whose {
    /// All who hear of it.
    pub fn audiences(self) -> impl Iterator<Item = Audience> {
        [Audience::Owner(self.owner)].into_iter().chain(self.product.map(Audience::Product))
    }
}

impl Audience {
    /// Whether it hears of an event.
    pub fn hears(self, event: &Event) -> bool {
        self.hears_of(event.whose())
    }

    /// Whether it hears of events that are theirs.
    pub fn hears_of(self, whose: Whose) -> bool {
        match self {
            Self::Owner(owner) => whose.owner == owner,
            Self::Product(product) => whose.product == Some(product),
        }
    }
}

/// An accepted event. Shared behind an `Arc` from acceptance to the last sink.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Event {
    /// Its name.
    pub id: EventId,
    /// Whose event it is: subscribers of this account may see it.
    pub owner: OwnerId,
    /// The product it belongs to: that of the publishing device, or the one a caller published it to.
    pub product: Option<ProductId>,
    /// Who published it.
    pub source: Source,
    /// Event name, 1 to 64 bytes of UTF-8, slashes included.
    pub name: String,
    /// CoAP Content-Format of `data`: 0 text, 42 octets, 65001 CBOR that stands for JSON, and so on.
    pub content_format: u16,
    /// Payload; `None` when published without one.
    pub data: Option<Vec<u8>>,
    /// Time to live in seconds, as the publisher gave it (default 60). Passed on, not enforced.
    pub ttl_s: u32,
    /// When it was accepted.
    pub published_at: UnixMillis,
}

impl Event {
    /// Whose it is.
    pub fn whose(&self) -> Whose {
        Whose { owner: self.owner, product: self.product }
    }
}

impl fmt::Display for EventId {
    /// As UUIDs are written (RFC 9562 §4).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, byte) in self.0.iter().enumerate() {
            let dash = if matches!(place, 4 | 6 | 8 | 10) { "-" } else { "" };
            write!(f, "{dash}{byte:02x}")?;
        }
        Ok(())
    }
}

impl EventId {
    /// A UUIDv7 (RFC 9562 §5.7) of this moment.
    pub fn new(now: UnixMillis, random: [u8; 10]) -> Self {
        let mut id = [0; 16];
        id[..6].copy_from_slice(&now.0.to_be_bytes()[2..]);
        id[6..].copy_from_slice(&random);
        id[6] = id[6] & 0x0f | 0x70;
        id[8] = id[8] & 0x3f | 0x80;
        Self(id)
    }
}

/// An event somebody wants to publish.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewEvent {
    /// Whose event it will be.
    pub owner: OwnerId,
    /// The product it belongs to.
    pub product: Option<ProductId>,
    /// Who publishes it.
    pub source: Source,
    /// Name, 1 to 64 bytes.
    pub name: String,
    /// CoAP Content-Format of `data`.
    pub content_format: u16,
    /// Payload, if any.
    pub data: Option<Vec<u8>>,
    /// Time to live in seconds.
    pub ttl_s: u32,
}

impl NewEvent {
    /// The event, accepted now.
    pub fn accept(self, now: UnixMillis, random: [u8; 10]) -> Event {
        Event {
            id: EventId::new(now, random),
            owner: self.owner,
            product: self.product,
            source: self.source,
            name: self.name,
            content_format: self.content_format,
            data: self.data,
            ttl_s: self.ttl_s,
            published_at: now,
        }
    }
}

/// A batch of committed events, in the order of their positions.
pub type CommittedEvents = std::sync::Arc<[(Position, std::sync::Arc<Event>)]>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_of_an_event_is_written_as_a_uuid() {
        let id = EventId::new(UnixMillis(0x0197_4f00_1234), [0xff; 10]);
        assert_eq!(id.to_string(), "01974f00-1234-7fff-bfff-ffffffffffff");
    }

    #[test]
    fn an_event_is_heard_of_by_its_account_and_by_its_product() {
        let heard = |product: Option<u32>| {
            let new = NewEvent {
                owner: OwnerId(1),
                product: product.map(ProductId),
                source: Source::Api,
                name: "a".into(),
                content_format: 0,
                data: None,
                ttl_s: 60,
            };
            let event = new.accept(UnixMillis(0), [0; 10]);
            let (owner, product) = (|n| Audience::Owner(OwnerId(n)), |n| Audience::Product(ProductId(n)));
            [owner(1), owner(7), product(7), product(1)].map(|audience| {
                assert_eq!(audience.hears(&event), event.whose().audiences().any(|hears| hears == audience));
                audience.hears(&event)
            })
        };
        assert_eq!(heard(Some(7)), [true, false, true, false], "the numbers of accounts and products have nothing to do with each other");
        assert_eq!(heard(None), [true, false, false, false]);
    }
}
