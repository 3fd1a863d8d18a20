//! What a caller sent as fields: a JSON object, a form or a query, brought to one shape.
//!
//! Forms and queries say everything in text, so whoever reads a field takes `"1"` for 1 and `"true"` for true. Bracketed names nest one
//! level: `groups[]=a&groups[]=b` and `groups[0]=a` are lists, `account_info[first_name]=X` is an object.

mod typed;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value as Json};

pub(super) use self::typed::Misfit;

/// Fields in one request.
const FIELDS_MAX: usize = 256;

/// Named values.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct Fields(Map<String, Json>);

/// The text is not what it says it is. What it should be follows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Malformed(pub(super) &'static str);

impl Fields {
    /// Reads a JSON object; nothing at all is an empty one.
    pub(super) fn from_json(text: &[u8]) -> Result<Self, Malformed> {
        if text.trim_ascii().is_empty() {
            return Ok(Self::default());
        }
        match serde_json::from_slice(text) {
            Ok(Json::Object(fields)) => Ok(Self(fields)),
            Ok(_) => Err(Malformed("The body must be a JSON object")),
            Err(_) => Err(Malformed("The body is not valid JSON")),
        }
    }

    /// Reads a form or a query.
    pub(super) fn from_form(text: &[u8]) -> Result<Self, Malformed> {
        let mut fields = Self::default();
        for (count, (name, value)) in form_urlencoded::parse(text).enumerate() {
            if count == FIELDS_MAX {
                return Err(Malformed("There are too many fields"));
            }
            fields.put(&name, value.into_owned());
        }
        Ok(fields)
    }

    /// Adds a field of a form.
    pub(super) fn put(&mut self, name: &str, value: String) {
        let nested = name.strip_suffix(']').and_then(|name| name.split_once('[')).filter(|(name, _)| !name.is_empty());
        let Some((name, key)) = nested else {
            self.0.insert(name.to_owned(), value.into());
            return;
        };
        let is_list = key.bytes().all(|byte| byte.is_ascii_digit());
        let empty = if is_list { Json::Array(Vec::new()) } else { Json::Object(Map::new()) };
        match self.0.entry(name).or_insert(empty) {
            Json::Array(items) => items.push(value.into()),
            Json::Object(members) => {
                members.insert(key.to_owned(), value.into());
            }
            // The name was given without brackets before; that stands.
            _ => {}
        }
    }

    /// All of them as a type.
    ///
    /// # Errors
    /// One is missing, or not what the type wants.
    pub(super) fn read<T: DeserializeOwned>(&self) -> Result<T, Misfit> {
        typed::read(&self.0)
    }

    /// The field as it is, if it is there.
    pub(super) fn get(&self, name: &str) -> Option<&Json> {
        self.0.get(name)
    }

    /// The fields of an object that is a field.
    pub(super) fn inner(&self, name: &str) -> Option<Fields> {
        self.get(name)?.as_object().cloned().map(Self)
    }

    /// Takes the field out.
    pub(super) fn take(&mut self, name: &str) -> Option<Json> {
        self.0.remove(name)
    }

    /// The field as text: strings as they are, numbers and truth values as they are written, and structures as JSON. Null counts as absent.
    pub(super) fn text(&self, name: &str) -> Option<String> {
        text(self.get(name)?.clone())
    }

    /// The field as text that can be taken away: null, which takes it away, is not the same as nothing.
    pub(super) fn text_or_null(&self, name: &str) -> Option<Option<String>> {
        self.get(name).map(|_| self.text(name))
    }

    /// The field as a truth value: `true`, `1`, and the same in quotes. Anything else is none.
    pub(super) fn flag(&self, name: &str) -> Option<bool> {
        match self.text(name)?.as_str() {
            "true" | "1" => Some(true),
            "false" | "0" => Some(false),
            _ => None,
        }
    }
}

/// A value as text.
pub(super) fn text(value: Json) -> Option<String> {
    match value {
        Json::Null => None,
        Json::String(text) => Some(text),
        other => Some(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn form(text: &str) -> Json {
        Json::Object(Fields::from_form(text.as_bytes()).expect("a form").0)
    }

    #[test]
    fn forms_are_decoded_and_nest_one_level() {
        assert_eq!(form("arg=on%20off&x=a+b&empty=&bare"), json!({ "arg": "on off", "x": "a b", "empty": "", "bare": "" }));
        assert_eq!(form("groups[]=a&groups[]=b&g%5B0%5D=x&g%5B1%5D=y"), json!({ "groups": ["a", "b"], "g": ["x", "y"] }));
        assert_eq!(form("account_info[first_name]=X&account_info[last]=Y"), json!({ "account_info": { "first_name": "X", "last": "Y" } }));
        assert_eq!(form("a=1&a[]=2&[]=3&b]=4"), json!({ "a": "1", "[]": "3", "b]": "4" }));
        assert_eq!(Fields::from_form("a&".repeat(257).as_bytes()), Err(Malformed("There are too many fields")));
    }

    #[test]
    fn json_bodies_are_objects() {
        assert_eq!(Fields::from_json(b"  ").expect("nothing"), Fields::default());
        assert_eq!(Fields::from_json(b"{\"a\":1}").expect("an object").text("a").as_deref(), Some("1"));
        for bad in ["[1]", "\"x\"", "null", "{", "{\"a\":}", &"[".repeat(10_000)] {
            assert!(Fields::from_json(bad.as_bytes()).is_err(), "{bad:.20}");
        }
    }

    #[test]
    fn values_are_taken_for_what_they_mean() {
        let fields = Fields::from_json(br#"{"s":"1","n":1,"f":1.5,"t":true,"o":{"a":[1]},"z":null,"m":-1}"#).expect("an object");
        for (name, text, flag) in [
            ("s", Some("1"), Some(true)),
            ("n", Some("1"), Some(true)),
            ("f", Some("1.5"), None),
            ("t", Some("true"), Some(true)),
            ("o", Some("{\"a\":[1]}"), None),
            ("z", None, None),
            ("m", Some("-1"), None),
            ("missing", None, None),
        ] {
            assert_eq!((fields.text(name).as_deref(), fields.flag(name)), (text, flag), "{name}");
        }
    }

    proptest! {
        #[test]
        fn no_body_is_too_strange(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = Fields::from_json(&bytes);
            let _ = Fields::from_form(&bytes);
        }
    }
}
