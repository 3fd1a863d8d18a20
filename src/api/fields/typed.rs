//! Fields read as a type: the type is what the API's description says of a body, and what a handler works with.
//!
//! Forms say everything in text, and clients write numbers and truth values in quotes even in JSON. So text is taken for what the type wants, and a
//! number or a structure for its JSON where text is wanted. A field that is null is a field that is not there, unless the type can tell the two apart.

use std::fmt;

use serde::de::value::{MapDeserializer, SeqDeserializer};
use serde::de::{self, DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, IntoDeserializer, VariantAccess, Visitor};
use serde_json::{Map, Value as Json};

/// Why fields do not make the type. What to say follows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::api) struct Misfit(pub(in crate::api) String);

/// Reads `fields` as a `T`.
pub(super) fn read<T: DeserializeOwned>(fields: &Map<String, Json>) -> Result<T, Misfit> {
    let entries = fields.iter().map(|(name, value)| (name.as_str(), Lenient { value, name }));
    T::deserialize(MapDeserializer::new(entries))
}

/// A value, and the name it was sent under.
#[derive(Clone, Copy)]
struct Lenient<'a> {
    value: &'a Json,
    name: &'a str,
}

impl Lenient<'_> {
    fn misfit(&self, wanted: &str) -> Misfit {
        Misfit(format!("{} must be {wanted}", self.name.chars().take(64).collect::<String>()))
    }

    fn number<T: std::str::FromStr>(&self) -> Result<T, Misfit> {
        let number = match self.value {
            Json::String(text) => text.trim().parse().ok(),
            Json::Number(number) => number.to_string().parse().ok(),
            _ => None,
        };
        number.ok_or_else(|| self.misfit("a whole number in range"))
    }

    fn text(&self) -> Option<String> {
        super::text(self.value.clone())
    }
}

impl<'a> IntoDeserializer<'a, Misfit> for Lenient<'a> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

/// Numbers of each width, all in the same way.
macro_rules! numbers {
    ($($method:ident $visit:ident;)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
            visitor.$visit(self.number()?)
        })*
    };
}

impl<'de> Deserializer<'de> for Lenient<'de> {
    type Error = Misfit;

    numbers! {
        deserialize_i8 visit_i8; deserialize_i16 visit_i16; deserialize_i32 visit_i32; deserialize_i64 visit_i64;
        deserialize_u8 visit_u8; deserialize_u16 visit_u16; deserialize_u32 visit_u32; deserialize_u64 visit_u64;
        deserialize_f32 visit_f32; deserialize_f64 visit_f64;
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        self.value.clone().deserialize_any(visitor).map_err(|_| self.misfit("something else"))
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        match self.text().as_deref() {
            Some("true" | "1") => visitor.visit_bool(true),
            Some("false" | "0") => visitor.visit_bool(false),
            _ => Err(self.misfit("true or false")),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        visitor.visit_string(self.text().ok_or_else(|| self.misfit("a text"))?)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        match self.value {
            Json::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        match self.value {
            Json::Array(items) => visitor.visit_seq(SeqDeserializer::new(items.iter().map(|value| Lenient { value, name: self.name }))),
            // A list of names with commas between, as queries have it.
            Json::String(text) if text.is_empty() => visitor.visit_seq(SeqDeserializer::<_, Misfit>::new(std::iter::empty::<String>())),
            Json::String(text) => visitor.visit_seq(SeqDeserializer::new(text.split(',').map(|part| part.trim().to_owned()))),
            _ => Err(self.misfit("a list")),
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        let Json::Object(members) = self.value else { return Err(self.misfit("an object")) };
        visitor.visit_map(MapDeserializer::new(members.iter().map(|(name, value)| (name.as_str(), Lenient { value, name }))))
    }

    fn deserialize_struct<V: Visitor<'de>>(self, _: &'static str, _: &'static [&'static str], visitor: V) -> Result<V::Value, Misfit> {
        self.deserialize_map(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(self, _: &'static str, variants: &'static [&'static str], visitor: V) -> Result<V::Value, Misfit> {
        let text = self.text().unwrap_or_default();
        if !variants.contains(&text.as_str()) {
            return Err(self.misfit(&format!("one of {}", variants.join(", "))));
        }
        visitor.visit_enum(Word(text))
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Misfit> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        visitor.visit_unit()
    }

    serde::forward_to_deserialize_any! { char bytes byte_buf unit unit_struct tuple tuple_struct identifier }
}

/// The name of a variant without content.
struct Word(String);

impl<'de> EnumAccess<'de> for Word {
    type Error = Misfit;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Misfit> {
        let word = self.0.clone();
        Ok((seed.deserialize(word.into_deserializer())?, self))
    }
}

impl<'de> VariantAccess<'de> for Word {
    type Error = Misfit;

    fn unit_variant(self) -> Result<(), Misfit> {
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, _: T) -> Result<T::Value, Misfit> {
        Err(Misfit(format!("{} stands alone", self.0)))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, _: V) -> Result<V::Value, Misfit> {
        Err(Misfit(format!("{} stands alone", self.0)))
    }

    fn struct_variant<V: Visitor<'de>>(self, _: &'static [&'static str], _: V) -> Result<V::Value, Misfit> {
        Err(Misfit(format!("{} stands alone", self.0)))
    }
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Misfit {}

impl de::Error for Misfit {
    fn custom<T: fmt::Display>(text: T) -> Self {
        Self(text.to_string())
    }

    fn missing_field(field: &'static str) -> Self {
        Self(format!("{field} is missing"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::Deserialize;
    use serde_json::json;

    use super::*;

    #[derive(Deserialize, PartialEq, Debug)]
    #[serde(rename_all = "lowercase")]
    enum Kind {
        Installed,
        Web,
    }

    #[derive(Deserialize, PartialEq, Debug, Default)]
    #[serde(default)]
    struct Sample {
        name: Option<String>,
        count: Option<u16>,
        flag: Option<bool>,
        groups: Option<Vec<String>>,
        kind: Option<Kind>,
        free: Option<Json>,
    }

    fn sample(fields: &Json) -> Result<Sample, String> {
        read(fields.as_object().unwrap()).map_err(|Misfit(text)| text)
    }

    #[test]
    fn text_is_taken_for_what_is_wanted() {
        for fields in [
            json!({"name": "x", "count": "7", "flag": "1", "groups": "a, b", "kind": "web"}),
            json!({"name": "x", "count": 7, "flag": true, "groups": ["a", "b"], "kind": "web"}),
        ] {
            let expected = Sample {
                name: Some("x".into()),
                count: Some(7),
                flag: Some(true),
                groups: Some(vec!["a".into(), "b".into()]),
                kind: Some(Kind::Web),
                free: None,
            };
            assert_eq!(sample(&fields), Ok(expected), "{fields}");
        }
        assert_eq!(sample(&json!({"name": 12, "more": [1]})), Ok(Sample { name: Some("12".into()), ..Sample::default() }));
        assert_eq!(sample(&json!({"name": null, "count": null})), Ok(Sample::default()));
        assert_eq!(sample(&json!({"name": {"a": [1]}})).unwrap().name.as_deref(), Some("{\"a\":[1]}"));
        assert_eq!(sample(&json!({"free": {"a": [1, null]}})).unwrap().free, Some(json!({"a": [1, null]})));
        assert_eq!(sample(&json!({"groups": ""})).unwrap().groups, Some(vec![]));
    }

    #[test]
    fn what_does_not_fit_is_named() {
        for (fields, said) in [
            (json!({"count": -1}), "count must be a whole number in range"),
            (json!({"count": "70000"}), "count must be a whole number in range"),
            (json!({"flag": "yes"}), "flag must be true or false"),
            (json!({"groups": {"a": 1}}), "groups must be a list"),
            (json!({"groups": [null]}), "groups must be a text"),
            (json!({"kind": "desktop"}), "kind must be one of installed, web"),
        ] {
            assert_eq!(sample(&fields), Err(said.to_owned()), "{fields}");
        }
        #[derive(Deserialize, Debug)]
        #[expect(dead_code, reason = "only its reading is looked at")]
        struct Needed {
            id: String,
        }
        assert_eq!(read::<Needed>(&Map::new()).unwrap_err(), Misfit("id is missing".into()));
    }

    proptest! {
        #[test]
        fn no_fields_are_too_strange(text in "[\\[\\]{}\":,a-z0-9 ]{0,80}") {
            if let Ok(Json::Object(fields)) = serde_json::from_str(&text) {
                let _ = read::<Sample>(&fields);
            }
        }
    }
}
