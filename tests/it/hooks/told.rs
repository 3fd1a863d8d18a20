//! What a request said, as JSON that a table can be compared with.

use serde_json::{Map, Value as Json, json};

use super::receiver::Received;

/// Stands in the place of every time at which an event was published.
pub(super) const PUBLISHED_AT: &str = "a time";
pub(super) const FORM: &str = "application/x-www-form-urlencoded";
pub(super) const JSON: &str = "application/json";

impl Received {
    /// What a header says, as text.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| std::str::from_utf8(value.as_bytes()).unwrap())
    }

    /// The body as text.
    pub(super) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    /// The body as a form.
    pub(super) fn form(&self) -> Json {
        fields(&self.body)
    }

    /// Which event the defaults name, wherever they are.
    pub(super) fn event(&self) -> String {
        let all = [self.form(), fields(self.query.as_deref().unwrap_or_default().as_bytes())];
        all.iter().find_map(|fields| fields["event"].as_str()).unwrap().to_owned()
    }

    /// Method, query, type of the body, and the body as what its type says that it is. Whatever is empty is left out.
    pub(super) fn told(&self) -> Json {
        let mut told = Map::from_iter([("method".to_owned(), json!(self.method.as_str()))]);
        let kind = self.header("content-type");
        let body = match kind {
            Some(FORM) => self.form(),
            Some(JSON) => serde_json::from_slice(&self.body).unwrap(),
            _ => json!(self.text()),
        };
        let query = fields(self.query.as_deref().unwrap_or_default().as_bytes());
        for (name, value) in [("query", query), ("type", json!(kind)), ("body", body)] {
            if !matches!(&value, Json::Null) && value != json!("") && value != json!({}) {
                told.insert(name.to_owned(), timeless(value));
            }
        }
        Json::Object(told)
    }
}

/// The fields that every request has for an event of this name, with this data, of this device.
pub(super) fn defaults(name: &str, data: &str, device: &str) -> Json {
    json!({ "event": name, "data": data, "published_at": PUBLISHED_AT, "coreid": device })
}

/// An object with the members of another added.
pub(super) fn with(mut object: Json, more: Json) -> Json {
    let Json::Object(more) = more else { panic!("an object") };
    object.as_object_mut().unwrap().extend(more);
    object
}

fn fields(text: &[u8]) -> Json {
    Json::Object(form_urlencoded::parse(text).map(|(name, value)| (name.into_owned(), Json::String(value.into_owned()))).collect())
}

/// The same with a word for the time at which the event was published.
fn timeless(mut value: Json) -> Json {
    if let Some(at) = value.get_mut("published_at") {
        assert!(is_time(at.as_str().unwrap()), "{at}");
        *at = json!(PUBLISHED_AT);
    }
    value
}

/// Whether a text is a time as clients write it: `2026-11-30T12:36:00.123Z`.
pub(super) fn is_time(text: &str) -> bool {
    let shape: String = text.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    shape == "0000-00-00T00:00:00.000Z"
}
