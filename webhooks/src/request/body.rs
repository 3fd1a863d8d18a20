//! Bodies of requests: the defaults, and what the hook says.

use bytes::Bytes;
use serde_json::Value as Json;

use super::{Filling, RequestError, put};
use crate::hook::{Body, Shape};

/// A body, and what it is.
#[derive(Default)]
pub(super) struct Made {
    pub(super) bytes: Bytes,
    pub(super) kind: Kind,
}

/// What a body is.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Kind {
    /// A form.
    Form,
    /// JSON.
    Json,
    /// There is none, or the hook knows.
    #[default]
    Unsaid,
}

impl Filling<'_> {
    pub(super) fn body(&mut self) -> Result<Made, RequestError> {
        match &self.hook.body {
            Body::Default => Ok(form(self.default_pairs())),
            Body::Form(fields) => {
                let mut pairs = self.default_pairs();
                put(&mut pairs, fields.render(&self.view, &mut self.budget).map_err(|error| RequestError::Render("form", error))?);
                Ok(form(pairs))
            }
            Body::Json(shape) => Ok(Made { bytes: self.json(shape)?.into(), kind: Kind::Json }),
            Body::Text(template) => {
                let text = template.render_within(&self.view, &mut self.budget).map_err(|error| RequestError::Render("body", error))?;
                Ok(Made { bytes: text.into(), kind: Kind::Unsaid })
            }
        }
    }

    /// The defaults go into an object, where it does not have such members itself. What is no object, or shall be without them, stays as it was said.
    fn json(&mut self, shape: &Shape) -> Result<String, RequestError> {
        let failed = |error| RequestError::Render("json", error);
        let (text, document) = match shape {
            Shape::Json(document) => (None, document.render(&self.view, &mut self.budget).map_err(failed)?),
            Shape::Text(template) => {
                let text = template.render_within(&self.view, &mut self.budget).map_err(failed)?;
                let document = serde_json::from_str(&text).map_err(|error| RequestError::NotJson(error.to_string()))?;
                (Some(text), document)
            }
        };
        match document {
            Json::Object(mut members) if !self.hook.no_defaults => {
                for (name, value) in &self.defaults {
                    members.entry(*name).or_insert_with(|| value.clone());
                }
                Ok(Json::Object(members).to_string())
            }
            document => Ok(text.unwrap_or_else(|| document.to_string())),
        }
    }
}

fn form(pairs: Vec<(String, String)>) -> Made {
    let text = form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
    Made { bytes: text.into(), kind: Kind::Form }
}
