//! Event data between the form it is kept in (bytes and a CoAP content format) and the one callers see (JSON text).
//!
//! Text stays text, structured data (CBOR) becomes JSON text, and everything else becomes a data URL.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use firmware_protocol::coap::format;
use serde_cbor::Value as Cbor;
use serde_json::{Map, Number, Value as Json, json};

/// Content formats whose bytes are text: plain, link format, XML, JSON.
const TEXTS: [u16; 4] = [format::TEXT, 40, 41, 50];
/// Media types of the content formats that devices publish besides text and structured data.
const MEDIA_TYPES: [(u16, &str); 3] = [(format::OCTETS, "application/octet-stream"), (22, "image/jpeg"), (23, "image/png")];

/// The `data` member of an event: a string, or null for an event without data.
pub fn to_json(content_format: u16, data: Option<&[u8]>) -> Json {
    let Some(data) = data else { return Json::Null };
    if TEXTS.contains(&content_format) {
        return String::from_utf8_lossy(data).into();
    }
    if matches!(content_format, format::JSON_CBOR | format::CBOR)
        && let Some(json) = cbor_to_json(data)
    {
        return json.to_string().into();
    }
    data_url(content_format, data).into()
}

/// What a caller means by the text it publishes: a data URL of a known kind stands for its bytes, everything else for itself.
pub fn from_text(text: String) -> (u16, Vec<u8>) {
    parse_data_url(&text).unwrap_or_else(|| (format::TEXT, text.into_bytes()))
}

/// Structured data as JSON. `None` if it is no CBOR.
pub fn cbor_to_json(data: &[u8]) -> Option<Json> {
    serde_cbor::from_slice::<Cbor>(data).ok().map(json_of)
}

fn json_of(cbor: Cbor) -> Json {
    match cbor {
        Cbor::Bool(value) => value.into(),
        Cbor::Integer(value) => integer(value),
        Cbor::Float(value) => value.into(),
        Cbor::Bytes(bytes) => json!({ "_type": "buffer", "_data": STANDARD.encode(bytes) }),
        Cbor::Text(text) => text.into(),
        Cbor::Array(items) => items.into_iter().map(json_of).collect(),
        Cbor::Map(entries) => object(entries),
        Cbor::Tag(_, inner) => json_of(*inner),
        _ => Json::Null,
    }
}

fn integer(value: i128) -> Json {
    let exact = i64::try_from(value).map(Number::from).or_else(|_| u64::try_from(value).map(Number::from));
    // Only the outermost 64 bits of negative numbers are left, and JSON has no exact form for them that clients read.
    exact.map_or_else(|_| (value as f64).into(), Json::Number)
}

/// Members whose key is no text get the key's JSON as their name.
fn object(entries: BTreeMap<Cbor, Cbor>) -> Json {
    let named = entries.into_iter().map(|(key, value)| match key {
        Cbor::Text(name) => (name, json_of(value)),
        other => (json_of(other).to_string(), json_of(value)),
    });
    Json::Object(Map::from_iter(named))
}

/// The content format of bytes of a media type, if it is one that devices publish.
pub fn format_of(media_type: &str) -> Option<u16> {
    MEDIA_TYPES.iter().find(|(_, known)| known.eq_ignore_ascii_case(media_type)).map(|(format, _)| *format)
}

fn data_url(content_format: u16, data: &[u8]) -> String {
    let known = MEDIA_TYPES.iter().find(|(format, _)| *format == content_format);
    let media_type = known.map_or("application/octet-stream", |(_, media_type)| media_type);
    format!("data:{media_type};base64,{}", STANDARD.encode(data))
}

fn parse_data_url(text: &str) -> Option<(u16, Vec<u8>)> {
    let (media_type, encoded) = text.strip_prefix("data:")?.split_once(";base64,")?;
    Some((format_of(media_type)?, STANDARD.decode(encoded).ok()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn each_content_format_has_its_form() {
        for (content_format, data, shown) in [
            (0, &b"25.34"[..], json!("25.34")),
            (0, "gr\u{fc}n".as_bytes(), json!("grün")),
            (0, b"\xff", json!("\u{fffd}")),
            (0, b"", json!("")),
            (50, b"{\"a\":1}", json!("{\"a\":1}")),
            (42, b"\x00\x01", json!("data:application/octet-stream;base64,AAE=")),
            (22, b"jpg", json!("data:image/jpeg;base64,anBn")),
            (23, b"png", json!("data:image/png;base64,cG5n")),
            (9999, b"?", json!("data:application/octet-stream;base64,Pw==")),
            (65_001, b"\xa1\x61a\x01", json!("{\"a\":1}")),
            (65_001, b"\xff\xff", json!("data:application/octet-stream;base64,//8=")),
        ] {
            assert_eq!(to_json(content_format, Some(data)), shown, "{content_format}");
        }
        assert_eq!(to_json(0, None), Json::Null);
        assert_eq!(to_json(42, None), Json::Null);
    }

    #[test]
    fn structured_data_becomes_json() {
        for (cbor, json) in [
            ("f6", "null"),
            ("f5", "true"),
            ("3903e7", "-1000"),
            ("1bffffffffffffffff", "18446744073709551615"),
            ("fb3ff8000000000000", "1.5"),
            ("f97e00", "null"),
            ("6568c3a96c6c", "\"héll\""),
            ("83010203", "[1,2,3]"),
            ("a2616101616242cafe", r#"{"a":1,"b":{"_data":"yv4=","_type":"buffer"}}"#),
            ("a10102", r#"{"1":2}"#),
            ("c074323031332d30332d32315432303a30343a30305a", "\"2013-03-21T20:04:00Z\""),
        ] {
            let bytes = hex::decode(cbor).expect("hex");
            assert_eq!(cbor_to_json(&bytes).map(|value| value.to_string()).as_deref(), Some(json), "{cbor}");
        }
    }

    #[test]
    fn a_data_url_of_a_known_kind_stands_for_its_bytes() {
        for (text, content_format, data) in [
            ("hello", 0, &b"hello"[..]),
            ("data:application/octet-stream;base64,AAE=", 42, b"\x00\x01"),
            ("data:image/PNG;base64,cG5n", 23, b"png"),
            ("data:text/html;base64,cG5n", 0, b"data:text/html;base64,cG5n"),
            ("data:image/png;base64,not base64", 0, b"data:image/png;base64,not base64"),
            ("data:image/png,raw", 0, b"data:image/png,raw"),
        ] {
            assert_eq!(from_text(text.into()), (content_format, data.to_vec()), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_strange(content_format in any::<u16>(), data in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(to_json(content_format, Some(&data)).is_string());
            prop_assert!(to_json(65_001, Some(&data)).is_string());
        }

        #[test]
        fn binary_data_comes_back(data in prop::collection::vec(any::<u8>(), 0..200), kind in 0_usize..3) {
            let (content_format, _) = MEDIA_TYPES[kind];
            let Json::String(url) = to_json(content_format, Some(&data)) else { panic!("a string") };
            prop_assert_eq!(from_text(url), (content_format, data));
        }
    }
}
