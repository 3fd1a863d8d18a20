//! Reads single fields of a definition: texts, truths, and whatever has templates in it, counting how long those are.
//!
//! Truths may be texts, and objects may be texts that hold one: that is how they arrive from clients that send forms.

use std::borrow::Cow;

use serde_json::{Map, Value as Json};

use super::fields::{FIELDS_MAX, Fields, JsonTemplate, Shape};
use super::{HookError, Problem, TEMPLATES_LEN_MAX};
use crate::template::Template;

/// A definition that is being read.
pub(super) struct Reader<'d> {
    definition: &'d Map<String, Json>,
    /// What the templates may still have.
    bytes_left: usize,
}

impl<'d> Reader<'d> {
    pub(super) fn new(definition: &'d Map<String, Json>) -> Self {
        Self { definition, bytes_left: TEMPLATES_LEN_MAX }
    }

    /// What is said in a field. Nothing is said by null, and by a text without characters.
    pub(super) fn said(&self, field: &str) -> Option<&'d Json> {
        self.definition.get(field).filter(|value| !value.is_null() && value.as_str() != Some(""))
    }

    pub(super) fn text(&self, field: &str) -> Result<Option<&'d str>, HookError> {
        let text = |value: &'d Json| value.as_str().ok_or_else(|| HookError::new(field, Problem::MustBe("a text")));
        self.said(field).map(text).transpose()
    }

    pub(super) fn flag(&self, field: &str, default: bool) -> Result<bool, HookError> {
        match self.said(field) {
            None => Ok(default),
            Some(Json::Bool(value)) => Ok(*value),
            Some(Json::String(text)) if text == "true" => Ok(true),
            Some(Json::String(text)) if text == "false" => Ok(false),
            Some(_) => Err(HookError::new(field, Problem::MustBe("true or false"))),
        }
    }

    /// An object, or a text that holds one.
    pub(super) fn object(&self, field: &str) -> Result<Option<Cow<'d, Map<String, Json>>>, HookError> {
        match self.said(field) {
            None => Ok(None),
            Some(Json::Object(members)) => Ok(Some(Cow::Borrowed(members))),
            Some(Json::String(text)) if text.len() <= TEMPLATES_LEN_MAX => {
                let members = serde_json::from_str(text).map_err(|_| HookError::new(field, Problem::MustBe("an object")))?;
                Ok(Some(Cow::Owned(members)))
            }
            Some(_) => Err(HookError::new(field, Problem::MustBe("an object"))),
        }
    }

    pub(super) fn fields(&mut self, field: &str) -> Result<Fields, HookError> {
        let Some(members) = self.object(field)? else { return Ok(Fields::default()) };
        at_most(field, members.len())?;
        let said = members.iter().filter(|(_, value)| !value.is_null());
        let read = said.map(|(name, value)| {
            let path = format!("{field}.{name}");
            Ok((self.template(&path, name)?, self.value(&path, value)?))
        });
        read.collect::<Result<_, _>>().map(Fields)
    }

    /// The template that a value is as text: what is no text is its JSON.
    pub(super) fn value(&mut self, path: &str, value: &Json) -> Result<Template, HookError> {
        match value {
            Json::String(text) => self.template(path, text),
            value => self.template(path, &value.to_string()),
        }
    }

    pub(super) fn shape(&mut self, field: &str) -> Result<Option<Shape>, HookError> {
        match self.said(field) {
            None => Ok(None),
            Some(Json::String(text)) => Ok(Some(Shape::Text(self.template(field, text)?))),
            Some(document @ (Json::Object(_) | Json::Array(_))) => Ok(Some(Shape::Json(self.document(field, document)?))),
            Some(_) => Err(HookError::new(field, Problem::MustBe("an object or a text"))),
        }
    }

    pub(super) fn document(&mut self, path: &str, value: &Json) -> Result<JsonTemplate, HookError> {
        match value {
            Json::String(text) => Ok(JsonTemplate::Text(self.template(path, text)?)),
            Json::Array(list) => {
                at_most(path, list.len())?;
                let read = list.iter().enumerate().map(|(place, value)| self.document(&format!("{path}.{place}"), value));
                read.collect::<Result<_, _>>().map(JsonTemplate::List)
            }
            Json::Object(members) => {
                at_most(path, members.len())?;
                let read = members.iter().map(|(name, value)| {
                    let path = format!("{path}.{name}");
                    Ok((self.template(&path, name)?, self.document(&path, value)?))
                });
                read.collect::<Result<_, _>>().map(JsonTemplate::Object)
            }
            value => Ok(JsonTemplate::Fixed(value.clone())),
        }
    }

    pub(super) fn optional(&mut self, field: &str) -> Result<Option<Template>, HookError> {
        self.text(field)?.map(|text| self.template(field, text)).transpose()
    }

    pub(super) fn template(&mut self, path: &str, text: &str) -> Result<Template, HookError> {
        self.bytes_left = self.bytes_left.checked_sub(text.len()).ok_or_else(|| HookError::new(path, Problem::TooLong))?;
        Template::parse(text).map_err(|error| HookError::new(path, error))
    }
}

fn at_most(path: &str, count: usize) -> Result<(), HookError> {
    if count > FIELDS_MAX { Err(HookError::new(path, Problem::TooMany)) } else { Ok(()) }
}
