//! Events as the event stream carries them, byte by byte.
//!
//! An event is made whole and given to the connection in one piece: clients lose one with a blank line inside, and garble characters that
//! are split over two reads. So everything but ASCII is escaped in the data, which JSON allows.

use std::io;

use bytes::Bytes;
use firmware_protocol::id::{OwnerId, ProductId};
use firmware_protocol::time::UnixMillis;
use router::event::{Event, EventId, Position, Source};
use serde::Serialize;
use serde_json::ser::Formatter;
use serde_json::{Value as Json, json};

use super::content;
use super::gateway::{Cut, Gap};
use crate::dates::Iso;

/// The first bytes of a stream, so that the client knows it is open.
pub(super) const OPENING: Bytes = Bytes::from_static(b":ok\n\n");
/// What keeps a silent stream alive: an empty line between events means nothing.
pub(super) const HEARTBEAT: Bytes = Bytes::from_static(b"\n");

/// The event that tells a reader that others are missing.
const GAP: &str = "spark/stream/gap";

/// The data line. Clients add the name from the event line.
#[derive(Serialize)]
struct Data {
    data: Json,
    ttl: u32,
    published_at: String,
    coreid: String,
}

/// The data line in the stream of a product, which says more.
#[derive(Serialize)]
struct ProductData {
    #[serde(flatten)]
    data: Data,
    userid: String,
    version: u16,
    public: bool,
    #[serde(rename = "productID")]
    product_id: u32,
}

/// What is said of a device in the stream of its product.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Member {
    /// The product.
    pub(super) product: ProductId,
    /// Who has claimed it.
    pub(super) user: Option<OwnerId>,
    /// Version of its firmware, 0 if that is not known.
    pub(super) version: u16,
}

/// An event with its lines and the blank one that ends it.
pub(super) fn encode(position: Position, event: &Event) -> Bytes {
    lines(position, event, &data(event))
}

/// The same in the stream of a product. Events of callers are those of a member, too: one without a version.
pub(super) fn encode_of_product(position: Position, event: &Event, member: Member) -> Bytes {
    let data = ProductData {
        data: data(event),
        userid: member.user.map(|user| user.0.to_string()).unwrap_or_default(),
        version: member.version,
        // Nobody sees events of a product but those who look after it.
        public: false,
        product_id: member.product.0,
    };
    lines(position, event, &data)
}

fn data(event: &Event) -> Data {
    Data {
        data: content::to_json(event.content_format, event.data.as_deref()),
        ttl: event.ttl_s,
        published_at: Iso(event.published_at).to_string(),
        coreid: event.source.origin(),
    }
}

fn lines(position: Position, event: &Event, data: &impl Serialize) -> Bytes {
    let mut text = format!("event: {}\nid: {position}\ndata: ", one_line(&event.name)).into_bytes();
    let mut serializer = serde_json::Serializer::with_formatter(&mut text, Ascii);
    data.serialize(&mut serializer).expect("strings and numbers go into a vector");
    text.extend_from_slice(b"\n\n");
    text.into()
}

/// A line that tells whoever looks at the stream that events are missing. Clients take no notice of it.
pub(super) fn gap_comment(gap: Gap) -> Bytes {
    let text = match gap {
        Gap::Expired { from, to } => format!(": gap, events {from} to {to} are no longer kept\n\n"),
        Gap::Unknown { last } => format!(": gap, the Last-Event-ID is not known here; the last event was {last}\n\n"),
    };
    text.into()
}

/// The same as an event that clients see, whatever they filter. Whoever continues after it continues after the gap.
pub(super) fn gap_event(gap: Gap, now: UnixMillis) -> Bytes {
    let data = match gap {
        Gap::Expired { from, to } => json!({ "reason": "expired", "from": from.0, "to": to.0 }),
        Gap::Unknown { last } => json!({ "reason": "unknown", "last": last.0 }),
    };
    let event = Event {
        id: EventId([0; 16]),
        owner: OwnerId(0),
        product: None,
        source: Source::Cloud,
        name: GAP.to_owned(),
        content_format: 0,
        data: Some(data.to_string().into_bytes()),
        ttl_s: 60,
        published_at: now,
    };
    encode(gap.resumes_after(), &event)
}

/// The last line of a stream that the server ends.
pub(super) fn cut_comment(cut: Cut) -> Bytes {
    let text = match cut {
        Cut::TooSlow(last) => format!(": cut, too slow; continue with Last-Event-ID {last}\n\n"),
        Cut::Unreadable(last) => format!(": cut, the journal cannot be read now; continue with Last-Event-ID {last}\n\n"),
    };
    text.into()
}

/// A name must not be able to end its line: what follows would be taken for lines of its publisher's choice.
fn one_line(name: &str) -> String {
    name.replace(char::is_control, " ")
}

/// Compact JSON in ASCII.
struct Ascii;

impl Formatter for Ascii {
    fn write_string_fragment<W: ?Sized + io::Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        let mut units = [0; 2];
        for part in fragment.split_inclusive(|c: char| !c.is_ascii()) {
            let ascii = part.trim_end_matches(|c: char| !c.is_ascii());
            writer.write_all(ascii.as_bytes())?;
            for unit in part[ascii.len()..].chars().flat_map(|c| c.encode_utf16(&mut units).to_vec()) {
                write!(writer, "\\u{unit:04x}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use firmware_protocol::id::DeviceId;
    use proptest::prelude::*;

    use super::*;

    fn event(name: &str, data: Option<&[u8]>) -> Event {
        Event {
            id: EventId([0; 16]),
            owner: OwnerId(1),
            product: None,
            source: Source::Device(DeviceId([0x1f; 12])),
            name: name.into(),
            content_format: 0,
            data: data.map(<[u8]>::to_vec),
            ttl_s: 60,
            published_at: UnixMillis(1_437_178_338_174),
        }
    }

    fn text(event: &Event) -> String {
        String::from_utf8(encode(Position(7), event).to_vec()).expect("UTF-8")
    }

    #[test]
    fn an_event_has_its_lines_in_order() {
        assert_eq!(
            text(&event("temperature", Some(b"25.34"))),
            "event: temperature\nid: 7\ndata: {\"data\":\"25.34\",\"ttl\":60,\"published_at\":\"2015-07-18T00:12:18.174Z\",\
             \"coreid\":\"1f1f1f1f1f1f1f1f1f1f1f1f\"}\n\n"
        );
        assert!(text(&event("a", None)).contains("{\"data\":null,"));
    }

    #[test]
    fn in_the_stream_of_a_product_an_event_says_whose_and_of_which_version_its_device_is() {
        let event = event("a", Some("é".as_bytes()));
        let text = |user, version| {
            let member = Member { product: ProductId(10_001), user, version };
            String::from_utf8(encode_of_product(Position(7), &event, member).to_vec()).expect("UTF-8")
        };
        let rest =
            |userid: &str, version| format!(",\"userid\":\"{userid}\",\"version\":{version},\"public\":false,\"productID\":10001}}\n\n");
        let bare = String::from_utf8(encode(Position(7), &event).to_vec()).expect("UTF-8");
        let bare = bare.strip_suffix("}\n\n").expect("an object");
        assert!(bare.is_ascii());
        assert_eq!(text(Some(OwnerId(3)), 12), format!("{bare}{}", rest("3", 12)));
        assert_eq!(text(None, 0), format!("{bare}{}", rest("", 0)));
    }

    #[test]
    fn a_gap_is_a_comment_and_an_event_after_which_a_reader_can_continue() {
        let gap = Gap::Expired { from: Position(3), to: Position(9) };
        assert_eq!(gap_comment(gap), ": gap, events 3 to 9 are no longer kept\n\n");
        let text = String::from_utf8(gap_event(gap, UnixMillis(0)).to_vec()).expect("UTF-8");
        assert_eq!(
            text,
            "event: spark/stream/gap\nid: 9\ndata: {\"data\":\"{\\\"from\\\":3,\\\"reason\\\":\\\"expired\\\",\\\"to\\\":9}\",\"ttl\":60,\
             \"published_at\":\"1970-01-01T00:00:00.000Z\",\"coreid\":\"particle-internal\"}\n\n"
        );
        let unknown = gap_event(Gap::Unknown { last: Position(4) }, UnixMillis(0));
        assert!(unknown.starts_with(b"event: spark/stream/gap\nid: 4\n"));
        assert_eq!(cut_comment(Cut::TooSlow(Position(7))), ": cut, too slow; continue with Last-Event-ID 7\n\n");
    }

    #[test]
    fn events_of_callers_and_of_the_cloud_say_so() {
        let of = |source| text(&Event { source, ..event("a", None) });
        assert!(of(Source::Api).contains("\"coreid\":\"api\""));
        assert!(of(Source::Cloud).contains("\"coreid\":\"particle-internal\""));
    }

    #[test]
    fn what_is_not_ascii_is_escaped_in_the_data() {
        let text = text(&event("tür", Some("é \u{1F600}\n\"".as_bytes())));
        assert!(text.starts_with("event: tür\n"));
        assert!(text.contains(r#""data":"\u00e9 \ud83d\ude00\n\"","#), "{text}");
    }

    #[test]
    fn a_name_cannot_forge_lines() {
        assert!(text(&event("a\n\ndata: {}\r\nevent: b", None)).starts_with("event: a  data: {}  event: b\nid: 7\ndata: {\"data\":null"));
    }

    proptest! {
        #[test]
        fn every_event_is_three_lines_and_a_blank_one(name in ".{1,64}", data in ".*") {
            let text = text(&event(&name, Some(data.as_bytes())));
            let lines: Vec<&str> = text.split('\n').collect();
            prop_assert_eq!(lines.len(), 5);
            let json: Json = serde_json::from_str(lines[2].strip_prefix("data: ").expect("the data line")).expect("JSON");
            prop_assert_eq!(json["data"].as_str(), Some(data.as_str()));
            prop_assert!(lines[2].is_ascii());
            prop_assert_eq!((lines[3], lines[4]), ("", ""));
        }
    }
}
